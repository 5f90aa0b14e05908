"""The auth plugin for HTTPie: its main function in this process. `tests/tools/test_httpie.py` runs the command `http`."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
from httpie.context import Environment
from httpie.core import main
from httpie.plugins.registry import plugin_manager
from keyring import get_keyring
from keyring.backend import KeyringBackend

from dolby_auth_plugin import AppCredentials
from dolby_auth_plugin._core import system_keyring
from dolby_auth_plugin.httpie import DolbyAuthPlugin
from dolby_auth_plugin.requests import DolbyAuth
from dolby_auth_plugin.sandbox import Sandbox

from ..keyrings import BrokenKeyring, MemoryKeyring, using
from ..servers import Received, Reply, Server

NAMES = ("DOLBYIO_APP_KEY", "DOLBYIO_APP_SECRET", "APP_KEY", "APP_SECRET")


class Done(NamedTuple):
    code: int
    out: str
    error: str


Http = Callable[..., Done]


@pytest.fixture(scope="module", autouse=True)
def plugin() -> Iterator[None]:
    """HTTPie finds it by its entry point only after an installation of this checkout."""
    before = list(plugin_manager)
    plugin_manager.register(DolbyAuthPlugin)
    yield
    plugin_manager[:] = before


@pytest.fixture
def http(tmp_path: Path) -> Http:
    """The command `http`, with a folder of its own for its settings and sessions."""
    # HTTPie asks its maker's server for updates otherwise.
    (tmp_path / "config.json").write_text('{"disable_update_warnings": true}')

    def http(*arguments: str) -> Done:
        with tempfile.TemporaryFile("w+") as out:
            environment = Environment(
                config_dir=tmp_path,
                stdin=None,
                stdout=out,
                stdout_isatty=False,
                stderr=io.StringIO(),
                stderr_isatty=False,
            )
            code = main(["http", *arguments], environment)
            out.seek(0)
            return Done(code, out.read(), " ".join(environment.stderr.getvalue().split()))

    return http


@pytest.fixture
def asked(dolby_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prompts, which are answered with the secret of the sandbox."""
    prompts: list[str] = []

    def answer(prompt: str) -> str:
        prompts.append(prompt)
        return dolby_sandbox.app_secret

    monkeypatch.setattr("getpass.getpass", answer)
    return prompts


def auth_in_session(tmp_path: Path, name: str) -> object:
    [file] = (tmp_path / "sessions").rglob(f"{name}.json")
    return json.loads(file.read_text())["auth"]


def forget_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_a_run_makes_one_token_request_with_the_environments_credentials(http: Http, dolby_auth_env: Sandbox) -> None:
    done = http("-A", "dolby", f"{dolby_auth_env.url}/media/jobs")

    assert (done, dolby_auth_env.token_requests) == ((0, '{"jobs":[]}', ""), 1)


def test_a_key_without_a_secret_asks_for_it(
    http: Http, dolby_auth_env: Sandbox, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the environment has a secret."""
    monkeypatch.setenv("DOLBYIO_APP_SECRET", "another secret")

    done = http("-A", "dolby", f"--auth={dolby_auth_env.app_key}", f"{dolby_auth_env.url}/media/jobs")

    assert (done.code, done.out, len(asked)) == (0, '{"jobs":[]}', 1)
    assert dolby_auth_env.app_key in asked[0]


@pytest.mark.parametrize("empty", [False, True])
def test_the_keyring_is_used_if_the_environment_has_nothing(
    empty: bool, http: Http, dolby_auth_env: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_environment(monkeypatch)
    if empty:
        monkeypatch.setenv("DOLBYIO_APP_KEY", "")
        monkeypatch.setenv("DOLBYIO_APP_SECRET", "")
    with using(MemoryKeyring()):
        assert system_keyring.store(AppCredentials(dolby_auth_env.app_key, dolby_auth_env.app_secret)) is None

        assert http("-A", "dolby", f"{dolby_auth_env.url}/media/jobs").code == 0


def test_half_a_pair_in_the_environment_is_an_error(
    http: Http, dolby_auth_env: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOLBYIO_APP_SECRET")

    done = http("-A", "dolby", f"{dolby_auth_env.url}/media/jobs")

    assert done.code == 1
    assert done.error.startswith("http: error: CredentialsError: the environment has no DOLBYIO_APP_SECRET")


# The last keyring is that of all tests, see `conftest`.
@pytest.mark.parametrize(
    ("keyring", "why"),
    [
        (MemoryKeyring(), "the system's keyring has no app key and secret: store them with `dolby-auth login`"),
        (BrokenKeyring(), "the system's keyring can't be used: OSError"),
        (get_keyring(), "this system has no keyring that can be used: servers and containers often have none"),
    ],
)
def test_without_any_credentials_the_error_names_all_places(
    keyring: KeyringBackend, why: str, http: Http, dolby_auth_env: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_environment(monkeypatch)

    with using(keyring):
        done = http("-A", "dolby", f"{dolby_auth_env.url}/media/jobs")

    assert done.code == 1
    assert done.error == (
        "http: error: ValueError: no app key and secret: give -a KEY, set DOLBYIO_APP_KEY and DOLBYIO_APP_SECRET,"
        f" or run dolby-auth login (the keyring: {why})"
    )


@pytest.mark.parametrize(
    ("given", "complaint"), [("key:", "the app secret is empty"), (":secret", "the app key is empty")]
)
def test_an_empty_half_is_an_error_of_one_line(given: str, complaint: str, http: Http, dolby_auth_env: Sandbox) -> None:
    done = http("-A", "dolby", "-a", given, f"{dolby_auth_env.url}/media/jobs")

    assert (done.code, done.error) == (1, f"http: error: ValueError: {complaint}")


def test_a_refused_pair_is_an_error_of_one_line_without_the_secret(http: Http, dolby_auth_env: Sandbox) -> None:
    done = http("-A", "dolby", "-a", "my-key:my-canary", f"{dolby_auth_env.url}/media/jobs")

    assert (done.code, done.out, "my-canary" in done.error) == (1, "", False)
    assert done.error.startswith("http: error: TokenError: Dolby.io refused the app key 'my-k…' and its secret")


def test_the_long_form_takes_a_key_that_begins_with_a_hyphen(http: Http, dolby_auth_env: Sandbox) -> None:
    """HTTPie takes it for options after `-a`. One key of the sandbox in 64 is such a key."""
    short = http("-A", "dolby", "-a", "-my-key:my-canary", f"{dolby_auth_env.url}/media/jobs")
    long = http("-A", "dolby", "--auth=-my-key:my-canary", f"{dolby_auth_env.url}/media/jobs")

    assert (short.code, "argument --auth/-a: expected one argument" in short.error) == (1, True)
    assert long.error.startswith("http: error: TokenError: Dolby.io refused the app key '-my-…' and its secret")


@pytest.mark.parametrize("secret", ["", "typed"])
def test_a_session_keeps_the_key_and_no_secret(
    secret: str, http: Http, dolby_auth_env: Sandbox, asked: list[str], tmp_path: Path
) -> None:
    """Later runs take the secret from the environment, and ask nothing."""
    given = f"{dolby_auth_env.app_key}:{dolby_auth_env.app_secret}" if secret else dolby_auth_env.app_key
    url = f"{dolby_auth_env.url}/media/jobs"

    codes = [http("-A", "dolby", f"--auth={given}", "--session=mine", url).code, http("--session=mine", url).code]

    assert (codes, len(asked)) == ([0, 0], 0 if secret else 1)
    assert auth_in_session(tmp_path, "mine") == {"type": "dolby", "raw_auth": dolby_auth_env.app_key}


def test_a_session_without_a_key_uses_the_environment_each_time(
    http: Http, dolby_auth_env: Sandbox, tmp_path: Path
) -> None:
    url = f"{dolby_auth_env.url}/media/jobs"

    codes = [http("-A", "dolby", "--session=mine", url).code, http("--session=mine", url).code]

    assert (codes, auth_in_session(tmp_path, "mine")) == ([0, 0], {"type": "dolby", "raw_auth": ""})


def test_a_session_does_not_use_the_credentials_of_another_application(
    http: Http, dolby_auth_env: Sandbox, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{dolby_auth_env.url}/media/jobs"
    http("-A", "dolby", f"--auth={dolby_auth_env.app_key}", "--session=mine", url)
    monkeypatch.setenv("DOLBYIO_APP_KEY", "other-key")

    done = http("--session=mine", url)

    assert (done.code, dolby_auth_env.token_requests) == (1, 1)
    assert f"the session uses the app key {dolby_auth_env.app_key[:4]}…, and the environment or" in done.error


@pytest.fixture
def dolby(api: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server with numbered tokens, which refuses the first one."""

    def answer(received: Received) -> Reply:
        if received.path == "/token":
            tokens = sum(earlier.path == "/token" for earlier in api.log)
            return Reply(body=f'{{"access_token": "token-{tokens}"}}'.encode())
        return Reply(401 if received.token == "Bearer token-1" else 200)

    api.answer = answer
    monkeypatch.setenv("DOLBYIO_APP_KEY", "key")
    monkeypatch.setenv("DOLBYIO_APP_SECRET", "secret")
    monkeypatch.setenv("DOLBYIO_TOKEN_URL", f"{api.url}/token")
    monkeypatch.setenv("DOLBYIO_ALLOWED_HOSTS", api.url.partition("//")[2])
    monkeypatch.setenv("no_proxy", "*")
    return api


def test_a_401_costs_another_token_and_is_sent_again_with_its_body(http: Http, dolby: Server) -> None:
    done = http("-A", "dolby", f"{dolby.url}/jobs", "input=dlb://song")

    sent = [(received.token, received.body) for received in dolby.log if received.path == "/jobs"]
    assert (done.code, done.out) == (0, "ok")
    assert sent == [(f"Bearer token-{number}", b'{"input": "dlb://song"}') for number in (1, 2)]


def test_a_redirect_to_another_host_carries_no_token(http: Http, dolby: Server, other: Server) -> None:
    answer = dolby.answer
    dolby.answer = lambda received: (
        Reply(302, {"Location": f"{other.url}/object"}) if received.path == "/jobs" else answer(received)
    )

    done = http("-A", "dolby", "--follow", f"{dolby.url}/jobs")

    assert (done.code, done.out, dolby.log[-1].token) == (0, "ok", "Bearer token-1")
    assert [received.token for received in other.log] == [None]


def test_another_host_gets_no_token_and_costs_none(http: Http, dolby: Server, other: Server) -> None:
    done = http("-A", "dolby", f"{other.url}/object")

    assert (done.code, [received.token for received in other.log], dolby.log) == (0, [None], [])


def test_offline_shows_the_request_with_a_token(http: Http, dolby: Server) -> None:
    """So it needs a token request. The request itself is not sent."""
    done = http("-A", "dolby", "--offline", f"{dolby.url}/jobs")

    assert "\nAuthorization: Bearer token-1\n" in done.out.replace("\r", "")
    assert [received.path for received in dolby.log] == ["/token"]


def test_a_download_follows_to_the_storage_without_the_token(
    http: Http, dolby_auth_env: Sandbox, tmp_path: Path
) -> None:
    upload = f"{dolby_auth_env.url}/media/input"
    with requests.Session() as session:
        target = session.post(upload, json={"url": "dlb://song"}, auth=DolbyAuth(), timeout=20).json()["url"]
        session.put(target, data=b"sound", timeout=20)
    file = tmp_path / "song"

    done = http(
        "-A", "dolby", "--download", "--output", str(file), f"{dolby_auth_env.url}/media/output", "url==dlb://song"
    )

    assert (done.code, file.read_bytes(), dolby_auth_env.storage_leaks) == (0, b"sound", 0)
