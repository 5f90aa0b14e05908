"""
An access token and the arithmetic of its life. No I/O, no clock of its own.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

# Seconds: Dolby.io's longest life of a token. A longer one in an answer counts as this.
MAX_LIFE = 86_400

# A token travels before it is checked: it is over a twentieth of its life, at most 5 s, before its end.
_TRAVEL_SHARE, _TRAVEL_MAX = 1 / 20, 5.0

# Renewal opens a fifth of the life, at most 300 s, before the end: time for many tries, and scaled with
# the life, since a margin larger than the life would fetch a token for every call.
_RENEWAL_SHARE, _RENEWAL_MAX = 1 / 5, 300.0

# The share of that window a token uses, drawn by chance: many processes must not renew together.
EARLIEST_RENEWAL, LATEST_RENEWAL = 1.0, 0.7


class Clock(Protocol):
    """What the module `time` is, and a test's own may be: two clocks, and a pause."""

    def monotonic(self) -> float: ...

    def time(self) -> float: ...

    def sleep(self, seconds: float, /) -> object: ...


class Instant(NamedTuple):
    """
    A moment on two clocks, in seconds.

    A suspended laptop stops the monotonic clock, a stepped wall clock jumps: what is watched on both ends
    when either says so.
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
        scope: The scopes it was granted, or None when the answer named none.
        expires_at: Its end by the wall clock, an aware UTC datetime.
        token_type: "Bearer" (RFC 6750).

    It refuses to be pickled, so that it can't end up in a cache or a job queue by accident.
    """

    value: str
    scope: frozenset[str] | None
    expires_at: datetime
    token_type: str
    # The value of the `Authorization` header (RFC 6750 §2.1), ready made for every request.
    _header: str
    # When renewal opens, on either clock. Read for every request, hence side by side.
    _renew_monotonic: float
    _renew_wall: float
    _over_at: Instant

    __slots__ = (
        "_header",
        "_over_at",
        "_renew_monotonic",
        "_renew_wall",
        "expires_at",
        "scope",
        "token_type",
        "value",
    )

    def __init__(
        self, value: str, scope: frozenset[str] | None, end: Instant, renew_at: Instant, over_at: Instant
    ) -> None:
        keep = object.__setattr__
        keep(self, "value", value)
        keep(self, "scope", scope)
        keep(self, "expires_at", datetime.fromtimestamp(end.wall, UTC))
        keep(self, "token_type", "Bearer")
        keep(self, "_header", f"Bearer {value}")
        keep(self, "_renew_monotonic", renew_at.monotonic)
        keep(self, "_renew_wall", renew_at.wall)
        keep(self, "_over_at", over_at)

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
            asked_at: The moment before the token request was sent: counted from the answer, a life would be
                too long by the way there.
            chance: 0 to 1, where in its range renewal begins: 0 is the earliest moment.
        """
        end = asked_at.after(life)
        share = EARLIEST_RENEWAL + (LATEST_RENEWAL - EARLIEST_RENEWAL) * chance
        renew_at = end.after(-share * min(life * _RENEWAL_SHARE, _RENEWAL_MAX))
        return cls(value, scope, end, renew_at, over_at=end.after(-min(life * _TRAVEL_SHARE, _TRAVEL_MAX)))

    def __setattr__(self, name: str, value: Any) -> None:
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

    def is_fresh(self, now: Instant) -> bool:
        """Whether nothing needs doing yet."""
        return now.monotonic < self._renew_monotonic and now.wall < self._renew_wall

    def is_good(self, now: Instant) -> bool:
        """Whether it may still be sent."""
        return now.monotonic < self._over_at.monotonic and now.wall < self._over_at.wall

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("an AccessToken can't be pickled: hand on the auth object, which obtains its own")
