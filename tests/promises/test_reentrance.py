"""
Code of the user's that the library calls may itself use the auth object: log handlers, warning hooks, event hooks, `credentials=`.

It works, or fails with a clear error. It never recurses or waits without end, and the number of token requests stays the same.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import queue
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import pytest
import trio

from dolby_auth_plugin import AppCredentials, ScopeWarning, TokenError

from ..drivers import AsyncHttpxDriver, Driver
from ..fakes import KEY, SECRET, FakeClock, Gate, ScriptedSender, in_threads, make_source, wait_for_fetches
from ..matrix import ALL, ASYNC, ASYNCIO, HTTPX, HTTPX2, REQUESTS, SYNC, TRIO, Scene, Stage, each, matrix
from ..servers import Reply, serving

Use: TypeAlias = Callable[[Scene, Stage], None]

LOGGER = logging.getLogger("dolby_auth_plugin")

# A log handler and a warning hook are synchronous, also in a program with an event loop.
SYNC_TWIN: dict[Driver, Driver] = {ASYNCIO: HTTPX, TRIO: HTTPX2}


def token(scene: Scene, _: Stage) -> None:
    scene.auth.token()


def send(scene: Scene, stage: Stage) -> None:
    stage.client(SYNC_TWIN.get(scene.driver, scene.driver)).send("POST", scene.api.url, auth=scene.auth)


used = pytest.mark.parametrize("use", [token, send])


class Handler(logging.Handler):
    """Calls *act* for each record, and keeps what it raises."""

    def __init__(self, act: Callable[[], Any]) -> None:
        super().__init__()
        self.act = act
        self.records: list[str] = []
        self.errors: list[Exception] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record.getMessage())
        assert len(self.records) < 50, "the log handler causes its own records"
        try:
            self.act()
        except Exception as error:
            self.errors.append(error)


@contextmanager
def handling(act: Callable[[], Any]) -> Iterator[Handler]:
    """Inside the block, a log handler calls *act* for each record of the library."""
    handler = Handler(act)
    level = LOGGER.level
    LOGGER.setLevel(logging.DEBUG)
    LOGGER.addHandler(handler)
    try:
        yield handler
    finally:
        wait_for_fetches()
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)


# Log handlers. Each function causes a record, and returns the status of its last call.


def obtain(scene: Scene) -> int:
    return scene.send().status


def renew(scene: Scene) -> int:
    scene.send()
    scene.clock.advance(1600)
    status = scene.send().status
    wait_for_fetches()
    return status


def fail_to_renew(scene: Scene) -> int:
    scene.send()
    scene.endpoint.answer = lambda _: Reply(400)
    return renew(scene)


def replace(scene: Scene) -> int:
    scene.api.refuse_old_tokens()
    return scene.send().status


def refuse_all(scene: Scene) -> int:
    """Beyond the allowance, the refused token stays."""
    scene.api.answer = lambda _: Reply(401)
    return [scene.send().status for _ in range(6)][-1]


def refuse_stream(scene: Scene) -> int:
    # The log handler's own request must not be the first one that is refused.
    scene.auth.token()
    wait_for_fetches()
    scene.api.refuse_old_tokens()
    return scene.send("POST", content=async_numbers() if scene.driver in ASYNC else iter([b"12"])).status


async def async_numbers() -> AsyncIterator[bytes]:
    yield b"12"


def call_unlisted(scene: Scene) -> int:
    unlisted = scene.stack.enter_context(serving())
    unlisted.answer = lambda _: Reply(401)
    return scene.client.get(unlisted.url, auth=scene.auth).status


# The records, the status of the caller's last response, and the number of token requests.
RECORDS: dict[str, tuple[Callable[[Scene], int], list[str], int, int]] = {
    "obtained": (obtain, ["token obtained"], 200, 1),
    "renewed": (renew, ["token renewed"], 200, 2),
    "failed renewal": (fail_to_renew, ["renewal failed"], 200, 2),
    "replaced": (replace, ["the token is replaced"], 200, 2),
    "stays": (refuse_all, ["the token is replaced", "the token stays"], 401, 5),
    "not sent again": (refuse_stream, ["is not sent again"], 401, 2),
    "not allowed": (call_unlisted, ["no token for http://127.0.0.1", "for a request without a token"], 401, 1),
}


@matrix(
    "case",
    ([REQUESTS, *ASYNC], [(f"{name}-token", (token, *case)) for name, case in RECORDS.items()]),
    (ALL, [(f"{name}-send", (send, *case)) for name, case in RECORDS.items()]),
)
def test_a_log_handler_may_use_the_auth_object(scene: Scene, stage: Stage, case: Any) -> None:
    """With an event loop too, where it blocks the loop while it waits for the token."""
    use, cause, expected, status, token_requests = case
    scene.options["timeout"] = 5
    scene.in_real_time = cause not in (renew, fail_to_renew)
    began = time.monotonic()

    with handling(lambda: use(scene, stage)) as handler:
        assert status == cause(scene)

    assert [] == handler.errors
    assert time.monotonic() - began < 5, "a wait lasted until the timeout"
    for record in expected:
        assert any(record in line for line in handler.records), record
    assert token_requests == len(scene.endpoint.log)


@each(ALL)
def test_a_queue_of_records_that_are_sent_later_comes_to_an_end(scene: Scene) -> None:
    """A queue listener is the usual way to send records beside an event loop. Here each of its requests is refused, too."""
    records: queue.SimpleQueue[str] = queue.SimpleQueue()

    with handling(lambda: None) as handler:
        handler.act = lambda: records.put(handler.records[-1])
        refuse_all(scene)
        while True:
            wait_for_fetches()
            if records.empty():
                break
            records.get()
            scene.send("POST")

    assert 5 == len(scene.endpoint.log)


def test_a_log_handler_may_ask_for_a_token_when_it_learns_of_an_overdue_renewal() -> None:
    """The token has expired meanwhile, so the record comes from a caller that begins the next fetch."""
    gate, clock, sender = Gate(KEY, SECRET), FakeClock(), ScriptedSender()
    source = make_source(sender, clock, credentials=gate)
    gate.open()
    source.token()
    gate.close()
    clock.advance(1600)
    source.token()
    clock.advance(1600)

    def ask() -> None:
        gate.open()
        source.token()

    with handling(ask) as handler:
        assert source.token().value == "token-2"

    assert [] == handler.errors
    assert "renewal failed" in handler.records[0]
    assert "no token request was sent" in handler.records[0]
    assert 2 == sender.count


@each(ASYNC)
def test_a_log_handler_that_blocks_the_loop_waits_no_longer_than_the_timeout(scene: Scene) -> None:
    """Credentials that come from the loop can't come while the log handler waits for them in the loop's thread."""
    client: Any = scene.client
    asked: list[AppCredentials] = []

    async def vault() -> None:
        asked.append(AppCredentials(KEY, SECRET))

    def credentials() -> AppCredentials:
        client.portal.call(vault)
        return asked[0]

    scene.options |= {"app_key": None, "app_secret": None, "credentials": credentials, "timeout": 0.2}
    scene.in_real_time = True
    scene.send()
    scene.api.refuse_old_tokens()

    with handling(scene.auth.token) as handler:
        assert "No token within 0.2 s: no token request was sent." in str(scene_error(scene, scene.send))

    assert ["timed out"] == [error.reason for error in handler.errors if isinstance(error, TokenError)]
    assert 1 == len(scene.endpoint.log)


def scene_error(scene: Scene, call: Callable[[], Any]) -> Any:
    with pytest.raises(scene.driver.adapter.TokenError) as caught:
        call()
    return caught.value


# Warnings


@used
@each(ALL)
def test_a_warning_hook_may_use_the_auth_object(scene: Scene, stage: Stage, use: Use) -> None:
    shown: list[Any] = []
    scene.options |= {"scope": "comms:monitor:read", "timeout": 5}
    scene.in_real_time = True
    scene.endpoint.answer = lambda _: Reply(body=b'{"access_token":"good","scope":""}')

    def show(message: Any, *_: Any, **__: Any) -> None:
        shown.append(message)
        use(scene, stage)

    with warnings.catch_warnings():
        warnings.simplefilter("always", ScopeWarning)
        warnings.showwarning = show
        assert 200 == scene.send().status

    assert [ScopeWarning] == [type(message) for message in shown]
    assert 1 == len(scene.endpoint.log)


# Event hooks of the user's client


def add_hook(scene: Scene, place: str, act: Callable[[], Any]) -> list[Any]:
    """Call *act* in the first hook at this *place* of the client. Returns a list that gets an entry for each hook that has ended."""
    begun: list[Any] = []
    ended: list[Any] = []

    def hook(seen: Any, **_: Any) -> None:
        if not begun:
            begun.append(seen)
            act()
        ended.append(seen)

    async def async_hook(seen: Any) -> None:
        if not begun:
            begun.append(seen)
            await act()
        ended.append(seen)

    client: Any = scene.client
    if scene.driver is REQUESTS:
        client.session.hooks["response"].append(hook)
        scene.stack.callback(client.session.hooks["response"].clear)
    else:
        client.client.event_hooks = {place: [async_hook if scene.driver in ASYNC else hook]}
        scene.stack.callback(setattr, client.client, "event_hooks", {})
    return ended


def hook_use(scene: Scene, name: str) -> Any:
    client: Any = scene.client
    if scene.driver not in ASYNC:
        return {"token": scene.auth.token, "send": scene.send}[name]

    async def block() -> None:
        scene.auth.token()

    request = functools.partial(client.client.get, scene.api.url, auth=scene.auth)
    return {"token": scene.auth.atoken, "send": request, "block": block}[name]


def pairs(places: list[str], uses: list[str]) -> list[tuple[str, tuple[str, str]]]:
    return [(f"{place}-{use}", (place, use)) for place in places for use in uses]


@pytest.mark.parametrize("refused", [False, True], ids=["200", "401"])
@matrix(
    "case",
    ([REQUESTS], pairs(["response"], ["token", "send"])),
    ([HTTPX, HTTPX2], pairs(["request", "response"], ["token", "send"])),
    (ASYNC, pairs(["request", "response"], ["token", "send", "block"])),
)
def test_an_event_hook_may_use_the_auth_object(scene: Scene, case: tuple[str, str], *, refused: bool) -> None:
    place, use = case
    scene.options["timeout"] = 5
    scene.in_real_time = True
    if refused:
        scene.api.refuse_old_tokens()
    ended = add_hook(scene, place, hook_use(scene, use))

    assert 200 == scene.send().status
    assert ended
    assert (2 if refused else 1) == len(scene.endpoint.log)


# Hooks of the lent session or client: they run in the thread of the fetch


def lend_with_hook(scene: Scene, place: str, act: Callable[[], Any]) -> None:
    def hook(*_: Any, **__: Any) -> None:
        act()

    lent = scene.lend()
    scene.options |= lent
    (client,) = lent.values()
    if scene.driver is REQUESTS:
        client.hooks["response"].append(hook)
    else:
        client.event_hooks = {place: [hook]}


@used
@matrix("place", ([REQUESTS], [("response", "response")]), ([HTTPX, HTTPX2], [(p, p) for p in ("request", "response")]))
def test_a_lent_hook_that_needs_the_token_it_fetches_is_a_clear_error_at_once(
    scene: Scene, stage: Stage, place: str, use: Use
) -> None:
    lend_with_hook(scene, place, lambda: use(scene, stage))
    scene.options["timeout"] = 5
    scene.in_real_time = True

    errors = [scene.fail() for _ in range(3)]

    words = (
        "The code that sends the token request raised TokenError: it needs a token of the auth object that called it"
    )
    assert all(words in str(error) and "network is not at fault" in str(error) for error in errors)
    assert (1 if place == "response" else 0) == len(scene.endpoint.log)


@used
@each(SYNC)
def test_a_lent_hook_gets_the_present_token_during_a_renewal(scene: Scene, stage: Stage, use: Use) -> None:
    uses: list[Use] = []
    lend_with_hook(scene, "response", lambda: [one(scene, stage) for one in uses])
    scene.send()
    uses.append(use)
    scene.clock.advance(1600)
    scene.send()
    wait_for_fetches()

    scene.send()

    assert "Bearer token.1" == scene.tokens_sent()[-1]
    assert 2 == len(scene.endpoint.log)


# Credentials


def ask_in_this_thread(scene: Scene) -> None:
    if scene.driver is ASYNCIO:
        asyncio.run(scene.auth.atoken())
    elif scene.driver is TRIO:
        trio.run(scene.auth.atoken)
    else:
        scene.auth.token()


def ask_in_another_thread(scene: Scene) -> None:
    """With an event loop, in the loop of the caller."""
    if isinstance(scene.driver, AsyncHttpxDriver):
        client: Any = scene.client
        client.portal.call(scene.auth.atoken)
    else:
        (result,) = in_threads(1, lambda _: scene.auth.token())
        raise result


def ask_with(scene: Scene, ask: Callable[[Scene], None]) -> list[None]:
    """Let `credentials=` call *ask*. Returns a list with an entry for each call."""
    calls: list[None] = []

    def credentials() -> AppCredentials:
        calls.append(None)
        ask(scene)
        return AppCredentials(KEY, SECRET)

    scene.options |= {"app_key": None, "app_secret": None, "credentials": credentials}
    return calls


@each(ALL)
def test_credentials_that_need_the_token_they_are_for_are_a_clear_error_at_once(scene: Scene) -> None:
    asked = ask_with(scene, ask_in_this_thread)
    scene.options["timeout"] = 5
    scene.in_real_time = True

    errors = [scene.fail() for _ in range(3)]

    words = "No app key and secret: credentials() raised TokenError: it needs a token of the auth object that called it"
    assert all(words in str(error) for error in errors)
    assert (1, 0) == (len(asked), len(scene.endpoint.log))


@each(ALL)
def test_credentials_that_wait_for_a_thread_that_needs_the_token_are_a_clear_error_in_time(scene: Scene) -> None:
    asked = ask_with(scene, ask_in_another_thread)
    scene.options["timeout"] = 0.1
    scene.in_real_time = True

    errors = [scene.fail() for _ in range(3)]
    wait_for_fetches()

    words = "No token within 0.1 s: no token request was sent. Check whether credentials= waits"
    assert all(words in str(error) and "network" not in str(error) for error in errors)
    assert (1, 0) == (len(asked), len(scene.endpoint.log))
