"""The real command `http`, which finds the plugin by its entry point."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dolby_auth_plugin.sandbox import Sandbox

HTTP = Path(sys.executable).with_name("http")


@pytest.fixture
def environment(sandbox: Sandbox, tmp_path: Path) -> dict[str, str]:
    # HTTPie asks its maker's server for updates otherwise.
    (tmp_path / "config.json").write_text('{"disable_update_warnings": true}')
    return {
        **{name: value for name, value in os.environ.items() if "APP_" not in name},
        "HTTPIE_CONFIG_DIR": str(tmp_path),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "DOLBYIO_TOKEN_URL": sandbox.token_url,
        "DOLBYIO_ALLOWED_HOSTS": ",".join(sandbox.allowed_hosts),
    }


def test_the_environments_credentials_are_used(sandbox: Sandbox, environment: dict[str, str]) -> None:
    pair = {"DOLBYIO_APP_KEY": sandbox.app_key, "DOLBYIO_APP_SECRET": sandbox.app_secret}

    done = subprocess.run(
        [HTTP, "--ignore-stdin", "-A", "dolby", f"{sandbox.url}/media/jobs"],
        env={**environment, **pair},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr, sandbox.token_requests) == (0, '{"jobs":[]}', "", 1)


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal of POSIX")
def test_the_secret_is_asked_for_at_the_terminal_and_not_shown(sandbox: Sandbox, environment: dict[str, str]) -> None:
    import pty

    child, terminal = pty.fork()
    if child == 0:
        options = ("-A", "dolby", f"--auth={sandbox.app_key}", "--pretty=none")
        os.execve(HTTP, ["http", *options, f"{sandbox.url}/media/jobs"], environment)

    shown = b""
    while b"password for" not in shown:
        shown += os.read(terminal, 1000)
    # The prompt is printed after the echo is turned off.
    os.write(terminal, f"{sandbox.app_secret}\n".encode())
    while part := read(terminal):
        shown += part
    os.close(terminal)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (b"200 OK" in shown, sandbox.app_secret.encode() in shown) == (True, False)


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1000)
    except OSError:
        # Linux answers so after the last process has closed the terminal.
        return b""


def test_a_run_without_it_imports_no_adapter(sandbox: Sandbox, environment: dict[str, str]) -> None:
    """Every run of HTTPie imports the plugin."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", HTTP, "--ignore-stdin", sandbox.storage_url],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    # The list lacks the plugin itself, which HTTPie imports by its entry point, and has what it imports.
    assert "dolby_auth_plugin._core.credentials\n" in done.stderr
    assert "dolby_auth_plugin._core.source\n" not in done.stderr
