"""
The demonstration of a shared token: processes that call the same API, with one cache. This module prints nothing.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.queues import Queue
from secrets import token_hex
from threading import Barrier
from typing import Any, NamedTuple

import requests

from ..caches.protocol import TokenCache
from ..requests import DolbyAuth
from ..sandbox import Sandbox
from .auth import cache_of
from .demonstration import TOKEN_LIFE

# Seconds between two calls of a process.
_PACE = 0.02

# Seconds that processes may take to start, and to end.
_PATIENCE = 60.0


class Work(NamedTuple):
    """What one process did. *failures* are descriptions."""

    calls: int
    operations: int
    failures: list[str]


class Outcome(NamedTuple):
    """What all processes did, and how many token requests that took."""

    works: list[Work]
    token_requests: int


class Counted:
    """A `TokenCache` that counts the operations on another one."""

    def __init__(self, cache: TokenCache) -> None:
        self._cache = cache
        self.operations: int = 0

    def load(self, key: str) -> bytes | None:
        self.operations += 1
        return self._cache.load(key)

    def store(self, key: str, entry: bytes, seconds: float) -> None:
        self.operations += 1
        self._cache.store(key, entry, seconds)

    def lock(self, key: str, seconds: float) -> AbstractContextManager[bool]:
        self.operations += 1
        return self._cache.lock(key, seconds)

    def fetch_ended(self) -> None:
        getattr(self._cache, "fetch_ended", lambda: None)()


@contextmanager
def empty_cache(name: str) -> Iterator[TokenCache]:
    """The cache for `--cache`: `file` or `redis`. It shares nothing with other users of the same store."""
    with tempfile.TemporaryDirectory() as folder:
        yield cache_of(name, folder, prefix=f"dolby-auth-demo:{token_hex(4)}:")


def run(count: int, cache: TokenCache, seconds: float, started: Callable[[], None]) -> Outcome:
    """
    Let *count* processes call a sandbox for *seconds*. All tokens are revoked halfway.

    *started* is called when all processes are ready.

    Raises:
        BrokenBarrierError: If not all of them are ready after a minute.
        Empty: If one does not answer in time.
    """
    context = multiprocessing.get_context("spawn")
    ready, works = context.Barrier(count + 1), context.Queue()
    with Sandbox() as sandbox:
        arguments = (sandbox.url, sandbox.options, cache, seconds, ready)
        processes = [context.Process(target=_work, args=(works, *arguments), daemon=True) for _ in range(count)]
        for process in processes:
            process.start()
        ready.wait(_PATIENCE)
        started()
        time.sleep(seconds / 2)
        sandbox.revoke_all()
        done = [works.get(timeout=seconds + _PATIENCE) for _ in processes]
        for process in processes:
            process.join()
        return Outcome(done, sandbox.token_requests)


def _work(works: Queue[Work], *arguments: Any) -> None:  # pragma: no cover - runs in another process
    works.put(work(*arguments))


def work(url: str, options: dict[str, Any], cache: TokenCache, seconds: float, ready: Barrier) -> Work:
    """Call the API for *seconds*. Runs in a process of its own."""
    counted = Counted(cache)
    calls, failures = 0, []
    with requests.Session() as session:
        session.auth = DolbyAuth(**options, expires_in=TOKEN_LIFE, cache=counted)
        ready.wait()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            calls += 1
            try:
                session.get(f"{url}/media/jobs", timeout=10).raise_for_status()
            except requests.RequestException as error:
                failures.append(f"{type(error).__name__}: {error}")
            time.sleep(_PACE)
    return Work(calls, counted.operations, failures)
