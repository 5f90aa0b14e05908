"""`dolby-auth login` and `logout`, and where commands find the app key and secret. The keyring is one of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from dolby_auth_plugin import AppCredentials, FileTokenCache, cli
from dolby_auth_plugin._core import system_keyring
from dolby_auth_plugin.cli.account import find
from dolby_auth_plugin.requests import DolbyAuth
from dolby_auth_plugin.sandbox import Sandbox

from ..keyrings import BrokenKeyring, LossyKeyring, MemoryKeyring, using

NAMES = ("DOLBYIO_APP_KEY", "DOLBYIO_APP_SECRET", "APP_KEY", "APP_SECRET")

STORED = AppCredentials("stored-key", "stored-secret")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials, no proxy, and a cache folder of the test's own."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))


@pytest.fixture
def backend() -> Iterator[MemoryKeyring]:
    with using(backend := MemoryKeyring()):
        yield backend


@pytest.fixture
def logged_in(backend: MemoryKeyring) -> MemoryKeyring:
    assert system_keyring.store(STORED) is None
    return backend


def run(*arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(cli.main, arguments, input=typed)


def log_in(sandbox: Sandbox, *arguments: str, key: str | None = None, secret: str | None = None) -> Result:
    answers = [sandbox.app_key if key is None else key, sandbox.app_secret if secret is None else secret]
    return run("login", "--token-url", sandbox.token_url, *arguments, typed="".join(f"{line}\n" for line in answers))


# login


def test_login_stores_what_the_token_endpoint_accepts(backend: MemoryKeyring, sandbox: Sandbox) -> None:
    result = log_in(sandbox)

    assert result.exit_code == 0, result.output
    # The blanks: click 8.2 answers hidden prompts of tests on stdout.
    assert result.stdout.strip() == (
        f"The app key {sandbox.app_key[:4]}… and its secret are good. They are in the system's keyring."
    )
    assert AppCredentials.from_keyring() == AppCredentials(sandbox.app_key, sandbox.app_secret)
    assert sandbox.token_requests == 1


def test_login_asks_on_stderr_and_shows_neither(backend: MemoryKeyring, sandbox: Sandbox) -> None:
    """Users mistake the one for the other."""
    result = log_in(sandbox)

    assert "App key (hidden):" in result.stderr
    assert "App secret (hidden):" in result.stderr
    assert sandbox.app_key not in result.output
    assert sandbox.app_secret not in result.output


def test_login_removes_the_blanks_that_a_paste_brings(backend: MemoryKeyring, sandbox: Sandbox) -> None:
    assert log_in(sandbox, key=f" {sandbox.app_key}\t", secret=f"{sandbox.app_secret} ").exit_code == 0


def test_login_stores_nothing_that_is_refused(logged_in: MemoryKeyring, sandbox: Sandbox) -> None:
    result = log_in(sandbox, secret="canary")

    assert result.exit_code == 1
    assert result.stdout.strip() == ""
    assert "refused the app key" in result.stderr
    assert result.stderr.endswith("in the Dolby.io dashboard. Nothing was stored.\n")
    assert "canary" not in result.output
    assert AppCredentials.from_keyring() == STORED


@pytest.mark.parametrize(
    ("key", "words"), [("a:canary", "must not contain a colon"), ("a\x00canary", "control characters")]
)
def test_login_refuses_a_bad_key_without_a_token_request(
    backend: MemoryKeyring, sandbox: Sandbox, key: str, words: str
) -> None:
    result = log_in(sandbox, key=key)

    assert (result.exit_code, sandbox.token_requests) == (1, 0)
    assert words in result.stderr
    assert "canary" not in result.output


def test_login_refuses_a_bad_url_in_one_line(backend: MemoryKeyring) -> None:
    result = run("login", "--token-url", "http://api.dolby.io/token", typed="k\ns\n")

    assert result.exit_code == 1
    assert "https" in result.stderr.splitlines()[-1]
    assert backend.entries == {}


def test_login_reads_the_secret_from_a_file(backend: MemoryKeyring, sandbox: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{sandbox.app_secret}\n")
    file.chmod(0o600)

    result = log_in(sandbox, "--app-secret-file", str(file), secret="")

    assert result.exit_code == 0, result.output
    assert "App secret" not in result.stderr
    assert AppCredentials.from_keyring().app_secret == sandbox.app_secret


def test_login_asks_for_nothing_that_it_could_not_store(sandbox: Sandbox) -> None:
    """The suite has turned the keyring of the system off."""
    result = log_in(sandbox)

    assert result.exit_code == 1
    assert (
        result.output == "Error: this system has no keyring that can be used: servers and containers often have none\n"
    )


def test_login_without_the_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)

    result = run("login")

    assert result.exit_code == 1
    assert result.output == "Error: the system's keyring needs keyring: pip install 'dolby-auth-plugin[keyring]'\n"


def test_login_says_so_if_the_keyring_keeps_nothing(sandbox: Sandbox) -> None:
    with using(LossyKeyring()):
        result = log_in(sandbox)

    assert result.exit_code == 1
    assert "Error: the system's keyring has not kept the app key and secret\n" in result.output


def test_login_says_so_if_commands_will_use_the_environment(
    backend: MemoryKeyring, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_KEY", "k")
    monkeypatch.setenv("APP_SECRET", "s")

    assert log_in(sandbox).stderr.endswith("Commands use the environment first: APP_KEY and APP_SECRET.\n")


# logout


def test_logout_deletes_the_credentials_and_the_cached_tokens(logged_in: MemoryKeyring, sandbox: Sandbox) -> None:
    """The tokens of all credentials: the names of the entries do not tell whose they are."""
    DolbyAuth(**sandbox.options, cache=FileTokenCache()).token()

    first, second = run("logout"), run("logout")

    where = FileTokenCache().path
    assert (
        first.output == f"Deleted the app key and secret in the system's keyring.\nDeleted 1 cached token in {where}.\n"
    )
    assert second.output == f"The system's keyring has no app key and secret.\nDeleted 0 cached tokens in {where}.\n"
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert logged_in.entries == {}


def test_logout_deletes_a_damaged_entry(logged_in: MemoryKeyring) -> None:
    logged_in.entries = dict.fromkeys(logged_in.entries, "damaged")

    assert run("logout").exit_code == 0
    assert logged_in.entries == {}


def test_logout_deletes_the_cached_tokens_if_the_keyring_fails(sandbox: Sandbox) -> None:
    DolbyAuth(**sandbox.options, cache=FileTokenCache()).token()
    with using(BrokenKeyring()):
        result = run("logout")

    assert result.exit_code == 1
    where = FileTokenCache().path
    assert result.output == (
        f"Deleted 1 cached token in {where}.\nError: the system's keyring can't be used: OSError\n"
    )


def test_logout_without_the_extra_file_has_no_tokens_to_delete(
    logged_in: MemoryKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dolby_auth_plugin.caches.file", None)

    assert run("logout").output == "Deleted the app key and secret in the system's keyring.\n"


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_logout_refuses_a_cache_folder_that_others_may_change(logged_in: MemoryKeyring) -> None:
    FileTokenCache().path.mkdir(mode=0o700, parents=True)
    FileTokenCache().path.chmod(0o777)

    result = run("logout")

    assert result.exit_code == 1
    assert "may be changed by other users" in result.stderr
    assert logged_in.entries == {}


# Where commands find the app key and secret


@pytest.mark.parametrize("names", [NAMES[:2], NAMES[2:]])
def test_the_environment_comes_first(
    logged_in: MemoryKeyring, names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in zip(names, ("k", "s"), strict=True):
        monkeypatch.setenv(name, value)

    assert find() == (AppCredentials("k", "s"), f"the environment variables {names[0]} and {names[1]}")


@pytest.mark.parametrize(
    "others", [{}, {"APP_KEY": "k"}, {"APP_SECRET": "s"}, {"DOLBYIO_APP_KEY": "", "DOLBYIO_APP_SECRET": ""}]
)
def test_the_keyring_is_used_if_the_environment_has_none(
    logged_in: MemoryKeyring, others: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many programs call a variable `APP_KEY`."""
    for name, value in others.items():
        monkeypatch.setenv(name, value)

    assert find() == (STORED, "the system's keyring")


def complaint(app_secret_file: str | None = None) -> str:
    with pytest.raises(click.ClickException) as caught:
        find(app_secret_file)
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("present", NAMES[:2])
def test_half_a_pair_is_an_error_that_names_the_other_half(
    logged_in: MemoryKeyring, present: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [missing] = {*NAMES[:2]} - {present}
    monkeypatch.setenv(present, "it")

    assert f"the environment has no {missing}" in complaint()


@pytest.mark.usefixtures("backend")
def test_without_any_the_error_says_what_to_do() -> None:
    assert complaint() == (
        "no app key and secret in the environment (set DOLBYIO_APP_KEY and DOLBYIO_APP_SECRET),"
        " and the system's keyring has no app key and secret: store them with `dolby-auth login`"
    )


def test_without_a_keyring_the_error_says_so() -> None:
    assert complaint().endswith(
        "(set DOLBYIO_APP_KEY and DOLBYIO_APP_SECRET), and this system has no keyring that can be used:"
        " servers and containers often have none"
    )


# --app-secret-file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir(0o700)
    (folder / "secret").write_text("in-the-file\n")
    (folder / "secret").chmod(0o600)
    return folder / "secret"


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"DOLBYIO_APP_KEY": "k"}, "DOLBYIO_APP_KEY"),
        ({"DOLBYIO_APP_KEY": "k", "DOLBYIO_APP_SECRET": "s", "APP_KEY": "other"}, "DOLBYIO_APP_KEY"),
        ({"APP_KEY": "k"}, "APP_KEY"),
    ],
)
def test_a_file_replaces_the_secret_and_the_environment_has_the_key(
    logged_in: MemoryKeyring,
    file: Path,
    environment: dict[str, str],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)

    assert find(str(file)) == (
        AppCredentials("k", "in-the-file"),
        f"the environment variable {name} and the file {file}",
    )


@pytest.mark.usefixtures("logged_in")
def test_a_file_replaces_the_secret_in_the_keyring(file: Path) -> None:
    assert find(str(file)) == (
        AppCredentials("stored-key", "in-the-file"),
        f"the system's keyring and the file {file}",
    )


@pytest.mark.usefixtures("backend")
def test_a_file_without_a_key_is_an_error_that_names_the_variable(file: Path) -> None:
    assert complaint(str(file)).startswith("no app key in the environment (set DOLBYIO_APP_KEY), and")


@pytest.mark.usefixtures("logged_in")
def test_a_file_beside_half_a_pair_without_the_key_is_an_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOLBYIO_APP_SECRET", "s")
    monkeypatch.setenv("APP_KEY", "k")

    assert "the environment has no DOLBYIO_APP_KEY" in complaint(str(file))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        ("\n", "secret is empty: it should hold the app secret"),
        ("a\0canary", "control characters"),
    ],
)
def test_a_bad_file_is_an_error_in_one_line(
    file: Path, content: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_KEY", "k")
    file.unlink() if content is None else file.write_text(content)

    message = complaint(str(file))

    assert words in message
    assert "canary" not in message


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_a_file_that_others_may_write_is_one_line_on_stderr(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("APP_KEY", "k")
    file.chmod(0o666)

    find(str(file))

    assert capsys.readouterr() == (
        "",
        f"Warning: other users may change {file}, and so the app key or secret: chmod go-w {file}\n",
    )


# A person at a terminal

# Connects the command to a new terminal, types into it, and prints all that the terminal shows.
AT_A_TERMINAL = """
import os, pty, sys
child, terminal = pty.fork()
if not child:
    os.execv(sys.executable, [sys.executable, "-m", "dolby_auth_plugin", "login"])
shown = b""
for prompt in (b"App key (hidden): ", b"App secret (hidden): "):
    while not shown.endswith(prompt):
        shown += os.read(terminal, 1000)
    os.write(terminal, sys.stdin.buffer.readline())
try:
    while more := os.read(terminal, 1000):
        shown += more
except OSError:
    # Linux reports the end of the child so.
    pass
print(shown.decode(), os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(os.name != "posix", reason="terminals of POSIX")
def test_at_a_terminal_nothing_that_is_typed_is_shown(sandbox: Sandbox, tmp_path: Path) -> None:
    """Another process finds what was stored."""
    environment = {
        **os.environ,
        "DOLBYIO_TOKEN_URL": sandbox.token_url,
        "PYTHON_KEYRING_BACKEND": "tests.keyrings.FileKeyring",
        "KEYRING_PROPERTY_PATH": str(tmp_path / "keyring"),
    }

    done = subprocess.run(
        [sys.executable, "-c", AT_A_TERMINAL],
        input=f"{sandbox.app_key}\n{sandbox.app_secret}\n",
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
        timeout=60,
        check=True,
    )

    assert done.stdout.rstrip().endswith("They are in the system's keyring.\n 0")
    assert sandbox.app_key not in done.stdout
    assert sandbox.app_secret not in done.stdout
    assert sandbox.app_secret in (tmp_path / "keyring").read_text()
