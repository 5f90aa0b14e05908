"""httpx: the contract, sync and async, and what its family has."""

from __future__ import annotations

from .drivers import AsyncHttpxDriver, HttpxDriver
from .family import AsyncFamilyContract, FamilyContract


class TestHttpx(FamilyContract):
    driver = HttpxDriver("httpx")


class TestHttpxAsyncio(AsyncFamilyContract):
    driver = AsyncHttpxDriver("httpx", "asyncio")


class TestHttpxTrio(AsyncFamilyContract):
    driver = AsyncHttpxDriver("httpx", "trio")
