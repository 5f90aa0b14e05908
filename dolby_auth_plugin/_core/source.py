"""
The decider: hands out the token, renews it ahead of its end, replaces it when it was refused.

It owns the state and the only lock. Each fetch runs in a thread of its own, and whoever needs the token waits
for that fetch, be it a thread or a task: so there is one path for all, and no caller's death can hurt a fetch.
Nothing here waits, sends, logs, warns or starts a thread with the lock held.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Generator
from typing import Any

from .credentials import AppCredentials
from .endpoint import no_answer
from .errors import Failure, ScopeWarning, TokenError
from .fetch import Fetch, Fetcher, Wait, out_of_time
from .hosts import printable
from .refusals import Refusals
from .scope import missing
from .token import AccessToken, Instant

logger = logging.getLogger("dolby_auth_plugin")

# Seconds a failure is given to callers without asking again; longer, up to the second figure, when the
# endpoint says so itself (`Retry-After`).
_FAILURE_MEMORY, _FAILURE_MEMORY_MAX = 3.0, 10.0

# Doublings of the pause between failed renewals, which begins with the failure's own memory.
_RENEWAL_DOUBLINGS = 4

# Earlier tokens that are still recognised on a late 401: one more than a host may have replaced at once.
_RECOGNISED = 4

_NO_MARKS: frozenset[str] = frozenset()


class TokenSource:
    """
    Obtains, keeps, renews and replaces one token for any number of threads, tasks and event loops.

    Args:
        fetcher: How a token is asked for.
        error: The host library's `TokenError`.
    """

    __slots__ = (
        "__weakref__",
        "_earlier",
        "_error",
        "_failed_credentials",
        "_failure",
        "_failure_until",
        "_fetch",
        "_fetcher",
        "_lock",
        "_marks",
        "_monotonic",
        "_ready",
        "_refusals",
        "_renew_after",
        "_renewals_failed",
        "_scope_reported",
        "_token",
        "_unreported",
        "_wall",
    )

    def __init__(self, fetcher: Fetcher, error: type[TokenError]) -> None:
        self._fetcher = fetcher
        self._error = error
        # Kept at hand for `ready`.
        self._monotonic = fetcher.clock.monotonic
        self._wall = fetcher.clock.time
        # Re-entrant, since a signal handler may use the auth object in the very thread that it interrupted.
        self._lock = threading.RLock()
        self._token: AccessToken | None = None
        # The token while nothing stands against handing it out unseen: no mark, no warning to give.
        self._ready: AccessToken | None = None
        # See `has_issued`.
        self._earlier: tuple[int, ...] = ()
        # The hosts that refused the present token. To others it stays good until its replacement is there.
        self._marks = _NO_MARKS
        self._refusals = Refusals()
        self._fetch: Fetch | None = None
        self._failure: Failure | None = None
        self._failure_until = 0.0
        self._failed_credentials: AppCredentials | None = None
        self._renew_after: float | None = None
        self._renewals_failed = 0
        self._unreported: tuple[str, ...] = ()
        self._scope_reported = False
        _sources.add(self)

    def without_token(self) -> TokenSource:
        """A source of the same configuration that has obtained nothing yet."""
        return TokenSource(self._fetcher, self._error)

    def __reduce__(self) -> tuple[type[TokenSource], tuple[Any, ...]]:
        # Credentials travel, a token does not.
        return TokenSource, (self._fetcher, self._error)

    # What adapters call

    def ready(self) -> AccessToken | None:
        """The token if it can be had without a look at anything else: no lock and no wait, for every request."""
        token = self._ready
        if token is not None and self._monotonic() < token._renew_monotonic and self._wall() < token._renew_wall:
            return token
        return None

    def token(self, host: str | None = None, patience: float | None = None) -> AccessToken:
        """
        A good token, waiting for it in this thread if need be.

        Args:
            host: The `host:port` it is for; a token that this host refused won't do. None: one that no
                host refused.
            patience: Seconds this caller waits at most, if fewer than the source's own timeout.

        Raises:
            TokenError: If there is none to be had.
        """
        steps = self.steps(host, patience)
        while not isinstance(step := next(steps), AccessToken):
            step.block()
        return step

    def steps(self, host: str | None, patience: float | None) -> Generator[Wait | AccessToken, None, None]:
        """
        The way to a token: each `Wait` is to be waited for in the caller's own manner; the token comes last.

        Raises:
            TokenError: If there is none to be had.
        """
        if self._would_wait_for_itself():
            yield self._aside(host)
            return
        timeout = self._fetcher.timeout
        patience = timeout if patience is None else min(timeout, patience)
        give_up = self._monotonic() + patience
        joined: Fetch | None = None
        while True:
            now = Instant.now(self._fetcher.clock)
            fetch: Fetch | None = None
            try:
                with self._lock:
                    calls = self._disown_overdue(now.monotonic)
                    before = self._fetch
                    step = self._decide(host, joined, now)
                    fetch = self._fetch
                    unreported = self._report() if isinstance(step, AccessToken) else ()
                for call in calls:
                    call()
                if fetch is not None and fetch is not before:
                    self._start(fetch)
            except BaseException:
                self._abandon(fetch or self._fetch)
                raise
            if isinstance(step, Failure):
                raise self._error.of(step)
            if isinstance(step, AccessToken):
                if unreported:
                    warnings.warn(
                        f"Dolby.io did not grant {', '.join(map(repr, unreported))}: what needs it will be refused",
                        ScopeWarning,
                        stacklevel=2,
                    )
                yield step
                return
            if step.keep:
                # One that was invalidated is waited for (never two at once), but its token is not taken.
                joined = step
            if now.monotonic >= give_up:
                raise self._error.of(out_of_time(patience))
            yield Wait(step, min(give_up, step.deadline) - now.monotonic)

    # A token that was sent is named by the hash of its header: what is over need not stay in memory, and no
    # frame's locals show it.

    def has_issued(self, sent: int) -> bool:
        """Whether that was our token, or one of the last before it."""
        return self._is_present(sent) or sent in self._earlier

    def refuse(self, sent: int, host: str) -> bool:
        """
        Note that *host* answered a token that we issued with 401.

        Returns:
            Whether there is another token for it, or one will be obtained: False once the host has used up
            its allowance, and then the token stays.
        """
        with self._lock:
            if not self._is_present(sent):
                # Someone has replaced it already: a late 401 must not throw away the newer one.
                return True
            if self._fetch is None and host not in self._marks:
                if not self._refusals.spend(host, sent, self._monotonic()):
                    return False
            self._marks |= {host}
            self._publish()
        logger.debug("401 from %s: the token is being replaced", host)
        return True

    def accepted(self, host: str, refused: int) -> None:
        """Note that *host* accepted what replaced the token it had *refused*."""
        with self._lock:
            self._refusals.give_back(host, refused)

    def invalidate(self) -> None:
        """Forget the token and any remembered failure; a fetch under way serves its waiters and isn't kept."""
        with self._lock:
            self._shelve()
            self._token = None
            self._forget_failures()
            self._publish()
            if self._fetch is not None:
                self._fetch.keep = False

    # Signal handlers, which run in the thread that they interrupt

    def _would_wait_for_itself(self) -> bool:
        """Whether this thread has been interrupted while it held the lock, or was about to start or run the fetch."""
        fetch = self._fetch
        holds: bool = self._lock._is_owned()  # type: ignore[attr-defined] # as `threading` itself asks
        return holds or (fetch is not None and fetch.owner == threading.get_ident())

    def _aside(self, host: str | None) -> AccessToken:
        """The present token, or one that nobody else gets."""
        token = self._token
        if token is not None and self._is_good_for(host, token, Instant.now(self._fetcher.clock)):
            return token
        outcome: AppCredentials | AccessToken | Failure = self._fetcher.ask_credentials()
        if isinstance(outcome, AppCredentials):
            outcome = self._fetcher.obtain(outcome, self._monotonic() + self._fetcher.timeout)
        if isinstance(outcome, Failure):
            raise self._error.of(outcome)
        return outcome

    # Decisions, with the lock held

    def _decide(self, host: str | None, joined: Fetch | None, now: Instant) -> AccessToken | Failure | Fetch:
        """What a caller gets, or the fetch it has to wait for."""
        if joined is not None and joined.outcome is not None:
            return joined.outcome
        token = self._token
        if token is not None and self._is_good_for(host, token, now):
            if not token.is_fresh(now) and self._fetch is None and self._may_renew(now.monotonic):
                self._begin(now.monotonic, ahead=True)
            return token
        if self._fetch is not None:
            return self._fetch
        if self._failure is not None and now.monotonic < self._failure_until:
            # Whether a callable has other credentials by now can be told only by asking it, in a fetch.
            if self._failed_credentials is None or self._failed_credentials is self._fetcher.credentials:
                return self._failure
        return self._begin(now.monotonic, ahead=False)

    def _begin(self, now: float, *, ahead: bool) -> Fetch:
        self._fetch = Fetch(self._lock, now + self._fetcher.timeout, ahead=ahead)
        return self._fetch

    def _is_good_for(self, host: str | None, token: AccessToken, now: Instant) -> bool:
        marked = bool(self._marks) if host is None else host in self._marks
        return token.is_good(now) and not marked

    def _is_present(self, sent: int) -> bool:
        token = self._token
        return token is not None and hash(token._header) == sent

    def _may_renew(self, now: float) -> bool:
        return self._renew_after is None or now >= self._renew_after

    def _publish(self) -> None:
        self._ready = None if self._marks or self._unreported else self._token

    def _shelve(self) -> None:
        if self._token is not None:
            self._earlier = (hash(self._token._header), *self._earlier)[:_RECOGNISED]
        self._marks = _NO_MARKS

    def _forget_failures(self) -> None:
        self._failure = self._failed_credentials = self._renew_after = None
        self._renewals_failed = 0

    def _report(self) -> tuple[str, ...]:
        """The scopes to warn of, taken by the one caller who gets them."""
        unreported, self._unreported = self._unreported, ()
        if unreported:
            self._scope_reported = True
            self._publish()
        return unreported

    def _disown_overdue(self, now: float) -> list[Callable[[], None]]:
        """
        Give up a fetch that is past its deadline: its token, should it come, is dropped.

        One that began as a renewal has had nobody waiting from its start, and may have slept with a frozen
        process: who needs the token asks anew. Otherwise all who wait get the same failure.
        """
        fetch = self._fetch
        if fetch is None or now < fetch.deadline:
            return []
        failure = out_of_time(self._fetcher.timeout)
        if not fetch.ahead:
            return self._settle(fetch, failure)
        self._put_off_renewal(now, _FAILURE_MEMORY)
        self._fetch = None
        # A log's handlers are other people's code: not with the lock held.
        return [*fetch.end(None), lambda: _warn_of_renewal(failure)]

    def _settle(self, fetch: Fetch, outcome: AccessToken | Failure) -> list[Callable[[], None]]:
        """Keep the outcome, and end the fetch."""
        if fetch.keep:
            if isinstance(outcome, AccessToken):
                self._shelve()
                self._token = outcome
                self._forget_failures()
                if outcome.scope is not None and not self._scope_reported:
                    self._unreported = tuple(missing(self._fetcher.endpoint.scope, outcome.scope))
                self._publish()
            else:
                self._remember(outcome, fetch)
        if self._fetch is fetch:
            self._fetch = None
        return fetch.end(outcome)

    def _remember(self, failure: Failure, fetch: Fetch) -> None:
        now = self._monotonic()
        if failure is self._failure and now < self._failure_until:
            return  # handed on from memory, which makes it last no longer
        memory = min(max(_FAILURE_MEMORY, failure.retry_after or 0), _FAILURE_MEMORY_MAX)
        self._failure, self._failure_until = failure, now + memory
        self._failed_credentials = fetch.credentials
        if fetch.ahead:
            self._put_off_renewal(now, memory)

    def _put_off_renewal(self, now: float, pause: float) -> None:
        self._renew_after = now + pause * 2 ** min(self._renewals_failed, _RENEWAL_DOUBLINGS)
        self._renewals_failed += 1

    # Fetching

    def _start(self, fetch: Fetch) -> None:
        """Have the fetch run in a thread of its own."""
        thread = threading.Thread(target=self._run, args=(fetch,), name="dolby-auth-token", daemon=True)
        try:
            thread.start()
            fetch.owner = thread.ident
        except RuntimeError as error:
            if thread.ident is not None or thread in threading.enumerate():
                # It was started: a KeyboardInterrupt has broken off the wait for its first sign of life, and
                # Python made this of it.
                raise (error.__context__ or error) from None
            # No thread can be had: the interpreter shuts down, or a limit is reached. Who needs the token
            # fetches it himself; a renewal can wait.
            if not fetch.ahead:
                self._run(fetch, in_caller=True)
                return
            with self._lock:
                self._renew_after = self._monotonic() + _FAILURE_MEMORY
            self._abandon(fetch)

    def _abandon(self, fetch: Fetch | None) -> None:
        """
        Give up a fetch that this thread was to start, or to run itself, and has not.

        After a KeyboardInterrupt here, nobody must wait for it. If its thread comes to life after all, it
        finds that it is done.
        """
        with self._lock:
            if fetch is None or fetch.owner != threading.get_ident():
                return
            if self._fetch is fetch:
                self._fetch = None
            if not fetch.done:
                fetch.end(None)
        fetch.wake()

    def _run(self, fetch: Fetch, *, in_caller: bool = False) -> None:
        with self._lock:
            if fetch.done:
                return
            fetch.owner = threading.get_ident()
        began = Instant.now(self._fetcher.clock)
        outcome: AccessToken | Failure | None = None
        try:
            outcome = self._ask(fetch)
        except BaseException as error:
            if in_caller:
                raise
            # In a thread of its own nobody else would hear of it: those who wait would only ask again and again.
            outcome = no_answer(error, retryable=False)
        finally:
            with self._lock:
                had_one = self._token is not None
                disowned = fetch.done
                if outcome is None:
                    # A KeyboardInterrupt in a caller that fetches by itself: the others ask anew.
                    self._fetch = None if self._fetch is fetch else self._fetch
                    wakers = fetch.end(None)
                else:
                    wakers = [] if disowned else self._settle(fetch, outcome)
            for wake in wakers:
                wake()
        if disowned:
            return
        if isinstance(outcome, AccessToken):
            logger.info(
                "token %s: lives %.0f s, scopes %s, took %.3f s",
                "renewed" if had_one else "obtained",
                outcome.expires_at.timestamp() - began.wall,
                "not named" if outcome.scope is None else printable(" ".join(sorted(outcome.scope))) or "none",
                self._monotonic() - began.monotonic,
            )
        elif fetch.ahead:
            _warn_of_renewal(outcome)

    def _ask(self, fetch: Fetch) -> AccessToken | Failure:
        credentials = self._fetcher.ask_credentials()
        if isinstance(credentials, Failure):
            return credentials
        with self._lock:
            remembered = self._failure if self._monotonic() < self._failure_until else None
            if remembered is not None and not fetch.ahead and credentials == self._failed_credentials:
                return remembered
        fetch.credentials = credentials
        return self._fetcher.obtain(credentials, fetch.deadline)

    def _after_fork(self) -> None:
        # Only the forking thread lives on in the child: the lock may be held, and a fetch run, by one that does not.
        self._lock = threading.RLock()
        self._fetch = None


def _warn_of_renewal(failure: Failure) -> None:
    logger.warning("renewal failed, the present token is used to its end: %s", failure.message)


# What `os.register_at_fork` is given, it keeps for ever: so one function, and sources that may go.
_sources: weakref.WeakSet[TokenSource] = weakref.WeakSet()


def _after_fork() -> None:
    for source in _sources:
        source._after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)
