"""
A stress test of all features with random faults: `pytest -m soak`.

Threads and event loops share auth objects. Tokens expire quickly and are revoked, the token endpoint fails in many
ways, and the sandbox stops and restarts. The test checks invariants: every call ends with an expected result, the number
of token requests is limited, and no resource leaks.
"""

from __future__ import annotations

import copy
import gc
import os
import pickle
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from dolby_auth_plugin._core.state import Fetch
from dolby_auth_plugin._core.token import AccessToken
from dolby_auth_plugin._core.wait import Wait
from dolby_auth_plugin.sandbox import Sandbox

from ..drivers import AsyncHttpxDriver, Driver, HttpxDriver, RequestsDriver
from ..fakes import wait_for_fetches
from ..internals import is_fetching, source_of
from ..servers import Received, Reply, Server, serving

# Seconds: the lifetime of a token, the longest wait for a token, and the additional time of a call.
LIFE, TIMEOUT, SLACK = 6, 4.0, 10.0

THREADS, TASKS = 4, 10

DRIVERS: list[Driver] = [RequestsDriver("requests"), HttpxDriver("httpx"), HttpxDriver("httpx2")]


# The expected statuses without faults, if not only 200. Uploads cannot be sent again, so they may get a 401.
CALM = {"refusing": (401,), "upload": (200, 401)}


class Soak:
    """
    Attributes:
        calm: Whether there are no faults yet, so that every call must succeed.
        outcomes: The number of calls by result.
        faults: The violations that were found.
        fetch_causes: The number of events that may cause a fetch, besides renewals.
    """

    def __init__(self, seed: int, seconds: float) -> None:
        self.seed = seed
        self.ends = time.monotonic() + seconds
        self.calm = True
        self.stopping = False
        self.outcomes: Counter[str] = Counter()
        self.faults: list[str] = []
        self.fetch_causes: Counter[str] = Counter()
        self._lock = threading.Lock()

    def chance(self, name: str) -> random.Random:
        return random.Random(f"{self.seed} {name}")

    def note(self, driver: Driver, what: str, calm: bool, began: float, ended: int | BaseException | None) -> None:
        """Record the end of a call: a status, an error, or None if it was cancelled."""
        seconds = time.monotonic() - began
        name = str(ended) if isinstance(ended, int) else type(ended).__name__
        with self._lock:
            self.outcomes[name] += 1
            if seconds > 2 * TIMEOUT + SLACK:
                self.faults.append(f"{driver.name} {what}: {name} after {seconds:.1f} s")
            if isinstance(ended, BaseException) and not isinstance(ended, driver.host_error):
                self.faults.append(f"{driver.name} {what}: {ended!r}")
            if calm and self.calm and ended is not None and ended not in CALM.get(what, (200,)):
                self.faults.append(f"{driver.name} {what}: {ended!r} without faults")

    def caused(self, cause: str) -> None:
        with self._lock:
            self.fetch_causes[cause] += 1


class Caller:
    """A caller that sends random calls until the test ends."""

    def __init__(self, soak: Soak, name: str, driver: Driver, auth: Any, urls: dict[str, str]) -> None:
        self.soak = soak
        self.chance = soak.chance(name)
        self.driver = driver
        self.auth = auth
        self.urls = urls

    def choose(self) -> str:
        kinds = {"get": 60, "post": 15, "upload": 5, "refusing": 5, "foreign": 5, "token": 5, "copy": 1}
        if not self.soak.calm:
            kinds.update(invalidate=1)
        return self.chance.choices(list(kinds), list(kinds.values()))[0]

    def arguments(self, what: str, stream: Any) -> tuple[str, str, dict[str, Any]]:
        if what in ("post", "upload"):
            content = b'{"url":"dlb://in/x"}' if what == "post" else stream
            return "POST", self.urls["echo"], {"content": content}
        return "GET", self.urls["jobs" if what == "get" else what], {}

    def other_than_a_request(self, what: str) -> bool:
        """Run an action that needs no client. Returns whether *what* was such an action."""
        if what == "invalidate":
            self.soak.caused("invalidated")
            self.auth.invalidate()
        elif what == "copy":
            assert source_of(copy.deepcopy(self.auth)).ready() is None
            assert source_of(pickle.loads(pickle.dumps(self.auth))).ready() is None
        else:
            return False
        return True

    def run(self, client: Any) -> None:
        """Run in a separate thread."""
        while not self.soak.stopping:
            what, calm, began = self.choose(), self.soak.calm, time.monotonic()
            ended: int | BaseException | None = 200
            try:
                if self.other_than_a_request(what):
                    pass
                elif what == "token":
                    self.auth.token()
                else:
                    method, url, options = self.arguments(what, iter([b"one", b"two"]))
                    ended = client.send(method, url, **options).status
            except BaseException as error:
                ended = error
            self.soak.note(self.driver, what, calm, began, ended)
            time.sleep(self.chance.uniform(0, 0.05))

    async def arun(self, client: Any) -> None:
        """Run in a separate task."""
        while not self.soak.stopping:
            what, calm, began = self.choose(), self.soak.calm, time.monotonic()
            ended: int | BaseException | None = None
            # Some calls are cancelled early, at a random point.
            seconds = self.chance.uniform(0, 0.05) if self.chance.random() < 0.05 else 60
            with anyio.move_on_after(seconds):
                try:
                    if self.other_than_a_request(what):
                        ended = 200
                    elif what == "token":
                        await self.auth.atoken()
                        ended = 200
                    else:
                        method, url, options = self.arguments(what, achunks())
                        ended = (await client.request(method, url, **options)).status_code
                except Exception as error:
                    ended = error
            self.soak.note(self.driver, what, calm, began, ended)
            await anyio.sleep(self.chance.uniform(0, 0.05))


class achunks:  # noqa: N801 - used like an async generator, but causes no warning if it is never started
    def __init__(self) -> None:
        self._chunks = [b"two", b"one"]

    def __aiter__(self) -> achunks:
        return self

    async def __anext__(self) -> bytes:
        if not self._chunks:
            raise StopAsyncIteration
        return self._chunks.pop()


def spoil(soak: Soak, sandbox: Sandbox, chance: random.Random) -> None:
    """One random fault."""
    what = chance.choice(["latency", "status", "status", "answer", "drop", "redirect", "revoke", "revoke", "restart"])
    times = chance.randint(1, 5)
    if what == "latency":
        sandbox.latency = chance.choice([0.0, 0.05, 0.3, 2.0])
    elif what == "status":
        retry_after = chance.choice([None, None, 0, 1, 3600, "soon"])
        status = chance.choice([400, 401, 429, 500, 502, 503, 504])
        sandbox.fail_token_requests(status=status, times=times, retry_after=retry_after)
    elif what == "answer":
        body = chance.choice([b"", b"<html>", b"[]", b"{}", b'{"access_token":1}', b"\xff" * 2_000_000])
        sandbox.fail_token_requests(status=200, times=times, body=body)
    elif what == "drop":
        sandbox.fail_token_requests(times=times, drop=True)
    elif what == "redirect":
        sandbox.fail_token_requests(times=times, redirect=sandbox.url)
    elif what == "revoke":
        soak.caused("revoked")
        sandbox.revoke_all()
    else:
        # Active token requests fail, and the endpoint is unreachable for a while.
        sandbox.stop()
        time.sleep(chance.uniform(0, 0.5))
        sandbox.start()


@pytest.mark.soak
# httpx does not close the body of a cancelled request. trio then warns about its garbage collection.
@pytest.mark.filterwarnings("ignore:Async generator 'httpx._content:ResourceWarning")
def test_everything_at_once(pytestconfig: pytest.Config, record_property: Callable[[str, object], None]) -> None:
    seconds = pytestconfig.getoption("soak_seconds")
    soak = Soak(pytestconfig.getoption("soak_seed"), seconds)
    chance = soak.chance("faults")
    record_property("soak", f"seed {soak.seed}")
    fetches_before = leftovers()
    threads, files = threading.active_count(), open_files()

    with Sandbox() as sandbox, serving() as refusing, serving() as foreign, serving() as echo:
        refusing.answer = lambda _: Reply(401)
        echo.answer = Echo(soak)
        urls = {"jobs": f"{sandbox.url}/media/jobs", "refusing": refusing.url, "foreign": foreign.url, "echo": echo.url}
        auths = [auth_for(driver, sandbox, refusing, echo) for driver in DRIVERS]
        sandbox.latency = 0.3

        with calling(soak, auths, urls):
            calm_until = time.monotonic() + seconds / 4
            while time.monotonic() < calm_until:
                time.sleep(0.05)
            calm_requests, calm_causes = sandbox.token_requests, soak.fetch_causes.total()
            unauthorized = sandbox.unauthorized
            soak.calm = False
            while time.monotonic() < soak.ends:
                spoil(soak, sandbox, chance)
                time.sleep(chance.uniform(0, 1))
            sandbox.latency = 0.0
            sandbox.clear_faults()
            # Wait until all remembered failures have expired.
            time.sleep(11)
        wait_for_fetches()

        # The faults are gone, so every auth object must obtain a token.
        for auth in auths:
            assert auth.token().value
        record_property("soak", f"{seconds:.0f} s, {sum(soak.outcomes.values()):,} calls ({listed(soak.outcomes)})")
        record_property(
            "soak",
            f"{sandbox.token_requests} token requests, {calm_requests} without faults; {listed(soak.fetch_causes)}",
        )
        assert soak.faults == []
        assert unauthorized == 0
        assert foreign.log
        assert {None} == {received.token for received in foreign.log}
        # A renewal starts after four fifths of the lifetime at the earliest. An API that refuses every token costs four further
        # tokens in a row, and one every 20 seconds.
        assert calm_requests <= len(auths) * (2 + 4 + seconds / 4 / 20 + seconds / 4 / (0.8 * LIFE)) + calm_causes
        per_auth = (
            5 + (seconds + 11) / 20 + (seconds + 11) / (0.8 * LIFE) + (seconds + 11) / 3 + soak.fetch_causes.total()
        )
        assert sandbox.token_requests <= len(auths) * 4 * per_auth

    for auth in auths:
        assert not is_fetching(source_of(auth))
    eventually_equal(threads, threading.active_count)
    eventually_equal(files, open_files)
    assert leftovers() - fetches_before <= len(auths)


def auth_for(driver: Driver, sandbox: Sandbox, *allowed: Server) -> Any:
    hosts = (*sandbox.allowed_hosts, *(server.host for server in allowed))
    options = {**sandbox.options, "allowed_hosts": hosts, "expires_in": LIFE, "timeout": TIMEOUT}
    return driver.adapter.DolbyAuth(**options)


class Echo:
    """Checks each body, and sometimes treats a token as revoked."""

    def __init__(self, soak: Soak) -> None:
        self._soak = soak
        self._chance = soak.chance("echo")
        self._refused: set[str | None] = set()
        self._since = time.monotonic()

    def __call__(self, received: Received) -> Reply:
        length = received.headers["Content-Length"]
        # A body that is shorter than its length comes from a cancelled call.
        if length in (None, str(len(received.body))) and received.body not in (b'{"url":"dlb://in/x"}', b"onetwo"):
            self._soak.faults.append(f"a body of {received.body!r}")
        # Wait between two revocations, so that a retried request is not refused again. The refusing API uses up the allowance all the
        # time, so a revocation may take 20 seconds to heal. In the calm, where every 401 counts, there is none.
        if not self._soak.calm and self._chance.random() < 0.02 and time.monotonic() > self._since + 3:
            self._since = time.monotonic()
            self._soak.caused("refused")
            self._refused.add(received.token)
        return Reply(401 if received.token in self._refused else 200)


@contextmanager
def calling(soak: Soak, auths: list[Any], urls: dict[str, str]) -> Iterator[None]:
    """Run the callers in threads and tasks. On exit, all of them have ended."""
    workers = []
    for driver, auth in zip((RequestsDriver("requests"), HttpxDriver("httpx")), auths, strict=False):
        workers.append(threading.Thread(target=in_threads, args=(soak, driver, auth, urls)))
    for auth, library, loop in (
        (auths[1], "httpx", "asyncio"),
        (auths[1], "httpx", "trio"),
        (auths[2], "httpx2", "asyncio"),
    ):
        workers.append(threading.Thread(target=in_tasks, args=(soak, AsyncHttpxDriver(library, loop), auth, urls)))
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        soak.stopping = True
        for worker in workers:
            worker.join(2 * TIMEOUT + SLACK)
    assert not any(worker.is_alive() for worker in workers), "a caller is stuck"


def in_threads(soak: Soak, driver: Driver, auth: Any, urls: dict[str, str]) -> None:
    with driver.open(auth) as client:
        threads = [
            threading.Thread(target=Caller(soak, f"{driver.name} {number}", driver, auth, urls).run, args=(client,))
            for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def in_tasks(soak: Soak, driver: AsyncHttpxDriver, auth: Any, urls: dict[str, str]) -> None:
    async def main() -> None:
        async with driver.library.AsyncClient(auth=auth, timeout=20) as client, anyio.create_task_group() as group:
            for number in range(TASKS):
                name = f"{driver.name} {driver.backend} {number}"
                group.start_soon(Caller(soak, name, driver, auth, urls).arun, client)

    anyio.run(main, backend=driver.backend)


def leftovers() -> int:
    """The number of fetches, waits and tokens in memory."""
    gc.collect()
    return sum(isinstance(each, Fetch | Wait | AccessToken) for each in gc.get_objects())


def open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(os.listdir(folder)) if folder.exists() else 0  # noqa: PTH208 - only their number


def eventually_equal(expected: int, count: Callable[[], int]) -> None:
    """Wait for the count, because servers close their ends of connections later."""
    until = time.monotonic() + 10
    while count() > expected and time.monotonic() < until:
        time.sleep(0.01)
    assert count() <= expected


def listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common())
