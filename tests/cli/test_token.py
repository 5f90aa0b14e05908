"""`dolby-auth token`, `dolby-auth cache` and `dolby-auth scopes`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import Result

from dolby_auth_plugin import FileTokenCache, RedisTokenCache, Scope
from dolby_auth_plugin._core.credentials import AppCredentials
from dolby_auth_plugin.cli import auth, checks
from dolby_auth_plugin.cli.account import Account
from dolby_auth_plugin.sandbox import Sandbox

from ..internals import granted
from .test_cli import run, script


@pytest.fixture(autouse=True)
def environment(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox, in place of the service, and a home folder for one test."""
    monkeypatch.setenv("DOLBYIO_APP_KEY", sandbox.app_key)
    monkeypatch.setenv("DOLBYIO_APP_SECRET", sandbox.app_secret)
    monkeypatch.setenv("DOLBYIO_TOKEN_URL", sandbox.token_url)
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))


def token_of(result: Result) -> str:
    """The token that the command has printed. Nothing else was."""
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    token, end = result.stdout[:-1], result.stdout[-1]
    assert end == "\n"
    return token


# What is printed


def test_the_bare_token_is_printed_and_nothing_else(sandbox: Sandbox) -> None:
    assert token_of(run("token")) in granted(sandbox)


def test_header_prints_the_whole_header(sandbox: Sandbox) -> None:
    shown = token_of(run("token", "--header"))

    assert shown.startswith("Authorization: Bearer ")
    assert shown.removeprefix("Authorization: Bearer ") in granted(sandbox)


def test_json_has_the_fields_of_the_endpoints_answer(sandbox: Sandbox) -> None:
    fields = json.loads(
        run("token", "--json", "--scope", Scope.MONITOR_READ, "--scope", Scope.CONFERENCE_CREATE).stdout
    )

    assert fields.pop("access_token") in granted(sandbox)
    end = datetime.fromisoformat(fields.pop("expires_at"))
    assert 1700 < fields.pop("expires_in") <= 1800
    assert 1700 < end.timestamp() - time.time() <= 1800
    assert fields == {"token_type": "Bearer", "scope": "comms:conf:create comms:monitor:read"}


def test_json_has_no_scope_if_the_answer_names_none() -> None:
    assert json.loads(run("token", "--json").stdout)["scope"] is None


@pytest.mark.skipif(shutil.which("curl") is None or shutil.which("sh") is None, reason="needs curl and a shell")
def test_curl_reads_the_header_from_a_pipe(sandbox: Sandbox) -> None:
    """The example of the help, with the real command. Sandbox and token URL come from the environment."""
    pipe = '"$@" token --header | curl --silent --fail --noproxy "*" -H @- "$URL"'
    command = ["sh", "-c", f"URL={sandbox.url}/media/jobs; {pipe}", "sh", *script()]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert (sandbox.api_calls, sandbox.unauthorized) == (1, 0)
    assert "jobs" in json.loads(done.stdout)


# What is asked for


def test_scopes_and_lifetime_are_asked_for(sandbox: Sandbox) -> None:
    run("token", "--scope", "comms:conf:create", "--scope", "comms:conf:admin comms:remix:read", "--expires-in", "60")

    [request] = sandbox.token_log
    assert ("comms:conf:create comms:conf:admin comms:remix:read", 60) == (request.scope, request.expires_in)


def test_without_options_the_token_is_unrestricted_for_half_an_hour(sandbox: Sandbox) -> None:
    run("token")

    [request] = sandbox.token_log
    assert (None, 1800) == (request.scope, request.expires_in)


@pytest.mark.parametrize("seconds", ["0", "86401", "long"])
def test_a_lifetime_out_of_range_is_a_usage_error(seconds: str) -> None:
    result = run("token", "--expires-in", seconds)

    assert (2, "") == (result.exit_code, result.stdout)


def test_a_token_url_comes_before_the_environment(sandbox: Sandbox) -> None:
    token_of(run("token", "--token-url", sandbox.token_url, DOLBYIO_TOKEN_URL="https://127.0.0.1:9"))

    assert sandbox.token_requests == 1


@pytest.mark.parametrize("command", [["token"], ["demo", "--live"], ["check"]], ids=" ".join)
def test_the_file_with_the_secret_is_looked_into(
    command: list[str], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def find(path: str | None) -> Account:
        asked.append(path)
        return Account(AppCredentials(sandbox.app_key, sandbox.app_secret), "a test")

    monkeypatch.setattr(auth, "find", find)
    monkeypatch.setattr(checks, "find", find)

    run(*command, "--app-secret-file", "some/file", DOLBYIO_APP_SECRET="")

    assert asked == ["some/file"]
    assert [200] == [request.status for request in sandbox.token_log]


# Errors and warnings


def test_refused_credentials_are_an_error_of_one_line() -> None:
    result = run("token", DOLBYIO_APP_SECRET="canary")

    assert (1, "") == (result.exit_code, result.stdout)
    assert result.stderr.startswith("Error: Dolby.io refused the app key")
    assert result.stderr.count("\n") == 1
    assert "canary" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["--scope", ""], "malformed scope"), (["--token-url", "http://example.com/"], "token_url must be https")],
)
def test_a_bad_argument_is_an_error_of_one_line(arguments: list[str], complaint: str) -> None:
    result = run("token", *arguments)

    assert (1, "") == (result.exit_code, result.stdout)
    assert result.stderr.startswith(f"Error: {complaint}")
    assert result.stderr.count("\n") == 1


@pytest.mark.filterwarnings("default")  # a user's Python prints a warning, ours raises it
def test_a_scope_that_is_not_granted_is_a_warning_of_one_line(sandbox: Sandbox) -> None:
    result = run("token", "--scope", "comms:monitor:raed")

    assert result.exit_code == 0
    assert result.stdout[:-1] in granted(sandbox)
    assert result.stderr == (
        "Warning: unknown scope 'comms:monitor:raed', which Dolby.io drops silently: did you mean 'comms:monitor:read'?\n"
        "Warning: Dolby.io did not grant 'comms:monitor:raed': requests that need it will be refused\n"
    )


def test_where_warnings_are_errors_they_have_one_line_too() -> None:
    """As with PYTHONWARNINGS=error, and in this suite."""
    result = run("token", "--scope", "comms:monitor:raed")

    assert (1, "") == (result.exit_code, result.stdout)
    assert result.stderr.startswith("Error: unknown scope 'comms:monitor:raed'")


# The cache


def test_with_the_cache_two_calls_make_one_token_request(sandbox: Sandbox) -> None:
    first, second = (token_of(run("token", "--cache", "file")) for _ in range(2))

    assert first == second
    assert sandbox.token_requests == 1


def shift_time(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let *seconds* pass for the library, for files, and for the sandbox."""
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + seconds)


def test_a_cached_token_in_its_last_minutes_is_replaced(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process ends at once, so it can't renew the token in the background."""
    first = token_of(run("token", "--cache", "file"))
    shift_time(1600, monkeypatch)

    second, third = (token_of(run("token", "--cache", "file")) for _ in range(2))

    assert first != second == third
    assert sandbox.token_requests == 2


def test_a_cached_token_in_its_last_minutes_is_used_if_there_is_no_other(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = token_of(run("token", "--cache", "file"))
    shift_time(1600, monkeypatch)
    sandbox.fail_token_requests(status=400)

    result = run("token", "--cache", "file")

    assert (0, f"{first}\n") == (result.exit_code, result.stdout)
    assert result.stderr.startswith("Warning: renewal failed, the present token is used until it expires: ")
    assert sandbox.token_requests == 2


def test_a_silent_endpoint_delays_a_cached_token_for_some_seconds_only(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = token_of(run("token", "--cache", "file"))
    shift_time(1600, monkeypatch)
    monkeypatch.setattr("dolby_auth_plugin.cli.token._PATIENCE", 0.3)
    sandbox.latency = 3600
    began = time.monotonic()

    result = run("token", "--cache", "file")

    assert (0, f"{first}\n") == (result.exit_code, result.stdout)
    assert time.monotonic() - began < 5


def test_the_cache_may_be_in_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token is shared with programs that give the same URL and nothing else."""
    monkeypatch.setenv("REDIS_URL", "redis://10.0.0.1:7")

    assert repr(RedisTokenCache("redis://10.0.0.1:7")) == repr(auth.cache_of("redis"))


def test_a_library_that_is_too_new_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for missing in ("requests", "httpx2"):
        monkeypatch.setitem(sys.modules, missing, None)
        monkeypatch.delitem(sys.modules, f"dolby_auth_plugin.{missing}", raising=False)
    monkeypatch.delitem(sys.modules, "dolby_auth_plugin.httpx", raising=False)
    monkeypatch.setattr(httpx, "__version__", "1.0.dev3")

    with pytest.raises(ImportError, match=r"httpx 1\.0\.dev3"):
        auth.adapter()


def test_cache_clear_deletes_the_cached_tokens(sandbox: Sandbox) -> None:
    first = token_of(run("token", "--cache", "file"))

    result = run("cache", "clear")

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"Deleted 1 cached token in {FileTokenCache().path}.\n"
    assert first != token_of(run("token", "--cache", "file"))


def test_cache_clear_without_a_cache_deletes_nothing() -> None:
    assert run("cache", "clear").stdout.startswith("Deleted 0 cached tokens in ")


@pytest.fixture
def _linked(tmp_path: Path) -> None:
    """The cache folder is a symbolic link, which somebody else may have made."""
    (tmp_path / "other").mkdir()
    FileTokenCache().path.parent.mkdir(parents=True, exist_ok=True)
    FileTokenCache().path.symlink_to(tmp_path / "other")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.usefixtures("_linked")
def test_a_folder_that_is_no_cache_is_an_error_of_one_line() -> None:
    result = run("cache", "clear")

    assert (1, "") == (result.exit_code, result.stdout)
    assert "is a symbolic link. FileTokenCache does not use it" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.usefixtures("_linked")
def test_a_cache_in_trouble_is_a_warning_of_one_line(sandbox: Sandbox) -> None:
    """The library logs it. Without it, nobody would know why each call makes a token request."""
    result = run("token", "--cache", "file")

    assert result.exit_code == 0
    assert result.stdout[:-1] in granted(sandbox)
    assert result.stderr.startswith("Warning: the token cache can't be used:")
    assert result.stderr.count("\n") == 1


def test_a_token_needs_neither_rich_nor_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing them takes longer than a token request."""
    for name in ("rich", "rich.console", "starlette", "uvicorn"):
        monkeypatch.setitem(sys.modules, name, None)

    token_of(run("token"))


# Scopes


def rows_of(text: str) -> dict[str, str]:
    rows: list[tuple[Any, ...]] = [
        tuple(line.split(None, 1)) for line in text.splitlines() if line.startswith("comms:")
    ]
    return dict(rows)


def test_scopes_lists_each_scope_with_what_it_allows() -> None:
    result = run("scopes")

    assert (result.exit_code, result.stderr) == (0, "")
    assert set(Scope) == set(rows_of(result.stdout))
    assert all(len(text) > 10 for text in rows_of(result.stdout).values())
