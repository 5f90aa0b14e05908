"""
`DolbyAuth` for httpx2: an `httpx2.Auth`, for `httpx2.Client` and `httpx2.AsyncClient` (asyncio and trio).

    client = httpx2.Client(auth=DolbyAuth())
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

from ._core.auth import choose_cache, missing_library, wrong_library
from ._core.credentials import AppCredentials, CredentialsSource, choose
from ._core.endpoint import DEFAULT_EXPIRES_IN
from ._core.errors import TokenError as _TokenError
from ._httpx.auth import HttpxAuth
from ._httpx.resend import RefusedBody
from ._httpx.sender import HttpxSender

if TYPE_CHECKING:
    from .caches.protocol import TokenCache

try:
    import httpx2
except ImportError:
    raise missing_library("httpx2") from None

__all__ = ["DolbyAuth", "TokenError"]


class TokenError(_TokenError, httpx2.RequestError):
    """No token could be obtained. It is also an `httpx2.RequestError`. The fields are those of the base class."""


class _Sender(HttpxSender):
    _library = httpx2

    __slots__ = ()


class _RefusedBody(RefusedBody, httpx2.SyncByteStream, httpx2.AsyncByteStream):
    _library = httpx2


class DolbyAuth(HttpxAuth, httpx2.Auth):
    """
    Authenticates requests to Dolby.io with an API token: obtains it, keeps it, renews it and replaces it.

    Create one and keep it: all users of this object share its token, from any number of threads, tasks and event loops (asyncio
    and trio). Only requests to *allowed_hosts* get the token. Other requests pass unchanged.

    Args:
        app_key: The "App key" of the Dolby.io dashboard: the OAuth client id. None: from the environment,
            `DOLBYIO_APP_KEY`, else `APP_KEY`.
        app_secret: The "App secret": the OAuth client secret. None: `DOLBYIO_APP_SECRET`, else `APP_SECRET`.
        credentials: An `AppCredentials` instead of the two above; or for vaults and rotation a function without arguments that
            returns one. It is called each time a token is obtained, before the first try, in a thread of its own that has the
            context variables of the caller.
        scope: What the token may do: one scope, several in a string or an iterable, or `"comms:*"`. None: an unrestricted
            token. See `Scope`.
        expires_in: The lifetime to ask for, in seconds or as a timedelta, 1 to 86,400 s. The lifetime in the answer is used.
        token_url: The token endpoint: https, or http on loopback. None: `DOLBYIO_TOKEN_URL`, else Dolby.io's.
        allowed_hosts: The hosts that may get the token: names (port 443), `name:port`, `*.example.com`. None:
            `DOLBYIO_ALLOWED_HOSTS`, separated by commas, else `DOLBY_HOSTS`.
        cache: A store through which processes or machines share one token: `FileTokenCache`, `RedisTokenCache`, or one of your own,
            see `TokenCache`. None: only the users of this object share its token.
        timeout: Seconds that a call waits for a token at most, all tries included. A request's own connect and read timeouts,
            added up, shorten its wait.
        client: A sync client that sends the token requests (proxies, CA, mocks). It is used as it is. None: a client of our own,
            which follows the proxies and the CA bundle of the environment.

    Raises:
        ValueError: If an argument is malformed or out of range, or the environment has no credentials.
        TypeError: If an argument has the wrong type.

    A call that needs a token and can't get one raises `TokenError`, which is an `httpx2.RequestError`.
    """

    _library = httpx2
    _error = TokenError
    _lent = ("client", httpx2.Client)
    _sender = _Sender
    _refused_body = _RefusedBody

    def __init__(
        self,
        app_key: str | None = None,
        app_secret: str | None = None,
        *,
        credentials: CredentialsSource | AppCredentials | None = None,
        scope: str | Iterable[str] | None = None,
        expires_in: int | timedelta = DEFAULT_EXPIRES_IN,
        token_url: str | None = None,
        allowed_hosts: Iterable[str] | None = None,
        cache: TokenCache | None = None,
        timeout: float = 30.0,
        client: httpx2.Client | None = None,
    ) -> None:
        self._chosen = choose(app_key, app_secret, credentials)
        self._chosen_cache = choose_cache(cache)
        # A traceback that shows local variables must not show a secret. People paste it into app_key too, and a URL into cache.
        del app_key, app_secret, credentials, cache
        self._set_up(
            scope=scope,
            expires_in=expires_in,
            token_url=token_url,
            allowed_hosts=allowed_hosts,
            timeout=timeout,
            lent=client,
        )

    def __call__(self, request: httpx2.Request) -> NoReturn:
        """
        Never called by httpx2, which uses the auth flows. Other libraries call any callable that is their auth.

        Raises:
            TypeError: Always.
        """
        raise wrong_library(request, "httpx2")
