"""httpx: the contract, sync and async, and what its family has."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace

import pytest

from dolby_auth_plugin.httpx import DolbyAuth
from dolby_auth_plugin.sandbox import Sandbox

from ..drivers import AsyncHttpxDriver, HttpxDriver
from ..family import AsyncFamilyContract, FamilyContract


class TestHttpx(FamilyContract):
    driver = HttpxDriver("httpx")


class TestHttpxAsyncio(AsyncFamilyContract):
    driver = AsyncHttpxDriver("httpx", "asyncio")


class TestHttpxTrio(AsyncFamilyContract):
    driver = AsyncHttpxDriver("httpx", "trio")


@pytest.mark.parametrize("trio", [None, SimpleNamespace(), SimpleNamespace(lowlevel=SimpleNamespace())])
def test_asyncio_does_not_mind_what_trio_there_is(trio: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """None, one that another thread is just importing, or one of another age."""
    monkeypatch.setitem(sys.modules, "trio", trio)

    with Sandbox() as sandbox:
        assert asyncio.run(DolbyAuth(**sandbox.options).atoken()).value
