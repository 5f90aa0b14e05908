"""
How often refused tokens may be replaced. Pure: the caller supplies the time.

A revoked token must be replaced at once. An API that refuses every token must not cost a token request per call. Both look
the same from here, a 401, so each auth object has one allowance. A success does not refill it: an API that answers 401, 200,
401, 200 would otherwise cost one token request per 401.
"""

from __future__ import annotations

# Replacements in a row, and the seconds after which one more is allowed.
REPLACEMENTS_IN_A_ROW = 4
SECONDS_PER_REPLACEMENT = 20.0


class Allowance:
    """
    Four replacements in a row, and one more every 20 seconds.

    While every token is refused, that is at most 8 tokens in the first minute, the first one included, and 3 in each later minute.
    """

    __slots__ = ("_full_at",)

    def __init__(self) -> None:
        # One number holds the state: the moment at which all four replacements are available again.
        self._full_at = float("-inf")

    def spend(self, now: float) -> bool:
        """Whether a token may be replaced at *now* (monotonic seconds). If so, one replacement is spent."""
        full_at = spend(self._full_at, now)
        if full_at is None:
            return False
        self._full_at = full_at
        return True


def spend(full_at: float, now: float) -> float | None:
    """
    When the allowance is full again if one replacement is spent at *now*. None: it is used up.

    Args:
        full_at: When it would be full without that.
        now: The present time.
    """
    full_at = max(full_at, now)
    is_used_up = full_at - now > (REPLACEMENTS_IN_A_ROW - 1) * SECONDS_PER_REPLACEMENT
    return None if is_used_up else full_at + SECONDS_PER_REPLACEMENT
