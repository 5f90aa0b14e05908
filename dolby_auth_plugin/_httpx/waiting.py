"""
How a task waits for a fetch: on an object of its own loop, asyncio's or trio's. Imports neither at its top.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

from .._core.fetch import Wait


async def pause(wait: Wait) -> None:
    """Wait in this task, on an object of its own loop: nothing is shared that a cancellation could hurt."""
    trio: Any = sys.modules.get("trio")
    try:
        token = trio.lowlevel.current_trio_token()
    except (AttributeError, RuntimeError):
        # Not imported, not yet to its end, or not what runs this task.
        token = None
    if token is None:
        await _pause_asyncio(wait)
    else:
        await _pause_trio(wait, trio, token)


async def _pause_asyncio(wait: Wait) -> None:
    # Not at the top: who waits here has imported it, and for all others it would be the half of our import.
    import asyncio

    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def resolve() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        # RuntimeError: the loop has been closed, and nobody waits there any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(resolve)

    timer = loop.call_later(wait.seconds, resolve)
    try:
        with wait.fetch.waking(wake):
            await future
    finally:
        timer.cancel()


async def _pause_trio(wait: Wait, trio: Any, token: Any) -> None:
    event = trio.Event()

    def wake() -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(event.set)

    with wait.fetch.waking(wake), trio.move_on_after(wait.seconds):
        await event.wait()
