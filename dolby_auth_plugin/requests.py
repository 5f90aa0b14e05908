"""
`DolbyAuth` for requests: a `requests.auth.AuthBase`.

    session = requests.Session()
    session.auth = DolbyAuth()

requests calls an auth object once for each prepared request, and the auth object may register a response hook. The hook stays on
the request through redirects, so it also sees the answers of foreign hosts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ._core.auth import BaseAuth, choose_cache, missing_library, wrong_library
from ._core.credentials import AppCredentials, CredentialsSource, choose
from ._core.endpoint import DEFAULT_EXPIRES_IN
from ._core.errors import TokenError as _TokenError
from ._core.hosts import Origin
from ._core.records import log_not_resent
from ._core.token import AccessToken

try:
    import requests
except ImportError:
    raise missing_library("requests") from None

from requests import PreparedRequest
from requests.auth import AuthBase

from ._requests.niquests import refuse_async_session
from ._requests.resend import is_from_a_mock, next_url, read_body, take_cookies, why_not_resendable, without_secrets
from ._requests.sender import RequestsSender

if TYPE_CHECKING:
    from .caches.protocol import TokenCache

__all__ = ["DolbyAuth", "TokenError"]

# URL prefixes that are remembered, see `DolbyAuth._allowed_prefixes`. Most users have one or two hosts.
_MAX_PREFIXES = 8


class TokenError(_TokenError, requests.RequestException):
    """No token could be obtained. It is also a `requests.RequestException`. The fields are those of the base class."""


class DolbyAuth(BaseAuth, AuthBase):
    """
    Authenticates requests to Dolby.io with an API token: obtains it, keeps it, renews it and replaces it.

    Create one and keep it: all users of this object share its token, from any number of threads. Only requests to *allowed_hosts*
    get the token. Other requests pass unchanged.

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
        timeout: Seconds that a call waits for a token at most, all tries included.
        session: A session that sends the token requests (proxies, CA, mocks). It is used as it is. None: a session of our own,
            which follows the proxies and the CA bundle of the environment.

    Raises:
        ValueError: If an argument is malformed or out of range, or the environment has no credentials.
        TypeError: If an argument has the wrong type.

    A call that needs a token and can't get one raises `TokenError`, which is a `requests.RequestException`.
    """

    _library = requests
    _error = TokenError
    _lent = ("session", requests.Session)
    _sender = RequestsSender
    _memory = "_allowed_prefixes"

    # The origins, with a slash, whose requests may all carry the token. Without this cache every request would parse its URL.
    _allowed_prefixes: tuple[str, ...] = ()

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
        session: requests.Session | None = None,
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
            lent=session,
        )
        self._mark()

    def token(self) -> AccessToken:
        """
        A good token, for other SDKs or to have it before the first request. Waits for it if necessary.

        Raises:
            TokenError: If no token can be obtained.
        """
        return self._obtain(None, None)

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        """Authorize *r*, if it goes to an allowed host. Called by requests."""
        try:
            hooks = r.hooks["response"]
        except AttributeError:
            raise wrong_library(r, "requests") from None
        if type(r) is not PreparedRequest:
            refuse_async_session()
        url = r.url or ""
        token = self._source.ready() if url.startswith(self._allowed_prefixes) else None
        if token is None:
            host = self._allowed_host(url)
            if host is None:
                if self._origins.may_explain and "Authorization" not in r.headers:
                    hooks.append(self._hooks.answered_without_token)
                return r
            token = self._source.ready() or self._obtain(host, r)
        r.headers[self._header_name] = token.authorization
        if not hooks:
            hooks.append(self._hook)
        elif self._hook not in hooks:
            # First in the list: the user's own hooks must see the final answer.
            hooks.insert(0, self._hook)
        return r

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._mark()

    def _mark(self) -> None:
        """Give this object its own hook, and its own copy of the header's name, see `_is_ours`."""
        self._hooks = _Hooks(self._answered)
        self._hook = self._hooks.answered
        self._header_name = "".join(("Author", "ization"))

    def _is_ours(self, request: requests.PreparedRequest) -> bool:
        """
        Whether this auth object has set the request's `Authorization` header.

        requests keeps the string object with which a header was set as the header's name. The user's code, requests itself and
        other auth objects use other objects. So no list of past tokens is needed, and the header's value stays a plain `str`.
        HTTPie copies the headers into a dict that makes names of its own. It keeps the values, and so that of the present token.
        """
        token = self._source.ready()
        is_present = token is not None and request.headers.get("Authorization") is token.authorization
        return is_present or any(name is self._header_name for name in request.headers)

    def _allowed_host(self, url: str) -> str | None:
        """The `host:port` to which a request with this prepared URL may carry the token, or None."""
        origin = _origin(url)
        if origin is None:
            return None
        host = self._origins.allowed_host(origin, url)
        if host is not None and len(self._allowed_prefixes) < _MAX_PREFIXES:
            prefix = f"{'/'.join(url.split('/', 3)[:3])}/"
            # Userinfo may hold a password. An origin with the token endpoint gets a new answer for each path.
            if url.startswith(prefix) and "@" not in prefix and not self._origins.path_matters(origin):
                self._allowed_prefixes = tuple({*self._allowed_prefixes, prefix})
        return host

    def _obtain(self, host: str | None, request: requests.PreparedRequest | None) -> AccessToken:
        try:
            return self._source.token(host)
        except _TokenError as error:
            error.request = without_secrets(
                request or requests.Request("POST", self._source.fetcher.endpoint.shown_url).prepare()
            )
            raise

    def _answered(self, response: requests.Response, kwargs: dict[str, Any] | None) -> requests.Response:
        """
        The response that the caller gets for *response*, a redirect or an error. Called by the hooks.

        *kwargs* are those of `HTTPAdapter.send`; None for a request that went to an unlisted host.
        """
        if kwargs is None:
            self._explain(response)
            return response
        # After a redirect, this is not the request that was authorized.
        request = response.request
        if type(request) is not PreparedRequest:
            refuse_async_session()
        host = self._allowed_host(request.url or "")
        if host is None:
            self._remove_hook(request, self._hook)
            return response
        if response.status_code == 401:
            response = self._resent(response, host, kwargs)
        if response.is_redirect:
            self._strip_for_redirect(response, request)
        return response

    def _strip_for_redirect(self, response: requests.Response, request: requests.PreparedRequest) -> None:
        """
        Remove the token if *response* redirects to a URL that may not have it.

        requests copies this request for the next hop. It keeps the header if the host stays the same, even if the next hop is
        the token endpoint, or goes from http to https.
        """
        target = next_url(response)
        if (target is None or self._allowed_host(target) is None) and "Authorization" in request.headers:
            # `history` shows the request as it was sent.
            response.request = request.copy()
            del request.headers["Authorization"]

    def _explain(self, response: requests.Response) -> None:
        """Explain a 401 to the first request of a call, which got no token. The hops of a redirect need no explanation."""
        request = response.request
        self._remove_hook(request, self._hooks.answered_without_token)
        origin = _origin(request.url or "")
        if response.status_code == 401 and origin is not None and "Authorization" not in request.headers:
            self._origins.explain(origin, request.url or "")

    def _remove_hook(self, request: requests.PreparedRequest, mine: Any) -> None:
        """Leave a chain of redirects. One that has reached a foreign host must not get the token back on a later hop."""
        others = [hook for hook in request.hooks["response"] if hook != mine]
        if isinstance(request, requests.PreparedRequest):
            # A new dict: the session's copies share theirs with the user's request.
            request.hooks = {**request.hooks, "response": others}
        else:
            # A mock's wrapper around the request does not forward attributes that are set on it.
            request.hooks["response"] = others

    def _may_be_resent(self, response: requests.Response, host: str) -> bool:
        """Note the refusal, and tell whether the refused request can be sent again. Its body is then back at its start."""
        request = response.request
        if response.history and response.history[-1].status_code == 401:
            # It was sent again already. requests-cache calls the hooks twice, also in `send` without `allow_redirects`.
            return False
        # If the header is missing, requests removed it on a redirect between two allowed hosts.
        if "Authorization" in request.headers:
            token = hash(request.headers["Authorization"])
            if not self._is_ours(request) or not self._source.refuse(token, host, in_caller=is_from_a_mock(response)):
                return False
        if getattr(response, "connection", None) is None:
            return False
        why_not = why_not_resendable(request)
        if why_not is not None:
            log_not_resent(host, why_not)
        return why_not is None

    def _resent(self, response: requests.Response, host: str, kwargs: dict[str, Any]) -> requests.Response:
        """The answer to the refused request, sent again with another token. If that is impossible, the 401 itself."""
        if not self._may_be_resent(response, host):
            return response
        request, connection = response.request, response.connection
        if not kwargs["stream"]:
            read_body(response)
            response.close()
        token = self._obtain(host, request)
        if request.headers.get("Authorization") is token.authorization:
            # The token was not replaced. A new token with the same text would be another object, and would be sent.
            return response
        response.close()
        # `history` shows the request as it was refused. The live request gets the new header: requests builds the next hop of a
        # redirect from it.
        response.request = request.copy()
        take_cookies(request, response)
        request.headers[self._header_name] = token.authorization
        began = time.perf_counter()
        again: requests.Response = connection.send(request, **kwargs)
        again.elapsed = timedelta(seconds=time.perf_counter() - began)
        again.history = [*response.history, response]
        return again


def _origin(url: str) -> Origin | None:
    """The origin that a prepared URL names. None: the URL names none."""
    if not url[:1].isalpha():
        # Not a prepared URL: `urlsplit` would skip control characters in front of the scheme.
        return None
    try:
        # The adapter of requests parses the URL in the same way to connect.
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port
    except ValueError:
        return None


class _Hooks:
    """
    The response hooks of an auth object.

    Their pickle leaves out the auth object: a pickled response must not carry the app secret into caches and job queues.
    """

    __slots__ = ("_act",)

    def __init__(self, act: Callable[[requests.Response, dict[str, Any] | None], requests.Response] | None) -> None:
        self._act = act

    def answered(
        self,
        response: requests.Response,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Any = None,
        allow_redirects: bool | None = None,
        **others: Any,
    ) -> requests.Response:
        # The parameters and defaults of `HTTPAdapter.send`. Named ones cost half as much as `**kwargs`, and nearly every
        # response ends here.
        # requests never passes `allow_redirects`. requests-cache does, when it calls the hooks again after all redirects.
        if response.status_code < 300 or self._act is None or allow_redirects is not None:
            return response
        kwargs = {"stream": stream, "timeout": timeout, "verify": verify, "cert": cert, "proxies": proxies, **others}
        return self._act(response, kwargs)

    def answered_without_token(self, response: requests.Response, **_: Any) -> requests.Response:
        return response if response.status_code < 300 or self._act is None else self._act(response, None)

    def __reduce__(self) -> tuple[type[_Hooks], tuple[None]]:
        return _Hooks, (None,)
