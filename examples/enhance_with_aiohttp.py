"""
Uploads a file to Dolby.io, enhances it and downloads the result, with aiohttp.

It shows how a library without an adapter gets its token: `atoken()` gives a good one, and costs nothing while it is fresh.

    export DOLBYIO_APP_KEY=... DOLBYIO_APP_SECRET=...
    python enhance_with_aiohttp.py noisy.wav clean.wav
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp

from dolby_auth_plugin import AccessToken
from dolby_auth_plugin.httpx import DolbyAuth, TokenError

API_URL = os.environ.get("API_URL", "https://api.dolby.com")

# Seconds to connect, and seconds without a byte. A large file may take long in all.
TIMEOUT = aiohttp.ClientTimeout(total=None, connect=5, sock_read=60)

# Seconds that a job may take.
LONGEST_JOB = 3600

CHUNK = 1 << 16


class JobError(Exception):
    """The job has ended without a result."""


class Media:
    """The Media API. All tasks use one of these, and so one auth object."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self.auth = DolbyAuth()

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """The JSON answer of the API. A request whose token is refused is sent once more, with another one."""
        token = await self.auth.atoken()
        try:
            return await self.call_with(token, method, path, **options)
        except aiohttp.ClientResponseError as error:
            if error.status != 401:
                raise
        if await self.auth.atoken() == token:
            # No other task has replaced it yet.
            self.auth.invalidate()
        return await self.call_with(await self.auth.atoken(), method, path, **options)

    async def call_with(self, token: AccessToken, method: str, path: str, **options: Any) -> Any:
        # A redirect is not followed: it is not expected here, and the token must not go elsewhere.
        options |= {"headers": {"Authorization": token.authorization}, "allow_redirects": False}
        async with self.session.request(method, f"{API_URL}{path}", **options) as response:
            response.raise_for_status()
            return await response.json()

    async def upload(self, source: BinaryIO, name: str) -> None:
        url = (await self.call("POST", "/media/input", json={"url": name}))["url"]
        # The URL is presigned: the storage gets no token.
        async with self.session.put(url, data=source) as response:
            response.raise_for_status()

    async def enhance(self, source: str, target: str) -> None:
        job = (await self.call("POST", "/media/enhance", json={"input": source, "output": target}))["job_id"]
        pause = 0.5
        async with asyncio.timeout(LONGEST_JOB):
            while True:
                status = (await self.call("GET", "/media/enhance", params={"job_id": job}))["status"]
                if status not in ("Pending", "Running"):
                    break
                await asyncio.sleep(pause)
                pause = min(2 * pause, 10)
        if status != "Success":
            raise JobError(f"the job ended with {status}")

    async def download(self, name: str, target: BinaryIO) -> None:
        url = (await self.call("POST", "/media/output", json={"url": name}))["url"]
        async with self.session.get(url) as response:
            response.raise_for_status()
            async for chunk in response.content.iter_chunked(CHUNK):
                target.write(chunk)


async def run(source: BinaryIO, target: BinaryIO) -> None:
    noisy, clean = (f"dlb://{uuid.uuid4()}" for _ in range(2))
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        media = Media(session)
        await media.upload(source, noisy)
        await media.enhance(noisy, clean)
        await media.download(clean, target)


def explain(error: Exception) -> str:
    """*error* in words. The text of an error of aiohttp contains the URL, and a presigned URL is as good as a password."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"the server answered {error.status} {error.message}"
    if isinstance(error, aiohttp.ClientError | TimeoutError):
        return f"the network failed: {type(error).__name__}"
    # A JobError, a TokenError, or no app key in the environment.
    return str(error)


def main(source: Path, target: Path) -> int:
    part = target.with_name(f"{target.name}.part")
    try:
        with source.open("rb") as reading, part.open("wb") as writing:
            asyncio.run(run(reading, writing))
        part.replace(target)
    except (aiohttp.ClientError, JobError, TokenError, OSError, ValueError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} SOURCE TARGET")
    sys.exit(main(*map(Path, sys.argv[1:])))
