"""Runs the contracts with httpx, sync and async."""

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


# By default, asyncio is tested with httpx and trio with httpx2. Their code is the same.
@pytest.mark.slow
class TestHttpxTrio(AsyncFamilyContract):
    driver = AsyncHttpxDriver("httpx", "trio")


@pytest.mark.parametrize("trio", [None, SimpleNamespace(), SimpleNamespace(lowlevel=SimpleNamespace())])
def test_asyncio_works_without_a_usable_trio(trio: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """trio may be missing, half imported by another thread, or of another version."""
    monkeypatch.setitem(sys.modules, "trio", trio)

    with Sandbox() as sandbox:
        assert asyncio.run(DolbyAuth(**sandbox.options).atoken()).value
