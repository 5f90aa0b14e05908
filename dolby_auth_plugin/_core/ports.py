"""
The protocols that a fetch relies on: a store for its entry, and terms. For type checkers only: nothing imports this at run time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from .credentials import AppCredentials
from .entry import Entry
from .token import AccessToken, Clock, Instant


class EntryStore(Protocol):
    """
    Where one fetch keeps its entry. Its methods raise nothing: in trouble, they go on without the other processes.

    Attributes:
        spread: Seconds. Chance adds so much at most to the wait for the next try, because many processes may wait for it.
    """

    spread: float

    def time(self, now: Instant) -> float:
        """*now* on the clock of the entry's times."""
        ...

    def load(self, now: Instant) -> Entry:
        """The present entry."""
        ...

    def store(self, entry: Entry, now: Instant) -> None:
        """Replace the entry."""
        ...

    def lock(self, seconds: float) -> AbstractContextManager[bool]:
        """
        A context manager that yields whether this process may make a try.

        After *seconds*, another process may make one, and this one stores nothing more.
        """
        ...


class SharedEntries(Protocol):
    """The entries that the processes of many machines share, one for each pair of credentials."""

    def open(
        self, credentials: AppCredentials, since: float, clock: Clock, chance: Callable[[], float]
    ) -> AbstractContextManager[EntryStore]:
        """
        The entry for *credentials*, for one fetch.

        Args:
            credentials: The app key and secret of the fetch.
            since: What was stored before this time is ignored (wall clock).
            clock: The clock of the fetch.
            chance: Returns a random number from 0 to 1.
        """
        ...


class Terms(Protocol):
    """
    The terms of one fetch. Its answers may change while it runs: the user may invalidate the token, a host may refuse it.

    Attributes:
        deadline: When it ends (monotonic clock).
        since: What other processes stored before this time is ignored (wall clock).
    """

    deadline: float
    since: float

    def accepts(self, token: AccessToken) -> bool:
        """Whether a token from the entry may be taken."""
        ...

    def is_replacing(self) -> bool:
        """Whether it replaces a token that is good, but was refused. The allowance pays for that."""
        ...

    def charge(self) -> bool:
        """Pay for the replacement with the allowance of this process. False: it is used up."""
        ...

    def present(self) -> AccessToken | None:
        """The token that stays if it is not replaced."""
        ...
