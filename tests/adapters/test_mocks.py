"""
requests-mock and responses, as users use them.

`requests_mock.Mocker` holds a lock while it sends, also while a response hook runs. So a fetch in another thread could not send its
token request before the hook ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
import requests_mock
import responses

from dolby_auth_plugin import AppCredentials
from dolby_auth_plugin.requests import DolbyAuth, TokenError
from dolby_auth_plugin.sandbox import Sandbox

from ..contract import CLASSIC
from ..fakes import TOKEN_URL

DOLBY = "https://api.dolby.com/media/jobs"
VAULT = "https://vault.example/keys"


def register(mock: Any) -> None:
    """An API that refuses the first token, and answers to the second with what it got."""
    mock.post(TOKEN_URL, [{"json": {"access_token": "one"}}, {"json": {"access_token": "two"}}])
    mock.get(VAULT, json={"key": "k", "secret": "s"})
    mock.post(DOLBY, status_code=401, request_headers={"Authorization": "Bearer one"})
    mock.post(DOLBY, text=lambda request, _: request.text, request_headers={"Authorization": "Bearer two"})


def send(auth: DolbyAuth, session: requests.Session | None = None) -> tuple[int, str, list[int]]:
    """Call the API: the status, the body that the API got, and the statuses of the history."""
    send_with = session or requests
    response = send_with.post(DOLBY, data="the body", auth=auth, timeout=20)
    return response.status_code, response.text, [earlier.status_code for earlier in response.history]


HEALED = (200, "the body", [401])


def from_vault() -> AppCredentials:
    keys = requests.get(VAULT, timeout=20).json()
    return AppCredentials(keys["key"], keys["secret"])


@pytest.mark.parametrize(
    "options",
    [CLASSIC, {"credentials": from_vault}, {**CLASSIC, "session": requests.Session()}],
    ids=["arguments", "a vault that is called with requests", "a lent session"],
)
def test_a_401_from_a_mock_is_healed_while_the_mock_holds_its_lock(options: dict[str, Any]) -> None:
    with requests_mock.Mocker() as mock:
        register(mock)

        assert send(DolbyAuth(**options)) == HEALED


def test_a_401_from_a_mocked_session_is_healed_with_the_token_of_that_session() -> None:
    with requests.Session() as session, requests_mock.Mocker(session=session) as mock:
        register(mock)

        assert send(DolbyAuth(**CLASSIC, session=session), session) == HEALED


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


def refuse_once(mock: Any, url: str) -> None:
    mock.register_uri("POST", url, [{"status_code": 401}, {"text": "the body"}])


def test_a_401_from_a_mocked_session_is_healed_by_a_real_token_endpoint(sandbox: Sandbox) -> None:
    """Only this session is mocked, and the token request does not use it."""
    auth = DolbyAuth(**{**sandbox.options, "allowed_hosts": ["api.dolby.com"]})
    with requests.Session() as session, requests_mock.Mocker(session=session) as mock:
        refuse_once(mock, DOLBY)

        assert send(auth, session) == HEALED

    assert sandbox.token_requests == 2


def test_a_401_from_a_mounted_adapter_is_healed_by_a_real_token_endpoint(sandbox: Sandbox) -> None:
    auth = DolbyAuth(**{**sandbox.options, "allowed_hosts": ["api.dolby.com"]})
    with requests.Session() as session:
        adapter = requests_mock.Adapter()
        refuse_once(adapter, DOLBY)
        session.mount("https://", adapter)

        assert send(auth, session) == HEALED

    assert sandbox.token_requests == 2


def test_eight_threads_with_a_mounted_adapter_cost_one_token_request_for_a_refused_token(sandbox: Sandbox) -> None:
    """No lock keeps their hooks apart, as `requests_mock.Mocker` does."""
    auth = DolbyAuth(**{**sandbox.options, "allowed_hosts": ["api.dolby.com"]})
    old = auth.token().authorization
    sandbox.latency = 0.3
    together = threading.Barrier(8)

    def answer(request: Any, context: Any) -> str:
        if request.headers["Authorization"] == old:
            together.wait(10)
            context.status_code = 401
        return "the body"

    with requests.Session() as session, ThreadPoolExecutor(8) as pool:
        adapter = requests_mock.Adapter()
        adapter.register_uri("POST", DOLBY, text=answer)
        session.mount("https://", adapter)
        answers = list(pool.map(lambda _: send(auth, session), range(8)))

    assert [HEALED] * 8 == answers
    assert sandbox.token_requests == 2


def test_real_calls_through_a_mock_are_healed(sandbox: Sandbox) -> None:
    with requests_mock.Mocker(real_http=True), requests.Session() as session:
        session.auth = DolbyAuth(**sandbox.options)
        session.get(f"{sandbox.url}/media/jobs").raise_for_status()
        sandbox.revoke_all()

        assert session.get(f"{sandbox.url}/media/jobs").status_code == 200

    assert sandbox.token_requests == 2


def test_eight_threads_under_a_mock_cost_one_token_request_for_a_refused_token() -> None:
    auth = DolbyAuth(**CLASSIC)
    with requests_mock.Mocker() as mock, ThreadPoolExecutor(8) as pool:
        register(mock)
        answers = list(pool.map(lambda _: send(auth), range(8)))

    assert {(200, "the body")} == {answer[:2] for answer in answers}
    assert 2 == sum(request.url == TOKEN_URL for request in mock.request_history)


def test_a_failure_of_a_mocked_token_endpoint_after_a_401_is_a_token_error() -> None:
    with requests_mock.Mocker() as mock:
        mock.post(TOKEN_URL, [{"json": {"access_token": "one"}}, {"status_code": 403}])
        mock.post(DOLBY, status_code=401)

        with pytest.raises(TokenError, match="HTTP 403"):
            send(DolbyAuth(**CLASSIC))


@pytest.mark.slow
def test_with_the_pytest_fixture_of_requests_mock_a_401_is_healed(tmp_path: Path) -> None:
    (tmp_path / "test_users.py").write_text(
        "import requests\n"
        "from dolby_auth_plugin.requests import DolbyAuth\n"
        "def test_jobs(requests_mock):\n"
        f"    requests_mock.post({TOKEN_URL!r}, [{{'json': {{'access_token': t}}}} for t in ('one', 'two')])\n"
        f"    requests_mock.get({DOLBY!r}, [{{'status_code': 401}}, {{'status_code': 200}}])\n"
        f"    assert requests.get({DOLBY!r}, auth=DolbyAuth('k', 's')).status_code == 200\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "requests_mock", "-p", "no:cacheprovider", "test_users.py"]

    # The variable may have a path relative to the project.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert "1 passed" in done.stdout, done.stdout


def test_with_requests_mock_the_token_does_not_come_back_after_a_foreign_hop() -> None:
    """Its requests are wrappers, which do not forward attributes that are set on them."""
    with requests_mock.Mocker() as mock:
        mock.post(TOKEN_URL, json={"access_token": "one"})
        mock.get(DOLBY, status_code=302, headers={"Location": "https://evil.test/"})
        mock.get("https://evil.test/", status_code=302, headers={"Location": "https://api.dolby.com/b"})
        back = mock.get("https://api.dolby.com/b", status_code=401)

        response = requests.get(DOLBY, auth=DolbyAuth(**CLASSIC), timeout=20)

    assert (response.status_code, back.call_count) == (401, 1)


def test_with_responses_a_401_is_healed() -> None:
    with responses.RequestsMock() as mock:
        for token in ("one", "two"):
            mock.post(TOKEN_URL, json={"access_token": token})
        for token, status in (("one", 401), ("two", 200)):
            carries = responses.matchers.header_matcher({"Authorization": f"Bearer {token}"})
            mock.post(DOLBY, status=status, body="the body", match=[carries])

        assert send(DolbyAuth(**CLASSIC)) == HEALED
