"""
A handler for AWS Lambda, or a similar service, that begins to enhance a file.

It shows an auth object at the level of the module: a cold start makes it, and warm starts reuse its token. Between two calls the
process may be frozen for longer than the token lives. The auth object notices, and obtains another one.

    DOLBYIO_APP_KEY, DOLBYIO_APP_SECRET: in the function's environment, or pass `credentials=` a callable that asks your vault
    handler: serverless_function.handler
    event: {"input": "dlb://noisy.wav", "output": "dlb://clean.wav"}
"""

from __future__ import annotations

import logging
import os
from typing import Any

import requests

from dolby_auth_plugin.requests import DolbyAuth, TokenError

API_URL = os.environ.get("API_URL", "https://api.dolby.com")

# Seconds. Both together must be shorter than the timeout of the function: otherwise it is killed before it can log the reason.
TOKEN_TIMEOUT = 5.0
TIMEOUT = (3, 10)

logger = logging.getLogger(__name__)

session = requests.Session()
session.auth = DolbyAuth(timeout=TOKEN_TIMEOUT)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Begin a job. The answer has its `job_id`, or a status that says whether it is worth trying again."""
    wanted = {"input": event["input"], "output": event["output"]}
    try:
        response = session.post(f"{API_URL}/media/enhance", json=wanted, timeout=TIMEOUT)
        response.raise_for_status()
    except TokenError as error:
        # Its text is free of secrets.
        logger.error("no API token: %s", error)  # noqa: TRY400 - a traceback adds nothing
        return {"statusCode": 503 if error.retryable else 500}
    except requests.HTTPError:
        logger.error("Dolby.io answered %s", response.status_code)  # noqa: TRY400 - as above
        return {"statusCode": 502}
    except requests.RequestException as error:
        logger.error("the network failed: %s", type(error).__name__)  # noqa: TRY400 - as above
        return {"statusCode": 503}
    return {"statusCode": 202, "job_id": response.json()["job_id"]}
