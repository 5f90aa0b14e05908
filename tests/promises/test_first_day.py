"""Mistakes of a first day, and what the library says about them. Calls that lack a token are explained in the log."""

from __future__ import annotations

import contextvars
import io
import logging
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from dolby_auth_plugin import AppCredentials
from dolby_auth_plugin.sandbox import Sandbox

from ..contract import CLASSIC, rendered
from ..drivers import Driver
from ..fakes import wait_for_fetches
from ..matrix import ALL, REQUESTS, SYNC, Scene, each
from ..servers import Received, Reply, Server, serving


@pytest.fixture
def foreign() -> Iterator[Server]:
    """A host that is not listed, and answers 401."""
    with serving() as server:
        server.answer = lambda _: Reply(401)
        yield server


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# A 401 that could have been prevented


@each(ALL)
def test_a_401_from_an_unlisted_host_is_explained_once(
    scene: Scene, foreign: Server, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [scene.client.get(foreign.url, auth=scene.auth) for _ in range(3)]

    assert [401] * 3 == [answer.status for answer in answers]
    assert [None] * 3 == [received.token for received in foreign.log]
    (warning,) = warnings_in(caplog)
    assert (
        f"401 from {foreign.url} for a request without a token: allowed_hosts names this host for another port."
        in warning
    )
    assert f"add '{foreign.url.removeprefix('http://')}' to allowed_hosts." in warning


@each(SYNC)
def test_the_explained_host_gets_the_token_when_the_advice_is_followed(
    scene: Scene, foreign: Server, caplog: pytest.LogCaptureFixture
) -> None:
    scene.client.get(foreign.url, auth=scene.auth)
    entry = warnings_in(caplog)[0].split("'")[1]
    listed = scene.driver.adapter.DolbyAuth(**CLASSIC, token_url=scene.token_url, allowed_hosts=[entry])

    scene.client.get(foreign.url, auth=listed)

    assert "Bearer token.0" == foreign.log[1].token


@each(ALL)
def test_a_401_after_a_redirect_is_not_explained(
    scene: Scene, foreign: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither after a redirect of an allowed host nor after one of another host: their answers are not about the token."""
    scene.api.answer = lambda _: Reply(302, {"Location": f"{foreign.url}/last"})
    foreign.answer = lambda received: Reply(401) if received.path == "/last" else Reply(302, {"Location": "/last"})

    answers = [scene.send(), scene.client.get(foreign.url, auth=scene.auth)]

    assert [401, 401] == [answer.status for answer in answers]
    assert [] == warnings_in(caplog)


@each(ALL)
def test_a_401_to_the_callers_own_authorization_is_not_explained(
    scene: Scene, foreign: Server, caplog: pytest.LogCaptureFixture
) -> None:
    scene.client.get(foreign.url, auth=scene.auth, headers={"Authorization": "Basic mine"})

    assert [] == warnings_in(caplog)
    assert "Basic mine" == foreign.log[0].token


@each(ALL)
@pytest.mark.parametrize("status", [200, 403, 500])
def test_other_answers_of_an_unlisted_host_are_not_explained(
    scene: Scene, foreign: Server, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    foreign.answer = lambda _: Reply(status)

    scene.client.get(foreign.url, auth=scene.auth)

    assert [] == warnings_in(caplog)


@each(ALL)
def test_a_401_of_the_token_endpoint_is_explained_without_advice(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """The user calls the token endpoint through the client, as before this library."""
    scene.endpoint.answer = lambda _: Reply(401)

    scene.client.send("POST", scene.token_url, auth=scene.auth)

    assert [
        f"401 from {scene.endpoint.url} for a request without a token: it is the token endpoint, which gets no token."
    ] == warnings_in(caplog)


def test_a_hook_of_the_user_sees_an_unlisted_hosts_401_untouched(scene: Scene, foreign: Server) -> None:
    seen: list[Any] = []
    session = scene.stack.enter_context(scene.driver.library.Session())
    session.hooks["response"].append(lambda response, **_: seen.append((response.status_code, response.history)))

    session.get(foreign.url, auth=scene.auth)

    assert [(401, [])] == seen


def test_the_hook_for_an_explanation_is_left_on_no_later_request(scene: Scene, foreign: Server) -> None:
    """requests copies the hooks of a request to the next hop of a redirect."""
    foreign.answer = lambda received: Reply(302, {"Location": "/last"}) if received.path == "/" else Reply(200)

    response = scene.client.get(f"{foreign.url}/", auth=scene.auth).response

    assert [200, 302] == [response.status_code, response.history[0].status_code]
    assert [] == response.request.hooks["response"]


# Log handlers that send requests


class Posts(logging.Handler):
    """Sends each record with the auth object that logged it, as a handler for a log service could."""

    def __init__(self, scene: Scene, url: str) -> None:
        super().__init__()
        self.scene = scene
        self.url = url
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record.getMessage())
        assert len(self.records) < 20, "the log handler causes its own records"
        self.scene.client.send("POST", self.url, auth=self.scene.auth)


@each(SYNC)
@pytest.mark.parametrize("where", ["an unlisted host", "the token endpoint", "the API"])
def test_a_log_handler_may_send_with_the_auth_object(
    where: str, scene: Scene, foreign: Server, caplog: pytest.LogCaptureFixture
) -> None:
    scene.options |= {"timeout": 5, "allowed_hosts": [scene.api.host, scene.endpoint.host]}
    url = {"an unlisted host": foreign.url, "the token endpoint": scene.token_url, "the API": scene.api.url}[where]
    handler = Posts(scene, url)
    caplog.set_level(logging.DEBUG, "dolby_auth_plugin")
    logger = logging.getLogger("dolby_auth_plugin")
    logger.addHandler(handler)
    try:
        for target in (foreign.url, scene.token_url, scene.api.url):
            scene.client.get(target, auth=scene.auth)
        wait_for_fetches()
    finally:
        logger.removeHandler(handler)

    assert len(handler.records) <= 5
    assert any("token obtained" in record for record in handler.records)


# A body that can't be sent again


def numbers() -> Iterator[bytes]:
    yield b"12"


@each(ALL[:3])
def test_a_refused_body_that_cannot_be_sent_again_is_explained_in_the_log(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.api.answer = lambda _: Reply(401)
    caplog.set_level(logging.DEBUG, "dolby_auth_plugin")

    assert scene.send("POST", content=numbers()).status == 401

    lines = [message for message in caplog.messages if "is not sent again" in message]
    assert len(lines) == 1
    assert lines[0].startswith(f"401 from {scene.api.host}: the request is not sent again: its body")
    assert lines[0].endswith("can be read only once")


@each(SYNC)
def test_a_refused_file_that_has_changed_is_explained_in_the_log(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "dolby_auth_plugin")
    file = io.BytesIO(b"content")

    def grow(_: Received) -> Reply:
        file.seek(0, io.SEEK_END)
        file.write(b"more")
        return Reply(401)

    scene.api.answer = grow
    scene.send("POST", **({"content": file} if scene.driver is REQUESTS else {"files": {"file": file}}))

    assert any("has changed its size" in message for message in caplog.messages)


# Swapped, shortened, echoed


@each(SYNC)
def test_swapped_key_and_secret_do_not_show_the_secret(driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
    """An endpoint may echo what it got as the app key."""
    caplog.set_level(logging.DEBUG)
    secret = "canary-Secret.1"
    echo = '{"error":"Invalid_client","error_description":"Unknown client canary-Secret.1"}'
    with serving() as endpoint:
        endpoint.answer = lambda _: Reply(401, body=echo.encode())
        auth = driver.adapter.DolbyAuth(secret, "the-key", token_url=f"{endpoint.url}/token")
        with pytest.raises(driver.adapter.TokenError, match="Are the two swapped") as caught:
            auth.token()

    shown = f"{caught.value} {caught.value!r} {vars(caught.value)} {rendered(caught.value)} {auth!r} {caplog.text}"
    assert "'cana…'" in shown
    assert "canary" not in shown


@each(SYNC)
@pytest.mark.parametrize("status", [404, 405])
def test_a_wrong_path_in_token_url_is_an_error_that_names_the_url(scene: Scene, status: int) -> None:
    scene.endpoint.answer = lambda _: Reply(status)

    error = scene.fail()

    assert f"There is no token endpoint at {scene.token_url} (HTTP {status}" in str(error)


# The representation of an auth object


@each(SYNC)
def test_repr_shows_the_configuration_and_no_secret(driver: Driver) -> None:
    auth = driver.adapter.DolbyAuth(
        "an-app-key", "canary", scope=["comms:*", "comms:remix:read"], token_url="https://gateway.example/t?key=canary"
    )

    assert (
        f"<DolbyAuth for {driver.name}, app_key='an-a…', scope='comms:* comms:remix:read',"
        " token_url='https://gateway.example/t',"
        " allowed_hosts='api.dolby.com, api.dolby.io, comms.api.dolby.io, *.comms.api.dolby.io'>"
    ) == repr(auth)


@each(SYNC)
def test_repr_of_credentials_from_a_callable_and_of_many_hosts_is_short(driver: Driver) -> None:
    hosts = [f"{number}.example" for number in range(1000)]
    auth = driver.adapter.DolbyAuth(credentials=lambda: AppCredentials("k", "s"), allowed_hosts=hosts)

    assert "app_key='from credentials=', scope=None" in repr(auth)
    assert "7.example and 992 more" in repr(auth)
    assert len(repr(auth)) < 300


@each(SYNC)
def test_a_half_made_object_has_a_repr(driver: Driver) -> None:
    """A debugger shows the object in the frame of a constructor that has raised."""
    half = object.__new__(driver.adapter.DolbyAuth)

    assert f"<DolbyAuth for {driver.name}, not set up>" == repr(half)


# The environment


@each(SYNC)
def test_token_url_and_hosts_come_from_the_environment(
    driver: Driver, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOLBYIO_TOKEN_URL", sandbox.token_url)
    monkeypatch.setenv("DOLBYIO_ALLOWED_HOSTS", f"api.example, {sandbox.allowed_hosts[0]}")

    with driver.open(driver.adapter.DolbyAuth(sandbox.app_key, sandbox.app_secret)) as client:
        assert client.get(f"{sandbox.url}/media/jobs").status == 200


@each(SYNC)
def test_arguments_come_before_the_environment(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOLBYIO_TOKEN_URL", "https://elsewhere.example/token")
    monkeypatch.setenv("DOLBYIO_ALLOWED_HOSTS", "elsewhere.example")

    auth = driver.adapter.DolbyAuth(**CLASSIC, token_url="https://given.example/token", allowed_hosts=["given.example"])

    assert "token_url='https://given.example/token', allowed_hosts='given.example'" in repr(auth)


@each(SYNC)
@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("DOLBYIO_TOKEN_URL", "http://api.dolby.io/token", "token_url must be https"),
        ("DOLBYIO_ALLOWED_HOSTS", "*", "bad host '\\*' in allowed_hosts"),
        ("DOLBYIO_ALLOWED_HOSTS", "a.example,", "bad host '' in allowed_hosts"),
    ],
)
def test_a_bad_variable_is_a_value_error(
    driver: Driver, name: str, value: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ValueError, match=complaint):
        driver.adapter.DolbyAuth(**CLASSIC)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


# The caller's context

TENANT: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")


@each(ALL)
def test_a_credentials_callable_sees_the_context_variables_of_the_caller(scene: Scene) -> None:
    """A vault's client may need the app context of Flask or Django, or the tenant."""
    seen: list[str | None] = []

    def credentials() -> AppCredentials:
        seen.append(TENANT.get(None))
        TENANT.set("changed")
        return AppCredentials("k", "s")

    scene.options |= {"app_key": None, "app_secret": None, "credentials": credentials}
    scene.api.answer = lambda _: Reply(401 if len(scene.api.log) == 1 else 200)
    token = TENANT.set("of the caller")
    try:
        assert scene.send().status == 200
        assert "of the caller" == TENANT.get()
    finally:
        TENANT.reset(token)

    assert ["of the caller", "of the caller"] == seen


@each(ALL)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_credentials_callable_may_start_an_event_loop(backend: str, scene: Scene) -> None:
    """An async client of a vault needs one. The caller's own loop runs in another thread."""

    async def ask() -> AppCredentials:
        await anyio.lowlevel.checkpoint()
        return AppCredentials("k", "s")

    scene.options |= {"app_key": None, "app_secret": None, "credentials": lambda: anyio.run(ask, backend=backend)}

    assert scene.send().status == 200
