"""The command `dolby-auth`, as a person sees it."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

import dolby_auth_plugin
from dolby_auth_plugin import __main__ as start
from dolby_auth_plugin import cli
from dolby_auth_plugin.cli import demonstration
from dolby_auth_plugin.cli.demonstration import Answer, Call, Trial
from dolby_auth_plugin.requests import DolbyAuth
from dolby_auth_plugin.sandbox import Sandbox

from ..internals import count_leak, granted

NAMES = ["requests", "httpx", "httpx async", "httpx2"]


# No server listens on this port.
DEAD_PROXY = "http://127.0.0.1:9"


def run(*arguments: str, **environment: str) -> Result:
    """Run the command without a terminal. Ignores terminal and proxy settings of the environment."""
    plain = dict.fromkeys(("FORCE_COLOR", "TTY_COMPATIBLE", "http_proxy", "HTTP_PROXY", "no_proxy"))
    return CliRunner(env={**plain, **environment}).invoke(cli.main, arguments)


# The demonstration


def demo(seconds: float) -> Result:
    """A demonstration behind a proxy that is down."""
    return run("demo", "--seconds", str(seconds), http_proxy=DEAD_PROXY)


@pytest.fixture(scope="module")
def shown() -> Result:
    """One run, long enough for a revocation. The environment names a proxy that is down."""
    return demo(1.5)


def rows_of(text: str) -> dict[str, list[int]]:
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    return {name: [int(number) for number in numbers] for name, *numbers in cells if numbers and numbers[0].isdigit()}


def renewals_in(result: Result) -> list[int]:
    """How often each client renewed its token early. The rest of its row is checked."""
    rows, renewals = rows_of(result.output), []
    assert [*NAMES, "all"] == list(rows)
    for name in NAMES:
        calls, token_requests, renewed, retried, leaks, failures = rows[name]
        assert calls > 10
        assert token_requests == 1 + renewed + retried
        assert (retried, leaks, failures) == (1, 0, 0)
        renewals.append(renewed)
    return renewals


def test_the_demo_succeeds(shown: Result) -> None:
    assert (shown.exit_code, shown.exception) == (0, None), shown.output


def test_each_client_retries_a_401_and_leaks_nothing(shown: Result) -> None:
    assert [0] * 4 == renewals_in(shown)


@pytest.mark.slow
def test_each_client_renews_early_before_the_revocation_and_after_it() -> None:
    shown = demo(6.5)

    assert (shown.exit_code, shown.exception) == (0, None), shown.output
    assert all(renewed >= 2 for renewed in renewals_in(shown))


def test_the_last_row_is_the_sum(shown: Result) -> None:
    rows = rows_of(shown.output)

    assert rows["all"] == [sum(rows[name][column] for name in NAMES) for column in range(6)]


def test_without_a_terminal_there_are_plain_lines(shown: Result) -> None:
    assert "\x1b" not in shown.output
    for name in NAMES:
        assert re.search(rf"^{name}: \d+ calls, \d+ token requests$", shown.output, re.MULTILINE)
    assert shown.output.endswith("All calls succeeded, and no token was sent to storage.\n")


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect to loopback directly. Ignores the proxies of the environment."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.mark.usefixtures("no_proxy")
def test_with_a_terminal_there_is_a_progress_display() -> None:
    console = Console(force_terminal=True, width=80, record=True, file=io.StringIO())
    trials = [Trial("requests", demonstration.with_requests, 0.3)]

    cli.run(console, trials, 0.3)

    assert re.search(r"requests .* calls, \d tokens", console.export_text())
    assert trials[0].failures == []


def test_the_progress_display_is_idle_while_it_waits_for_the_last_client() -> None:
    def work(trial: Trial) -> None:
        trial.stopped.wait(0.4)

    console = Console(force_terminal=True, width=80, file=io.StringIO())
    trials = [Trial("first", lambda _: None, 0.4), Trial("last", work, 0.4)]
    before = time.thread_time()

    cli.run(console, trials, 0.4)

    assert time.thread_time() - before < 0.2


def broken(name: str = "broken", failures: int = 0, leaks: int = 0) -> Trial:
    trial = Trial(name, lambda _: None, 1)
    trial.failures = [f"GET /{number}: HTTP 500" for number in range(failures)]
    for _ in range(leaks):
        count_leak(trial.sandbox)
    return trial


def report(*trials: Trial) -> tuple[int, str]:
    console = Console(width=100, record=True, file=io.StringIO())
    status = cli.report(console, list(trials))
    return status, console.export_text()


@pytest.mark.parametrize(("failures", "leaks"), [(1, 0), (0, 1)])
def test_a_failure_or_a_leak_makes_the_exit_status_1(failures: int, leaks: int) -> None:
    status, text = report(broken(), broken(failures=failures, leaks=leaks))

    assert status == 1
    assert f"The demo failed. Failures: {failures}. Requests that sent a token to storage: {leaks}." in text


def test_only_the_first_failures_are_listed() -> None:
    _, text = report(broken(failures=7))

    assert "broken: GET /4: HTTP 500" in text
    assert "GET /5" not in text
    assert "... and 2 more" in text


def failures_of(work: Any, seconds: float = 0.2) -> list[str]:
    trial = Trial("trial", work, seconds)
    trial.run()
    return trial.failures


def test_an_error_answer_is_a_failure() -> None:
    def work(trial: Trial) -> None:
        demonstration.make(trial, lambda call: Answer(401, b""))
        assert trial.refusals_seen == len(trial.failures)

    assert "POST http://" in failures_of(work)[0]
    assert "/media/input: HTTP 401" in failures_of(work)[0]


def test_a_call_that_raises_is_a_failure() -> None:
    def send(call: Call) -> Answer:
        raise OSError("gone")

    assert "OSError: gone" in failures_of(lambda trial: demonstration.make(trial, send))[0]


def test_a_failure_quotes_no_presigned_url() -> None:
    def send(call: Call) -> Answer:
        raise OSError("no way to /dlb/in/1.wav?X-Amz-Signature=canary (refused)")

    assert failures_of(lambda trial: demonstration.make(trial, send))[0].endswith(
        "OSError: no way to /dlb/in/1.wav (refused)"
    )


def test_work_that_raises_is_a_failure() -> None:
    def work(trial: Trial) -> None:
        raise RuntimeError("broken")

    assert failures_of(work) == ["RuntimeError: broken"]


@pytest.mark.parametrize(
    ("status", "download", "failure"),
    [
        ("Failed", demonstration.SOUND, "the job ended as Failed"),
        ("Success", b"", "the download differs from the upload"),
    ],
)
def test_a_wrong_outcome_is_a_failure(status: str, download: bytes, failure: str) -> None:
    def send(call: Call) -> Answer:
        if "output?" in call.url:
            return Answer(200, download)
        return Answer(200, f'{{"url":"https://x","job_id":"1","status":"{status}"}}'.encode())

    assert failures_of(lambda trial: demonstration.make(trial, send))[0] == failure


def test_a_missing_http_library_is_reported_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "dolby_auth_plugin.cli.demonstration")
    monkeypatch.delattr(cli, "demonstration")
    monkeypatch.setitem(sys.modules, "httpx2", None)

    result = run("demo")

    assert result.exit_code == 1
    assert result.output == "Error: the demo needs httpx2: pip install 'dolby-auth-plugin[all]'\n"


def test_a_missing_sandbox_is_reported_in_one_sentence() -> None:
    # A separate process: this one has imported the sandbox, and importing it again would replace its classes.
    script = """
import sys
sys.modules["jwt"] = None
sys.argv = ["dolby-auth", "demo"]
from dolby_auth_plugin.__main__ import main
main()
"""

    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        "Error: the demo needs all extras: pip install 'dolby-auth-plugin[all]'\n",
    )


# --live


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """`demo --live` uses a sandbox in place of the service."""
    with Sandbox() as sandbox:
        monkeypatch.setenv("DOLBYIO_APP_KEY", sandbox.app_key)
        monkeypatch.setenv("DOLBYIO_APP_SECRET", sandbox.app_secret)
        monkeypatch.setattr("dolby_auth_plugin.requests.DolbyAuth", lambda: DolbyAuth(token_url=sandbox.token_url))
        yield sandbox


def test_live_obtains_a_token_and_reports_it(live: Sandbox) -> None:
    result = run("demo", "--live", no_proxy="127.0.0.1")

    assert result.exit_code == 0
    assert "Obtained an API token with requests." in result.output
    assert re.search(r"It expires in 1[78]\d\d s, at .* UTC\. Scopes: unrestricted", result.output)
    [token] = granted(live)
    assert token not in result.output


def test_live_explains_what_failed(live: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOLBYIO_APP_SECRET", "canary")

    result = run("demo", "--live", no_proxy="127.0.0.1")

    assert result.exit_code == 1
    assert "refused the app key" in result.output
    assert "canary" not in result.output


def test_live_without_credentials_names_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DOLBYIO_APP_KEY", "DOLBYIO_APP_SECRET", "APP_KEY", "APP_SECRET"):
        monkeypatch.delenv(name, raising=False)

    result = run("demo", "--live")

    assert result.exit_code == 1
    assert "DOLBYIO_APP_KEY and DOLBYIO_APP_SECRET or APP_KEY and APP_SECRET\n" in result.output


def test_live_uses_the_first_library_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_KEY", "key")
    monkeypatch.setenv("APP_SECRET", "secret")
    monkeypatch.setitem(sys.modules, "dolby_auth_plugin.requests", None)

    assert cli.live_auth()[0] == "httpx"


def test_live_without_any_library_names_the_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("requests", "httpx", "httpx2"):
        monkeypatch.setitem(sys.modules, f"dolby_auth_plugin.{name}", None)

    result = run("demo", "--live")

    assert result.exit_code == 1
    assert "pip install 'dolby-auth-plugin[requests]'" in result.output


# The command


def test_version_is_the_packages() -> None:
    assert run("--version").output == f"dolby-auth, version {dolby_auth_plugin.__version__}\n"


def test_help_lists_the_demo() -> None:
    assert "demo" in run("-h").output


def test_python_m_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "dolby_auth_plugin", "--version"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        f"dolby-auth, version {dolby_auth_plugin.__version__}\n",
        "",
    )


def test_the_entry_point_starts_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["dolby-auth", "--version"])

    with pytest.raises(SystemExit) as ended:
        start.main()

    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("dolby-auth, version")


@pytest.mark.parametrize(("module", "library"), [("click", "click"), ("rich.console", "rich")])
def test_without_its_extra_the_command_prints_one_sentence(
    module: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "dolby_auth_plugin.cli")
    monkeypatch.delattr(dolby_auth_plugin, "cli")
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(SystemExit) as ended:
        start.main()

    assert ended.value.code == f"the command dolby-auth needs {library}: pip install 'dolby-auth-plugin[cli]'"
