"""
`DolbyAuth` for requests: a `requests.auth.AuthBase`.

    session = requests.Session()
    session.auth = DolbyAuth()

requests calls an auth object once for each prepared request, and lets it register a response hook. The hook
stays on the request through redirects, so it also sees the answers of hosts that are none of ours.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from urllib.parse import urljoin, urlsplit

from ._core.auth import BaseAuth, missing_host, wrong_host
from ._core.credentials import CredentialsSource, choose
from ._core.endpoint import DEFAULT_EXPIRES_IN, DEFAULT_TOKEN_URL
from ._core.errors import TokenError as _TokenError
from ._core.hosts import DOLBY_HOSTS
from ._core.refusals import is_acceptance
from ._core.token import AccessToken

try:
    import requests
except ImportError:
    raise missing_host("requests") from None

import urllib3
from requests.__version__ import __version__ as _requests_version
from requests.auth import AuthBase
from requests.cookies import extract_cookies_to_jar
from requests.structures import CaseInsensitiveDict
from requests.utils import rewind_body, super_len

from ._requests.sender import RequestsSender

__all__ = ["DolbyAuth", "TokenError"]

# Bytes and seconds for reading a refused response's body, so that its connection can be used again and the
# body be looked at in `history`. Past that the connection is closed instead.
_DRAIN_BYTES, _DRAIN_SECONDS = 1 << 16, 5.0

# Beginnings of URLs that `__call__` looks for before it asks `_authority`; most users have one or two hosts.
_CLEARED = 8


class TokenError(_TokenError, requests.RequestException):
    """No token could be obtained; a `requests.RequestException` too. The fields are the base class's."""


class DolbyAuth(BaseAuth[str], AuthBase):
    """
    Authenticates requests to Dolby.io with an API token: obtained, kept, renewed and replaced by itself.

    Make one and keep it: the token is shared by all that use this object, from any number of threads. It goes
    to no other hosts than *allowed_hosts*; other requests pass untouched.

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
        timeout: Seconds a call waits for a token at most, all tries included.
        session: A session made for sending token requests (proxies, CA, mocks), used as it is. None: our own,
            which follows the environment's proxies and CA bundle.

    Raises:
        ValueError: If an argument is malformed or out of range, or the environment has no credentials.
        TypeError: If one is of the wrong type.

    A call that needs a token and can't get one raises `TokenError`, a `requests.RequestException`.
    """

    # How URLs begin that may carry the token, whatever comes behind.
    _cleared: tuple[str, ...] = ()

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
        session: requests.Session | None = None,
    ) -> None:
        chosen = choose(app_key, app_secret, credentials)
        # A rendering of this frame's locals must not show it.
        del app_secret
        if session is not None and not isinstance(session, requests.Session):
            raise TypeError(f"session must be a requests.Session, got {type(session).__name__}")
        self._set_up(
            chosen,
            scope=scope,
            expires_in=expires_in,
            token_url=token_url,
            allowed_hosts=allowed_hosts,
            timeout=timeout,
            host_library=f"requests/{_requests_version}",
            send=RequestsSender(session),
            read_origin=_dialled,
            error=TokenError,
        )
        self._hook = _Hook(self).look

    def token(self) -> AccessToken:
        """
        A good token, waiting for it if need be: for other SDKs, and for warming up.

        Raises:
            TokenError: If there is none to be had.
        """
        return self._obtain(None, None)

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        """Authorize *r*, if it goes to an allowed host. Called by requests."""
        try:
            hooks = r.hooks["response"]
        except AttributeError:
            raise wrong_host(r, "requests") from None
        url = r.url or ""
        source = self._source
        token, monotonic, wall = source._ready, source._monotonic, source._wall
        # Every request's way: `_authority` and `TokenSource.ready`, without the calls.
        if not (
            token is not None
            and url.startswith(self._cleared)
            and monotonic() < token._renew_monotonic
            and wall() < token._renew_wall
        ):
            host = self._authority(url)
            if host is None:
                return r
            token = source.ready() or self._obtain(host, r)
        r.headers["Authorization"] = token._header
        if not hooks:
            hooks.append(self._hook)
        elif self._hook not in hooks:
            # In front: the caller's own hooks are to see the final answer.
            hooks.insert(0, self._hook)
        return r

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._hook = _Hook(self).look

    def _authority(self, url: str) -> str | None:
        """The `host:port` to which a request with this prepared URL may carry the token, or None."""
        # The text before the path; whatever comes before its end decides what will be dialled.
        end = url.find("/", 8)
        origin = url if end < 0 else url[:end]
        host, guarded = self._verdicts[origin]
        if guarded:
            policy = self._verdicts.policy
            return None if policy.resembles_token_path(url) and policy.is_token_path(urlsplit(url).path) else host
        if host is not None and len(self._cleared) < _CLEARED and "@" not in origin:
            self._cleared = tuple({*self._cleared, f"{origin}/"})
        return host

    def _obtain(self, host: str | None, request: requests.PreparedRequest | None) -> AccessToken:
        try:
            return self._source.token(host)
        except _TokenError as error:
            error.request = _bare(request or requests.Request("POST", self._token_url).prepare())
            raise

    def _answered(self, response: requests.Response, kwargs: dict[str, Any]) -> requests.Response:
        """The response hook: what the caller gets for *response*."""
        status = response.status_code
        # The request that was answered, which after a redirect is not the one that was authorized.
        request = response.request
        host = self._authority(request.url or "")
        if host is None:
            self._let_go(request)
            return response
        if status == 401:
            response = self._retried(response, request, host, kwargs)
        if response.is_redirect:
            self._look_ahead(response, request)
        return response

    def _look_ahead(self, response: requests.Response, request: requests.PreparedRequest) -> None:
        """
        Take the token off if *response* redirects to where it may not go.

        requests builds the next request from this one, and leaves the header on where the host stays the same: on
        the way to the token endpoint, or from http to https.
        """
        target = requests.Request("GET", urljoin(request.url or "", response.headers["Location"]))
        with suppress(requests.RequestException, ValueError):
            if self._authority(target.prepare().url or "") is None and "Authorization" in request.headers:
                # `history` keeps the request as it was sent.
                response.request = request.copy()
                del request.headers["Authorization"]

    def _let_go(self, request: requests.PreparedRequest) -> None:
        """Leave a chain of redirects that has come to a foreign host: it must not win the token back."""
        others = [hook for hook in request.hooks["response"] if hook != self._hook]
        if isinstance(request, requests.PreparedRequest):
            # A dict of its own: the session's copies share theirs with the caller's request.
            request.hooks = {**request.hooks, "response": others}
        else:
            # A mock's stand-in, which passes on nothing that is set on it.
            request.hooks["response"] = others

    def _retried(
        self, response: requests.Response, request: requests.PreparedRequest, host: str, kwargs: dict[str, Any]
    ) -> requests.Response:
        """The answer to *request* with another token, or the 401 itself where there is no sending again."""
        source = self._source
        refused = hash(request.headers["Authorization"]) if "Authorization" in request.headers else None
        if refused is not None and not (source.has_issued(refused) and source.refuse(refused, host)):
            return response
        # Without any, requests took it off on the way here, from one allowed host to another.
        connection = getattr(response, "connection", None)
        if connection is None or not _rewind(request):
            return response

        _release(response, streamed=kwargs["stream"])
        token = self._obtain(host, request)
        # `history` keeps the request as it was refused. The live one gets the new header, since requests
        # builds the next request of a chain of redirects from it.
        response.request = request.copy()
        _take_cookies(request, response)
        request.headers["Authorization"] = token._header
        began = time.perf_counter()
        again: requests.Response = connection.send(request, **kwargs)
        again.elapsed = timedelta(seconds=time.perf_counter() - began)
        again.history = [*response.history, response]
        if refused is not None and is_acceptance(again.status_code):
            source.accepted(host, refused)
        return again


class _Hook:
    """
    The response hook of an auth object.

    It pickles without the auth: a pickled response must not take the app secret into caches and job queues.
    """

    __slots__ = ("_auth",)

    def __init__(self, auth: DolbyAuth | None) -> None:
        self._auth = auth

    def look(
        self,
        response: requests.Response,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Any = None,
        **others: Any,
    ) -> requests.Response:
        # The parameters, and their defaults, are those of `HTTPAdapter.send`: named ones cost half of `**kwargs`.
        # What nearly every response is, told here without a further call.
        if response.status_code < 300 or self._auth is None:
            return response
        kwargs = {"stream": stream, "timeout": timeout, "verify": verify, "cert": cert, "proxies": proxies, **others}
        return self._auth._answered(response, kwargs)

    def __reduce__(self) -> tuple[type[_Hook], tuple[None]]:
        return _Hook, (None,)


def _dialled(url: str) -> tuple[str, str, int | None]:
    # As requests' own adapter takes the prepared URL apart to connect.
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port


def _bare(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """A copy to be carried by an error: without credentials, body and hooks."""
    bare = requests.PreparedRequest()
    bare.method, bare.url = request.method, request.url
    bare.headers = CaseInsensitiveDict(request.headers)
    bare.headers.pop("Authorization", None)
    return bare


def _rewind(request: requests.PreparedRequest) -> bool:
    """Whether the body can be sent once more; if so, it stands where it stood the first time."""
    body: Any = request.body
    if body is None or isinstance(body, str | bytes | bytearray | memoryview):
        return True
    try:
        rewind_body(request)
        # Not every file goes where it is told; and one that has another size by now would leave the server
        # waiting for the rest, or be taken for two requests.
        moved: bool = body.tell() == request._body_position
        length = request.headers.get("Content-Length")
        return moved and (length is None or int(length) == super_len(body))
    except Exception:  # noqa: BLE001 - a generator, a pipe, a closed file; a caller's own may raise anything
        # Sent again they would make an empty or a hanging request.
        return False


def _release(response: requests.Response, *, streamed: bool) -> None:
    """
    Let the connection go, with the body read where that is quickly done.

    The body of a refused answer may be broken, endless or never come: none of that may keep the retry.
    """
    chunks: list[bytes] = []
    raw = response.raw
    if isinstance(raw, urllib3.BaseHTTPResponse) and not streamed:
        until = time.monotonic() + _DRAIN_SECONDS
        size = 0
        try:
            # read1 gives what is there; read(n) would wait for n bytes.
            while chunk := raw.read1(_DRAIN_BYTES, decode_content=True):
                chunks.append(chunk)
                size += len(chunk)
                if size > _DRAIN_BYTES or time.monotonic() > until:
                    raw.close()
                    break
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            raw.close()
        response._content = b"".join(chunks)
        response._content_consumed = True
    response.close()


def _take_cookies(request: requests.PreparedRequest, response: requests.Response) -> None:
    """Have the retry send the cookies that came with the refusal, as a redirect would."""
    jar: Any = request._cookies
    if not response.cookies or jar is None:
        return
    probe = request.copy()
    probe.headers.pop("Cookie", None)
    probe.prepare_cookies(jar)
    if probe.headers.get("Cookie") == request.headers.get("Cookie"):
        # Not a header of the caller's own making, which the jar could not make again.
        extract_cookies_to_jar(jar, request, response.raw)
        request.headers.pop("Cookie", None)
        request.prepare_cookies(jar)
