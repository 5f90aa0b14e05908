"""Real processes that share one token through a real cache, against the sandbox."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.queues import Queue
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import requests

from dolby_auth_plugin import FileTokenCache, RedisTokenCache, TokenCache
from dolby_auth_plugin.requests import DolbyAuth
from dolby_auth_plugin.sandbox import Sandbox

from .redis_servers import PROGRAM, real_redis

# Seconds that many processes may take for their imports, on a busy machine.
PATIENCE = 180


def work(
    url: str, options: dict[str, Any], cache: TokenCache, threads: int, ready: Barrier, seen: Queue[list[int]]
) -> None:
    """In a process of its own: each thread calls at the start, and once more when the parent has revoked all tokens."""
    with requests.Session() as session, ThreadPoolExecutor(threads) as pool:
        session.auth = DolbyAuth(**options, cache=cache)
        for _ in range(2):
            ready.wait(PATIENCE)
            seen.put([answer.status_code for answer in pool.map(session.get, [f"{url}/media/jobs"] * threads)])


def crowd(sandbox: Sandbox, cache: TokenCache, processes: int, threads: int) -> tuple[int, int]:
    """The token requests of a start, and of a revocation."""
    context = multiprocessing.get_context("spawn")
    ready, seen = context.Barrier(processes + 1), context.Queue()
    arguments = (sandbox.url, sandbox.options, cache, threads, ready, seen)
    children = [context.Process(target=work, args=arguments, daemon=True) for _ in range(processes)]
    for child in children:
        child.start()
    requests_until_now = []
    for _ in range(2):
        ready.wait(PATIENCE)
        assert [[200] * threads] * processes == [seen.get(timeout=60) for _ in children]
        requests_until_now.append(sandbox.token_requests)
        sandbox.revoke_all()
    for child in children:
        child.join()
    return requests_until_now[0], requests_until_now[1] - requests_until_now[0]


@pytest.fixture
def slow_sandbox() -> Iterator[Sandbox]:
    """Its token endpoint takes 0.3 s, as one far away does."""
    with Sandbox() as sandbox:
        sandbox.latency = 0.3
        yield sandbox


@pytest.mark.slow
def test_8_processes_with_8_threads_each_share_a_token_in_files(slow_sandbox: Sandbox, tmp_path: Path) -> None:
    assert crowd(slow_sandbox, FileTokenCache(tmp_path / "cache"), 8, 8) == (1, 1)


@pytest.mark.slow
@pytest.mark.skipif(PROGRAM is None, reason="redis-server is not on the PATH")
def test_50_processes_share_a_token_in_redis(slow_sandbox: Sandbox, tmp_path: Path) -> None:
    with real_redis(tmp_path, "--port", "0") as server:
        assert crowd(slow_sandbox, RedisTokenCache(server.url), 50, 1) == (1, 1)
