"""
Works with a `TokenCache` for the fetches of an auth object: seals what goes there, and goes on without it when it is in trouble.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from .._core.credentials import AppCredentials
from .._core.endpoint import TokenEndpoint
from .._core.entry import Entry
from .._core.errors import printable
from .._core.failures import described
from .._core.records import log
from .._core.token import Clock, Instant
from ._sealing import Seal
from .protocol import TokenCache, UnusableCacheError

# Seconds that all operations of one fetch may lose together.
_BUDGET = 1.0

# Seconds of each operation that do not count. A fetch that waits for another process makes some fifty operations, and a busy
# machine slows down each of them.
_NORMAL = 0.1

# Seconds for which a cache is left alone after trouble.
_LEFT_ALONE = 5.0

_NEVER = Instant(float("-inf"), float("-inf"))

_Result = TypeVar("_Result")


class SealedEntries:
    """
    The entries in a cache. They can be used from any thread.

    Args:
        cache: The user's cache.
        endpoint: What the tokens depend on, apart from the credentials.
        credentials: The credentials, if they are known. Then their keys are derived now: in a first fetch, many processes that start
            together would do it instead of asking for the token.
    """

    __slots__ = ("_cache", "_credentials", "_endpoint", "_in_trouble", "_seal", "_usable_at")

    def __init__(self, cache: TokenCache, endpoint: TokenEndpoint, credentials: AppCredentials | None = None) -> None:
        self._cache = cache
        self._endpoint = endpoint
        self._credentials = credentials
        # The last credentials and their seal: most auth objects have one pair for ever.
        self._seal: tuple[AppCredentials, Seal] | None = None
        # The monotonic time before which the cache is left alone, and whether the user was warned of the present trouble.
        self._usable_at = float("-inf")
        self._in_trouble = False
        if credentials is not None:
            self._seal_for(credentials)

    def __reduce__(self) -> tuple[type[SealedEntries], tuple[Any, ...]]:
        return SealedEntries, (self._cache, self._endpoint, self._credentials)

    @contextmanager
    def open(
        self, credentials: AppCredentials, since: float, clock: Clock, chance: Callable[[], float]
    ) -> Iterator[SealedEntry]:
        """The entry for *credentials*, for one fetch, see `SharedEntries`."""
        entry = SealedEntry(self, self._cache, self._seal_for(credentials), since, clock, chance)
        try:
            yield entry
        finally:
            entry.end()

    def _seal_for(self, credentials: AppCredentials) -> Seal:
        known = self._seal
        if known is None or known[0] != credentials:
            known = self._seal = (credentials, Seal(credentials, self._endpoint))
        return known[1]

    def is_usable(self, now: float) -> bool:
        """Whether the cache may be asked at *now* (monotonic)."""
        return now >= self._usable_at

    def note_trouble(self, what: str, now: float) -> None:
        """Leave the cache alone for some seconds. The user is told once per spell of trouble."""
        self._usable_at = now + _LEFT_ALONE
        if not self._in_trouble:
            # Remember first: the log handler may send a request.
            self._in_trouble = True
            message = "the token cache %s; this process obtains its own tokens meanwhile"
            log(logging.WARNING, "cache_in_trouble", message, what, reason=what)

    def note_success(self) -> None:
        """The spell of trouble is over."""
        self._in_trouble = False


class SealedEntry:
    """The entry of one fetch, in the cache. It is in memory too, for when the cache is in trouble."""

    # Many processes may wait for the next try.
    spread = 1.0

    def __init__(
        self,
        entries: SealedEntries,
        cache: TokenCache,
        seal: Seal,
        since: float,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        self._entries = entries
        self._cache = cache
        self._seal = seal
        self._since = since
        self._clock = clock
        self._chance = chance
        self._entry = Entry()
        self._lease = 0.0
        # When the lock ends. The wall clock goes on while the machine is suspended.
        self._held_until = _NEVER
        self._seconds_lost = 0.0
        self._had_trouble = False

    def time(self, now: Instant) -> float:
        return now.wall

    def load(self, now: Instant) -> Entry:
        is_answered, opened = self._ask(lambda: self._loaded(now))
        if is_answered:
            # A cache may lose the entry. Then this fetch goes on with what it knows.
            self._entry = (opened or self._entry).since(self._since)
        return self._entry

    def store(self, entry: Entry, now: Instant) -> None:
        self._entry = entry
        if now.monotonic < self._held_until.monotonic and now.wall < self._held_until.wall:
            seconds = entry.seconds_needed(now.wall, self._lease)
            self._ask(lambda: self._cache.store(self._seal.name, self._seal.seal(entry), seconds))

    @contextmanager
    def lock(self, seconds: float) -> Iterator[bool]:
        self._lease, end = seconds, Instant.now(self._clock).after(seconds)
        with ExitStack() as held:
            is_answered, is_held = self._ask(lambda: held.enter_context(self._cache.lock(self._seal.name, seconds)))
            # The end of the lock is asked for in any case. A lock that was left would stay for its whole lease.
            held.callback(self._ask, held.pop_all().close, always=True)
            self._held_until = end if is_answered and is_held else _NEVER
            yield bool(is_held) if is_answered else True

    def end(self) -> None:
        """The fetch has ended."""
        self._ask(self._announce_end, always=True)
        if not self._had_trouble:
            self._entries.note_success()

    def _announce_end(self) -> None:
        fetch_ended = getattr(self._cache, "fetch_ended", None)
        if fetch_ended is not None:
            fetch_ended()

    def _loaded(self, now: Instant) -> Entry | None:
        sealed: object = self._cache.load(self._seal.name)
        if sealed is not None and not isinstance(sealed, bytes):
            raise TypeError("an entry must be bytes or None")
        return None if sealed is None else self._seal.open(sealed, now, self._chance)

    def _ask(self, operation: Callable[[], _Result], *, always: bool = False) -> tuple[bool, _Result | None]:
        """Whether the cache has answered, and what. Not while it is in trouble, unless the operation is *always* due."""
        began = self._clock.monotonic()
        if not always and not self._entries.is_usable(began):
            self._had_trouble = True
            return False, None
        trouble = None
        try:
            return True, operation()
        except KeyboardInterrupt:
            # This thread may be that of a caller: at shutdown, or for a mock.
            raise
        except BaseException as error:  # noqa: BLE001 - time-outs of gevent and eventlet are no Exception
            trouble = f"raised {described(error)}"
            if isinstance(error, UnusableCacheError):
                trouble = f"can't be used: {printable(str(error))}"
            return False, None
        finally:
            now = self._clock.monotonic()
            self._seconds_lost += max(0.0, now - began - _NORMAL)
            if trouble is None and self._seconds_lost > _BUDGET:
                trouble = "is too slow"
            if trouble is not None:
                self._had_trouble = True
                self._entries.note_trouble(trouble, now)
