"""
A fleet in simulation: thousands of processes that share one token through a cache, in one thread and in simulated time.

    python -m benchmarks.fleet                    10,000 processes, some minutes
    python -m benchmarks.fleet --processes 500    a smaller fleet, some seconds
    python -m benchmarks.fleet revocation         one scenario

Each process has a real token source with a real, sealed entry. The clock, the cache and the token endpoint are simulated. greenlets let all
processes run in one thread: whoever waits gives way to whoever is due next.

The table shows token requests, cache operations, and the longest wait. The command fails if a bar does not hold.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import logging
import random
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import greenlet
from rich.console import Console
from rich.table import Table

from dolby_auth_plugin import AccessToken, AppCredentials, TokenError
from dolby_auth_plugin._core.endpoint import TokenEndpoint, TokenRequest, TokenResponse
from dolby_auth_plugin._core.errors import Failure
from dolby_auth_plugin._core.fetch import Fetcher
from dolby_auth_plugin._core.source import TokenSource
from dolby_auth_plugin._core.state import Fetch
from dolby_auth_plugin._core.wait import Wait
from dolby_auth_plugin.caches._shared import SealedEntries

PROCESSES = 10_000
ENDPOINT = TokenEndpoint("https://api.dolby.io/v1/auth/token", None, 1800, "simulated/1.0")
CREDENTIALS = AppCredentials("an-app-key", "an-app-secret")
HOST = "api.dolby.com:443"
EPOCH = 1_700_000_000.0

# Seconds of one cache operation: a round trip in a data centre, on a busy server.
CACHE_SECONDS = 0.001

# Cache operations that one Redis server does in a second without effort.
MAX_BUSIEST = 20_000


class World:
    """The simulated time, and who is due next."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._serial = itertools.count()
        self._hub: Any = greenlet.getcurrent()

    def at(self, moment: float, act: Callable[[], object]) -> None:
        """Call *act* at *moment*, in a greenlet of its own."""
        self._push(moment, lambda: greenlet.greenlet(act, self._hub).switch())

    def run(self) -> None:
        """Let the time pass until nobody is due any more."""
        while self._due:
            self.now, _, act = heapq.heappop(self._due)
            act()

    def sleep(self, seconds: float) -> None:
        self._push(self.now + seconds, greenlet.getcurrent().switch)
        self._hub.switch()

    def wait(self, wait: Wait) -> None:
        """Wait for the end of a fetch."""
        waiting: list[Any] = [greenlet.getcurrent()]

        def resume() -> None:
            if waiting:
                waiting.pop().switch()

        with wait.calling(lambda: self._push(self.now, resume)):
            self._push(self.now + wait.seconds, resume)
            self._hub.switch()

    def _push(self, moment: float, act: Callable[[], object]) -> None:
        heapq.heappush(self._due, (moment, next(self._serial), act))


class Clock:
    """The functions of `time`, in the simulated time."""

    def __init__(self, world: World) -> None:
        self._world = world
        # Each machine was started at another time.
        self._up = random.uniform(1e3, 1e6)
        self.sleep = world.sleep

    def monotonic(self) -> float:
        return self._world.now + self._up

    def time(self) -> float:
        return self._world.now + EPOCH


class Cache:
    """A `TokenCache` that counts its operations, by second."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._entries: dict[str, bytes] = {}
        self._locks: dict[str, tuple[float, object]] = {}
        self.operations = Counter[int]()
        self.is_down = False

    def load(self, key: str) -> bytes | None:
        self._count()
        return self._entries.get(key)

    def store(self, key: str, entry: bytes, seconds: float) -> None:
        self._count()
        self._entries[key] = entry

    @contextmanager
    def lock(self, key: str, seconds: float) -> Iterator[bool]:
        self._count()
        until, _ = self._locks.get(key, (0.0, None))
        is_held, mark = until <= self._world.now, object()
        if is_held:
            self._locks[key] = self._world.now + seconds, mark
        yield is_held
        if is_held:
            self._count()
            if self._locks[key][1] is mark:
                del self._locks[key]

    def _count(self) -> None:
        self._world.sleep(CACHE_SECONDS)
        self.operations[int(self._world.now)] += 1
        if self.is_down:
            raise ConnectionRefusedError


class Server:
    """The token endpoint."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.seconds = 0.3
        self.requests = 0
        self.fails: str | None = None
        self._serial = itertools.count()

    def __call__(self, request: TokenRequest, seconds: float) -> TokenResponse | Failure:
        self.requests += 1
        number = next(self._serial)
        if self.fails == "silence":
            self._world.sleep(seconds)
            return Failure("no answer", reason="timed out", retryable=True)
        self._world.sleep(self.seconds)
        if self.fails == "503":
            return TokenResponse(503, None, b"")
        return TokenResponse(200, None, json.dumps({"access_token": f"token-{number}", "expires_in": 1800}).encode())


class Source(TokenSource):
    """A token source whose fetches run in greenlets."""

    __slots__ = ("_world",)

    def __init__(self, world: World, fetcher: Fetcher) -> None:
        super().__init__(fetcher, TokenError)
        self._world = world

    def _start(self, fetch: Fetch, *, in_caller: bool) -> None:
        self._world.at(self._world.now, lambda: self._run(fetch))

    def _would_wait_for_itself(self) -> bool:
        # All processes are one thread here.
        return False


@dataclass
class Seen:
    """What the callers saw: seconds that they waited, and how many failed."""

    waits: list[float] = field(default_factory=list)
    failed: int = 0


class Fleet:
    def __init__(self, processes: int) -> None:
        self.world = World()
        self.cache = Cache(self.world)
        self.server = Server(self.world)
        self.seen = Seen()
        self.sources = [self._source() for _ in range(processes)]

    def _source(self) -> Source:
        shared = SealedEntries(self.cache, ENDPOINT, CREDENTIALS)
        fetcher = Fetcher(
            ENDPOINT, CREDENTIALS, self.server, 30.0, shared, clock=Clock(self.world), chance=random.random
        )
        return Source(self.world, fetcher)

    def call(self, source: Source) -> None:
        """A caller of one process needs the token."""
        began, steps = self.world.now, source.steps(HOST, None)
        try:
            while isinstance(step := next(steps), Wait):
                self.world.wait(step)
        except TokenError:
            self.seen.failed += 1
        self.seen.waits.append(self.world.now - began)

    def notice(self, source: Source) -> None:
        """A host refuses the token."""
        if source.refuse(self.token(source).fingerprint, HOST):
            self.call(source)

    def token(self, source: Source) -> AccessToken:
        token = source._state.token
        assert token is not None
        return token

    def start(self, seconds: float) -> None:
        """All processes start within *seconds*."""
        for source in self.sources:
            self.world.at(self.world.now + random.uniform(0, seconds), partial(self.call, source))
        self.world.run()

    def begin_measuring(self) -> None:
        self.cache.operations.clear()
        self.server.requests = 0
        self.seen = Seen()


@dataclass
class Scenario:
    """
    One row of the table.

    Attributes:
        act: What happens.
        requests: How many token requests are allowed.
        longest: How long a caller may wait at most.
        busiest: How many cache operations are allowed in the busiest second. None: they are only reported.
    """

    title: str
    act: Callable[[Fleet], None]
    requests: range
    longest: float
    busiest: int | None = MAX_BUSIEST


def cold_start(fleet: Fleet) -> None:
    fleet.start(10)


def cold_start_slow(fleet: Fleet) -> None:
    fleet.server.seconds = 5.0
    fleet.start(10)


def roll_over(fleet: Fleet) -> None:
    fleet.start(10)
    fleet.begin_measuring()
    began = fleet.world.now
    for source in fleet.sources:
        opens = began + fleet.token(source).renew_at.monotonic - source.fetcher.clock.monotonic()
        # A process has calls all the time. Those before the renewal opens cost nothing.
        for _ in range(3):
            fleet.world.at(opens + random.expovariate(1), partial(fleet.call, source))
    fleet.world.run()
    require_one_token(fleet)


def revocation(fleet: Fleet, seconds: float = 1.0) -> None:
    fleet.start(10)
    fleet.begin_measuring()
    for source in fleet.sources:
        fleet.world.at(fleet.world.now + random.uniform(0, seconds), partial(fleet.notice, source))
    fleet.world.run()
    require_one_token(fleet)


def sudden_revocation(fleet: Fleet) -> None:
    revocation(fleet, 0.1)


def failing(fleet: Fleet) -> None:
    fleet.server.fails = "503"
    fleet.start(10)


def silent(fleet: Fleet) -> None:
    fleet.server.fails = "silence"
    fleet.start(10)


def cache_down(fleet: Fleet) -> None:
    fleet.cache.is_down = True
    fleet.start(10)


def require_one_token(fleet: Fleet) -> None:
    tokens = {fleet.token(source).value for source in fleet.sources}
    assert len(tokens) == 1, f"the processes have {len(tokens)} tokens"


def scenarios(processes: int) -> dict[str, Scenario]:
    one = range(1, 2)
    return {
        "cold": Scenario("cold start over 10 s", cold_start, one, 1.3),
        "cold-slow": Scenario("cold start over 10 s, endpoint takes 5 s", cold_start_slow, one, 6.0),
        "roll-over": Scenario("roll-over", roll_over, one, 0.0),
        "revocation": Scenario("revocation, noticed over 1 s", revocation, one, 1.3),
        "sudden": Scenario("revocation, noticed over 0.1 s", sudden_revocation, one, 1.3, None),
        "503": Scenario("endpoint answers 503, cold start over 10 s", failing, range(4, 9), 30.0),
        "silent": Scenario("endpoint is silent, cold start over 10 s", silent, range(4, 5), 30.0),
        "cache-down": Scenario("cache down, cold start over 10 s", cache_down, range(processes, processes + 1), 1.3),
    }


def measure(name: str, scenario: Scenario, processes: int, table: Table) -> bool:
    """Run one scenario. Returns whether its bars hold."""
    random.seed(name)
    fleet = Fleet(processes)
    scenario.act(fleet)
    requests, seen = fleet.server.requests, fleet.seen
    busiest, total = max(fleet.cache.operations.values(), default=0), fleet.cache.operations.total()
    holds = requests in scenario.requests and max(seen.waits) <= scenario.longest + 1e-6
    holds = holds and (scenario.busiest is None or busiest <= scenario.busiest)
    table.add_row(
        scenario.title,
        f"{requests:,}",
        f"{total:,}",
        f"{busiest:,}",
        f"{statistics.median(seen.waits):.2f}",
        f"{max(seen.waits):.2f}",
        f"{seen.failed:,}",
        "yes" if holds else "NO",
    )
    return holds


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulate a fleet of processes that share one token.")
    parser.add_argument("scenarios", nargs="*", help=f"all by default: {', '.join(scenarios(0))}")
    parser.add_argument("--processes", type=int, default=PROCESSES)
    options = parser.parse_args()
    # With the cache down, each process warns.
    logging.getLogger("dolby_auth_plugin").addHandler(logging.NullHandler())
    table = Table(title=f"{options.processes:,} processes with a shared cache, simulated")
    columns = "", "token requests", "cache operations", "busiest second", "median wait, s", "longest wait, s", "failed"
    for column in (*columns, "bars hold"):
        table.add_column(column, justify="left" if not column else "right")
    known = scenarios(options.processes)
    held = [measure(name, known[name], options.processes, table) for name in options.scenarios or known]
    Console(width=132).print(table)
    if not all(held):
        sys.exit(1)


if __name__ == "__main__":
    main()
