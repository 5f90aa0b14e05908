"""The function: each test is one process, as the service starts it for a cold start."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from dolby_auth_plugin.sandbox import Sandbox

# Calls the handler once for each line that comes in, as the service does.
RUNTIME = """
import json, logging, sys
logging.basicConfig()
import serverless_function
for line in sys.stdin:
    print(json.dumps(serverless_function.handler(json.loads(line), None)), flush=True)
"""

EVENT = {"input": "dlb://noisy.wav", "output": "dlb://clean.wav"}


class Function:
    """A warm process of the function."""

    def __init__(self, environment: dict[str, str]) -> None:
        command = [sys.executable, "-c", RUNTIME]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def __call__(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(EVENT) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def end(self) -> str:
        """End the process, and return what it has logged."""
        return self.process.communicate(timeout=60)[1]


def test_warm_starts_reuse_the_token(sandbox: Sandbox, environment: dict[str, str]) -> None:
    function = Function(environment)

    answers = [function() for _ in range(3)]

    assert "" == function.end()
    assert [202] * 3 == [answer["statusCode"] for answer in answers]
    assert 3 == len({answer["job_id"] for answer in answers})
    assert (sandbox.token_requests, sandbox.api_calls) == (1, 3)


def test_a_token_that_was_revoked_between_two_calls_is_replaced(sandbox: Sandbox, environment: dict[str, str]) -> None:
    function = Function(environment)
    function()
    sandbox.revoke_all()

    answer = function()

    function.end()
    assert answer["statusCode"] == 202
    assert (sandbox.token_requests, sandbox.unauthorized) == (2, 1)


@pytest.mark.parametrize(
    ("trouble", "status"), [({"status": 403}, 500), ({"status": 429, "retry_after": 60}, 503)], ids=["final", "busy"]
)
def test_the_status_says_whether_to_try_again(
    trouble: dict[str, Any], status: int, sandbox: Sandbox, environment: dict[str, str]
) -> None:
    sandbox.fail_token_requests(**trouble, times=9)
    function = Function(environment)

    answer = function()

    logged = function.end()
    assert {"statusCode": status} == answer
    assert "no API token: " in logged
    assert sandbox.app_secret not in logged


def test_an_answer_of_the_api_that_is_an_error_is_a_502(sandbox: Sandbox, environment: dict[str, str]) -> None:
    sandbox.refuse_tokens = True
    function = Function(environment)

    answer = function()

    assert {"statusCode": 502} == answer
    assert "Dolby.io answered 401" in function.end()
