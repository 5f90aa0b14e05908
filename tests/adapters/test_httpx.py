"""Runs the contracts with httpx, sync and async."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from dolby_auth_plugin.httpx import DolbyAuth
from dolby_auth_plugin.sandbox import Sandbox

from ..drivers import AsyncHttpxDriver, HttpxDriver
from ..family import AsyncFamilyContract, FamilyContract


class TestHttpx(FamilyContract):
    driver = HttpxDriver("httpx")


class TestHttpxAsyncio(AsyncFamilyContract):
    driver = AsyncHttpxDriver("httpx", "asyncio")


# By default, asyncio is tested with httpx and trio with httpx2. Their code is the same.
@pytest.mark.slow
class TestHttpxTrio(AsyncFamilyContract):
    driver = AsyncHttpxDriver("httpx", "trio")


def test_tasks_of_asyncio_and_of_a_trio_guest_in_one_thread_wait_for_the_same_fetch() -> None:
    """asyncio hosts trio, and each loop runs a task that needs a token."""

    async def main(auth: DolbyAuth) -> tuple[str, str]:
        loop = asyncio.get_running_loop()
        from_trio: asyncio.Future[str] = loop.create_future()

        def finished(outcome: Any) -> None:
            from_trio.set_result(outcome.unwrap())

        async def guest() -> str:
            return (await auth.atoken()).value

        trio.lowlevel.start_guest_run(guest, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=finished)
        in_asyncio = (await auth.atoken()).value
        return in_asyncio, await from_trio

    with Sandbox() as sandbox:
        sandbox.latency = 0.2
        in_asyncio, in_trio = asyncio.run(main(DolbyAuth(**sandbox.options)))

        assert in_asyncio == in_trio
        assert sandbox.token_requests == 1


@pytest.mark.parametrize("trio", [None, SimpleNamespace(), SimpleNamespace(lowlevel=SimpleNamespace())])
def test_asyncio_works_without_a_usable_trio(trio: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """trio may be missing, half imported by another thread, or of another version."""
    monkeypatch.setitem(sys.modules, "trio", trio)

    with Sandbox() as sandbox:
        assert asyncio.run(DolbyAuth(**sandbox.options).atoken()).value
