"""
How httpx and httpx2 send a token request: with a client that the user lends, or with a new one each time.
"""

from __future__ import annotations

import functools
import io
import os
import ssl
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from .._core.cutoff import Cutoff
from .._core.decoding import decoded
from .._core.endpoint import MAX_BODY, TokenRequest, TokenResponse
from .._core.errors import Failure
from .._core.failures import is_network_error, no_answer, no_ca_bundle
from .._core.forks import unforkable
from .._core.silence import silenced

_OWN_SETTINGS = (
    " The token request does not use your client, so the client's proxy and verify do not apply to it: set HTTPS_PROXY, NO_PROXY"
    " or SSL_CERT_FILE in the environment, or give a client with client=."
)
_LENT_SETTINGS = " The token request uses the proxy and verify of the client that you gave with client=."

# The libraries read these variables when they make a TLS context.
_CA_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


class HttpxSender:
    """
    Sends token requests.

    Args:
        client: The user's client, or None for clients of our own.
    """

    _library: Any

    __slots__ = ("_client",)

    def __init__(self, client: Any) -> None:
        self._client = client
        _import_all(self._library.HTTPTransport)

    def __call__(self, request: TokenRequest, seconds: float) -> TokenResponse | Failure:
        name = self._library.__name__
        # h2 and hpack speak HTTP/2, which a lent client may use.
        with silenced(name, name.replace("httpx", "httpcore"), "h2", "hpack"):
            if self._client is not None:
                return self._send(self._client, request, seconds, {})
            return self._send_with_new_client(request, seconds)

    def __reduce__(self) -> tuple[type[HttpxSender], tuple[None]]:
        if self._client is not None:
            raise TypeError("a DolbyAuth with client= can't be pickled: the client belongs to this process")
        return type(self), (None,)

    def _send_with_new_client(self, request: TokenRequest, seconds: float) -> TokenResponse | Failure:
        library = self._library
        is_https = request.url.startswith("https:")
        try:
            # Without TLS too, because the client would make one for each fetch.
            context = tls_context(library.create_ssl_context, is_https, *map(os.environ.get, _CA_VARIABLES))
        except OSError as error:
            return no_ca_bundle(error, " and ".join(_CA_VARIABLES))
        with library.Client(verify=context, trust_env=not request.is_plain) as client, Cutoff(seconds) as cutoff:

            def trace(_: str, info: dict[str, Any]) -> None:
                stream: Any = info.get("return_value")
                if hasattr(stream, "get_extra_info"):
                    # A connection was made, or TLS was started on it.
                    cutoff.watch(lambda: stream.get_extra_info("socket"))

            outcome = self._send(client, request, seconds, {"trace": trace})
            # A connection that is shut down gives different errors in different parts of the answer.
            return no_answer(TimeoutError(), retryable=True, settings=_OWN_SETTINGS) if cutoff.passed else outcome

    def _send(
        self, client: Any, request: TokenRequest, seconds: float, extensions: dict[str, Any]
    ) -> TokenResponse | Failure:
        library = self._library
        settings = _OWN_SETTINGS if self._client is None else _LENT_SETTINGS
        try:
            return _exchange(client, request, seconds, extensions)
        except library.HTTPStatusError as error:
            # An event hook of a lent client raised it for the status.
            answer = error.response
            return TokenResponse(answer.status_code, answer.headers.get("Retry-After"), b"")
        except library.TransportError as error:
            if not is_network_error(error, library.__name__):
                raise
            final = isinstance(error, (library.UnsupportedProtocol, library.LocalProtocolError))
            return no_answer(error, retryable=not final, settings=settings)
        except _TooSlowError as error:
            return no_answer(error, retryable=True, settings=settings)


class _TooSlowError(TimeoutError):
    """Each read of the answer was in time, the whole answer was not."""


def _exchange(client: Any, request: TokenRequest, seconds: float, extensions: dict[str, Any]) -> TokenResponse:
    until = time.monotonic() + seconds
    with client.stream(
        "POST",
        request.url,
        content=request.body,
        headers=request.headers,
        # The parameters of a lent client would replace those of the URL.
        params=type(client.params)(urlsplit(request.url).query) if client.params else None,
        # The auth of a lent client may be a DolbyAuth.
        auth=None,
        follow_redirects=False,
        timeout=seconds,
        extensions=extensions,
    ) as response:
        # Nothing here has a name: a traceback that shows local variables would show the headers.
        return TokenResponse(
            response.status_code,
            response.headers.get("Retry-After"),
            _body(response, until),
            response.headers.get("Date"),
        )


def _body(response: Any, until: float) -> bytes:
    """The decoded body, a little of what is beyond `MAX_BODY` included."""
    body = io.BytesIO()  # a traceback that shows local variables does not show its content
    # A hook or a mock of the user's may have read the body already.
    is_raw = not response.is_stream_consumed
    for _ in map(body.write, response.iter_raw() if is_raw else response.iter_bytes()):
        if body.tell() > MAX_BODY:
            break
        if time.monotonic() > until:
            raise _TooSlowError
    encoding = response.headers.get("Content-Encoding", "") if is_raw else ""
    return decoded(body.getvalue(), encoding, MAX_BODY + 1)


@functools.lru_cache(maxsize=2)
def _import_all(transport: Any) -> None:
    """
    Import what the library imports with its first transport, as the user's own client does.

    The first fetch would import it in its thread. A fork during that import would leave the child waiting for ever, because the
    thread that imports does not exist there.
    """
    import encodings.idna  # noqa: F401 - a socket needs it to look up a name

    transport(verify=False).close()


@functools.lru_cache(maxsize=4)
def tls_context(create: Callable[..., ssl.SSLContext], verify: bool, *_variables: str | None) -> ssl.SSLContext:
    """
    One TLS context for each library, with and without checks. Making one takes tens of milliseconds, and blocks all threads.

    Args:
        create: The library's function.
        verify: Whether it checks certificates, and so loads the CA bundle.
        _variables: What it reads from the environment. After a change, a new context is made.
    """
    with unforkable:
        return create(verify=verify)
