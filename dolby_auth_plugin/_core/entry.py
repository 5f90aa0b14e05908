"""
The state that processes share about one token: the token, the failed tries, and the allowance. Pure: the caller supplies the time.

A fetch works on an entry. In a shared cache, all processes work on the same one, so together they make the tries of one process.
Without a cache, each fetch has an entry of its own in memory.

    tries      1 ──pause──▶ 2 ──pause──▶ 3 ──pause──▶ 4 ──▶ the failure, for some seconds ──▶ 1

Times are seconds of one clock: the wall clock where machines share the entry, else the monotonic clock. A wrong clock may not block
anyone, so times that no process with a right clock could have written are ignored.
"""

from __future__ import annotations

from typing import NamedTuple

from .backoff import FAILURE_MEMORY_MAX, memory_of
from .errors import Failure
from .refusals import REPLACEMENTS_IN_A_ROW, SECONDS_PER_REPLACEMENT, spend
from .token import MAX_LIFE, AccessToken

# Tries of one sequence.
TRIES = 4

# Seconds before the second try. The pause doubles for each further try, and chance shortens it to as little as half, so that
# many processes don't retry at the same moment.
_FIRST_PAUSE = 0.5

# Seconds after which nobody continues a sequence: the processes that made it are gone. The time of a try comes on top.
_STALE = 10.0

# Seconds by which the clock of another machine may be ahead.
_SKEW = 10.0

# Seconds that a rounded time may be wrong.
_CLOCK_TICK = 1e-3

_NEVER = float("-inf")


class Entry(NamedTuple):
    """
    An immutable entry.

    Attributes:
        token: The token that was obtained last. It may have expired.
        is_charged: The allowance has paid for the replacement of this token.
        full_at: When the allowance is full again.
        tries: The tries of the present sequence that failed. `TRIES` after a final failure too.
        failed_at: When the last of them failed.
        pause: Seconds from then to the next try.
        failure: Why it failed. None: no sequence.
    """

    token: AccessToken | None = None
    is_charged: bool = False
    full_at: float = _NEVER
    tries: int = 0
    failed_at: float = _NEVER
    pause: float = 0.0
    failure: Failure | None = None

    def next_step(self, now: float, lease: float) -> Failure | float:
        """
        The seconds until the next try may start, or the failure that everyone gets meanwhile.

        Args:
            now: The present time.
            lease: Seconds that a try may take.
        """
        if not self._is_continued(now, lease):
            return 0.0
        seconds = self.failed_at + self.pause - now
        if self.tries >= TRIES and self.failure is not None:
            # By another machine's clock, it may seem to last longer than any failure does.
            return self.failure._replace(memory=min(seconds, FAILURE_MEMORY_MAX))
        return seconds if seconds > _CLOCK_TICK else 0.0

    def after_failure(self, failure: Failure, now: float, lease: float, seconds_left: float, chance: float) -> Entry:
        """
        The entry after another try has failed.

        Args:
            failure: What happened.
            now: The present time.
            lease: Seconds that a try may take.
            seconds_left: The time left to the process that made the try. If the pause does not fit, there is no further try.
            chance: 0 to 1, how much of the pause's first half is left out.
        """
        tries = (self.tries if self._is_continued(now, lease) else 0) + 1
        pause = max(_FIRST_PAUSE * 2 ** (tries - 1) * (1 - chance / 2), failure.retry_after or 0)
        if not failure.retryable or tries >= TRIES or pause >= seconds_left:
            tries, pause = TRIES, memory_of(failure)
        return self._replace(tries=tries, failed_at=now, pause=pause, failure=failure)

    def after_token(self, token: AccessToken) -> Entry:
        """The entry after a try that brought *token*."""
        return Entry(token, full_at=self.full_at)

    def charged(self, now: float) -> Entry | None:
        """The entry after the allowance has paid for the replacement of its token. None: the allowance is used up."""
        if self.is_charged:
            return self
        is_possible = self.full_at <= now + REPLACEMENTS_IN_A_ROW * SECONDS_PER_REPLACEMENT + _SKEW
        full_at = spend(self.full_at if is_possible else _NEVER, now)
        return None if full_at is None else self._replace(is_charged=True, full_at=full_at)

    def since(self, moment: float) -> Entry:
        """The entry without a failure that is older than *moment*. The token stays: other processes may take it."""
        return self if self.failed_at >= moment else self._replace(tries=0, failure=None)

    def seconds_needed(self, now: float, lease: float) -> float:
        """For how long the entry is worth keeping. Longer than a token lives: a clock was wrong."""
        token_end = self.token.expires_at.timestamp() if self.token is not None else now
        needed_until = max(token_end, self.full_at, self.failed_at + self.pause + lease + _STALE)
        return min(needed_until - now, MAX_LIFE)

    def _is_continued(self, now: float, lease: float) -> bool:
        """Whether the sequence of tries goes on, or its failure is still remembered."""
        if self.failure is None or self.failed_at > now + _SKEW:
            return False
        next_try = self.failed_at + self.pause
        return now < next_try if self.tries >= TRIES else now < next_try + lease + _STALE
