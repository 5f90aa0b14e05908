"""
Obtains one token: asks for the credentials, sends the token request, and tries again where that may help.

All of it is synchronous. It knows no HTTP library: a *sender* sends the token request. And it knows no cache: it works on the
`Entry` in an *entry store*. The store of a shared cache has a lock, so that one process at a time makes a try, and all others look
at the entry until the token is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias

from .credentials import AppCredentials, CredentialsSource
from .endpoint import TokenEndpoint, TokenRequest, TokenResponse
from .entry import TRIES, Entry
from .errors import CredentialsError, Failure, printable
from .failures import code_error, expired_on_arrival, no_answer, out_of_time
from .token import AccessToken, Clock, Instant, draw

if TYPE_CHECKING:
    from .ports import EntryStore, SharedEntries, Terms

# Sends one token request, and takes at most about the given seconds. A Failure means that no answer came.
Sender: TypeAlias = Callable[[TokenRequest, float], TokenResponse | Failure]

# The share of the timeout that each try may take: one silent server must leave time for more tries.
_TRY_SHARE = 1 / 3

# Seconds that the holder of the lock gets on top of the time of its try, to load and to store.
_LEASE_MARGIN = 2.0

# Seconds between two looks at an entry that another process works on: at first half of this to all of it, then 1.5 times as long
# each time, up to the last number. Many processes may wait, so looking more often would overload the cache.
_FIRST_LOOK, _LOOK_GROWTH, _LOOK_MAX = 0.1, 1.5, 1.0

# Seconds until a process tries again to get the lock, since its holder may have been killed; and what chance adds at most.
_LOCK_AGAIN, _LOCK_AGAIN_SPREAD = 1.0, 3.0


class OwnEntry:
    """The entry of one fetch, in memory."""

    spread = 0.0

    def __init__(self) -> None:
        self._entry = Entry()

    def time(self, now: Instant) -> float:
        return now.monotonic

    def load(self, now: Instant) -> Entry:  # noqa: ARG002 - it does not depend on the time
        return self._entry

    def store(self, entry: Entry, now: Instant) -> None:  # noqa: ARG002 - as above
        self._entry = entry

    def lock(self, seconds: float) -> AbstractContextManager[bool]:  # noqa: ARG002 - nobody else has this entry
        return nullcontext(True)


class Fetcher:
    """
    How a token is obtained.

    Args:
        endpoint: What to send, and how to read the answer.
        credentials: The app key and secret, or a callable that is asked for them once per fetch.
        send: The sender of the HTTP library.
        timeout: Seconds for a whole fetch, and so the most that a caller waits.
        shared: The entries in a cache. None: nobody else uses the tokens.
        clock: The module `time`, or a stand-in.
        chance: Returns a random number from 0 to 1.
    """

    __slots__ = ("chance", "clock", "credentials", "endpoint", "send", "shared", "timeout")

    def __init__(
        self,
        endpoint: TokenEndpoint,
        credentials: AppCredentials | CredentialsSource,
        send: Sender,
        timeout: float = 30.0,
        shared: SharedEntries | None = None,
        *,
        clock: Clock = time,
        chance: Callable[[], float] = draw,
    ) -> None:
        self.endpoint = endpoint
        self.credentials = credentials
        self.send = send
        self.timeout = timeout
        self.shared = shared
        self.clock = clock
        self.chance = chance

    def __reduce__(self) -> tuple[type[Fetcher], tuple[Any, ...]]:
        return Fetcher, (self.endpoint, self.credentials, self.send, self.timeout, self.shared)

    def ask_credentials(self) -> AppCredentials | Failure:
        """The credentials for one fetch."""
        if isinstance(self.credentials, AppCredentials):
            return self.credentials
        try:
            credentials: object = self.credentials()
            if isinstance(credentials, AppCredentials):
                # A subclass may have changed since it was made. Check what is sent.
                return AppCredentials(credentials.app_key, credentials.app_secret)
        except CredentialsError as error:
            return Failure(f"No app key and secret: {printable(str(error), 500)}", reason="no credentials")
        except KeyboardInterrupt:
            # This thread may be that of a caller: at shutdown, or for a mock.
            raise
        except BaseException as error:  # noqa: BLE001 - this thread has no caller that could catch a SystemExit
            return code_error(error, "No app key and secret: credentials()", reason="no credentials")
        return Failure(
            f"No app key and secret: credentials() returned {type(credentials).__name__}, not AppCredentials.",
            reason="no credentials",
        )

    def obtain(self, credentials: AppCredentials, terms: Terms) -> AccessToken | Failure | None:
        """
        A token, in as many tries as may help and fit before the deadline.

        Returns:
            The present token if it stays, although it was refused. None if the caller must decide again.
        """
        if self.shared is None:
            return _Sequence(self, credentials, terms, OwnEntry()).run()
        with self.shared.open(credentials, terms.since, self.clock, self.chance) as store:
            return _Sequence(self, credentials, terms, store).run()

    def make_try(
        self, request: TokenRequest, credentials: AppCredentials, asked_at: Instant, seconds: float
    ) -> AccessToken | Failure:
        """The outcome of one token request."""
        try:
            response = self.send(request, seconds)
            if isinstance(response, Failure):
                return response
            outcome = self.endpoint.read(response, credentials, asked_at, self.chance)
        except (ConnectionError, TimeoutError) as error:
            # A transport of the user's may raise Python's own network errors.
            return no_answer(error, retryable=True)
        except Exception as error:  # noqa: BLE001 - hooks of a lent client may raise anything
            # Every fetch needs an outcome. Without one, each caller would start it again at once.
            return code_error(error, "The code that sends the token request")
        if isinstance(outcome, AccessToken) and not outcome.is_good(Instant.now(self.clock)):
            # The machine was suspended meanwhile, or the token lives shorter than the answer takes.
            return expired_on_arrival()
        return outcome


class _Sequence:
    """The way of one fetch to its outcome."""

    __slots__ = ("_credentials", "_fetcher", "_last", "_lease", "_request", "_store", "_terms", "_try_seconds")

    def __init__(self, fetcher: Fetcher, credentials: AppCredentials, terms: Terms, store: EntryStore) -> None:
        self._fetcher = fetcher
        self._credentials = credentials
        self._request = fetcher.endpoint.request(credentials)
        self._terms = terms
        self._store = store
        self._try_seconds = fetcher.timeout * _TRY_SHARE
        self._lease = self._try_seconds + _LEASE_MARGIN
        # The outcome if the deadline passes.
        self._last = out_of_time(fetcher.timeout, sent=fetcher.shared is not None)

    def run(self) -> AccessToken | Failure | None:
        clock, chance = self._fetcher.clock, self._fetcher.chance
        lock_at, tries, look = float("-inf"), 0, _FIRST_LOOK * (1 + chance()) / 2
        while (now := Instant.now(clock)).monotonic < self._terms.deadline:
            entry = self._store.load(now)
            step = self._next_step(entry, now)
            if step == 0 and entry.tries > tries:
                # The pause after a failed try has passed between two looks. Others have waited for its end.
                lock_at = max(lock_at, now.monotonic + self._spread(entry.tries))
            tries = entry.tries
            if step == 0 and now.monotonic >= lock_at:
                with self._store.lock(self._lease) as is_held:
                    step = self._make_try() if is_held else step
                tries += is_held
                lock_at = lock_at if is_held else now.monotonic + _LOCK_AGAIN + _LOCK_AGAIN_SPREAD * chance()
            if not isinstance(step, float):
                return step
            left = self._terms.deadline - clock.monotonic()
            if step:
                wait = step + self._spread(tries)
            else:
                wait, look = look, min(look * _LOOK_GROWTH, _LOOK_MAX)
            clock.sleep(max(0.0, min(wait, left)))
        return self._last

    def _spread(self, tries: int) -> float:
        """
        The seconds by which this process makes the next try later than the pause ends, after so many failed *tries*.

        The time of the process that makes a try decides whether another one fits. So those with too little time come last.
        """
        spread = self._store.spread
        is_late = tries < TRIES - 1 and self._terms.deadline - self._fetcher.clock.monotonic() < self._lease + spread
        return spread * (self._fetcher.chance() + is_late / 4)

    def _next_step(self, entry: Entry, now: Instant) -> AccessToken | Failure | float | None:
        """The outcome, or the seconds until the next try may start."""
        if entry.token is not None and self._terms.accepts(entry.token):
            return entry.token
        moment = self._store.time(now)
        if self._terms.is_replacing() and entry.charged(moment) is None:
            # Found without the lock, which other processes may need for the same answer.
            return self._terms.present()
        self._last = entry.failure or self._last
        return entry.next_step(moment, self._lease)

    def _make_try(self) -> AccessToken | Failure | float | None:
        """Make one try, with the lock. Returns the outcome, or the seconds until the next try may start."""
        asked_at = Instant.now(self._fetcher.clock)
        entry = self._store.load(asked_at)
        step = self._next_step(entry, asked_at)
        if step != 0:
            # Another process has made a try meanwhile.
            return step
        if self._terms.is_replacing():
            if not self._terms.charge():
                return self._terms.present()
            entry = entry.charged(self._store.time(asked_at)) or entry
        seconds = min(self._try_seconds, self._terms.deadline - asked_at.monotonic)
        outcome = self._fetcher.make_try(self._request, self._credentials, asked_at, seconds)
        now = Instant.now(self._fetcher.clock)
        if isinstance(outcome, AccessToken):
            self._store.store(entry.after_token(outcome), now)
            return outcome
        self._last = outcome
        left = self._terms.deadline - now.monotonic
        entry = entry.after_failure(outcome, self._store.time(now), self._lease, left, self._fetcher.chance())
        self._store.store(entry, now)
        # From the entry itself: a cache may lose it, and the next try must not follow at once.
        return entry.next_step(self._store.time(now), self._lease)
