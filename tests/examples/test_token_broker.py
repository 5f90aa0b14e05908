"""The token broker, served by uvicorn."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests

from dolby_auth_plugin.sandbox import Sandbox

from ..fakes import eventually

ALICE = {"X-Forwarded-User": "alice"}


class Broker:
    """A process of the service."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._log = folder / "log"
        command = [sys.executable, "-m", "uvicorn", "token_broker:app", "--port", "0"]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def start(self) -> None:
        eventually(lambda: " running on " in self._log.read_text())
        self.url = re.findall(r"running on (\S+)", self._log.read_text())[0]

    def ask(self, headers: dict[str, str] = ALICE) -> requests.Response:
        return requests.post(f"{self.url}/client-access-token", headers=headers, timeout=20)

    def stop(self) -> str:
        """Stop it, and return what it has logged."""
        self._process.terminate()
        self._process.wait(20)
        return self._log.read_text()


@pytest.fixture
def broker(environment: dict[str, str], tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(environment, tmp_path)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def claims_of(token: str) -> Any:
    return jwt.decode(token, options={"verify_signature": False})


def test_browsers_that_ask_together_cost_one_token_request(broker: Broker, sandbox: Sandbox) -> None:
    sandbox.latency = 0.3

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: broker.ask(), range(20)))

    assert {200} == {answer.status_code for answer in answers}
    assert 20 == len({answer.json()["access_token"] for answer in answers})
    assert (sandbox.token_requests, sandbox.unauthorized) == (1, 0)


def test_a_browser_gets_a_client_token_of_its_own_scopes_that_no_cache_keeps(broker: Broker, sandbox: Sandbox) -> None:
    answer = broker.ask()

    token = answer.json()
    assert {"access_token", "expires_in"} == {*token}
    assert 900 == token["expires_in"]
    assert "conf:create notifications:set" == claims_of(token["access_token"])["scope"]
    assert "no-store" == answer.headers["Cache-Control"]
    assert ["comms:client_access_token:create"] == [record.scope for record in sandbox.token_log]


def test_a_stranger_gets_nothing_and_costs_nothing(broker: Broker, sandbox: Sandbox) -> None:
    assert 401 == broker.ask({}).status_code
    assert (sandbox.token_requests, sandbox.api_calls) == (0, 0)


def test_a_revoked_api_token_is_replaced(broker: Broker, sandbox: Sandbox) -> None:
    broker.ask()
    sandbox.revoke_all()

    assert 200 == broker.ask().status_code
    assert (sandbox.token_requests, sandbox.unauthorized) == (2, 1)


def test_without_an_api_token_the_log_has_the_reason_and_the_browser_has_not(broker: Broker, sandbox: Sandbox) -> None:
    sandbox.fail_token_requests(status=401, times=9)

    answer = broker.ask()

    assert (503, {"detail": "try again later"}) == (answer.status_code, answer.json())
    logged = broker.stop()
    assert "no API token: " in logged
    assert sandbox.app_secret not in logged


def test_a_busy_token_endpoint_tells_browsers_when_to_come_back(broker: Broker, sandbox: Sandbox) -> None:
    sandbox.fail_token_requests(status=429, retry_after=60, times=9)

    answer = broker.ask()

    assert (503, "60") == (answer.status_code, answer.headers["Retry-After"])


def test_a_refusal_of_the_api_is_a_502(broker: Broker, sandbox: Sandbox) -> None:
    sandbox.refuse_tokens = True

    assert 502 == broker.ask().status_code
    assert "Dolby.io answered 401" in broker.stop()
