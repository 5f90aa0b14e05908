"""
niquests, in an environment of its own (`nox -s niquests`): its `urllib3-future` replaces urllib3, also for requests.
"""

from __future__ import annotations

import asyncio
import functools
from importlib.metadata import version

import niquests
import pytest
import requests
import urllib3

from dolby_auth_plugin.requests import DolbyAuth
from dolby_auth_plugin.sandbox import Sandbox

from . import table
from .exercises import EXERCISES, Tool, usual

NIQUESTS = functools.partial(usual, library=niquests, auth=DolbyAuth)
TOOLS = [
    NIQUESTS(
        "niquests.Session",
        "niquests",
        client=niquests.Session,
        trick="`dolby_auth_plugin.requests`. An `AsyncSession` is a `TypeError`.",
    ),
    NIQUESTS("requests beside niquests", "urllib3-future", client=requests.Session),
]


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_a_session_lets_the_auth_work(
    tool: Tool, exercise: str, record_property: table.Record, is_written: bool
) -> None:
    table.run(tool, exercise, record_property, is_written=is_written)


def test_the_table_has_these_tools_and_no_others(is_written: bool) -> None:
    if is_written:
        table.check_names(TOOLS)


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
