"""
A fleet in simulation: thousands of processes that share one token through a cache, in one thread and in simulated time.

Each process has a real token source with a real, sealed entry. The clock, the cache and the token endpoint are simulated. greenlets let all
processes run in one thread: whoever waits gives way to whoever is due next.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import greenlet

from dolby_auth_plugin import AccessToken, AppCredentials, TokenError
from dolby_auth_plugin._core.endpoint import TokenEndpoint, TokenRequest, TokenResponse
from dolby_auth_plugin._core.errors import Failure
from dolby_auth_plugin._core.fetch import Fetcher
from dolby_auth_plugin._core.source import TokenSource
from dolby_auth_plugin._core.state import Fetch
from dolby_auth_plugin._core.wait import Wait
from dolby_auth_plugin.caches._shared import SealedEntries

from .fleet_scenarios import Conditions, Figures, Fleet, Scale

CREDENTIALS = AppCredentials("an-app-key", "an-app-secret")
HOST = "api.dolby.com:443"
EPOCH = 1_700_000_000.0

# Seconds of one cache operation: a round trip in a data centre, on a busy server.
CACHE_SECONDS = 0.001


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
    """A `TokenCache` that notes when each operation began."""

    def __init__(self, world: World, figures: Figures, *, is_down: bool) -> None:
        self._world = world
        self._figures = figures
        self._is_down = is_down
        self._entries: dict[str, bytes] = {}
        self._locks: dict[str, tuple[float, object]] = {}

    def load(self, key: str) -> bytes | None:
        self._operate()
        return self._entries.get(key)

    def store(self, key: str, entry: bytes, seconds: float) -> None:
        self._operate()
        self._entries[key] = entry

    @contextmanager
    def lock(self, key: str, seconds: float) -> Iterator[bool]:
        self._operate()
        until, _ = self._locks.get(key, (0.0, None))
        is_held, mark = until <= self._world.now, object()
        if is_held:
            self._locks[key] = self._world.now + seconds, mark
        yield is_held
        if is_held:
            self._operate()
            if self._locks[key][1] is mark:
                del self._locks[key]

    def _operate(self) -> None:
        self._figures.operations.append(self._world.now)
        self._world.sleep(CACHE_SECONDS)
        if self._is_down:
            raise ConnectionRefusedError


class Server:
    """The token endpoint."""

    def __init__(self, world: World, figures: Figures, conditions: Conditions, life: int) -> None:
        self._world = world
        self._figures = figures
        self._conditions = conditions
        self._life = life
        self._serial = itertools.count()

    def __call__(self, request: TokenRequest, seconds: float) -> TokenResponse | Failure:
        self._figures.requests += 1
        number = next(self._serial)
        if self._conditions.fails == "silence":
            self._world.sleep(seconds)
            return Failure("no answer", reason="timed out", retryable=True)
        self._world.sleep(self._conditions.seconds)
        if self._conditions.fails == "503":
            return TokenResponse(503, None, b"")
        return TokenResponse(
            200, None, json.dumps({"access_token": f"token-{number}", "expires_in": self._life}).encode()
        )


class Source(TokenSource):
    """A token source whose fetches run in greenlets."""

    __slots__ = ("_world",)

    def __init__(self, world: World, fetcher: Fetcher) -> None:
        super().__init__(fetcher, TokenError)
        self._world = world

    def _start(self, fetch: Fetch, *, in_caller: bool = False) -> None:
        self._world.at(self._world.now, lambda: self._run(fetch))

    def _would_wait_for_itself(self) -> bool:
        # All processes are one thread here.
        return False


class SimulatedFleet(Fleet):
    def __init__(self, scale: Scale, conditions: Conditions) -> None:
        self.scale = scale
        self._world = World()
        self._figures = Figures()
        self._endpoint = TokenEndpoint("https://api.dolby.io/v1/auth/token", None, scale.life, "simulated/1.0")
        self._cache = Cache(self._world, self._figures, is_down=conditions.cache_is_down)
        self._server = Server(self._world, self._figures, conditions, scale.life)
        self._sources = [self._source() for _ in range(scale.processes)]

    def start(self) -> None:
        for source in self._sources:
            self._world.at(self._within(self.scale.start_seconds), partial(self._call, source))
        self._world.run()

    def renew(self) -> None:
        began = self._world.now
        for source in self._sources:
            moment = began + self._token(source).renew_at.monotonic - source.fetcher.clock.monotonic()
            # The calls before the renewal opens cost nothing, and neither do those after it.
            for _ in range(3):
                moment += random.expovariate(1)
                self._world.at(moment, partial(self._call, source))
        self._world.run()

    def revoke(self, seconds: float) -> None:
        for source in self._sources:
            self._world.at(self._within(seconds), partial(self._notice, source))
        self._world.run()

    def begin_measuring(self) -> None:
        # The cache and the server have the same object.
        self._figures.reset()

    def figures(self) -> Figures:
        return self._figures

    def tokens(self) -> set[str]:
        return {self._token(source).value for source in self._sources}

    def _source(self) -> Source:
        shared = SealedEntries(self._cache, self._endpoint, CREDENTIALS)
        fetcher = Fetcher(
            self._endpoint, CREDENTIALS, self._server, 30.0, shared, clock=Clock(self._world), chance=random.random
        )
        return Source(self._world, fetcher)

    def _within(self, seconds: float) -> float:
        return self._world.now + random.uniform(0, seconds)

    def _call(self, source: Source) -> None:
        """A caller of one process needs the token."""
        began, steps = self._world.now, source.steps(HOST, None)
        try:
            while isinstance(step := next(steps), Wait):
                self._world.wait(step)
        except TokenError:
            self._figures.failed += 1
        self._figures.waits.append(self._world.now - began)

    def _notice(self, source: Source) -> None:
        """A host refuses the token."""
        if source.refuse(self._token(source).fingerprint, HOST):
            self._call(source)

    def _token(self, source: Source) -> AccessToken:
        token = source._state.token
        assert token is not None
        return token
