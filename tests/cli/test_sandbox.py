"""`dolby-auth sandbox`."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dolby_auth_plugin.cli import sandbox as sandbox_module

from .test_cli import run, script


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def get(url: str) -> None:
    """Send a request to loopback, whatever the proxies of the environment are. Its status does not matter."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(urllib.error.HTTPError):
        opener.open(url, timeout=10).close()


@pytest.fixture
def _handlers() -> Iterator[None]:
    """The signal handlers before the command replaces them. They fail, since the default would end the test run."""

    def fail(number: int, frame: object) -> None:
        raise AssertionError("the command has no handler for this signal")

    before = {number: signal.signal(number, fail) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_the_variables_and_the_requests_until_a_signal_ends_it(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    after("print_variables", lambda: get(f"http://127.0.0.1:{port}/media/jobs?token=canary"), monkeypatch)
    after("print_request", lambda: signal.raise_signal(number), monkeypatch)

    result = run("sandbox", "--port", str(port))

    assert (result.exit_code, result.exception) == (0, None)
    *variables, request = result.stdout.splitlines()
    assert variables == [
        "export DOLBYIO_APP_KEY=c2FuZGJveC1hcHAta2V5MQ==",
        "export DOLBYIO_APP_SECRET=sandbox-secret-that-protects-nothing",
        f"export DOLBYIO_TOKEN_URL=http://127.0.0.1:{port}/v1/auth/token",
        f"export DOLBYIO_ALLOWED_HOSTS=127.0.0.1:{port}",
    ]
    assert re.fullmatch(r"\d\d:\d\d:\d\d GET /media/jobs 401", request)
    assert result.stderr == (
        f"The sandbox answers at http://127.0.0.1:{port} in place of Dolby.io. Ctrl-C ends it.\nThe sandbox has ended.\n"
    )
    assert not is_open(port)


def after(name: str, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run *act* each time after the command has called this function of its module."""
    function = getattr(sandbox_module, name)

    def function_and_act(argument: Any) -> None:
        function(argument)
        act()

    monkeypatch.setattr(sandbox_module, name, function_and_act)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.usefixtures("_handlers")
def test_a_port_that_is_in_use_is_an_error_of_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        result = run("sandbox", "--port", str(port))

    assert (1, "") == (result.exit_code, result.stdout)
    assert re.fullmatch(rf"Error: .*port {port} of 127\.0\.0\.1.*\n", result.stderr)


@pytest.mark.skipif(sys.platform == "win32", reason="a process can't be sent a Ctrl-C there")
def test_ctrl_c_ends_the_real_command_at_once() -> None:
    """With a shell's variables and a program in another process."""
    with subprocess.Popen([*script(), "sandbox"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        variables = dict(command.stdout.readline().removeprefix("export ").strip().split("=", 1) for _ in range(4))
        environment = {**os.environ, **variables, "no_proxy": "127.0.0.1"}
        token = subprocess.run([*script(), "token"], env=environment, capture_output=True, text=True, check=True)
        request = command.stdout.readline()
        command.send_signal(signal.SIGINT)
        shown, errors = command.communicate(timeout=10)

    assert len(token.stdout) > 100
    assert re.fullmatch(r"\d\d:\d\d:\d\d POST /v1/auth/token 200\n", request)
    assert (shown, command.returncode, errors.count("\n")) == ("", 0, 2), errors
