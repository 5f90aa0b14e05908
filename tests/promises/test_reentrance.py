"""
Code of the user's that the library calls may itself use the auth object: hooks of a lent client, `credentials=`.

It works, or fails with a clear error. It never recurses or waits without end, and the number of token requests stays the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
import trio

from dolby_auth_plugin import AppCredentials

from ..drivers import AsyncHttpxDriver, Driver
from ..fakes import KEY, SECRET, in_threads, wait_for_fetches
from ..matrix import ALL, ASYNCIO, HTTPX, HTTPX2, REQUESTS, SYNC, TRIO, Scene, Stage, each, matrix

Use: TypeAlias = Callable[[Scene, Stage], None]

SYNC_TWIN: dict[Driver, Driver] = {ASYNCIO: HTTPX, TRIO: HTTPX2}


def token(scene: Scene, _: Stage) -> None:
    scene.auth.token()


def send(scene: Scene, stage: Stage) -> None:
    stage.client(SYNC_TWIN.get(scene.driver, scene.driver)).send("POST", scene.api.url, auth=scene.auth)


used = pytest.mark.parametrize("use", [token, send])


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
