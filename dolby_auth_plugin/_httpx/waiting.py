"""
How a task waits for a token: on an object of its own event loop, asyncio's or trio's. So cancelling it affects no other caller.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias

from .._core.source import TokenSource
from .._core.token import AccessToken
from .._core.wait import Wait

# A function that any thread may call, and one that waits for that call, at most the given seconds.
Gate: TypeAlias = tuple[Callable[[], None], Callable[[float], Awaitable[None]]]


async def obtained(source: TokenSource, host: str | None, seconds: float | None) -> AccessToken:
    """
    A good token. Waits in this task if necessary, at most *seconds*, see `TokenSource.token`.

    Raises:
        TokenError: If no token can be obtained.
    """
    steps = source.steps(host, seconds)
    while isinstance(step := next(steps), Wait):
        await wait_in_task(step)
    return step


async def wait_in_task(wait: Wait) -> None:
    """Wait in this task."""
    wake, woken = _trio_gate() or _asyncio_gate()
    with wait.calling(wake):
        await woken(wait.seconds)


def _trio_gate() -> Gate | None:
    trio: Any = sys.modules.get("trio")
    try:
        # In guest mode, trio and asyncio run in one thread. trio has a current token there, even while asyncio runs a task.
        trio.lowlevel.current_task()
        token = trio.lowlevel.current_trio_token()
    except (AttributeError, RuntimeError):
        # trio is not imported, only half imported, or does not run this task.
        return None
    event = trio.Event()

    def wake() -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(event.set)

    async def woken(seconds: float) -> None:
        with trio.move_on_after(seconds):
            await event.wait()

    return wake, woken


def _asyncio_gate() -> Gate:
    # Imported here because asyncio would double the import time of the package. Callers that wait already have it.
    import asyncio

    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def resolve() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        # RuntimeError: the loop is closed, and nobody waits any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(resolve)

    async def woken(seconds: float) -> None:
        timer = loop.call_later(seconds, resolve)
        try:
            await future
        finally:
            timer.cancel()

    return wake, woken
