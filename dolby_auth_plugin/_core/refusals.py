"""
Who may have a token replaced, and how often. Pure: the caller holds the lock and brings the time.

A revoked token must be replaced at once; an API that refuses every token must not cause a token request
per call. Both look alike from here, a 401, so each host gets an allowance, and gets back what it spent on
a replacement that it then accepts.
"""

from __future__ import annotations

from collections import OrderedDict


class _Account:
    __slots__ = ("credit", "since", "spent_on")

    def __init__(self, credit: float, since: float) -> None:
        self.credit = credit
        self.since = since
        # What the latest replacement was for, see `spend`.
        self.spent_on: int | None = None


def is_acceptance(status: int) -> bool:
    """
    Whether an answer to a retry shows that the token was taken.

    A host that refuses, and answers the retry with "later" or an error of its own, has taken nothing.
    """
    return status < 500 and status not in (401, 429)


class Refusals:
    """The allowance of each host: three replacements, and one more per minute."""

    CREDIT = 3.0
    # Replacements per second.
    REFILL = 1 / 60
    # Hosts remembered, the least recently used go first. A forgotten host starts anew.
    LIMIT = 64

    __slots__ = ("_accounts",)

    def __init__(self) -> None:
        self._accounts: OrderedDict[str, _Account] | None = None

    def spend(self, host: str, refused: int, now: float) -> bool:
        """
        Whether *host* may have a token replaced; if so, one of its replacements is spent.

        *refused* is the token's hash: an account must not keep the token itself in memory.
        """
        if self._accounts is None:
            # Made when first needed: most auth objects never see a 401.
            self._accounts = OrderedDict()
        account = self._accounts.setdefault(host, _Account(self.CREDIT, now))
        self._accounts.move_to_end(host)
        if len(self._accounts) > self.LIMIT:
            self._accounts.popitem(last=False)
        account.credit = min(self.CREDIT, account.credit + (now - account.since) * self.REFILL)
        account.since = now
        if account.credit < 1:
            return False
        account.credit -= 1
        account.spent_on = refused
        return True

    def give_back(self, host: str, refused: int) -> None:
        """*host* accepted what replaced the *refused* one: it gets back what it spent on that, once."""
        account = self._accounts.get(host) if self._accounts else None
        if account is not None and account.spent_on == refused:
            account.credit = min(self.CREDIT, account.credit + 1)
            account.spent_on = None
