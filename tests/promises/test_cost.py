"""The cost of idle auth objects, and the cost of a fetch for other tasks."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import gzip
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
import tracemalloc
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import coverage
import pytest
import requests
import trustme
from requests.structures import CaseInsensitiveDict

from dolby_auth_plugin._core.endpoint import TokenRequest, TokenResponse
from dolby_auth_plugin._core.origins import KnownOrigins

from ..contract import CLASSIC, on_clock, server_context
from ..drivers import AsyncHttpxDriver, Driver
from ..fakes import FakeClock, wait_for_fetches
from ..internals import authority, forget_tls_contexts, present_token, refuse, send_with, source_of
from ..matrix import REQUESTS, SYNC, Scene, each
from ..servers import Received, Reply, serving

OWN_HOSTS = {"allowed_hosts": ["a.example.com", "*.b.example.com"]}

# coverage allocates memory in the measured frames.
ROOT = Path(__file__).parents[2]

measured = pytest.mark.skipif(coverage.Coverage.current() is not None, reason="coverage allocates memory itself")

every_configuration = pytest.mark.parametrize(
    ("driver", "options"),
    [
        *(pytest.param(driver, {}, id=driver.name) for driver in SYNC),
        pytest.param(REQUESTS, OWN_HOSTS, id="requests, own hosts"),
    ],
)


class Answering:
    """A sender that answers each token request with a new token and stores nothing."""

    def __init__(self, life: int = 1800) -> None:
        self.count = 0
        self.life = life

    def __call__(self, request: TokenRequest, seconds: float) -> TokenResponse:
        self.count += 1
        members = {"access_token": f"token-{self.count}", "expires_in": self.life, "scope": "comms:monitor:read"}
        return TokenResponse(200, None, json.dumps(members).encode())


@contextmanager
def allocated() -> Iterator[Callable[[], int]]:
    """Provides a function that returns the bytes allocated since the start and not freed."""
    # What is garbage already must not leave Python's tables of threads while the test runs: they would grow and shrink.
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()

    def since() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    try:
        yield since
    finally:
        tracemalloc.stop()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only their number


@measured
@every_configuration
def test_auth_objects_are_less_than_2_kib_each(driver: Driver, options: dict[str, Any]) -> None:
    driver.adapter.DolbyAuth(**CLASSIC, **options)
    threads = threading.active_count()

    with allocated() as bytes_since:
        many = [driver.adapter.DolbyAuth(**CLASSIC, **options) for _ in range(300)]
        each = bytes_since() / len(many)

    assert each < 2048
    # There may be fewer threads, if a server thread of an earlier test has ended.
    assert threading.active_count() <= threads


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files can be counted on Linux only")
@each(SYNC)
def test_no_thread_and_no_socket_stays_open_between_fetches(driver: Driver) -> None:
    with serving() as server:
        server.answer = lambda _: Reply(body=b'{"access_token":"abc"}', headers={"Connection": "close"})
        threads, files = threading.active_count(), open_files()
        many = [driver.adapter.DolbyAuth(**CLASSIC, token_url=f"{server.url}/token") for _ in range(100)]
        for auth in many[:10]:
            auth.token()
        wait_for_fetches()
        # The server closes its end of a connection in another thread.
        until = time.monotonic() + 10
        while (open_files() > files or threading.active_count() > threads) and time.monotonic() < until:
            time.sleep(0.001)

        assert threading.active_count() <= threads
        assert open_files() <= files


@measured
@every_configuration
def test_after_many_fetches_and_a_call_an_auth_object_is_less_than_3_kib(
    driver: Driver, options: dict[str, Any]
) -> None:
    """The text of the token is not counted."""
    sender = Answering()
    url = "https://a.example.com/" if options else "https://api.dolby.com/"
    request = driver.library.Request("GET", url)

    def used() -> Any:
        auth = driver.adapter.DolbyAuth(**CLASSIC, scope="comms:monitor:read", **options)
        send_with(auth, sender)
        for _ in range(5):
            auth.invalidate()
            auth.token()
        assert authority(auth, request.url if driver.name == "requests" else request) is not None
        return auth

    def bytes_each(bytes_since: Callable[[], int]) -> float:
        before = bytes_since()
        many = [used() for _ in range(30)]
        wait_for_fetches()
        tokens = [auth.token() for auth in many]
        text = sum(sys.getsizeof(token.value) + sys.getsizeof(token.authorization) for token in tokens)
        return (bytes_since() - before - text) / len(many)

    # What is made once for all of them.
    used()
    with allocated() as bytes_since:
        rounds = [bytes_each(bytes_since) for _ in range(3)]

    # Python's own tables of threads and weak references grow by some KiB at a time, and so do pytest's queues.
    assert min(rounds) < 3072


@functools.cache
def zeros() -> bytes:
    """64 KiB that become 64 MiB."""
    return gzip.compress(bytes(64 << 20))


@measured
@each(SYNC)
@pytest.mark.parametrize("lent", [False, True], ids=["own", "lent"])
@pytest.mark.parametrize("encodings", ["gzip", "gzip, gzip"])
def test_a_decompression_bomb_takes_less_than_16_mib(driver: Driver, encodings: str, lent: bool, scene: Scene) -> None:
    """The token endpoint answers with 64 KiB that become 64 MiB, or with much less that becomes the same."""
    body = zeros() if encodings == "gzip" else gzip.compress(zeros())
    scene.endpoint.answer = lambda _: Reply(headers={"Content-Encoding": encodings}, body=body)
    scene.options |= scene.lend() if lent else {}
    scene.auth.invalidate()
    tracemalloc.start()
    try:
        error = scene.fail()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 16 << 20
    assert error.reason == "not a token"
    assert {"identity"} == {received.headers["Accept-Encoding"] for received in scene.endpoint.log}


def growth_in_an_hour() -> int:
    """The bytes by which an auth object grows in 900 renewals. Tokens live 4 s, and each of many hosts refuses its first request."""
    driver = REQUESTS
    clock, sender = FakeClock(), Answering(life=4)
    auth = on_clock(driver.adapter.DolbyAuth(**CLASSIC, allowed_hosts=["*.example.com"]), clock)
    send_with(auth, sender)

    def renew(times: int) -> None:
        for _ in range(times):
            url = f"https://h{clock.monotonic():.0f}.example.com/"
            auth(driver.library.Request("GET", url).prepare())
            refuse(source_of(auth), present_token(source_of(auth)), authority(auth, url) or "")
            auth.token()
            clock.advance(3.9)
            wait_for_fetches()

    # First fill all bounded caches.
    renew(KnownOrigins.LIMIT + 1)
    threads = threading.active_count()
    with allocated() as bytes_since:
        renew(600)
        first = bytes_since()
        # Python's tables of threads grow by 13 KiB at once and shrink again. That takes 900 renewals.
        renew(900)
        grown = bytes_since() - first

    assert sender.count > 1500
    assert threading.active_count() <= threads
    return grown


@pytest.mark.slow
@measured
def test_an_hour_of_renewals_and_refusals_uses_no_more_memory() -> None:
    """In a process of its own: pytest's threads, and those that other tests have left, allocate memory too."""
    script = "from tests.promises.test_cost import growth_in_an_hour; print(growth_in_an_hour())"

    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 4096


@measured
@each(SYNC)
@pytest.mark.parametrize(
    "duplicate", [copy.copy, lambda auth: pickle.loads(pickle.dumps(auth))], ids=["copied", "pickled"]
)
def test_a_long_list_of_hosts_is_freed_with_its_auth_objects(driver: Driver, duplicate: Callable[[Any], Any]) -> None:
    """An auth object with other hosts lives on."""
    other = driver.adapter.DolbyAuth(**CLASSIC, allowed_hosts=["other.example"])

    with allocated() as bytes_since:
        several = [driver.adapter.DolbyAuth(**CLASSIC, allowed_hosts=[f"h{n}.example" for n in range(2000)])]
        several.append(duplicate(several[0]))
        held = bytes_since()
        several.clear()
        left = bytes_since()

    assert held > 256 << 10
    assert left < 16 << 10
    assert "other.example" in repr(other)


def visit(driver: Driver, auth: Any, url: str) -> None:
    """A request to *url* that is answered by 401, without a client, which would keep more."""
    if driver is REQUESTS:
        request, response = requests.PreparedRequest(), requests.Response()
        request.url, request.headers = url, CaseInsensitiveDict()
        response.status_code, response.request = 401, auth(request)
        requests.hooks.dispatch_hook("response", request.hooks, response)
    else:
        request = driver.library.Request("GET", url)
        flow = auth.sync_auth_flow(request)
        assert request is next(flow)
        with suppress(StopIteration):
            flow.send(driver.library.Response(401, request=request))


@measured
@each(SYNC)
@pytest.mark.parametrize(
    ("length", "count"),
    [
        (200, 300),
        (60_000, 9),
        pytest.param(200, 10_000, marks=pytest.mark.slow),
        # httpx refuses a longer URL.
        pytest.param(65_000, 1000, marks=pytest.mark.slow),
    ],
)
def test_any_number_of_foreign_origins_takes_less_than_128_kib(
    driver: Driver, length: int, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The host is long, or the userinfo, or the scheme."""
    # pytest would keep the log records.
    caplog.set_level(logging.CRITICAL, logger="dolby_auth_plugin")
    auth = driver.adapter.DolbyAuth(**CLASSIC)
    visit(driver, auth, "https://storage.example/")

    with allocated() as bytes_since:
        for number in range(count):
            form = ("https://{}.example/", "https://{}@storage.example/", "{}://storage.example/")[number % 3]
            visit(driver, auth, form.format(f"a{number}".ljust(length, "b")))
        # Python's own cache, which the libraries fill too.
        urllib.parse.urlsplit.cache_clear()  # type: ignore[attr-defined] # typeshed does not know the cache
        kept = bytes_since()

    assert kept < 128 << 10


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_a_fetch_delays_an_event_loop_by_less_than_20_ms(
    library: str, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    The fetch uses TLS. Creating a TLS context takes longer than 20 ms.

    The test checks the minimum of many fetches: the cost of the library affects all of them, other load only some.
    """
    driver = AsyncHttpxDriver(library, "asyncio")
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    forget_tls_contexts()
    lags: list[float] = []

    def answer(received: Received) -> Reply:
        time.sleep(0.02)
        return Reply(body=b'{"access_token":"abc"}')

    async def main() -> None:
        for _ in range(12):
            auth.invalidate()
            fetch = asyncio.ensure_future(auth.atoken())
            worst, seen = 0.0, time.perf_counter()
            while not fetch.done():
                await asyncio.sleep(0)
                worst = max(worst, time.perf_counter() - seen)
                seen = time.perf_counter()
            await fetch
            lags.append(worst)

    with serving(server_context(authority)) as server:
        server.answer = answer
        auth = driver.adapter.DolbyAuth(**CLASSIC, token_url=f"{server.url}/token")
        asyncio.run(main())

    forget_tls_contexts()
    assert len(server.log) == 12
    assert min(lags) < 0.02
