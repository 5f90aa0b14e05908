"""
When the token endpoint may be asked again. Pure: the caller supplies the time.

A failure must not become a flood of token requests. So it is remembered and given to callers, renewals pause after it, and fetches
that never end keep others from beginning.
"""

from __future__ import annotations

from collections.abc import Hashable

from .credentials import AppCredentials
from .errors import Failure
from .failures import too_many_overdue
from .token import Instant

# Seconds for which a failure is given to callers without another fetch. The endpoint can make it longer (`Retry-After`), up to
# the second number.
FAILURE_MEMORY, FAILURE_MEMORY_MAX = 3.0, 10.0

# Seconds between fetches that ask a callable for other credentials, while a failure is remembered.
_ASK_AGAIN = 1.0

# An overdue fetch holds a thread and a socket until the user's session or client gives up, which may be never. While so many are
# alive, one fetch begins in so many seconds.
MAX_OVERDUE, OVERDUE_PAUSE = 4, 30.0

# The pause after a failed renewal starts with the failure's own memory, and doubles at most this many times.
_PAUSE_DOUBLINGS = 4

_NO_FETCHES: frozenset[Hashable] = frozenset()


def memory_of(failure: Failure) -> float:
    """Seconds for which *failure* is remembered. One that other processes share may be remembered for some time already."""
    if failure.memory is not None:
        return failure.memory
    return min(max(FAILURE_MEMORY, failure.retry_after or 0), FAILURE_MEMORY_MAX)


class Backoff:
    """
    The failures of one auth object's fetches.

    Args:
        asks_credentials: A callable gives the credentials, so they may change from fetch to fetch.
    """

    __slots__ = (
        "_ask_again_at",
        "_asks_credentials",
        "_begun_at",
        "_failed_credentials",
        "_failed_renewals",
        "_failure",
        "_failure_until",
        "_next_renewal",
        "_overdue",
    )

    def __init__(self, *, asks_credentials: bool) -> None:
        self._asks_credentials = asks_credentials
        # The last failure, and the credentials that failed.
        self._failure: Failure | None = None
        self._failure_until = 0.0
        self._failed_credentials: AppCredentials | None = None
        # The monotonic time before which a callable is not asked again.
        self._ask_again_at = float("-inf")
        # The monotonic time before which no renewal begins, and how many failed in a row.
        self._next_renewal = float("-inf")
        self._failed_renewals = 0
        # The overdue fetches whose threads still run, and when the last fetch began.
        self._overdue = _NO_FETCHES
        self._begun_at = float("-inf")

    # May a fetch begin?

    def instead_of_fetch(self, now: Instant) -> Failure | None:
        """The failure that a caller without a token gets. None: a fetch begins for it, see `begin`."""
        failure = self._remembered(now)
        # A callable may give other credentials by now, or other ones each time. Only a fetch can ask it.
        may_ask = (
            self._asks_credentials and self._failed_credentials is not None and now.monotonic >= self._ask_again_at
        )
        return self._blocked(now) or (None if may_ask else failure)

    def may_renew(self, now: Instant) -> bool:
        """Whether a renewal may begin. It would ask again at once what has just failed."""
        return now.monotonic >= self._next_renewal and self._remembered(now) is None and self._blocked(now) is None

    def begin(self, now: Instant) -> None:
        """A fetch begins."""
        self._begun_at = now.monotonic
        if self._remembered(now) is not None:
            self._ask_again_at = now.monotonic + _ASK_AGAIN

    def failure_of(self, credentials: AppCredentials, now: Instant) -> Failure | None:
        """The remembered failure, if these credentials have failed with it."""
        return self._remembered(now) if credentials == self._failed_credentials else None

    def _remembered(self, now: Instant) -> Failure | None:
        return self._failure if now.monotonic < self._failure_until else None

    def _blocked(self, now: Instant) -> Failure | None:
        alive, seconds = len(self._overdue), self._begun_at + OVERDUE_PAUSE - now.monotonic
        return too_many_overdue(alive, seconds) if alive >= MAX_OVERDUE and seconds > 0 else None

    # Events

    def remember(self, failure: Failure, credentials: AppCredentials | None, now: Instant, *, is_renewal: bool) -> None:
        """A fetch with *credentials* has failed."""
        if failure is self._remembered(now):
            # The failure came from memory. Do not extend how long it is remembered.
            return
        memory = memory_of(failure)
        self._failure, self._failure_until = failure, now.monotonic + memory
        self._failed_credentials = credentials
        if is_renewal:
            self.postpone_renewal(now, memory)

    def postpone_renewal(self, now: Instant, pause: float = FAILURE_MEMORY) -> None:
        """Begin no renewal for *pause* seconds; longer after each further failure."""
        self._next_renewal = now.monotonic + pause * 2 ** min(self._failed_renewals, _PAUSE_DOUBLINGS)
        self._failed_renewals += 1

    def forget(self) -> None:
        """Forget the failures: there is a new token, or the user wants another try. Overdue fetches stay known."""
        self._failure = self._failed_credentials = None
        self._next_renewal = float("-inf")
        self._failed_renewals = 0

    def add_overdue(self, fetch: Hashable) -> None:
        """*fetch* was given up, and its thread may still run."""
        self._overdue |= {fetch}

    def remove_overdue(self, fetch: Hashable) -> None:
        """The thread of *fetch* ends."""
        self._overdue -= {fetch}

    def forget_overdue(self) -> None:
        """No thread of a fetch runs: this is a forked child."""
        self._overdue = _NO_FETCHES
