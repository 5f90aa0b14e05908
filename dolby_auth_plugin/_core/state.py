"""
Decides what a caller gets, and when a token is fetched.

`TokenState` is pure: no lock, thread, clock, log, warning or I/O is in this module. `TokenSource` holds the lock, supplies the
time, and runs the fetches that the state begins. So a test can try every order of events.

The life of a token, on two clocks:

    issued ─────────────────── renewal opens ─────────────── expired
             fresh:                           good:                      callers wait
             handed out by                    handed out; one renewal    for a fetch
             `ready`, without a lock          runs and nobody waits

A host that answers 401 *refuses* the token. The token is then marked, not dropped: a request to that host waits for the
replacement, and other hosts get the token until the replacement is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from .backoff import Backoff
from .credentials import AppCredentials
from .errors import Failure
from .failures import expired_on_arrival, out_of_time
from .refusals import Allowance
from .scope import missing
from .token import AccessToken, Instant

# A token that so many hosts refused counts as refused by all: a wildcard allows any number of hosts, and none of them is forgotten.
_MAX_HOSTS = 64

# Seconds between two looks into a shared cache after refusals, where the first one has changed nothing.
_LOOK_AGAIN = 1.0

_NEVER = float("-inf")
_NO_HOSTS: frozenset[str] = frozenset()

# A token, and when its renewal opens: monotonic and wall clock.
Ready: TypeAlias = tuple[AccessToken | None, float, float]
_NOTHING_READY: Ready = (None, _NEVER, _NEVER)


class Fetch:
    """
    One fetch of a token, and the callers that wait for its end.

    It needs no lock. A caller registers in `waiters` and then looks at `ended`; the end is recorded before anyone is
    woken. So no caller misses it.

    Attributes:
        deadline: The monotonic time at which callers stop waiting for it.
        is_renewal: It replaces a token that is still good, so no caller waited for it when it began.
        is_found: Its token comes from the cache: another process has obtained it.
        is_discarded: `invalidate` was called: its callers get the outcome, and nothing of it is kept.
        credentials: The credentials it uses, once known.
        ended: Set after `outcome`, never before.
        outcome: A token, a failure, or None: then its callers ask again.
        waiters: Functions to call at the end, in no order.
        runner: The thread that is to start it, then the one that runs it; None until a thread takes it.
    """

    __slots__ = (
        "credentials",
        "deadline",
        "ended",
        "is_discarded",
        "is_found",
        "is_renewal",
        "outcome",
        "runner",
        "waiters",
    )

    def __init__(self, deadline: float, *, is_renewal: bool) -> None:
        self.deadline = deadline
        self.is_renewal = is_renewal
        self.is_found = False
        self.is_discarded = False
        self.credentials: AppCredentials | None = None
        self.ended = False
        self.outcome: AccessToken | Failure | None = None
        # A dict, because a list would be searched for each waiter that leaves, among ten thousand.
        self.waiters: dict[Callable[[], None], None] = {}
        self.runner: int | None = None


class TokenState:
    """
    Everything that an auth object knows about its token. The caller of a method holds a lock.

    Args:
        scope: The scopes asked for.
        timeout: Seconds that a fetch may take.
        asks_credentials: A callable gives the credentials, so they may change from fetch to fetch.
        is_shared: Other processes share the token. Only a fetch can tell whether one of them has replaced it already.
    """

    __slots__ = (
        "_allowance",
        "_backoff",
        "_dropped",
        "_is_charged",
        "_is_shared",
        "_next_look",
        "_refused_by",
        "_scope",
        "_scope_reported",
        "_timeout",
        "_unreported",
        "fetch",
        "invalidated_at",
        "ready",
        "token",
    )

    def __init__(
        self, scope: tuple[str, ...], timeout: float, *, asks_credentials: bool, is_shared: bool = False
    ) -> None:
        self._scope = scope
        self._timeout = timeout
        self._is_shared = is_shared
        self.token: AccessToken | None = None
        # The token while it can be handed out without a decision: no host refused it, and no warning is due.
        self.ready = _NOTHING_READY
        # The fetch that runs, or that a caller is about to start. There is never a second one.
        self.fetch: Fetch | None = None
        # The hosts that refused the present token, and whether the allowance was charged for it.
        self._refused_by = _NO_HOSTS
        self._is_charged = False
        self._allowance = Allowance()
        # The monotonic time before which no refusal causes a look into the cache: the last one has changed nothing.
        self._next_look = _NEVER
        # The token that `invalidate` dropped last, and when, by the wall clock.
        self._dropped: int | None = None
        self.invalidated_at = _NEVER
        self._backoff = Backoff(asks_credentials=asks_credentials)
        # Scopes that were not granted. They are reported once in the life of an auth object.
        self._unreported: tuple[str, ...] = ()
        self._scope_reported = False

    # A caller needs a token

    def decide(self, host: str | None, joined: Fetch | None, now: Instant) -> AccessToken | Failure | Fetch:
        """
        The token that a caller gets, the failure it gets, or the fetch that it waits for.

        Args:
            host: The `host:port` that the token is for. None: the caller does not say, and takes only a token that no host
                refused.
            joined: The fetch that this caller has waited for.
            now: The present time.
        """
        outcome = self._from_joined(joined, now)
        if outcome is not None:
            return outcome
        token = self.token
        if token is not None and self.is_good_for(host, now):
            if not token.is_fresh(now) and self.fetch is None and self._backoff.may_renew(now):
                self._begin(now, is_renewal=True)
            return token
        if self.fetch is not None:
            return self.fetch
        return self._backoff.instead_of_fetch(now) or self._begin(now, is_renewal=False)

    def is_good_for(self, host: str | None, now: Instant) -> bool:
        """Whether the token may be sent to *host*: it has not expired, and the host has not refused it."""
        if self.good_token(now) is None:
            return False
        if host is None:
            return not self._refused_by
        return host not in self._refused_by and len(self._refused_by) < _MAX_HOSTS

    def take_unreported_scopes(self) -> tuple[str, ...]:
        """The scopes that were asked for and not granted. Only one caller gets them, to warn of them."""
        unreported, self._unreported = self._unreported, ()
        if unreported:
            self._scope_reported = True
            self._update_ready()
        return unreported

    def _from_joined(self, joined: Fetch | None, now: Instant) -> AccessToken | Failure | None:
        """The outcome of a fetch that is for the callers that waited, and for nobody else."""
        if joined is None or joined.outcome is None:
            return None
        if isinstance(joined.outcome, Failure):
            return joined.outcome
        # Otherwise this token is the present one, or something has changed since: decide again.
        return joined.outcome if joined.is_discarded and joined.outcome.is_good(now) else None

    def _begin(self, now: Instant, *, is_renewal: bool) -> Fetch:
        self._backoff.begin(now)
        self.fetch = Fetch(now.monotonic + self._timeout, is_renewal=is_renewal)
        return self.fetch

    # A fetch runs, and ends

    def use_credentials(self, fetch: Fetch, credentials: AppCredentials, now: Instant) -> Failure | None:
        """
        Note the credentials of *fetch*, before it asks the endpoint.

        Returns:
            The failure with which it ends at once: the same credentials have just failed.
        """
        failure = self._backoff.failure_of(credentials, now)
        if failure is None:
            fetch.credentials = credentials
        return failure

    def accepts(self, token: AccessToken, now: Instant) -> bool:
        """Whether a fetch may end with a token that another process has obtained."""
        known = (self._dropped, None if self.token is None else self.token.fingerprint)
        return token.is_good(now) and token.fingerprint not in known

    def is_replacing(self, fetch: Fetch, now: Instant) -> bool:
        """Whether *fetch* would replace a good token, and only because it was refused. The allowance pays for that."""
        return not fetch.is_renewal and self.good_token(now) is not None

    def charge(self, now: Instant) -> bool:
        """Pay for the replacement of the present token, once. False: the allowance is used up."""
        self._is_charged = self._is_charged or self._allowance.spend(now.monotonic)
        return self._is_charged

    def good_token(self, now: Instant) -> AccessToken | None:
        """The token, unless it has expired, whoever has refused it."""
        return self.token if self.token is not None and self.token.is_good(now) else None

    def settle(self, fetch: Fetch, outcome: AccessToken | Failure | None, now: Instant) -> None:
        """
        Record how *fetch* ended. The caller then wakes the waiters.

        Args:
            fetch: If it has ended already because it was overdue, the outcome is dropped. Its thread ends now.
            outcome: A new token; the present token, if it stays; a failure; None if the fetch was given up.
            now: The present time.
        """
        if fetch.ended:
            self._backoff.remove_overdue(fetch)
            return
        if isinstance(outcome, AccessToken) and not outcome.is_good(now):
            outcome = expired_on_arrival()
        if not fetch.is_discarded:
            if isinstance(outcome, AccessToken):
                self._keep(outcome, fetch, now)
            elif outcome is not None:
                self._backoff.remember(outcome, fetch.credentials, now, is_renewal=fetch.is_renewal)
        # In this order, a KeyboardInterrupt in between leaves no ended fetch that callers would join.
        if self.fetch is fetch:
            self._forget_fetch()
        fetch.outcome = outcome
        fetch.ended = True

    def end_overdue(self, now: Instant) -> Fetch | None:
        """
        End the fetch whose deadline has passed, and return it. A token that still arrives is dropped.

        Callers that waited for a renewal ask again: the renewal may have slept in a frozen process, which is not a failure. All
        callers of another fetch get the same failure.
        """
        fetch = self.fetch
        if fetch is None or now.monotonic < fetch.deadline:
            return None
        if fetch.is_renewal:
            self._backoff.postpone_renewal(now)
            self.settle(fetch, None, now)
        else:
            self.settle(fetch, out_of_time(self._timeout, sent=fetch.credentials is not None), now)
        self._backoff.add_overdue(fetch)
        return fetch

    def postpone_renewal(self, now: Instant) -> None:
        """Begin no renewal for some seconds: this one could not be started."""
        self._backoff.postpone_renewal(now)

    def reset_after_fork(self) -> None:
        """This is a forked child, where no thread of a fetch exists."""
        self._backoff.forget_overdue()
        self._forget_fetch()

    def _forget_fetch(self) -> None:
        self.fetch = None
        if not self._is_charged and not self._is_shared:
            # The allowance was used up, and requests waited for this fetch. Without a new token, they get the old one.
            self._refused_by = _NO_HOSTS
            self._update_ready()

    def _keep(self, token: AccessToken, fetch: Fetch, now: Instant) -> None:
        if token is not self.token:
            if token.scope is not None and not self._scope_reported:
                self._unreported = tuple(missing(self._scope, token.scope))
            self._backoff.forget()
            if self._is_shared and self._refused_by:
                # Another process may have replaced the token. That counts here too.
                self.charge(now)
        else:
            self._next_look = now.monotonic + _LOOK_AGAIN
            if fetch.is_renewal:
                # Without a pause, every caller would begin the next renewal.
                self._backoff.postpone_renewal(now)
        self.token = token
        self._refused_by = _NO_HOSTS
        self._is_charged = False
        self._update_ready()

    # A host refuses a token, or a user drops it

    def refuse(self, fingerprint: int, host: str, now: Instant) -> bool:
        """
        Note that *host* answered 401 to the token with this fingerprint.

        Returns:
            Whether the request can be sent again: with a token that has replaced this one, or will. False: the allowance is
            used up, and the token stays.
        """
        token = self.token
        if token is None or token.fingerprint != fingerprint:
            # The host refused an earlier token. The present one stays unmarked.
            return True
        if not self._may_replace(now) and self.fetch is None:
            return False
        if len(self._refused_by) < _MAX_HOSTS:
            self._refused_by |= {host}
        self._update_ready()
        return True

    def _may_replace(self, now: Instant) -> bool:
        # A look into a cache costs nothing. The fetch charges the allowance if it asks the endpoint.
        return now.monotonic >= self._next_look if self._is_shared else self.charge(now)

    def invalidate(self, now: Instant) -> None:
        """Forget the token and any failure. A fetch that runs serves its callers, and nothing of it is kept."""
        self._dropped = None if self.token is None else self.token.fingerprint
        self.invalidated_at = now.wall
        self.token = None
        self._refused_by = _NO_HOSTS
        self._is_charged = False
        self._backoff.forget()
        self._update_ready()
        if self.fetch is not None:
            self.fetch.is_discarded = True

    def _update_ready(self) -> None:
        token = self.token
        if token is None or self._refused_by or self._unreported:
            self.ready = _NOTHING_READY
        else:
            self.ready = (token, *token.renew_at)
