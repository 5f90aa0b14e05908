"""
How requests sends a token request: with a lent session, or with one of its own for each.
"""

from __future__ import annotations

import io
import time
from contextlib import suppress

import requests
import urllib3

from .._core.cutoff import Cutoff
from .._core.endpoint import MAX_BODY, TokenRequest, TokenResponse, no_answer
from .._core.errors import Failure
from .._core.hush import hushed
from .connections import TokenAdapter, TokenSession

_RETRYABLE = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.ProtocolError,
    urllib3.exceptions.TimeoutError,
)


class RequestsSender:
    """Sends token requests: with a lent session, or one of its own for each."""

    __slots__ = ("_session",)

    def __init__(self, session: requests.Session | None) -> None:
        self._session = session

    def __call__(self, request: TokenRequest, seconds: float) -> TokenResponse | Failure:
        with hushed("requests", "urllib3"):
            return self._post(request, seconds)

    def _post(self, request: TokenRequest, seconds: float) -> TokenResponse | Failure:
        if self._session is not None:
            return _send(self._session, request, seconds)
        with TokenSession() as session, Cutoff(seconds) as cutoff:
            session.trust_env = not request.is_plain
            session.mount("https://", TokenAdapter(cutoff))
            session.mount("http://", TokenAdapter(cutoff))
            outcome = _send(session, request, seconds)
            # What a connection that was shut looks like depends on where in the answer that was.
            return no_answer(TimeoutError(), retryable=True) if cutoff.over else outcome

    def __reduce__(self) -> tuple[type[RequestsSender], tuple[None]]:
        if self._session is not None:
            raise TypeError("a DolbyAuth with session= can't be pickled: the session belongs to this process")
        return RequestsSender, (None,)


def _send(session: requests.Session, request: TokenRequest, seconds: float) -> TokenResponse | Failure:
    try:
        return _post(session, request, seconds)
    except requests.HTTPError as error:
        # A lent session's hook raised for the status.
        if error.response is None:
            return no_answer(error, retryable=False)
        answer = error.response
        return TokenResponse(answer.status_code, answer.headers.get("Retry-After"), b"")
    except _RETRYABLE as error:
        return no_answer(error, retryable=True)


def _post(session: requests.Session, request: TokenRequest, seconds: float) -> TokenResponse:
    until = time.monotonic() + seconds
    response = session.post(
        request.url,
        data=request.body,
        headers=request.headers,
        # An auth that does nothing: without one requests would look into .netrc, or take the session's own.
        auth=_as_it_is,
        allow_redirects=False,
        stream=True,
        timeout=seconds,
    )
    with response:
        raw = response.raw
        if response._content_consumed or not isinstance(raw, urllib3.BaseHTTPResponse):
            body = response.content
        else:
            read = io.BytesIO()  # shows nothing of it in a rendering of this frame's locals
            # A body that can't be decoded says nothing, but its status does.
            with suppress(urllib3.exceptions.DecodeError):
                while read.write(raw.read1(1 << 16, decode_content=True)):
                    if read.tell() > MAX_BODY:
                        break
                    if time.monotonic() > until:
                        raise requests.ReadTimeout("the answer came too slowly")
            body = read.getvalue()
        return TokenResponse(response.status_code, response.headers.get("Retry-After"), body)


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
