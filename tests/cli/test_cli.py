"""The command `dolby-auth`, as a person sees it."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

import dolby_auth_plugin
from dolby_auth_plugin import __main__ as start
from dolby_auth_plugin import cli
from dolby_auth_plugin.cli import auth, demonstration, output
from dolby_auth_plugin.cli import report as report_module
from dolby_auth_plugin.cli.demonstration import Answer, Call, Trial
from dolby_auth_plugin.sandbox import Sandbox

from ..internals import count_leak, granted

NAMES = ["requests", "httpx", "httpx async", "httpx2"]


# No server listens on this port.
DEAD_PROXY = "http://127.0.0.1:9"


def run(*arguments: str, **environment: str) -> Result:
    """Run the command without a terminal, and without the terminal and proxy settings of the environment."""
    plain = dict.fromkeys(("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "http_proxy", "HTTP_PROXY", "no_proxy"))
    return CliRunner(env={**plain, **environment}).invoke(cli.main, arguments, prog_name="dolby-auth")


def script() -> list[str]:
    """The installed command. `pip install --target` puts it elsewhere: then the module, which is the same."""
    installed = shutil.which("dolby-auth", path=sysconfig.get_path("scripts"))
    return [installed] if installed else [sys.executable, "-m", "dolby_auth_plugin"]


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
    """The progress is not part of the result."""
    assert "\x1b" not in shown.output
    for name in NAMES:
        assert re.search(rf"^{name}: \d+ calls, \d+ token requests$", shown.stderr, re.MULTILINE)
    assert shown.stdout.lstrip().startswith("One auth object per client.")
    assert shown.stdout.endswith("All calls succeeded, and no token was sent to storage.\n")


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect to loopback directly. Ignores the proxies of the environment."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.mark.usefixtures("no_proxy")
def test_with_a_terminal_there_is_a_progress_display() -> None:
    console = Console(force_terminal=True, width=80, record=True, file=io.StringIO())
    trials = [Trial("requests", demonstration.with_requests, 0.3)]

    report_module.run(console, trials, 0.3)

    assert re.search(r"requests .* calls, \d tokens", console.export_text())
    assert trials[0].failures == []


def test_the_progress_display_is_idle_while_it_waits_for_the_last_client() -> None:
    def work(trial: Trial) -> None:
        trial.stopped.wait(0.4)

    console = Console(force_terminal=True, width=80, file=io.StringIO())
    trials = [Trial("first", lambda _: None, 0.4), Trial("last", work, 0.4)]
    before = time.thread_time()

    report_module.run(console, trials, 0.4)

    assert time.thread_time() - before < 0.2


def broken(name: str = "broken", failures: int = 0, leaks: int = 0) -> Trial:
    trial = Trial(name, lambda _: None, 1)
    trial.failures = [f"GET /{number}: HTTP 500" for number in range(failures)]
    for _ in range(leaks):
        count_leak(trial.sandbox)
    return trial


def report(*trials: Trial) -> tuple[int, str]:
    console = Console(width=100, record=True, file=io.StringIO())
    status = report_module.report(console, list(trials))
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
def live(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """The sandbox is in the environment, in place of the service."""
    monkeypatch.setenv("DOLBYIO_APP_KEY", sandbox.app_key)
    monkeypatch.setenv("DOLBYIO_APP_SECRET", sandbox.app_secret)
    monkeypatch.setenv("DOLBYIO_TOKEN_URL", sandbox.token_url)
    return sandbox


def test_live_obtains_a_token_and_reports_it(live: Sandbox) -> None:
    result = run("demo", "--live")

    assert (result.exit_code, result.stderr) == (0, "")
    assert "Obtained an API token with requests." in result.stdout
    assert re.search(r"It expires in 1[78]\d\d s, at .* UTC\. Scopes: unrestricted", result.stdout)
    [token] = granted(live)
    assert token not in result.output


def test_live_takes_a_token_url(live: Sandbox) -> None:
    result = run("demo", "--live", "--token-url", live.token_url, DOLBYIO_TOKEN_URL="https://127.0.0.1:9")

    assert (result.exit_code, live.token_requests) == (0, 1)


def test_a_token_url_without_live_is_an_error() -> None:
    result = run("demo", "--token-url", "https://127.0.0.1:9")

    assert result.exit_code == 2
    assert "--token-url need --live" in result.stderr


def test_live_explains_what_failed(live: Sandbox) -> None:
    result = run("demo", "--live", DOLBYIO_APP_SECRET="canary")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "refused the app key" in result.stderr
    assert "canary" not in result.stderr


def test_the_first_library_that_is_installed_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dolby_auth_plugin.requests", None)

    assert auth.adapter().__name__ == "dolby_auth_plugin.httpx"


def test_without_any_library_the_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("requests", "httpx", "httpx2"):
        monkeypatch.setitem(sys.modules, f"dolby_auth_plugin.{name}", None)

    result = run("demo", "--live", APP_KEY="key", APP_SECRET="secret")

    assert result.exit_code == 1
    assert "pip install 'dolby-auth-plugin[requests]'" in result.stderr


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


def test_without_its_extra_the_command_prints_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "dolby_auth_plugin.cli")
    monkeypatch.delattr(dolby_auth_plugin, "cli")
    monkeypatch.setitem(sys.modules, "click", None)

    with pytest.raises(SystemExit) as ended:
        start.main()

    assert ended.value.code == "the command dolby-auth needs click: pip install 'dolby-auth-plugin[cli]'"


def test_without_rich_a_command_that_needs_it_prints_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)

    result = run("scopes")

    assert (1, "") == (result.exit_code, result.stdout)
    assert result.stderr == "Error: the command dolby-auth needs rich: pip install 'dolby-auth-plugin[cli]'\n"


def commands(group: click.Group, *names: str) -> Iterator[tuple[str, ...]]:
    """The names of *group* and of all commands in it."""
    yield names
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)
        else:
            yield (*names, name)


@pytest.mark.parametrize("names", list(commands(cli.main)), ids=" ".join)
def test_each_help_has_an_example_with_its_own_command(names: tuple[str, ...]) -> None:
    shown = run(*names, "--help").output

    assert re.search(rf"^  Example:\n    {' '.join(('dolby-auth', *names))}\b", shown, re.MULTILINE), shown


DOCS = (Path(dolby_auth_plugin.__file__).parent.parent / "docs" / "cli.md").read_text()


def documented() -> dict[str, click.Command]:
    """The commands that need a section in the documentation, by their headings."""
    found = {}
    for names in commands(cli.main):
        command: click.Command = cli.main
        for name in names:
            assert isinstance(command, click.Group)
            command = command.commands[name]
        if not isinstance(command, click.Group):
            found[" ".join(("dolby-auth", *names))] = command
    return found


@pytest.mark.parametrize("name", documented())
def test_each_command_has_a_section_with_its_options_and_an_example(name: str) -> None:
    sections = dict(re.findall(r"^## `(.+?)`\n(.*?)(?=^## )", DOCS, re.MULTILINE | re.DOTALL))
    options = [option for option in documented()[name].params if not getattr(option, "hidden", False)]

    assert re.search(rf"^{name}\b", sections[name], re.MULTILINE)
    assert [] == [option.opts[0] for option in options if f"`{option.opts[0]}" not in DOCS]


def test_help_needs_no_rich_no_http_library_and_no_openssl() -> None:
    """It would take twice as long."""
    program = (
        "import sys\n"
        "from dolby_auth_plugin import cli\n"
        "cli.main(['--help'], standalone_mode=False)\n"
        "print(*{'rich', 'requests', 'httpx', 'httpx2', 'starlette', 'ssl'} & set(sys.modules), sep=' ', file=sys.stderr)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stderr == "\n"


def test_a_program_that_starts_the_command_may_have_replaced_stdout() -> None:
    """Then its encoding is not changed."""
    with contextlib.redirect_stdout(io.StringIO()) as replaced:
        cli.main(["scopes"], standalone_mode=False)

    assert "comms:conf:create" in replaced.getvalue()


# Errors


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `dolby-auth token` raise *error* at a place where nobody expects it."""

    def find(app_secret_file: str | None) -> Any:
        raise error

    monkeypatch.setattr(auth, "find", find)


def test_an_unexpected_error_is_one_line_without_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text may hold anything, even a secret."""
    fail_with(KeyError("canary"), monkeypatch)

    result = run("token")

    assert (1, "") == (result.exit_code, result.stdout)
    assert re.fullmatch(
        r"Error: KeyError \(test_cli.py, line \d+\)\. This is an error in dolby-auth\. .*\n", result.stderr
    )
    assert "canary" not in result.stderr


def test_in_development_mode_an_unexpected_error_has_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(KeyError("canary"), monkeypatch)
    monkeypatch.setattr(output, "sys", types.SimpleNamespace(flags=types.SimpleNamespace(dev_mode=True)))

    assert isinstance(run("token").exception, KeyError)


def test_the_end_of_a_pipe_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(BrokenPipeError(errno.EPIPE, "closed"), monkeypatch)

    result = run("token")

    assert (1, "") == (result.exit_code, result.stderr)


def test_an_interrupt_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(KeyboardInterrupt(), monkeypatch)

    result = run("token")

    assert (1, "Aborted!") == (result.exit_code, result.stderr.strip())


# Completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_gets_a_script_for_completion(shell: str) -> None:
    shown = run(_DOLBY_AUTH_COMPLETE=f"{shell}_source")

    assert shown.exit_code == 0
    assert f"_DOLBY_AUTH_COMPLETE={shell}_complete" in shown.stdout


@pytest.mark.parametrize(
    ("shell", "setting", "answer"),
    [
        ("bash", {"COMP_WORDS": "dolby-auth to", "COMP_CWORD": "1"}, "plain,token"),
        ("zsh", {"COMP_WORDS": "dolby-auth to", "COMP_CWORD": "1"}, "plain\ntoken\nPrint an API token."),
        ("fish", {"COMP_WORDS": "dolby-auth to", "COMP_CWORD": "to"}, "token"),
    ],
)
def test_a_command_is_completed(shell: str, setting: dict[str, str], answer: str) -> None:
    shown = run(_DOLBY_AUTH_COMPLETE=f"{shell}_complete", **setting)

    assert answer in shown.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_an_option_with_the_script(tmp_path: Path) -> None:
    """As bash does it: it sources the script, sets the words, and calls the function that the script has registered."""
    command = tmp_path / "dolby-auth"
    command.write_text(f'#!/bin/sh\nexec {shlex.join(script())} "$@"\n')
    command.chmod(0o755)
    session = """
eval "$(_DOLBY_AUTH_COMPLETE=bash_source dolby-auth)"
complete -p dolby-auth >/dev/null
COMP_WORDS=(dolby-auth token --hea) COMP_CWORD=2
_dolby_auth_completion dolby-auth
echo "${COMPREPLY[@]}"
"""

    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", session], env=environment, capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == ("--header\n", "")
