"""
Fixtures for pytest: a simulated Dolby.io for the tests of an application.

    def test_my_application_lists_jobs(dolby_auth_env: Sandbox) -> None:
        assert my_application.list_jobs(api=dolby_auth_env.url) == []

pytest imports this module in each run, so it imports nothing but what pytest has. The first test that uses a fixture imports the
sandbox.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .sandbox import Sandbox


@pytest.fixture(scope="session")
def dolby_sandbox_server() -> Iterator[Sandbox]:
    """
    The server behind `dolby_sandbox`, for fixtures of a wider scope that need its address: one per process.

    It is the same object. Only `dolby_sandbox` gives it a clean state.
    """
    missing = None
    try:
        from .sandbox import Sandbox
    except ImportError as error:
        missing = str(error)
    if missing is not None:
        # Not in the handler: pytest would show both errors below the other one.
        pytest.fail(missing, pytrace=False)
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def dolby_sandbox(dolby_sandbox_server: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """
    A simulated Dolby.io on loopback, like new for each test. Its `url` stands in for `https://api.dolby.com`.

    During the test, requests to loopback bypass the proxies that the environment names.
    """
    # A test may have stopped it.
    dolby_sandbox_server.start().reset()
    _bypass_proxies(monkeypatch)
    return dolby_sandbox_server


@pytest.fixture
def dolby_auth_env(dolby_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """
    The environment variables with which a plain `DolbyAuth()` uses the sandbox. The fixture's value is the sandbox.

    The variables are read when an auth object is made: make it in the test, or in a fixture that uses this one.
    """
    monkeypatch.setenv("DOLBYIO_APP_KEY", dolby_sandbox.app_key)
    monkeypatch.setenv("DOLBYIO_APP_SECRET", dolby_sandbox.app_secret)
    monkeypatch.setenv("DOLBYIO_TOKEN_URL", dolby_sandbox.token_url)
    monkeypatch.setenv("DOLBYIO_ALLOWED_HOSTS", ",".join(dolby_sandbox.allowed_hosts))
    return dolby_sandbox


def _bypass_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    # Where both are set, libraries use the name in lower case.
    hosts = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    # A single `*` means all hosts. In a list it means nothing.
    if hosts.strip() != "*":
        hosts = ",".join(filter(None, (hosts, "127.0.0.1", "localhost")))
        monkeypatch.setenv("no_proxy", hosts)
        monkeypatch.setenv("NO_PROXY", hosts)
