"""The contract of caches, with the example of a cache that the documentation shows."""

from __future__ import annotations

import contextlib
import textwrap
import threading
import time

import pytest

from dolby_auth_plugin.caches.contract import TokenCacheContract
from dolby_auth_plugin.caches.protocol import TokenCache


@pytest.fixture(scope="module")
def example() -> type[TokenCache]:
    """The class in the docstring of `TokenCache`."""
    code = (TokenCache.__doc__ or "").partition("as an example:\n")[2]
    names = {"contextlib": contextlib, "threading": threading, "time": time}
    exec(textwrap.dedent(code), names)
    return names["DictTokenCache"]  # type: ignore[return-value] # it has the methods of the protocol


class TestExample(TokenCacheContract):
    @pytest.fixture(autouse=True)
    def _one_store(self, example: type[TokenCache]) -> None:
        self.cache = example()

    def make_cache(self) -> TokenCache:
        return self.cache
