"""
Runs the token's state: hands out the token, starts fetches, waits for them.

`TokenSource` has the only lock. A fetch runs in a thread of its own, and all threads and tasks wait for that fetch. So all
callers take the same path, and a caller that is cancelled or ends cannot stop a fetch. While the lock is held, nothing here
waits, sends, logs, warns or starts a thread.
"""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
import warnings
from collections.abc import Generator
from typing import Any

from .credentials import AppCredentials
from .errors import Failure, ScopeWarning, TokenError
from .failures import cannot_wait, code_error, out_of_time
from .fetch import Fetcher
from .forks import reset_in_children
from .records import Event, log, log_renewal_failure, log_token
from .state import Fetch, TokenState
from .token import AccessToken, Clock, Instant
from .wait import Wait, wake_callers


class TokenSource:
    """
    Obtains, keeps, renews and replaces one token for any number of threads, tasks and event loops.

    Attributes:
        fetcher: How a token is obtained.

    Args:
        error: The `TokenError` of the HTTP library.
    """

    __slots__ = ("__weakref__", "_error", "_lock", "_logged_refusal", "_monotonic", "_state", "_wall", "fetcher")

    def __init__(self, fetcher: Fetcher, error: type[TokenError]) -> None:
        self.fetcher = fetcher
        self._error = error
        # `ready` calls them for every request.
        self._monotonic = fetcher.clock.monotonic
        self._wall = fetcher.clock.time
        # Re-entrant: a signal handler may use the auth object in the thread that it interrupted.
        self._lock = threading.RLock()
        asks_credentials = not isinstance(fetcher.credentials, AppCredentials)
        self._state = TokenState(
            fetcher.endpoint.scope,
            fetcher.timeout,
            asks_credentials=asks_credentials,
            is_shared=fetcher.shared is not None,
        )
        # The fingerprint of the last refused token, and whether it is replaced. Each is logged once.
        self._logged_refusal: tuple[int, bool] | None = None
        reset_in_children(self)

    def without_token(self) -> TokenSource:
        """A source of the same configuration that has obtained nothing yet."""
        return TokenSource(self.fetcher, self._error)

    def __reduce__(self) -> tuple[type[TokenSource], tuple[Any, ...]]:
        # Credentials are pickled. A token is not.
        return TokenSource, (self.fetcher, self._error)

    # Called by the adapters

    def ready(self) -> AccessToken | None:
        """The token, if it is fresh and no decision is needed. Called for every request, so it takes no lock."""
        token, renew_monotonic, renew_wall = self._state.ready
        # Python calls a local faster than a slot.
        monotonic, wall = self._monotonic, self._wall
        return token if monotonic() < renew_monotonic and wall() < renew_wall else None

    def token(self, host: str | None = None, timeout: float | None = None) -> AccessToken:
        """
        A good token. Waits in this thread if necessary.

        Args:
            host: The `host:port` that the token is for. None: a token that no host refused.
            timeout: Seconds that this caller waits at most, if shorter than the source's own timeout.

        Raises:
            TokenError: If no token can be obtained.
        """
        steps = self.steps(host, timeout)
        while isinstance(step := next(steps), Wait):
            step.in_thread()
        return step

    def steps(self, host: str | None, timeout: float | None) -> Generator[Wait | AccessToken, None, None]:
        """
        The steps to a token. The caller does each `Wait` in its own way; the last step is the token.

        Raises:
            TokenError: If no token can be obtained.
        """
        if self._would_wait_for_itself():
            yield self._without_waiting(host)
            return
        timeout = self.fetcher.timeout if timeout is None else min(self.fetcher.timeout, timeout)
        give_up_at = self._monotonic() + timeout
        joined: Fetch | None = None
        while True:
            now = Instant.now(self.fetcher.clock)
            step = self._step(host, joined, now)
            if isinstance(step, AccessToken):
                yield step
                return
            if not step.is_discarded:
                # Callers that come after `invalidate` wait for the discarded fetch too, so that never two run at once. But its
                # outcome is not for them.
                joined = step
            if now.monotonic >= give_up_at:
                raise self._error.of(out_of_time(timeout, sent=step.credentials is not None))
            yield Wait(step, min(give_up_at, step.deadline) - now.monotonic)

    def refuse(self, fingerprint: int, host: str, *, in_caller: bool = False) -> bool:
        """
        Note that *host* answered 401 to the token with this fingerprint.

        With *in_caller*, the replacement is fetched here, in the calling thread, unless a fetch runs already. Then no try begins
        after the timeout, but the caller waits for the last one.

        Returns:
            Whether the request can be sent again with the token that `token` gives. False: the token stays.
        """
        in_caller = in_caller and not self._would_wait_for_itself()
        begun: Fetch | None = None
        try:
            with self._lock:
                now = Instant.now(self.fetcher.clock)
                resend = self._state.refuse(fingerprint, host, now)
                if resend and in_caller:
                    self._state.decide(host, None, now)
                    begun = self._take_begun_fetch()
            if begun is not None:
                self._start(begun, in_caller=True)
        except BaseException:
            self._give_up(begun)
            raise
        refusal = (fingerprint, resend)
        if refusal != self._logged_refusal:
            # Remember first: the log handler may send a request, which may be refused too.
            self._logged_refusal = refusal
            event: Event = "token_replaced" if resend else "token_kept"
            message = "401 from %s: the token %s"
            log(logging.DEBUG, event, message, host, "is replaced" if resend else "stays", host=host)
        return resend

    def invalidate(self) -> None:
        """Forget the token and any remembered failure. A fetch that runs serves its callers, and its token is not kept."""
        with self._lock:
            self._state.invalidate(Instant.now(self.fetcher.clock))

    def join_fetch(self, seconds: float) -> None:
        """Wait for the thread of the fetch that runs, if one does. A process that ends does not wait for it."""
        fetch = self._state.fetch
        for thread in threading.enumerate():
            if fetch is not None and fetch.runner == thread.ident:
                thread.join(seconds)

    # A caller that can't wait

    def _would_wait_for_itself(self) -> bool:
        """
        Whether this thread holds the lock, or is the one that starts or runs the fetch.

        It is then a signal handler that interrupted that work, or a credentials callable that asks its own auth object.
        """
        fetch = self._state.fetch
        starts_or_runs = fetch is not None and not fetch.ended and fetch.runner == threading.get_ident()
        holds: bool = self._lock._is_owned()  # type: ignore[attr-defined] # noqa: SLF001 - the only way to ask an RLock
        return holds or starts_or_runs

    def _without_waiting(self, host: str | None) -> AccessToken:
        token = self._state.token
        if token is not None and self._state.is_good_for(host, Instant.now(self.fetcher.clock)):
            return token
        raise self._error.of(cannot_wait())

    # One step of a caller

    def _step(self, host: str | None, joined: Fetch | None, now: Instant) -> AccessToken | Fetch:
        """The token for a caller, or the fetch that it waits for; starts a fetch that the state has begun."""
        begun: Fetch | None = None
        try:
            with self._lock:
                overdue = self._state.end_overdue(now)
                step = self._state.decide(host, joined, now)
                unreported = self._state.take_unreported_scopes() if isinstance(step, AccessToken) else ()
                begun = self._take_begun_fetch()
            if overdue is not None:
                wake_callers(overdue)
            if begun is not None:
                self._start(begun)
        except BaseException:
            self._give_up(begun or self._state.fetch)
            raise
        if overdue is not None and overdue.is_renewal and not overdue.is_discarded:
            # Log after the start: the log handler may need a token, and would wait for a fetch that nobody starts.
            log_renewal_failure(out_of_time(self.fetcher.timeout, sent=overdue.credentials is not None))
        if isinstance(step, Failure):
            raise self._error.of(step)
        if unreported:
            names = ", ".join(map(repr, unreported))
            warnings.warn(
                f"Dolby.io did not grant {names}: requests that need it will be refused", ScopeWarning, stacklevel=4
            )
        return step

    def _take_begun_fetch(self) -> Fetch | None:
        """The fetch that no thread has taken yet. From now on this thread is to start it."""
        fetch = self._state.fetch
        if fetch is None or fetch.runner is not None:
            return None
        fetch.runner = threading.get_ident()
        return fetch

    # Fetches

    def _start(self, fetch: Fetch, *, in_caller: bool = False) -> None:
        """Run *fetch* in a thread of its own; or in this one, if the caller wants that and needs the token."""
        if in_caller and not fetch.is_renewal:
            self._run(fetch, in_caller=True)
            return
        # A credentials callable, or a tool that traces requests, may need the caller's context variables.
        context = contextvars.copy_context()
        if (sniffio := sys.modules.get("sniffio")) is not None:
            # The caller may run an event loop. The thread does not, so a callable may start one.
            context.run(sniffio.current_async_library_cvar.set, None)
        thread = threading.Thread(target=context.run, args=(self._run, fetch), name="dolby-auth-token", daemon=True)
        try:
            thread.start()
            fetch.runner = thread.ident
        except RuntimeError as error:
            if thread.ident is not None or thread in threading.enumerate():
                # The thread runs. A KeyboardInterrupt ended `Thread.start` too early, and Python turned it into a RuntimeError.
                raise (error.__context__ or error) from None
            self._run_without_thread(fetch)

    def _run_without_thread(self, fetch: Fetch) -> None:
        """No thread can be started: at shutdown, or at a limit. The caller fetches itself, or the renewal is postponed."""
        if not fetch.is_renewal:
            self._run(fetch, in_caller=True)
            return
        with self._lock:
            self._state.postpone_renewal(Instant.now(self.fetcher.clock))
        self._give_up(fetch)

    def _give_up(self, fetch: Fetch | None) -> None:
        """
        End a fetch that this thread should have started or run, and did not.

        After a KeyboardInterrupt, no caller may wait for this fetch. A thread of it that starts later does nothing.
        """
        with self._lock:
            # Under the lock, because the fetch's thread may take it at this moment.
            if fetch is None or fetch.runner != threading.get_ident():
                return
            self._state.settle(fetch, None, Instant.now(self.fetcher.clock))
        wake_callers(fetch)

    def _run(self, fetch: Fetch, *, in_caller: bool = False) -> None:
        with self._lock:
            if fetch.ended:
                self._state.settle(fetch, None, Instant.now(self.fetcher.clock))
                return
            fetch.runner = threading.get_ident()
        began = Instant.now(self.fetcher.clock)
        outcome: AccessToken | Failure | None = None
        try:
            outcome = self._obtain(fetch)
        except BaseException as error:  # noqa: BLE001 - reported as an outcome, or raised again
            if in_caller and not isinstance(error, Exception):
                # A KeyboardInterrupt: the other callers ask again. The frames that it passed hold the token request and its answer,
                # and a rendering of their locals would show both.
                error.__context__ = None
                raise error.with_traceback(None) from None
            # Every fetch needs an outcome. Without one, its callers would all ask again, and again.
            outcome = code_error(error, "The code that obtains the token")
        finally:
            self._end(fetch, outcome, began)

    def _obtain(self, fetch: Fetch) -> AccessToken | Failure | None:
        credentials = self.fetcher.ask_credentials()
        if isinstance(credentials, Failure):
            return credentials
        with self._lock:
            failure = self._state.use_credentials(fetch, credentials, Instant.now(self.fetcher.clock))
        return failure or self.fetcher.obtain(credentials, _Terms(fetch, self._state, self._lock, self.fetcher.clock))

    def _end(self, fetch: Fetch, outcome: AccessToken | Failure | None, began: Instant) -> None:
        """Record the outcome, wake the callers, log."""
        with self._lock:
            now = Instant.now(self.fetcher.clock)
            too_late = fetch.ended
            before = self._state.token
            self._state.settle(fetch, outcome, now)
        wake_callers(fetch)
        if too_late:
            return
        if isinstance(fetch.outcome, AccessToken) and fetch.outcome is not before:
            event: Event = "token_found" if fetch.is_found else "token_renewed" if before else "token_obtained"
            log_token(fetch.outcome, event, began, now)
        elif isinstance(fetch.outcome, Failure) and fetch.is_renewal and not fetch.is_discarded:
            log_renewal_failure(fetch.outcome)

    def reset_after_fork(self) -> None:
        """In a child, only the forking thread lives: another one may have held the lock, or run the fetch."""
        self._lock = threading.RLock()
        self._state.reset_after_fork()


class _Terms:
    """The terms of one fetch: the state's answers, asked with the lock."""

    __slots__ = ("_clock", "_fetch", "_lock", "_state", "deadline", "since")

    def __init__(self, fetch: Fetch, state: TokenState, lock: threading.RLock, clock: Clock) -> None:
        self._fetch, self._state, self._lock, self._clock = fetch, state, lock, clock
        self.deadline = fetch.deadline
        # The clock may have been set back since. Then this fetch would not even see what it stores itself.
        self.since = min(state.invalidated_at, clock.time())

    def accepts(self, token: AccessToken) -> bool:
        with self._lock:
            is_accepted = self._state.accepts(token, Instant.now(self._clock))
            self._fetch.is_found = is_accepted and token.asked_at >= self.since
        return self._fetch.is_found

    def is_replacing(self) -> bool:
        with self._lock:
            return self._state.is_replacing(self._fetch, Instant.now(self._clock))

    def charge(self) -> bool:
        with self._lock:
            return self._state.charge(Instant.now(self._clock))

    def present(self) -> AccessToken | None:
        with self._lock:
            return self._state.good_token(Instant.now(self._clock))
