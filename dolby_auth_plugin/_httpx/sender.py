"""
How the adapters of httpx and of httpx2 send a token request. Nothing here imports either.
"""

from __future__ import annotations

import functools
import io
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from .._core.cutoff import Cutoff
from .._core.endpoint import MAX_BODY, TokenRequest, TokenResponse, no_answer
from .._core.errors import Failure
from .._core.fetch import unforkable
from .._core.hush import hushed


class FamilySender:
    """Sends token requests: with a lent client, or one of its own for each."""

    _host: Any

    __slots__ = ("_client",)

    def __init__(self, client: Any) -> None:
        self._client = client

    def __call__(self, request: TokenRequest, seconds: float) -> TokenResponse | Failure:
        name = self._host.__name__
        # The last two are HTTP/2's, which a lent client may speak.
        with hushed(name, name.replace("httpx", "httpcore"), "h2", "hpack"):
            return self._post(request, seconds)

    def _post(self, request: TokenRequest, seconds: float) -> TokenResponse | Failure:
        host = self._host
        if self._client is not None:
            return self._send(self._client, request, seconds, {})
        context = _tls_context(host.create_ssl_context)
        with host.Client(verify=context, trust_env=not request.is_plain) as client, Cutoff(seconds) as cutoff:

            def trace(_: str, info: dict[str, Any]) -> None:
                stream: Any = info.get("return_value")
                if hasattr(stream, "get_extra_info"):
                    # It has connected, or put TLS on a connection.
                    cutoff.watch(lambda: stream.get_extra_info("socket"))

            outcome = self._send(client, request, seconds, {"trace": trace})
            # What a connection that was shut looks like depends on where in the answer that was.
            return no_answer(TimeoutError(), retryable=True) if cutoff.over else outcome

    def _send(
        self, client: Any, request: TokenRequest, seconds: float, extensions: dict[str, Any]
    ) -> TokenResponse | Failure:
        host = self._host
        try:
            return _post(client, request, seconds, host.DecodingError, extensions)
        except host.HTTPStatusError as error:
            # A lent client's event hook raised for the status.
            answer = error.response
            return TokenResponse(answer.status_code, answer.headers.get("Retry-After"), b"")
        except host.TransportError as error:
            return no_answer(
                error, retryable=not isinstance(error, (host.UnsupportedProtocol, host.LocalProtocolError))
            )
        except _TooSlowError as error:
            return no_answer(error, retryable=True)

    def __reduce__(self) -> tuple[type[FamilySender], tuple[None]]:
        if self._client is not None:
            raise TypeError("a DolbyAuth with client= can't be pickled: the client belongs to this process")
        return type(self), (None,)


class _TooSlowError(TimeoutError):
    """The answer dripped in: each read was in time, the whole was not."""


def _post(
    client: Any, request: TokenRequest, seconds: float, undecodable: type[Exception], extensions: dict[str, Any]
) -> TokenResponse:
    until = time.monotonic() + seconds
    with client.stream(
        "POST",
        request.url,
        content=request.body,
        headers=request.headers,
        # A lent client's own would take the place of the URL's.
        params=type(client.params)(urlsplit(request.url).query) if client.params else None,
        # Not the lent client's own: it may be a DolbyAuth.
        auth=None,
        follow_redirects=False,
        timeout=seconds,
        extensions=extensions,
    ) as response:
        body = io.BytesIO()  # shows nothing of it in a rendering of this frame's locals
        # A body that can't be decoded says nothing, but its status does.
        with suppress(undecodable):
            for _ in map(body.write, response.iter_bytes()):
                if body.tell() > MAX_BODY:
                    break
                if time.monotonic() > until:
                    raise _TooSlowError
        return TokenResponse(response.status_code, response.headers.get("Retry-After"), body.getvalue())


@functools.lru_cache(maxsize=2)
def import_all(transport: Any) -> None:
    """
    Import what the library imports with its first transport, as the caller's own client does.

    Left to the first fetch, in its thread, a fork meanwhile would leave the child waiting for ever at these imports:
    who imports in a thread that is gone can't end it.
    """
    import encodings.idna  # noqa: F401 - a socket's look-up needs it

    transport(verify=False).close()


@functools.lru_cache(maxsize=2)
def _tls_context(create: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """One for the process and library: making one takes tens of milliseconds, and holds up all threads."""
    with unforkable:
        return create()
