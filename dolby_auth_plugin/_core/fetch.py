"""
One fetch: asking the endpoint, again where that may help, and waking whoever waits for what comes of it.

All of it is synchronous and runs in a thread of its own. It knows no HTTP library: a *sender* of the host
library's sends the token request.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

from .credentials import AppCredentials, CredentialsSource
from .endpoint import TokenEndpoint, TokenRequest, TokenResponse, no_answer
from .errors import Failure
from .token import AccessToken, Clock, Instant

# Sends one token request, within about so many seconds; a Failure when no answer came.
Sender: TypeAlias = Callable[[TokenRequest, float], TokenResponse | Failure]

# Token requests of one fetch, and the share of the timeout that each may take: one silent server must not
# use up the time for the others.
_TRIES, _TRY_SHARE = 4, 1 / 3

# Seconds before the second try; doubled for each further one, and shortened by chance to as little as half,
# so that many processes don't come back together.
_FIRST_PAUSE = 0.5

# Held while a TLS context is made: OpenSSL has locks of its own, and a fork meanwhile would leave them held in the
# child for ever. So a fork waits, some tens of milliseconds once in a process's life.
unforkable = threading.RLock()

if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(
        before=unforkable.acquire, after_in_parent=unforkable.release, after_in_child=unforkable.release
    )


class Fetch:
    """
    A fetch under way or ended, and who is to be woken by its end. Its source's lock guards it.

    Attributes:
        deadline: When it is overdue, on the monotonic clock.
        ahead: Whether it renews a token that is still good, so that at first nobody waits for it.
        keep: Whether its outcome is to be kept; no longer so after `invalidate`.
        owner: The thread that is to start it, then the one that runs it.
        credentials: What it asks with, once known.
        outcome: None while it is under way, and for one that was disowned with nobody to tell.
    """

    __slots__ = (
        "_lock",
        "_wakers",
        "ahead",
        "credentials",
        "deadline",
        "done",
        "keep",
        "outcome",
        "owner",
    )

    def __init__(self, lock: threading.RLock, deadline: float, *, ahead: bool) -> None:
        self.deadline = deadline
        self.ahead = ahead
        self.keep = True
        self.owner: int | None = threading.get_ident()
        self.credentials: AppCredentials | None = None
        self.done = False
        self.outcome: AccessToken | Failure | None = None
        self._lock = lock
        # A dict, since thousands may come and go, each by itself.
        self._wakers: dict[Callable[[], None], None] = {}

    def end(self, outcome: AccessToken | Failure | None) -> list[Callable[[], None]]:
        """Note the outcome, with the lock held. Returns what to call as soon as it isn't any more."""
        self.done, self.outcome = True, outcome
        return [self.wake]

    def wake(self) -> None:
        """Wake all who wait. Done again, after a KeyboardInterrupt has broken it off, it does no harm."""
        for wake in tuple(self._wakers):
            wake()
        with self._lock:
            self._wakers.clear()

    @contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """While it lasts, the end of the fetch calls *wake*, from whatever thread; at once if it has ended."""
        with self._lock:
            if not self.done:
                self._wakers[wake] = None
        if self.done:
            wake()
        try:
            yield
        finally:
            with self._lock:
                self._wakers.pop(wake, None)


class Wait:
    """What a caller has to wait for: the end of *fetch*, at most *seconds*."""

    __slots__ = ("fetch", "seconds")

    def __init__(self, fetch: Fetch, seconds: float) -> None:
        self.fetch = fetch
        self.seconds = seconds

    def block(self) -> None:
        """Wait for it in this thread."""
        # A bare lock, whose release never waits and never fails. An Event has one of its own: who interrupts `wait`
        # while that is held, a signal handler or a KeyboardInterrupt, would do harm to the fetch's `set`.
        gate = threading.Lock()
        gate.acquire()

        def wake() -> None:
            with suppress(RuntimeError):  # called before
                gate.release()

        with self.fetch.waking(wake):
            gate.acquire(timeout=max(0.0, self.seconds))


class Fetcher:
    """
    How a token is asked for.

    Args:
        endpoint: What to send and how to read the answer.
        credentials: The app key and secret, or a callable that is asked for them before each token request.
        send: The host library's sender.
        timeout: Seconds for a whole fetch, and so the most that a caller waits.
        clock: The module `time`, or what stands in for it.
        chance: A number from 0 to 1, for whatever is spread by chance.
    """

    __slots__ = ("chance", "clock", "credentials", "endpoint", "send", "timeout")

    def __init__(
        self,
        endpoint: TokenEndpoint,
        credentials: AppCredentials | CredentialsSource,
        send: Sender,
        timeout: float = 30.0,
        *,
        clock: Clock = time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.endpoint = endpoint
        self.credentials = credentials
        self.send = send
        self.timeout = timeout
        self.clock = clock
        self.chance = chance

    def __reduce__(self) -> tuple[type[Fetcher], tuple[Any, ...]]:
        return Fetcher, (self.endpoint, self.credentials, self.send, self.timeout)

    def ask_credentials(self) -> AppCredentials | Failure:
        """
        The credentials to ask with.

        A user's callable may do whatever it likes here; its own words may hold a secret and are not told.
        """
        if isinstance(self.credentials, AppCredentials):
            return self.credentials
        try:
            credentials: object = self.credentials()
            if isinstance(credentials, AppCredentials):
                # Checked here: a subclass may have others by now than those it was made with.
                return AppCredentials(credentials.app_key, credentials.app_secret)
        except BaseException as error:  # noqa: BLE001 - in a thread of its own nobody else would hear of it
            said = f"raised {type(error).__name__}"
        else:
            said = f"returned {type(credentials).__name__}, not AppCredentials"
        return Failure(f"No app key and secret to ask with: credentials() {said}.", reason="no credentials")

    def obtain(self, credentials: AppCredentials, deadline: float) -> AccessToken | Failure:
        """A token, in as many tries as may help and fit before *deadline* (monotonic clock)."""
        try:
            return self._obtain(credentials, deadline)
        except BaseException as error:  # noqa: BLE001 - it is raised again
            # A KeyboardInterrupt in a caller that fetches by itself. The frames that it came through held the token
            # request and its answer, and whoever renders them would show those.
            error.__context__ = None
            raise error.with_traceback(None) from None

    def _obtain(self, credentials: AppCredentials, deadline: float) -> AccessToken | Failure:
        request = self.endpoint.request(credentials)
        outcome: AccessToken | Failure = out_of_time(self.timeout)
        tries_left, pause = _TRIES, _FIRST_PAUSE
        while (seconds_left := deadline - (asked_at := Instant.now(self.clock)).monotonic) > 0:
            tries_left -= 1
            outcome = self._try(request, credentials, asked_at, min(self.timeout * _TRY_SHARE, seconds_left))
            if isinstance(outcome, AccessToken) or not outcome.retryable or not tries_left:
                break
            wait = max(pause * (1 - self.chance() / 2), outcome.retry_after or 0)
            if self.clock.monotonic() + wait >= deadline:
                break
            self.clock.sleep(wait)
            pause *= 2
        return outcome

    def _try(
        self, request: TokenRequest, credentials: AppCredentials, asked_at: Instant, seconds: float
    ) -> AccessToken | Failure:
        try:
            response = self.send(request, seconds)
            if isinstance(response, Failure):
                return response
            return self.endpoint.read(response, credentials, asked_at, self.chance)
        except Exception as error:  # noqa: BLE001 - a lent client's hooks may raise anything
            # Also what nobody thought of: a fetch that ends without an outcome would be begun again at once.
            return no_answer(error, retryable=False)


def out_of_time(seconds: float) -> Failure:
    """The failure of who has waited *seconds* for a token."""
    return Failure(
        f"No token within {seconds:g} s: the token endpoint did not answer in time. Check the network, and the"
        " proxy settings in the environment.",
        reason="timed out",
        retryable=True,
    )
