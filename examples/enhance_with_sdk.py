"""
Uploads a file to Dolby.io, enhances it and downloads the result, with Dolby.io's own SDK.

It shows how functions that take a token as an argument get a good one, and another one after a 401.

    export DOLBYIO_APP_KEY=... DOLBYIO_APP_SECRET=...
    python enhance_with_sdk.py noisy.wav clean.wav
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from dolbyio_rest_apis.core.http_request_error import HttpRequestError
from dolbyio_rest_apis.media import enhance, io

from dolby_auth_plugin.httpx import DolbyAuth, TokenError

# Seconds that a job may take.
LONGEST_JOB = 3600

if api_url := os.environ.get("API_URL"):
    # The SDK has no setting for the address.
    enhance.get_mapi_url = io.get_mapi_url = lambda: api_url


# The SDK logs the URLs of requests that fail, and a presigned URL is as good as a password.
logging.getLogger("MediaHttpContext").disabled = True


class JobError(Exception):
    """The job has ended without a result."""


async def with_token(auth: DolbyAuth, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    """The result of a function of the SDK. If its token is refused, it is called once more with another one."""
    token = await auth.atoken()
    try:
        return await function(token.value, *arguments)
    except (HttpRequestError, aiohttp.ClientResponseError) as error:
        if status_of(error) != 401:
            raise
    if await auth.atoken() == token:
        # No other task has replaced it yet.
        auth.invalidate()
    return await function((await auth.atoken()).value, *arguments)


async def run(source: str, target: str) -> None:
    auth = DolbyAuth()
    noisy, clean = (f"dlb://{uuid.uuid4()}" for _ in range(2))
    # The SDK does not look at the answer to an upload. If it has failed, so does the job.
    await io.upload_file(await with_token(auth, io.get_upload_url, noisy), source)
    job = await with_token(auth, enhance.start, {"input": noisy, "output": clean})
    pause = 0.5
    async with asyncio.timeout(LONGEST_JOB):
        while (status := (await with_token(auth, enhance.get_results, job)).status) in ("Pending", "Running"):
            await asyncio.sleep(pause)
            pause = min(2 * pause, 10)
    if status != "Success":
        raise JobError(f"the job ended with {status}")
    await with_token(auth, io.download_file, clean, target)


def status_of(error: Exception) -> Any:
    """The HTTP status of an error of the SDK. It depends on the body of the answer which kind of error that is."""
    return error.status_code if isinstance(error, HttpRequestError) else getattr(error, "status", None)


def explain(error: Exception) -> str:
    """*error* in words. The text of an error of the SDK contains the URL, and a presigned URL is as good as a password."""
    if (status := status_of(error)) is not None:
        return f"the server answered {status}"
    if isinstance(error, aiohttp.ClientError | TimeoutError):
        return f"the network failed: {type(error).__name__}"
    # A JobError, a TokenError, or no app key in the environment.
    return str(error)


def main(source: str, target: str) -> int:
    try:
        asyncio.run(run(source, target))
    except (HttpRequestError, aiohttp.ClientError, JobError, TokenError, OSError, ValueError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} SOURCE TARGET")
    sys.exit(main(*sys.argv[1:]))
