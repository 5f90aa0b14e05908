"""A clock that only tests move, a sender that answers from a script, and a cache in memory. The last two keep a log."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

from dolby_auth_plugin._core.credentials import AppCredentials
from dolby_auth_plugin._core.endpoint import TokenEndpoint, TokenRequest, TokenResponse
from dolby_auth_plugin._core.errors import Failure, TokenError
from dolby_auth_plugin._core.fetch import Fetcher
from dolby_auth_plugin._core.source import TokenSource
from dolby_auth_plugin._core.token import Clock, Instant
from dolby_auth_plugin.caches._shared import SealedEntries

KEY, SECRET = "an-app-key==", "an-app-secret"
TOKEN_URL = "https://api.dolby.io/v1/auth/token"

# 2023-11-14 22:13:20 UTC; any moment will do.
EPOCH = 1_700_000_000.0


class FakeClock:
    """The functions of `time` that the package uses. The time stands still until a test moves it."""

    def __init__(self) -> None:
        self._monotonic = 1000.0
        self._wall = EPOCH
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self._monotonic

    def time(self) -> float:
        return self._wall

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> Literal[False]:
        """Return False, so that `or` can follow in an expression."""
        self._monotonic += seconds
        self._wall += seconds
        return False

    def step_wall(self, seconds: float) -> None:
        """Move only the wall clock, as a suspended machine does."""
        self._wall += seconds

    def stall_wall(self, seconds: float) -> None:
        """Move only the monotonic clock."""
        self._monotonic += seconds

    def now(self) -> Instant:
        return Instant(self._monotonic, self._wall)


class HastyClock:
    """The module `time`, with pauses fifty times shorter. The clock goes on by the whole pause."""

    time = staticmethod(time.time)

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        time.sleep(seconds / 50)
        self._ahead += seconds * 49 / 50


class CrowdClock(FakeClock):
    """A clock for a number of threads. When all of them sleep or have left, it moves until the first one wakes."""

    def __init__(self) -> None:
        super().__init__()
        self.awake = 0
        # When each sleeping thread wakes, and what wakes it.
        self._sleepers: list[tuple[float, threading.Event]] = []
        self._mutex = threading.Lock()

    def sleep(self, seconds: float) -> None:
        woken = threading.Event()
        with self._mutex:
            self.slept.append(seconds)
            self._sleepers.append((self.monotonic() + seconds, woken))
        self.leave()
        assert woken.wait(30), "the other threads never sleep"

    def leave(self) -> None:
        """One thread sleeps, or has ended."""
        with self._mutex:
            self.awake -= 1
            if self.awake == 0 and self._sleepers:
                first = min(until for until, _ in self._sleepers)
                self.advance(first - self.monotonic())
                due = [sleeper for sleeper in self._sleepers if sleeper[0] == first]
                self.awake = len(due)
                self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] != first]
                for _, woken in due:
                    woken.set()


class WrongClock:
    """*clock*, whose wall clock is some seconds ahead, or behind."""

    def __init__(self, clock: FakeClock, ahead: float) -> None:
        self.monotonic, self.sleep = clock.monotonic, clock.sleep
        self.time = lambda: clock.time() + ahead


class MemoryCache:
    """
    A `TokenCache` that several sources of a test share.

    Attributes:
        log: The operations, and when they began (monotonic): load, lock, enter, store, exit, fetch_ended.
        trouble: Functions that an operation calls first, by its name. They may raise, or let time pass.
        entries: The entries.
        seconds: For how long the last entry is needed.
        locks: When the locks that are held end.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.log: list[tuple[str, float]] = []
        self.trouble: dict[str, Callable[[], Any]] = {}
        self.entries: dict[str, Any] = {}
        self.seconds = 0.0
        self.locks: dict[str, float] = {}
        # Python would leave a context manager that nobody refers to.
        self._held: list[AbstractContextManager[bool]] = []
        self._mutex = threading.Lock()

    def __reduce__(self) -> Any:
        return MemoryCache, (self.clock,)

    def _begin(self, name: str) -> None:
        self.log.append((name, self.clock.monotonic()))
        self.trouble.get(name, int)()

    @property
    def operations(self) -> list[str]:
        return [name for name, _ in self.log]

    def load(self, key: str) -> Any:
        self._begin("load")
        return self.entries.get(key)

    def store(self, key: str, entry: bytes, seconds: float) -> None:
        self._begin("store")
        self.entries[key], self.seconds = entry, seconds

    def lock(self, key: str, seconds: float) -> AbstractContextManager[bool]:
        self._begin("lock")
        self._held.append(self._locked(key, seconds))
        return self._held[-1]

    @contextmanager
    def _locked(self, key: str, seconds: float) -> Iterator[bool]:
        self._begin("enter")
        now = self.clock.monotonic()
        with self._mutex:
            is_held = self.locks.get(key, now) <= now
            if is_held:
                self.locks[key] = now + seconds
        try:
            yield is_held
        finally:
            if is_held and self.locks.get(key) == now + seconds:
                del self.locks[key]
            self._begin("exit")

    def fetch_ended(self) -> None:
        self._begin("fetch_ended")


class Gate:
    """
    A credentials callable that returns only while it is open. While it is closed, it holds a fetch at its beginning.

    Attributes:
        asked: Released once for each call.
    """

    def __init__(self, app_key: str, app_secret: str) -> None:
        self._credentials = AppCredentials(app_key, app_secret)
        self._opened = threading.Event()
        self.asked = threading.Semaphore(0)

    def __call__(self) -> AppCredentials:
        self.asked.release()
        assert self._opened.wait(30), "the gate was never opened"
        return self._credentials

    def open(self) -> None:
        self._opened.set()

    def close(self) -> None:
        self._opened.clear()


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds."""
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "the condition did not become true"
        time.sleep(0.001)


def answer(status: int = 200, *, retry_after: str | None = None, body: Any = None, **members: Any) -> TokenResponse:
    """An answer of the token endpoint: *body* as it is, or else a JSON object of *members*."""
    if body is None:
        body = json.dumps(members)
    return TokenResponse(status, retry_after, body.encode() if isinstance(body, str) else body)


Outcome = TokenResponse | Failure | Exception | Callable[[], "Outcome"] | None


class ScriptedSender:
    """
    Answers in the order of the script. After its end, answers with tokens: `token-1`, `token-2` and so on, by the number of the request.

    Attributes:
        log: The token requests, each with the seconds that it was allowed.
        life: `expires_in` of the tokens.
        scope: Their `scope`, or None to leave it out.
    """

    def __init__(self, *script: Outcome, life: int = 1800, scope: str | None = None) -> None:
        self.script = list(script)
        self.life = life
        self.scope = scope
        self.log: list[tuple[TokenRequest, float]] = []
        self._released = threading.Event()
        self._released.set()
        self.arrived = threading.Semaphore(0)

    def __call__(self, request: TokenRequest, seconds: float) -> TokenResponse | Failure:
        self.log.append((request, seconds))
        serial = len(self.log)
        outcome: Outcome | None = self.script.pop(0) if self.script else None
        self.arrived.release()
        assert self._released.wait(10), "a held answer was never released"
        while callable(outcome):
            outcome = outcome()
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not None:
            return outcome
        members: dict[str, Any] = {"access_token": f"token-{serial}", "token_type": "Bearer", "expires_in": self.life}
        if self.scope is not None:
            members["scope"] = self.scope
        return answer(**members)

    def close(self) -> None:
        """Hold answers from now on."""
        self._released.clear()

    def open(self) -> None:
        """Release the held answers, and hold no more."""
        self._released.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold answers until the end of the block."""
        self.close()
        try:
            yield
        finally:
            self.open()

    @property
    def count(self) -> int:
        return len(self.log)


def make_source(
    sender: ScriptedSender,
    clock: Clock | None = None,
    *,
    scope: str | None = None,
    credentials: Any = None,
    timeout: float = 30.0,
    chance: float = 0.0,
    cache: Any = None,
) -> TokenSource:
    """
    A source on a fake clock. With *chance* 0, the renewal of a token of 1,800 s opens at 1,500 s.

    Sources with the same *cache* share a token, as several processes do.
    """
    endpoint = TokenEndpoint(TOKEN_URL, scope, 1800, "host/1.0")
    credentials = credentials or AppCredentials(KEY, SECRET)
    known = credentials if isinstance(credentials, AppCredentials) else None
    fetcher = Fetcher(
        endpoint,
        credentials,
        sender,
        timeout,
        None if cache is None else SealedEntries(cache, endpoint, known),
        clock=clock or FakeClock(),
        chance=lambda: chance,
    )
    return TokenSource(fetcher, TokenError)


def wait_for_fetches() -> None:
    """Wait until no fetch runs in this process. A log handler that the end of a fetch calls may begin the next one."""
    # A thread whose `start` was interrupted early stays in this list, and is never alive.
    while fetches := [one for one in threading.enumerate() if one.name == "dolby-auth-token" and one.is_alive()]:
        fetches[0].join(10)
        assert not fetches[0].is_alive()


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run *work* in *count* threads that start together, and return the results or exceptions."""
    results: list[Any] = [None] * count
    barrier = threading.Barrier(count)

    def run(index: int) -> None:
        barrier.wait()
        try:
            results[index] = work(index)
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a caller is stuck"
    return results
