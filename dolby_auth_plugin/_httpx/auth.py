"""
The auth flow that the adapters of httpx and httpx2 share: both libraries have the same API. Nothing here imports either.

For the client, an auth object is a generator. It yields a request, gets the final response (after redirects), and may yield
another request. A token request is never yielded: it would show in the user's event hooks and in `history`, and its failure could
not be caught here. The sync and the async flow differ only in how they wait for the token.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Generator
from typing import Any, ClassVar

from .._core.auth import BaseAuth
from .._core.errors import TokenError
from .._core.hosts import Origin
from .._core.records import log_not_resent
from .._core.token import AccessToken
from .resend import RefusedBody, take_cookies, why_not_resendable
from .waiting import obtained


class HttpxAuth(BaseAuth):
    """The base of `DolbyAuth` for httpx and httpx2."""

    _refused_body: ClassVar[type[RefusedBody]]
    _memory = "_last_allowed"

    # The origin that was allowed last, whatever the path, and its `host:port`. Comparing with it takes half the time of a look-up.
    _last_allowed: tuple[str, bytes, int | None, str] | tuple[None, None, None, None] = (None, None, None, None)

    def token(self) -> AccessToken:
        """
        A good token, for other SDKs or to have it before the first request. Waits in this thread if necessary.

        Raises:
            TokenError: If no token can be obtained.
        """
        return self._obtain(None, None)

    async def atoken(self) -> AccessToken:
        """
        A good token, for other SDKs or to have it before the first request. Waits in this task if necessary (asyncio or trio).

        Raises:
            TokenError: If no token can be obtained.
        """
        return await self._aobtain(None, None)

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """Authorize *request*, if it goes to an allowed host. Called by the client."""
        url = request.url
        scheme, raw_host, port, host = self._last_allowed
        if url.scheme != scheme or url.raw_host != raw_host or url.port != port:
            host = self._allowed_host(request)
            if host is None:
                self._explain((yield request))
                return
        token = self._source.ready() or self._obtain(host, request)
        request.headers["Authorization"] = token.authorization
        try:
            response = yield request
        except GeneratorExit as closing:
            # An event hook may have raised an error for the status, before this flow could see the response.
            self._note_raised_refusal(closing.__context__, token)
            raise
        if response.status_code == 401:
            host = self._host_to_resend_to(response, token)
            if host is not None:
                replacement = self._obtain(host, response.request)
                if not (replacement is token and _carries(response.request, token)):
                    before = list(response.history)
                    again = yield self._resend(response, replacement)
                    # The client forgets the redirects when an auth flow sends again.
                    again.history = [*before, *again.history]

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """Authorize *request*, if it goes to an allowed host. Called by the client."""
        url = request.url
        scheme, raw_host, port, host = self._last_allowed
        if url.scheme != scheme or url.raw_host != raw_host or url.port != port:
            host = self._allowed_host(request)
            if host is None:
                self._explain((yield request))
                return
        token = self._source.ready() or await self._aobtain(host, request)
        request.headers["Authorization"] = token.authorization
        response = None
        try:  # noqa: SIM105 - `suppress` would slow down every request
            response = yield request
        except GeneratorExit:
            pass
        if response is None:
            # As in the sync flow. Here the client's error shows only after the `except` block has ended.
            self._note_raised_refusal(sys.exception(), token)
            return
        if response.status_code == 401:
            host = self._host_to_resend_to(response, token)
            if host is not None:
                replacement = await self._aobtain(host, response.request)
                if not (replacement is token and _carries(response.request, token)):
                    before = list(response.history)
                    again = yield self._resend(response, replacement)
                    again.history = [*before, *again.history]

    def _explain(self, response: Any) -> None:
        """Explain a 401 to a request that got no token. The answer to a redirect needs no explanation."""
        request = response.request
        if response.status_code == 401 and not response.history and "Authorization" not in request.headers:
            self._origins.explain(_origin(request.url), _target(request))

    def _allowed_host(self, request: Any) -> str | None:
        """The `host:port` to which this request may carry the token, or None."""
        url = request.url
        origin = _origin(url)
        host = self._origins.allowed_host(origin, _target(request))
        if host is not None and not self._origins.path_matters(origin):
            self._last_allowed = (url.scheme, url.raw_host, url.port, host)
        return host

    def _obtain(self, host: str | None, request: Any) -> AccessToken:
        try:
            return self._source.token(host, _timeout(request))
        except TokenError as error:
            error.request = self._without_secrets(request)
            raise

    async def _aobtain(self, host: str | None, request: Any) -> AccessToken:
        try:
            return await obtained(self._source, host, _timeout(request))
        except TokenError as error:
            error.request = self._without_secrets(request)
            raise

    def _without_secrets(self, request: Any) -> Any:
        """A copy for an error to carry: without credentials and body."""
        if request is None:
            return self._library.Request("POST", self._source.fetcher.endpoint.shown_url)
        headers = request.headers.copy()
        headers.pop("Authorization", None)
        return self._library.Request(request.method, request.url, headers=headers)

    def _host_to_resend_to(self, response: Any, token: AccessToken) -> str | None:
        """
        The host to which the refused request can be sent again, or None.

        Notes the refusal even if this request can't be sent again: then the next one gets another token.
        """
        request = response.request
        host = self._allowed_host(request)
        if host is None:
            return None
        if "Authorization" not in request.headers:
            # The client removed it on a redirect. It may be set again only if every hop went to an allowed host.
            if not all(self._allowed_host(hop.request) for hop in response.history):
                return None
        elif not _carries(request, token) or not self._source.refuse(token.fingerprint, host):
            return None
        why_not = why_not_resendable(self._library, request)
        if why_not is not None:
            log_not_resent(host, why_not)
            return None
        return host

    def _resend(self, response: Any, token: AccessToken) -> Any:
        """The refused request, with another token and the cookies of the refusal."""
        request = response.request
        response.stream = self._refused_body(response)
        # `history` shows the request as it was refused.
        response.request = self._library.Request(
            request.method, request.url, headers=request.headers, stream=request.stream, extensions=request.extensions
        )
        request.headers["Authorization"] = token.authorization
        take_cookies(self._library, request, response)
        return request

    def _note_raised_refusal(self, error: BaseException | None, token: AccessToken) -> None:
        """Note a 401 for which an event hook raised an error. That call fails, but the next one gets another token."""
        if isinstance(error, self._library.HTTPStatusError) and error.response.status_code == 401:
            request = error.response.request
            host = self._allowed_host(request)
            if host is not None and _carries(request, token):
                self._source.refuse(token.fingerprint, host)


def _carries(request: Any, token: AccessToken) -> bool:
    return bool(request.headers.get("Authorization") == token.authorization)


def _origin(url: Any) -> Origin:
    # The libraries dial `raw_host`; `host` would decode an xn-- name. They treat port 0 as no port.
    return url.scheme, url.raw_host.decode("ascii"), url.port or None


def _target(request: Any) -> str:
    """The text on the request line. An extension may set another one than the URL's path and query."""
    target: bytes | str = request.extensions.get("target", request.url.raw_path)
    return target.decode("ascii", "replace") if isinstance(target, bytes) else target


def _timeout(request: Any) -> float | None:
    """Seconds that this request would wait for its own server, or None if it would wait for ever."""
    timeout = request.extensions.get("timeout", {}) if request is not None else {}
    connect, read = timeout.get("connect"), timeout.get("read")
    return None if connect is None or read is None else connect + read
