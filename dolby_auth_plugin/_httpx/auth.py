"""
What the adapters of httpx and of httpx2 share; they have the same API. Nothing here imports either: an adapter
hands in its library as `_host`.

An auth object is a generator to them: it yields a request, is given the final response (after redirects), and may
yield another. A token request is never yielded: it would show in the caller's event hooks and `history`, and
its failure could not be caught here. Sync and async flow differ by how they wait for the token.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator
from contextlib import aclosing, suppress
from datetime import timedelta
from typing import Any

from .._core.auth import BaseAuth, wrong_host
from .._core.credentials import CredentialsSource, choose
from .._core.endpoint import DEFAULT_EXPIRES_IN, DEFAULT_TOKEN_URL
from .._core.errors import TokenError
from .._core.hosts import DOLBY_HOSTS
from .._core.refusals import is_acceptance
from .._core.token import AccessToken
from .sender import FamilySender, import_all
from .waiting import pause

# Bytes and seconds for reading a refused response's body, see `RefusedBody`.
_DRAIN_BYTES, _DRAIN_SECONDS = 1 << 16, 5.0

# As the library will dial it: scheme, `raw_host` (`host` would decode an xn-- name), port.
Origin = tuple[str, bytes, int | None]


class FamilyAuth(BaseAuth[Origin]):
    """
    Authenticates requests to Dolby.io with an API token: obtained, kept, renewed and replaced by itself.

    Make one and keep it: the token is shared by all that use this object, from any number of threads, tasks and
    event loops (asyncio and trio). It goes to no other hosts than *allowed_hosts*; other requests pass untouched.

    Args:
        app_key: The "App key" of the Dolby.io dashboard: the OAuth client id. None: from the environment,
            `DOLBYIO_APP_KEY`, else `APP_KEY`.
        app_secret: The "App secret". None: `DOLBYIO_APP_SECRET`, else `APP_SECRET`.
        credentials: Called before each token request for an `AppCredentials`, in place of the two above: for
            vaults and rotation. It runs in a thread of its own.
        scope: What the token may do: one scope, several in a string or an iterable, `"comms:*"`; None for an
            unrestricted token. See `Scope`.
        expires_in: Lifetime to ask for, in seconds or as a timedelta, 1 to 86,400 s. The answer's own rules.
        token_url: The token endpoint; https, or http on loopback.
        allowed_hosts: Who may have the token: names (https's own port), `name:port`, `*.example.com`.
        timeout: Seconds a call waits for a token at most, all tries included. A request's own connect and read
            timeouts, added up, shorten its wait.
        client: A sync client made for sending token requests (proxies, CA, mocks), used as it is. None: our
            own, which follows the environment's proxies and CA bundle.

    Raises:
        ValueError: If an argument is malformed or out of range, or the environment has no credentials.
        TypeError: If one is of the wrong type.

    A call that needs a token and can't get one raises `TokenError`, a `RequestError` of the library.
    """

    _host: Any
    _sender: type[FamilySender]
    _refused_body: type[RefusedBody]
    _error: type[TokenError]

    # Scheme, host and port that may have the token whatever the path, as found last; and their `host:port`.
    _cleared: tuple[str, bytes, int | None, str] | tuple[None, None, None, None] = (None, None, None, None)

    def __init__(
        self,
        app_key: str | None = None,
        app_secret: str | None = None,
        *,
        credentials: CredentialsSource | None = None,
        scope: str | Iterable[str] | None = None,
        expires_in: int | timedelta = DEFAULT_EXPIRES_IN,
        token_url: str = DEFAULT_TOKEN_URL,
        allowed_hosts: Iterable[str] = DOLBY_HOSTS,
        timeout: float = 30.0,
        client: Any = None,
    ) -> None:
        chosen = choose(app_key, app_secret, credentials)
        # A rendering of this frame's locals must not show it.
        del app_secret
        name = self._host.__name__
        if client is not None and not isinstance(client, self._host.Client):
            raise TypeError(
                f"client must be an {name}.Client, got {type(client).__name__}: token requests are sent from threads"
            )
        import_all(self._host.HTTPTransport)
        self._set_up(
            chosen,
            scope=scope,
            expires_in=expires_in,
            token_url=token_url,
            allowed_hosts=allowed_hosts,
            timeout=timeout,
            host_library=f"{name}/{self._host.__version__}",
            send=self._sender(client),
            read_origin=_dialled,
            error=self._error,
        )

    def token(self) -> AccessToken:
        """
        A good token, waiting for it in this thread if need be: for other SDKs, and for warming up.

        Raises:
            TokenError: If there is none to be had.
        """
        return self._obtain(None, None)

    async def atoken(self) -> AccessToken:
        """
        A good token, waiting for it in this task if need be (asyncio or trio).

        Raises:
            TokenError: If there is none to be had.
        """
        return await self._aobtain(None, None)

    def __call__(self, request: object) -> Any:
        # The libraries take any callable as auth, each other's auth objects among them.
        raise wrong_host(request, self._host.__name__)

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """Authorize *request*, if it goes to an allowed host. Called by the client."""
        url, source = request.url, self._source
        # `_authority` and `TokenSource.ready`, without the calls.
        scheme, raw_host, port, host = self._cleared
        if url.scheme != scheme or url.raw_host != raw_host or url.port != port:
            host = self._authority(request)
            if host is None:
                yield request
                return
        token, monotonic, wall = source._ready, source._monotonic, source._wall
        if token is None or monotonic() >= token._renew_monotonic or wall() >= token._renew_wall:
            token = self._obtain(host, request)
        request.headers["Authorization"] = token._header
        try:
            response = yield request
        except GeneratorExit as closing:
            # An event hook may have raised for the status before this flow could see it.
            self._look_at(closing.__context__, token)
            raise
        if response.status_code != 401:
            return
        host = self._may_retry(response, token)
        if host is None:
            return
        before = self._let_go(response)
        fresh = self._obtain(host, response.request)
        again = yield self._renewed(response, fresh)
        self._note_retry(again, host, token, before)

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """Authorize *request*, if it goes to an allowed host. Called by the client."""
        url, source = request.url, self._source
        scheme, raw_host, port, host = self._cleared
        if url.scheme != scheme or url.raw_host != raw_host or url.port != port:
            host = self._authority(request)
            if host is None:
                yield request
                return
        token, monotonic, wall = source._ready, source._monotonic, source._wall
        if token is None or monotonic() >= token._renew_monotonic or wall() >= token._renew_wall:
            token = await self._aobtain(host, request)
        request.headers["Authorization"] = token._header
        response = None
        try:  # noqa: SIM105 - every request's way, which `suppress` would lengthen
            response = yield request
        except GeneratorExit:
            pass
        if response is None:
            # As above; but here what the client is handling shows only once the `except` block has ended.
            self._look_at(sys.exception(), token)
            return
        if response.status_code != 401:
            return
        host = self._may_retry(response, token)
        if host is None:
            return
        before = self._let_go(response)
        fresh = await self._aobtain(host, response.request)
        again = yield self._renewed(response, fresh)
        self._note_retry(again, host, token, before)

    def _authority(self, request: Any) -> str | None:
        """The `host:port` to which this request may carry the token, or None."""
        url = request.url
        host, guarded = self._verdicts[(url.scheme, url.raw_host, url.port)]
        if guarded:
            policy, target = self._verdicts.policy, _target(request)
            return None if policy.resembles_token_path(target) and policy.is_token_path(_path(target)) else host
        if host is not None:
            self._cleared = (url.scheme, url.raw_host, url.port, host)
        return host

    def _obtain(self, host: str | None, request: Any) -> AccessToken:
        try:
            return self._source.token(host, _patience(request))
        except TokenError as error:
            error.request = self._bare(request)
            raise

    async def _aobtain(self, host: str | None, request: Any) -> AccessToken:
        steps = self._source.steps(host, _patience(request))
        try:
            while not isinstance(step := next(steps), AccessToken):
                await pause(step)
        except TokenError as error:
            error.request = self._bare(request)
            raise
        return step

    def _bare(self, request: Any) -> Any:
        """A copy to be carried by an error: without credentials and body."""
        if request is None:
            return self._host.Request("POST", self._token_url)
        headers = request.headers.copy()
        headers.pop("Authorization", None)
        return self._host.Request(request.method, request.url, headers=headers)

    def _may_retry(self, response: Any, token: AccessToken) -> str | None:
        """
        The host to which the refused request can be sent again with another token, or None.

        Notes the refusal, so that where it can't, the next request has another token.
        """
        request = response.request
        host = self._authority(request)
        if host is None:
            return None
        if "Authorization" not in request.headers:
            # The client took it off on the way here. Only straight from one allowed host to another may it come back.
            if not all(self._authority(hop.request) for hop in response.history):
                return None
        elif not self._carried(token, request) or not self._source.refuse(hash(token._header), host):
            return None
        return host if self._can_be_sent_again(request) else None

    @staticmethod
    def _carried(token: AccessToken, request: Any) -> bool:
        return bool(request.headers.get("Authorization") == token._header)

    def _can_be_sent_again(self, request: Any) -> bool:
        stream = request.stream
        if isinstance(stream, self._host.ByteStream):
            return True
        # Multipart, whose class has no public name: the library rewinds each file to its beginning, where the
        # file lets it. One that has another size by now would break the protocol.
        multipart = type(self._host.Request("POST", request.url, files={"a": b""}).stream)
        return (
            isinstance(stream, multipart)
            and all(_rewound(getattr(field, "file", b"")) for field in stream.fields)
            and stream.get_headers().get("Content-Length") == request.headers.get("Content-Length")
        )

    def _let_go(self, response: Any) -> list[Any]:
        """
        Make the refused response safe for the client, which reads it whole before it sends the retry.

        Returns the redirects that led to it, which the client forgets when an auth flow sends again.
        """
        response.stream = self._refused_body(response)
        return list(response.history)

    def _renewed(self, response: Any, token: AccessToken) -> Any:
        """The request that was refused, with another token and the cookies that came with the refusal."""
        request = response.request
        # `history` keeps it as it was refused.
        response.request = self._host.Request(
            request.method, request.url, headers=request.headers, stream=request.stream, extensions=request.extensions
        )
        request.headers["Authorization"] = token._header
        cookies = self._host.Cookies()
        # Not `response.cookies`: that would stay on the response, which could be pickled no more.
        cookies.extract_cookies(response)
        if cookies:
            probe = self._host.Request("GET", request.url)
            cookies.set_cookie_header(probe)
            pairs = "; ".join(filter(None, (request.headers.get("Cookie"), probe.headers.get("Cookie")))).split("; ")
            # Of two with one name the later, which is the refusal's.
            request.headers["Cookie"] = "; ".join({pair.partition("=")[0]: pair for pair in pairs}.values())
        return request

    def _note_retry(self, again: Any, host: str, refused: AccessToken, before: list[Any]) -> None:
        again.history = [*before, *again.history]
        if is_acceptance(again.status_code):
            self._source.accepted(host, hash(refused._header))

    def _look_at(self, error: BaseException | None, token: AccessToken) -> None:
        """Note a 401 that an event hook raised before the flow saw it: this call is lost, the next ones needn't be."""
        if isinstance(error, self._host.HTTPStatusError) and error.response.status_code == 401:
            request = error.response.request
            host = self._authority(request)
            if host is not None and self._carried(token, request):
                self._source.refuse(hash(token._header), host)


class RefusedBody:
    """
    The body of a refused response, read without harm to the retry: broken or endless, it just ends.

    A body that can't be decoded counts as empty; the client would raise for it.
    """

    _host: Any

    def __init__(self, response: Any) -> None:
        self._headers = response.headers
        self._stream = response.stream
        self._until = time.monotonic() + _DRAIN_SECONDS

    @property
    def elapsed(self) -> Any:
        # httpx2 keeps a response's `elapsed` here.
        return self._stream.elapsed

    def __iter__(self) -> Iterator[bytes]:
        body = bytearray()
        with suppress(Exception):
            for chunk in self._stream:
                body += chunk
                if self._is_enough(body):
                    break
        yield self._decodable(bytes(body))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body = bytearray()
        with suppress(Exception):
            async with aclosing(aiter(self._stream)) as stream:
                async for chunk in stream:
                    body += chunk
                    if self._is_enough(body):
                        # Not left at once: the library's own generators inside would stay suspended, which trio
                        # warns of. On a closed connection they end by themselves.
                        await self._stream.aclose()
                    if len(body) > 4 * _DRAIN_BYTES:
                        break
        yield self._decodable(bytes(body))

    def close(self) -> None:
        with suppress(Exception):
            self._stream.close()

    async def aclose(self) -> None:
        with suppress(Exception):
            await self._stream.aclose()

    def _is_enough(self, body: bytearray) -> bool:
        return len(body) > _DRAIN_BYTES or time.monotonic() > self._until

    def _decodable(self, body: bytes) -> bytes:
        try:
            self._host.Response(401, headers=self._headers, content=body)
        except self._host.DecodingError:
            return b""
        return body


def _dialled(origin: Origin) -> tuple[str, str, int | None]:
    scheme, host, port = origin
    # To the library's connections 0 is no port, as None is.
    return scheme, host.decode("ascii"), port or None


def _target(request: Any) -> str:
    """What stands on the request line, which an extension may set to another than the URL's path and query."""
    target: bytes | str = request.extensions.get("target", request.url.raw_path)
    return target.decode("ascii", "replace") if isinstance(target, bytes) else target


def _path(target: str) -> str:
    # As to a proxy, the whole URL may stand there.
    return re.split("[?#]", re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*", "", target))[0]


def _patience(request: Any) -> float | None:
    """Seconds this request would wait for its own server, or None where that has no bound."""
    timeout = request.extensions.get("timeout", {}) if request is not None else {}
    connect, read = timeout.get("connect"), timeout.get("read")
    return None if connect is None or read is None else connect + read


def _rewound(file: Any) -> bool:
    if isinstance(file, str | bytes):
        return True
    try:
        if not file.seekable():
            return False
        # Not every file goes where it is told.
        file.seek(0)
        return bool(file.tell() == 0)
    except Exception:  # noqa: BLE001 - no file in full, or a closed one; a caller's own may raise anything
        return False
