"""
Everything at once, against random faults, for a while: `pytest -m soak`.

Threads and event loops share auth objects while the sandbox's tokens are short-lived, its endpoint fails in every
way it can, tokens are revoked, the sandbox itself goes away and comes back. What is judged are invariants: each call
is answered, by what may answer it; token requests stay within bounds; nothing is left behind.
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

from dolby_auth_plugin._core.source import Wait
from dolby_auth_plugin._core.state import Fetch
from dolby_auth_plugin._core.token import AccessToken
from dolby_auth_plugin.sandbox import Sandbox

from ..drivers import AsyncHttpxDriver, Driver, HttpxDriver, RequestsDriver
from ..fakes import wait_for_fetches
from ..internals import is_fetching, source_of
from ..servers import Received, Reply, Server, serving

# Seconds: the life of a token, what a caller waits for one at most, and what a call may take besides.
LIFE, TIMEOUT, SLACK = 6, 4.0, 10.0

THREADS, TASKS = 4, 10

DRIVERS: list[Driver] = [RequestsDriver("requests"), HttpxDriver("httpx"), HttpxDriver("httpx2")]


# What a call may get while nothing is spoilt, where it is not 200: refused uploads that can't be sent again.
CALM = {"refusing": (401,), "upload": (200, 401)}


class Soak:
    """
    Attributes:
        calm: Whether nothing is spoilt, so that each call has to succeed.
        outcomes: How often a call ended in which way.
        faults: What must not have happened.
        fetch_causes: What may have caused a fetch, besides roll-overs.
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
        """How a call ended: with a status, an error, or None for one that was cancelled."""
        seconds = time.monotonic() - began
        name = str(ended) if isinstance(ended, int) else type(ended).__name__
        with self._lock:
            self.outcomes[name] += 1
            if seconds > 2 * TIMEOUT + SLACK:
                self.faults.append(f"{driver.name} {what}: {name} after {seconds:.1f} s")
            if isinstance(ended, BaseException) and not isinstance(ended, driver.host_error):
                self.faults.append(f"{driver.name} {what}: {ended!r}")
            if calm and self.calm and ended is not None and ended not in CALM.get(what, (200,)):
                self.faults.append(f"{driver.name} {what}: {ended!r} in the calm")

    def caused(self, cause: str) -> None:
        with self._lock:
            self.fetch_causes[cause] += 1


class Caller:
    """One of those who call again and again, each in its own random way."""

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
        """Whether it was done, for it takes no client."""
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
        """In a thread of its own."""
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
        """In a task of its own."""
        while not self.soak.stopping:
            what, calm, began = self.choose(), self.soak.calm, time.monotonic()
            ended: int | BaseException | None = None
            # Some give up early, wherever they are by then.
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


class achunks:  # noqa: N801 - called like a generator, which would warn if it was never begun
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
        # Every token request under way fails, and the endpoint is not there for a while.
        sandbox.stop()
        time.sleep(chance.uniform(0, 0.5))
        sandbox.start()


@pytest.mark.soak
# httpx leaves the body of a cancelled request to the garbage collector, which trio warns of.
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
        urls = {
            "jobs": f"{sandbox.url}/media/jobs",
            "refusing": refusing.url,
            "foreign": foreign.url,
            "echo": echo.url,
        }
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
            # Till whatever was remembered of failures is forgotten.
            time.sleep(11)
        wait_for_fetches()

        # All is well again, and was answered rightly.
        for auth in auths:
            assert auth.token().value
        record_property("soak", f"{seconds:.0f} s, {sum(soak.outcomes.values()):,} calls ({told(soak.outcomes)})")
        record_property(
            "soak", f"{sandbox.token_requests} token requests, {calm_requests} in the calm; {told(soak.fetch_causes)}"
        )
        assert soak.faults == []
        assert unauthorized == 0
        assert foreign.log
        assert {None} == {received.token for received in foreign.log}
        # A renewal opens after four fifths of a life at the earliest; and refusing costs three replacements at first.
        assert calm_requests <= len(auths) * (2 + 3 + seconds / 4 / (0.8 * LIFE)) + calm_causes
        per_auth = 4 + seconds / 60 + (seconds + 11) / (0.8 * LIFE) + (seconds + 11) / 3 + soak.fetch_causes.total()
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
    """Looks at each body, and now and then takes a token for revoked."""

    def __init__(self, soak: Soak) -> None:
        self._soak = soak
        self._chance = soak.chance("echo")
        self._refused: set[str | None] = set()
        self._since = time.monotonic()

    def __call__(self, received: Received) -> Reply:
        length = received.headers["Content-Length"]
        # What is shorter than announced is from a caller who gave up.
        if length in (None, str(len(received.body))) and received.body not in (b'{"url":"dlb://in/x"}', b"onetwo"):
            self._soak.faults.append(f"a body of {received.body!r}")
        # Not so soon again that a request sent a second time is refused a second time.
        if self._chance.random() < 0.02 and time.monotonic() > self._since + 3:
            self._since = time.monotonic()
            self._soak.caused("refused")
            self._refused.add(received.token)
        return Reply(401 if received.token in self._refused else 200)


@contextmanager
def calling(soak: Soak, auths: list[Any], urls: dict[str, str]) -> Iterator[None]:
    """While it lasts, threads and tasks call; all have ended when it is left."""
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
        async with (
            driver.library.AsyncClient(auth=auth, timeout=20) as client,
            anyio.create_task_group() as group,
        ):
            for number in range(TASKS):
                name = f"{driver.name} {driver.backend} {number}"
                group.start_soon(Caller(soak, name, driver, auth, urls).arun, client)

    anyio.run(main, backend=driver.backend)


def leftovers() -> int:
    """Fetches, waits and tokens in memory."""
    gc.collect()
    return sum(isinstance(each, Fetch | Wait | AccessToken) for each in gc.get_objects())


def open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(os.listdir(folder)) if folder.exists() else 0  # noqa: PTH208 - nothing but their number


def eventually_equal(expected: int, count: Callable[[], int]) -> None:
    """Servers close their ends of connections a little later."""
    until = time.monotonic() + 10
    while count() > expected and time.monotonic() < until:
        time.sleep(0.01)
    assert count() <= expected


def told(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common())
