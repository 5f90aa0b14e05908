"""
An access token and the arithmetic of its life. No I/O, and no clock: callers supply the time.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

# Seconds: the longest life of a Dolby.io token. A longer one in an answer is cut to this.
MAX_LIFE = 86_400

# The API checks a token some time after it was sent. So here it expires early: by a twentieth of its life, at most 5 s.
_TRAVEL_SHARE, _TRAVEL_MAX = 1 / 20, 5.0

# Renewal opens a fifth of the life, at most 300 s, before the end. That leaves time for many tries. It scales with the life: a
# margin larger than the life would fetch a token for every call.
_RENEWAL_SHARE, _RENEWAL_MAX = 1 / 5, 300.0

# The share of that window that a token uses, drawn at random: many processes must not renew together.
EARLIEST_RENEWAL, LATEST_RENEWAL = 1.0, 0.7

# Draws a number from 0 to 1. The system draws it: processes that set the same seed must not renew together, and a fetch's thread
# must not change the numbers that the program gets.
draw = random.SystemRandom().random


class Clock(Protocol):
    """The part of the module `time` that is used here. Tests pass a fake clock."""

    def monotonic(self) -> float: ...

    def time(self) -> float: ...

    def sleep(self, seconds: float, /) -> object: ...


class Instant(NamedTuple):
    """
    A moment on two clocks, in seconds.

    A suspended laptop stops the monotonic clock, and a stepped wall clock jumps. So both are watched, and a token expires when
    either clock says so.
    """

    monotonic: float
    wall: float

    @classmethod
    def now(cls, clock: Clock) -> Instant:
        return cls(clock.monotonic(), clock.time())

    def after(self, seconds: float) -> Instant:
        return Instant(self.monotonic + seconds, self.wall + seconds)


class AccessToken:
    """
    A Dolby.io API token.

    Attributes:
        value: The token itself. Kept out of `repr` and `str`.
        scope: The granted scopes, or None if the answer did not name them.
        expires_at: Its end by the wall clock, an aware UTC datetime.
        token_type: "Bearer" (RFC 6750).

        authorization: The value of the `Authorization` header (RFC 6750 §2.1), ready made for every request. Kept out of
            `repr` and `str`.
        renew_at: When its renewal opens, on both clocks.
        life: The granted seconds, from the token request on.

    It can't be pickled, so that it does not end up in a cache or a job queue by accident.
    """

    value: str
    scope: frozenset[str] | None
    expires_at: datetime
    token_type: str
    authorization: str
    renew_at: Instant
    life: int
    _good_until: Instant

    __slots__ = ("_good_until", "authorization", "expires_at", "life", "renew_at", "scope", "token_type", "value")

    def __init__(
        self, value: str, scope: frozenset[str] | None, life: int, end: Instant, renew_at: Instant, good_until: Instant
    ) -> None:
        keep = object.__setattr__
        keep(self, "value", value)
        keep(self, "scope", scope)
        keep(self, "expires_at", datetime.fromtimestamp(end.wall, UTC))
        keep(self, "token_type", "Bearer")
        keep(self, "authorization", f"Bearer {value}")
        keep(self, "life", life)
        keep(self, "renew_at", renew_at)
        keep(self, "_good_until", good_until)

    @classmethod
    def issued(
        cls, value: str, scope: frozenset[str] | None, life: int, asked_at: Instant, chance: float
    ) -> AccessToken:
        """
        The token of an answer.

        Args:
            value: RFC 6750 §2.1's `b64token`.
            scope: The granted scopes, or None.
            life: Seconds, 1 to 86,400, from *asked_at*.
            asked_at: The moment before the token request was sent. Counted from the answer, the life would be too long by
                the travel time.
            chance: 0 to 1, the place in its range at which renewal opens: 0 is the earliest.
        """
        end = asked_at.after(life)
        share = EARLIEST_RENEWAL + (LATEST_RENEWAL - EARLIEST_RENEWAL) * chance
        renew_at = end.after(-share * min(life * _RENEWAL_SHARE, _RENEWAL_MAX))
        return cls(value, scope, life, end, renew_at, good_until=end.after(-min(life * _TRAVEL_SHARE, _TRAVEL_MAX)))

    def __setattr__(self, name: str, value: Any) -> None:
        del value  # a traceback that shows local variables must not show it
        raise AttributeError("an AccessToken can't be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("an AccessToken can't be changed")

    def __repr__(self) -> str:
        return f"AccessToken(scope={self.scope!r}, expires_at={self.expires_at!r}, token_type={self.token_type!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AccessToken):
            return NotImplemented
        return (self.value, self.scope, self.expires_at) == (other.value, other.scope, other.expires_at)

    def __hash__(self) -> int:
        return hash((self.value, self.scope, self.expires_at))

    @property
    def asked_at(self) -> float:
        """When it was asked for, by the wall clock."""
        return self.expires_at.timestamp() - self.life

    @property
    def fingerprint(self) -> int:
        """A hash that names the token without showing it, and without keeping it in memory."""
        return hash(self.authorization)

    def is_fresh(self, now: Instant) -> bool:
        """Whether its renewal has not opened yet."""
        return now.monotonic < self.renew_at.monotonic and now.wall < self.renew_at.wall

    def is_good(self, now: Instant) -> bool:
        """Whether it has not expired."""
        return now.monotonic < self._good_until.monotonic and now.wall < self._good_until.wall

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("an AccessToken can't be pickled: pass the auth object, which obtains its own")
