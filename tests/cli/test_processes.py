"""The demonstration of a shared token: `dolby-auth demo --processes`."""

from __future__ import annotations

import queue
import re
import threading
from pathlib import Path

import pytest
from rich.console import Console

from dolby_auth_plugin import FileTokenCache, RedisTokenCache
from dolby_auth_plugin.cli import processes
from dolby_auth_plugin.cli.processes import Outcome, Work, empty_cache, work
from dolby_auth_plugin.cli.report import report_sharing
from dolby_auth_plugin.sandbox import Sandbox

from .test_cli import run


def test_processes_share_one_token() -> None:
    """One token request at the start, and one after the revocation."""
    shown = run("demo", "--processes", "2", "--seconds", "1")

    assert (shown.exit_code, shown.exception) == (0, None), shown.output
    assert re.search(
        r"^2 processes made \d+ calls with 2 token requests and \d+ cache operations\.$", shown.output, re.MULTILINE
    )


def test_a_process_counts_its_cache_operations(sandbox: Sandbox, tmp_path: Path) -> None:
    done = work(sandbox.url, sandbox.options, FileTokenCache(tmp_path / "cache"), 1, threading.Barrier(1))

    # Load, lock, load, store.
    assert (4, []) == (done.operations, done.failures)
    assert done.calls > 1
    assert sandbox.token_requests == 1


def test_failures_are_shown_and_the_status_is_1(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.fail_token_requests(status=401, times=1000)

    done = work(sandbox.url, sandbox.options, FileTokenCache(tmp_path / "cache"), 1, threading.Barrier(1))

    assert done.calls == len(done.failures) > 1
    assert done.failures[0].startswith("TokenError: ")


@pytest.mark.parametrize(("setting", "url"), [("", "redis://127.0.0.1"), ("redis://10.0.0.1:7", "redis://10.0.0.1:7")])
def test_the_cache_may_be_in_redis(setting: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", setting)

    with empty_cache("redis") as cache:
        assert isinstance(cache, RedisTokenCache)
        assert url in repr(cache)
        assert "dolby-auth-demo:" in repr(cache)


def test_failures_of_processes_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Outcome([Work(5, 7, ["TokenError: no token"]), Work(6, 8, [])], 9)

    assert report_sharing(Console(), outcome) == 1
    shown = capsys.readouterr().out
    assert "TokenError: no token" in shown
    assert "2 processes made 11 calls with 9 token requests and 15 cache operations." in shown


@pytest.mark.parametrize("error", [threading.BrokenBarrierError, queue.Empty])
def test_processes_that_do_not_start_or_answer_in_time_are_an_error_of_one_line(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_slowly(*_: object) -> Outcome:
        raise error

    monkeypatch.setattr(processes, "run", run_slowly)

    shown = run("demo", "--processes", "2")

    assert shown.exit_code == 1
    assert shown.stderr.endswith("\nError: the processes did not start or answer in time: try fewer\n")


@pytest.mark.parametrize(
    ("options", "complaint"), [(["--live", "--processes", "2"], "--live"), (["--cache", "file"], "--cache")]
)
def test_options_of_the_demo_that_contradict_each_other_are_a_usage_error(options: list[str], complaint: str) -> None:
    shown = run("demo", *options)

    assert shown.exit_code == 2
    assert f"Error: {complaint} " in shown.stderr


def test_a_malformed_url_of_redis_is_an_error_of_one_line() -> None:
    shown = run("demo", "--processes", "2", "--cache", "redis", REDIS_URL="bogus")

    assert shown.exit_code == 1
    assert "client_or_url is not a URL" in shown.output
