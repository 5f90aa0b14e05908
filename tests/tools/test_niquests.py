"""
niquests, in an environment of its own (`nox -s niquests`): its `urllib3-future` replaces urllib3, also for requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any

import niquests
import pytest
import requests
import urllib3

from dolby_auth_plugin.requests import DolbyAuth
from dolby_auth_plugin.sandbox import Sandbox

from . import table
from .exercises import EXERCISES, Send, Tool, Toolbox, run

NIQUESTS = Toolbox("niquests")


def through(session: Any, sandbox: Sandbox) -> Send:
    session.auth = DolbyAuth(**sandbox.options)

    def send(method: str, url: str, body: bytes | None) -> tuple[int, bytes]:
        response = session.request(method, url, data=body, timeout=20)
        return response.status_code, response.content

    return send


@NIQUESTS.add("niquests.Session", "niquests", trick="`dolby_auth_plugin.requests`. An `AsyncSession` is a `TypeError`.")
def _niquests(sandbox: Sandbox, stack: ExitStack) -> Send:
    return through(stack.enter_context(niquests.Session()), sandbox)


@NIQUESTS.add("requests beside niquests", "urllib3-future")
def _requests(sandbox: Sandbox, stack: ExitStack) -> Send:
    return through(stack.enter_context(requests.Session()), sandbox)


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize("tool", NIQUESTS.tools, ids=lambda tool: tool.name)
def test_a_session_lets_the_auth_work(
    tool: Tool, exercise: str, record_property: Callable[[str, object], None], is_in_table: bool
) -> None:
    run(tool, exercise, record_property, is_in_table=is_in_table)


def test_the_table_has_these_tools_and_no_others(is_in_table: bool) -> None:
    documented = {key for key in table.read() if key[0] == "niquests"}

    assert not is_in_table or documented == {(tool.library, tool.name) for tool in NIQUESTS.tools}, table.HOW_TO_WRITE


def test_this_environment_has_the_urllib3_of_niquests() -> None:
    assert vars(urllib3)["__version__"] == version("urllib3-future")


@pytest.mark.parametrize("has_token", [False, True])
def test_an_async_session_is_a_type_error_that_says_what_to_use(has_token: bool, sandbox: Sandbox) -> None:
    """Also with a fresh token: the fetch after a 401 would block the event loop."""
    auth = DolbyAuth(**sandbox.options)
    if has_token:
        auth.token()

    async def call() -> None:
        async with niquests.AsyncSession() as session:
            await session.get(f"{sandbox.url}/media/jobs", auth=auth)

    with pytest.raises(TypeError, match=r"use niquests\.Session, or httpx\.AsyncClient"):
        asyncio.run(call())

    assert (sandbox.api_calls, sandbox.token_requests) == (0, int(has_token))
