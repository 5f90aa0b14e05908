"""
Uploads a file to Dolby.io, enhances it and downloads the result, with progress bars.

It shows one session for the API and for the storage: the auth object gives the token to the API only, renews it while a long job
runs, and replaces it if the API refuses it.

    export DOLBYIO_APP_KEY=... DOLBYIO_APP_SECRET=...
    python enhance_with_requests.py noisy.wav clean.wav
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import requests
from rich.console import Console
from rich.progress import Progress

from dolby_auth_plugin.requests import DolbyAuth, TokenError

API_URL = os.environ.get("API_URL", "https://api.dolby.com")

# Seconds to connect, and seconds without a byte. requests itself would wait for ever.
TIMEOUT = (5, 60)

# Seconds that a job may take.
LONGEST_JOB = 3600

CHUNK = 1 << 16


class JobError(Exception):
    """The job has ended without a result."""


def call(session: requests.Session, method: str, path: str, **options: Any) -> Any:
    """The JSON answer of the API."""
    response = session.request(method, f"{API_URL}{path}", timeout=TIMEOUT, **options)
    response.raise_for_status()
    return response.json()


def upload(session: requests.Session, source: Path, name: str, progress: Progress) -> None:
    url = call(session, "POST", "/media/input", json={"url": name})["url"]
    # The URL is presigned, and its host is not one of Dolby.io's. So the session sends no token there.
    with progress.open(source, "rb", description="upload") as file:
        session.put(url, data=file, timeout=TIMEOUT).raise_for_status()


def enhance(session: requests.Session, source: str, target: str, progress: Progress) -> None:
    job = call(session, "POST", "/media/enhance", json={"input": source, "output": target})["job_id"]
    bar = progress.add_task("enhance", total=100)
    give_up_at, pause = time.monotonic() + LONGEST_JOB, 0.5
    while (status := call(session, "GET", "/media/enhance", params={"job_id": job}))["status"] in (
        "Pending",
        "Running",
    ):
        if time.monotonic() > give_up_at:
            raise JobError("the job takes too long")
        progress.update(bar, completed=status.get("progress", 0))
        time.sleep(pause)
        # Short jobs end soon, and long ones are not asked about too often.
        pause = min(2 * pause, 10)
    if status["status"] != "Success":
        raise JobError(f"the job ended with {status['status']}")
    progress.update(bar, completed=100)


def download(session: requests.Session, name: str, target: Path, progress: Progress) -> None:
    part = target.with_name(f"{target.name}.part")
    # The API redirects to the storage. The token does not follow.
    with session.get(f"{API_URL}/media/output", params={"url": name}, stream=True, timeout=TIMEOUT) as response:
        response.raise_for_status()
        length = response.headers.get("Content-Length")
        bar = progress.add_task("download", total=None if length is None else int(length))
        with part.open("wb") as file:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                progress.advance(bar, len(chunk))
    part.replace(target)


def explain(error: Exception) -> str:
    """*error* in words. The text of a `requests` error contains the URL, and a presigned URL is as good as a password."""
    if isinstance(error, TokenError | JobError):
        return str(error)
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    return f"the network failed: {type(error).__name__}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Enhance a file with Dolby.io.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    noisy, clean = (f"dlb://{uuid.uuid4()}{path.suffix}" for path in (arguments.source, arguments.target))
    with requests.Session() as session, Progress(console=Console(stderr=True)) as progress:
        try:
            session.auth = DolbyAuth()
            upload(session, arguments.source, noisy, progress)
            enhance(session, noisy, clean, progress)
            download(session, clean, arguments.target, progress)
        except (requests.RequestException, JobError) as error:
            # TokenError is a RequestException too.
            problem = explain(error)
        except (ValueError, OSError) as error:
            # No app key in the environment, or no such file.
            problem = str(error)
        else:
            return 0
    print(f"error: {problem}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
