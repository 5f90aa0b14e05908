"""
A Celery worker that enhances files, in processes that it forks.

It shows one auth object that is made before the fork. With a `FileTokenCache`, all processes of the machine share its token: they make
one token request, not one each.

    export DOLBYIO_APP_KEY=... DOLBYIO_APP_SECRET=... CELERY_BROKER_URL=redis://localhost
    celery -A prefork_worker worker --pool prefork --concurrency 8
    celery -A prefork_worker call prefork_worker.enhance --args '["dlb://noisy.wav", "dlb://clean.wav"]'
"""

from __future__ import annotations

import functools
import os
from typing import Any

import requests
from celery import Celery

from dolby_auth_plugin import FileTokenCache
from dolby_auth_plugin.requests import DolbyAuth, TokenError

API_URL = os.environ.get("API_URL", "https://api.dolby.com")

# Seconds to connect, and seconds without a byte.
TIMEOUT = (5, 60)

# Seconds between two looks at a job.
PAUSE = 1

app = Celery("prefork_worker")
# The name of a module with settings of your own, if you have one.
app.config_from_envvar("CELERY_CONFIG_MODULE", silent=True)

auth = DolbyAuth(cache=FileTokenCache())


@functools.cache
def session() -> requests.Session:
    """The session of this process. The first task makes it, after the fork: processes must not share connections."""
    made = requests.Session()
    made.auth = auth
    return made


def call(method: str, **options: Any) -> Any:
    """The JSON answer of the API."""
    response = session().request(method, f"{API_URL}/media/enhance", timeout=TIMEOUT, **options)
    response.raise_for_status()
    return response.json()


@app.task(bind=True, max_retries=1000)
def enhance(self: Any, source: str, target: str, job: str | None = None) -> str:
    """
    Enhance *source* into *target*, and return the status in the end.

    While the job runs, the task is put back into the queue, and the process does others.

    Args:
        source: As Dolby.io takes it: a `dlb://` name, or a presigned URL.
        target: The same.
        job: The running job. None: begin one.
    """
    try:
        if job is None:
            job = call("POST", json={"input": source, "output": target})["job_id"]
        status: str = call("GET", params={"job_id": job})["status"]
    except TokenError as error:
        if not error.retryable:
            raise
        raise self.retry(args=(source, target, job), countdown=error.retry_after or 10) from None
    except (requests.ConnectionError, requests.Timeout) as error:
        if job is None:
            # It may have begun. Another one would cost you twice.
            raise
        raise self.retry(args=(source, target, job), exc=error, countdown=10) from None
    if status in ("Pending", "Running"):
        raise self.retry(args=(source, target, job), countdown=PAUSE)
    return status
