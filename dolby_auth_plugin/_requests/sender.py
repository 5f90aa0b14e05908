"""
How requests sends a token request: with a session that the user lends, or with a new one each time.
"""

from __future__ import annotations

import io
import time
from typing import Any

import requests
import urllib3

from .._core.cutoff import Cutoff
from .._core.decoding import decoded
from .._core.endpoint import MAX_BODY, TokenRequest, TokenResponse
from .._core.errors import Failure
from .._core.failures import is_network_error, no_answer, no_ca_bundle
from .._core.silence import silenced
from .connections import TokenAdapter, ca_bundle, tls_context

_RETRYABLE = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.ProtocolError,
    urllib3.exceptions.TimeoutError,
)


_OWN_SETTINGS = (
    " The token request does not use your session, so session.proxies and session.verify do not apply to it: set HTTPS_PROXY,"
    " NO_PROXY or REQUESTS_CA_BUNDLE in the environment, or give a session with session=."
)
_LENT_SETTINGS = " The token request uses the proxies and verify of the session that you gave with session=."


class RequestsSender:
    """
    Sends token requests.

    Args:
        session: The user's session, or None for sessions of our own.
    """

    __slots__ = ("_session",)

    def __init__(self, session: requests.Session | None) -> None:
        self._session = session

    def __call__(self, request: TokenRequest, seconds: float) -> TokenResponse | Failure:
        with silenced("requests", "urllib3"):
            if self._session is not None:
                return _send(self._session, request, seconds, _LENT_SETTINGS)
            return _send_with_new_session(request, seconds)

    def __reduce__(self) -> tuple[type[RequestsSender], tuple[None]]:
        if self._session is not None:
            raise TypeError("a DolbyAuth with session= can't be pickled: the session belongs to this process")
        return RequestsSender, (None,)


def _send_with_new_session(request: TokenRequest, seconds: float) -> TokenResponse | Failure:
    if request.url.startswith("https:"):
        try:
            tls_context(ca_bundle())
        except OSError as error:
            return no_ca_bundle(error, "REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE")
    with requests.Session() as session, Cutoff(seconds) as cutoff:
        session.trust_env = not request.is_plain
        session.mount("https://", TokenAdapter(cutoff))
        session.mount("http://", TokenAdapter(cutoff))
        outcome = _send(session, request, seconds, _OWN_SETTINGS)
        # A connection that is shut down gives different errors in different parts of the answer.
        return no_answer(TimeoutError(), retryable=True, settings=_OWN_SETTINGS) if cutoff.passed else outcome


def _send(session: requests.Session, request: TokenRequest, seconds: float, settings: str) -> TokenResponse | Failure:
    try:
        return _exchange(session, request, seconds)
    except requests.HTTPError as error:
        if error.response is None:
            raise
        # A hook of a lent session raised it for the status.
        answer = error.response
        return TokenResponse(answer.status_code, answer.headers.get("Retry-After"), b"")
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        if not is_network_error(error, "requests", "urllib3"):
            raise
        return no_answer(error, retryable=isinstance(error, _RETRYABLE), settings=settings)


def _exchange(session: requests.Session, request: TokenRequest, seconds: float) -> TokenResponse:
    until = time.monotonic() + seconds
    response = session.post(
        request.url,
        data=request.body,
        headers=request.headers,
        # Without an auth, requests would look into .netrc, or use the session's own.
        auth=_prepared,
        allow_redirects=False,
        stream=True,
        timeout=seconds,
    )
    with response:
        # Nothing here has a name: a traceback that shows local variables would show the headers.
        return TokenResponse(
            response.status_code,
            response.headers.get("Retry-After"),
            _body(response, until),
            response.headers.get("Date"),
        )


def _body(response: requests.Response, until: float) -> bytes:
    """The decoded body, a little of what is beyond `MAX_BODY` included."""
    raw = response.raw
    consumed: bool = response._content_consumed  # noqa: SLF001 - there is no public name for this
    if consumed or not isinstance(raw, urllib3.BaseHTTPResponse):
        # A hook or a mock of the user's has read the body.
        return response.content
    body = io.BytesIO()  # a traceback that shows local variables does not show its content
    while body.write(raw.read1(1 << 16, decode_content=False)):
        if body.tell() > MAX_BODY:
            break
        if time.monotonic() > until:
            raise requests.ReadTimeout("the answer came too slowly")
    return decoded(body.getvalue(), response.headers.get("Content-Encoding", ""), MAX_BODY + 1)


def _prepared(request: requests.PreparedRequest) -> requests.PreparedRequest:
    request.register_hook("response", _without_redirect)
    return request


def _without_redirect(response: requests.Response, **_: Any) -> None:
    """
    Make a redirect an answer like any other.

    requests reads the body of a redirect whole, even if it does not follow it. An endless one would fill the memory.
    """
    if response.is_redirect:
        del response.headers["Location"]
