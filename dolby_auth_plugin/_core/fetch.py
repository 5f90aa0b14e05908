"""
Obtains one token: asks for the credentials, sends the token request, and tries again where that may help.

All of it is synchronous. It knows no HTTP library: a *sender* sends the token request.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, TypeAlias

from .credentials import AppCredentials, CredentialsSource
from .endpoint import TokenEndpoint, TokenRequest, TokenResponse
from .errors import Failure
from .failures import code_error, expired_on_arrival, no_answer, out_of_time
from .token import AccessToken, Clock, Instant

# Sends one token request, and takes at most about the given seconds. A Failure means that no answer came.
Sender: TypeAlias = Callable[[TokenRequest, float], TokenResponse | Failure]

# Token requests of one fetch, and the share of the timeout that each may take: one silent server must leave time for more tries.
_TRIES, _TRY_SHARE = 4, 1 / 3

# Seconds before the second try. The pause doubles for each further try, and chance shortens it to as little as half, so that
# many processes don't retry at the same moment.
_FIRST_PAUSE = 0.5


class Fetcher:
    """
    How a token is obtained.

    Args:
        endpoint: What to send, and how to read the answer.
        credentials: The app key and secret, or a callable that is asked for them once per fetch.
        send: The sender of the HTTP library.
        timeout: Seconds for a whole fetch, and so the most that a caller waits.
        clock: The module `time`, or a stand-in.
        chance: Returns a random number from 0 to 1.
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
        """The credentials for one fetch."""
        if isinstance(self.credentials, AppCredentials):
            return self.credentials
        try:
            credentials: object = self.credentials()
            if isinstance(credentials, AppCredentials):
                # A subclass may have changed since it was made. Check what is sent.
                return AppCredentials(credentials.app_key, credentials.app_secret)
        except BaseException as error:  # noqa: BLE001 - this thread has no caller that could catch a SystemExit
            return code_error(error, "No app key and secret: credentials()", reason="no credentials")
        return Failure(
            f"No app key and secret: credentials() returned {type(credentials).__name__}, not AppCredentials.",
            reason="no credentials",
        )

    def obtain(self, credentials: AppCredentials, deadline: float) -> AccessToken | Failure:
        """A token, in as many tries as may help and fit before *deadline* (monotonic clock)."""
        request = self.endpoint.request(credentials)
        outcome: AccessToken | Failure = out_of_time(self.timeout, sent=False)
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
            outcome = self.endpoint.read(response, credentials, asked_at, self.chance)
        except (ConnectionError, TimeoutError) as error:
            # A transport of the user's may raise Python's own network errors.
            return no_answer(error, retryable=False)
        except Exception as error:  # noqa: BLE001 - hooks of a lent client may raise anything
            # Every fetch needs an outcome. Without one, each caller would start it again at once.
            return code_error(error, "The code that sends the token request")
        if isinstance(outcome, AccessToken) and not outcome.is_good(Instant.now(self.clock)):
            # The machine was suspended meanwhile, or the token lives shorter than the answer takes.
            return expired_on_arrival()
        return outcome
