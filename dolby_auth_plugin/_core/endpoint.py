"""
The wire format of the token endpoint: what to send, and what an answer means.

Nothing here does I/O. No answer raises an exception here: it becomes an `AccessToken` or a `Failure`.
RFC 6749 §4.4 (client credentials grant), RFC 7617 (Basic), RFC 6750 (Bearer). A comment marks where Dolby.io differs.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from .credentials import AppCredentials, shown_key
from .errors import Failure
from .hosts import check_token_url
from .redaction import basic, error_texts
from .scope import normalise
from .token import MAX_LIFE, AccessToken, Instant, draw
from .version import __version__

DEFAULT_TOKEN_URL = "https://api.dolby.io/v1/auth/token"  # noqa: S105 - an address, not a password

# Seconds: the service's own default, by Dolby.io's guide to API authentication.
DEFAULT_EXPIRES_IN = 1800

# Bytes of an answer after decoding. A real one has about 2 KiB.
MAX_BODY = 1 << 20

# Digits of a lifetime that is given as text. Parsing a longer text could take very long.
_MAX_DIGITS = 20

# RFC 6750 §2.1. `\Z`, because `$` also matches before a final newline, which would start another header.
_B64TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*\Z")


class TokenRequest:
    """
    A POST to the token endpoint.

    Its headers hold the Basic credentials, and its URL may hold a gateway's key. `repr` shows neither.
    """

    __slots__ = ("body", "headers", "url")

    def __init__(self, url: str, headers: dict[str, str], body: bytes) -> None:
        self.url = url
        self.headers = headers
        self.body = body

    @property
    def is_plain(self) -> bool:
        """Whether it is sent without TLS. It goes to loopback then, and must avoid proxies, which would read the app secret."""
        return self.url[:5].lower() == "http:"


class TokenResponse:
    """
    An answer of the token endpoint. It holds the token, so `repr` shows nothing of it.

    Args:
        status_code: The HTTP status.
        retry_after: The `Retry-After` header as it was sent, or None.
        body: Decoded. A body longer than `MAX_BODY` may be cut off after that.
        date: The `Date` header as it was sent, or None.
    """

    __slots__ = ("body", "date", "retry_after", "status_code")

    def __init__(self, status_code: int, retry_after: str | None, body: bytes, date: str | None = None) -> None:
        self.status_code = status_code
        self.retry_after = retry_after
        self.body = body
        self.date = date


class TokenEndpoint:
    """
    Dolby.io's `POST /v1/auth/token`.

    Args:
        url: https, or http on loopback.
        scope: The scopes to ask for, see `normalise`.
        expires_in: The lifetime to ask for, whole seconds, 1 to 86,400.
        library: Name and version of the HTTP library, for the `User-Agent`.

    Raises:
        ValueError, TypeError: If an argument is malformed or out of range.
    """

    __slots__ = ("expires_in", "scope", "url", "user_agent")

    def __init__(self, url: str, scope: str | Iterable[str] | None, expires_in: int | timedelta, library: str) -> None:
        check_token_url(url)
        # Keep the text that was checked. `str()` of a subclass, such as an Enum, may give another one.
        self.url = str.__str__(url)
        self.scope = normalise(scope)
        self.expires_in = _seconds(expires_in)
        self.user_agent = f"dolby-auth-plugin/{__version__} {library}"

    @property
    def shown_url(self) -> str:
        """The URL without its query, which may hold a gateway's key."""
        return self.url.partition("?")[0]

    def request(self, credentials: AppCredentials) -> TokenRequest:
        """The token request for *credentials*."""
        form = {"grant_type": "client_credentials", "expires_in": str(self.expires_in)}
        if self.scope:
            form["scope"] = " ".join(self.scope)
        return TokenRequest(
            self.url,
            {
                "Authorization": f"Basic {basic(credentials)}",
                "Content-Type": "application/x-www-form-urlencoded",
                "Accept": "application/json",
                # An encoding would save little, and a library decodes it without a limit.
                "Accept-Encoding": "identity",
                "User-Agent": self.user_agent,
            },
            urlencode(form).encode(),
        )

    def read(
        self,
        response: TokenResponse,
        credentials: AppCredentials,
        asked_at: Instant,
        chance: Callable[[], float] = draw,
    ) -> AccessToken | Failure:
        """
        The meaning of the answer to a request with *credentials*, sent at *asked_at*.

        Any 2xx whose body is a JSON object is read, whatever its content type. *chance* decides when the token's renewal opens.
        """
        if not 200 <= response.status_code < 300:
            return self._refusal(response, credentials, asked_at)
        if len(response.body) > MAX_BODY:
            return self._no_token(response, f"it is longer than {MAX_BODY:,} bytes")
        answer = _json_object(response.body)
        if answer is None:
            return self._no_token(response, "it is not a JSON object")
        if answer.get("error") is not None:
            reason, description = error_texts(answer, credentials)
            return self._no_token(response, f"it reports an error{_in_brackets(reason, description)}")
        fault = _fault(answer)
        if fault is not None:
            return self._no_token(response, fault)
        life = self._life(answer.get("expires_in"))
        if life is None:
            return self._no_token(response, "its expires_in is not a number of seconds above zero")
        return AccessToken.issued(answer["access_token"], granted_scope(answer.get("scope")), life, asked_at, chance())

    def _life(self, given: object) -> int | None:
        """Whole seconds. An answer without a lifetime gets the one that was asked for. None: the value is invalid."""
        if given is None:
            return self.expires_in
        if isinstance(given, str):
            # `float` would also read the digits of other scripts, and underscores between digits.
            if sum(char.isdigit() for char in given) > _MAX_DIGITS or "_" in given or not given.isascii():
                return None
            try:
                given = float(given)
            except ValueError:
                return None
        # `not > 0` is also true for NaN; `<= 0` is not.
        if isinstance(given, bool) or not isinstance(given, int | float) or not given > 0:
            return None
        return int(min(given, MAX_LIFE)) or None

    def _no_token(self, response: TokenResponse, why: str) -> Failure:
        return Failure(
            f"The token endpoint's answer (HTTP {response.status_code}) is not a token: {why}."
            f" Check token_url ({self.shown_url}), and whether a proxy or gateway answers in its place.",
            reason="not a token",
            status_code=response.status_code,
        )

    def _refusal(self, response: TokenResponse, credentials: AppCredentials, now: Instant) -> Failure:
        status = response.status_code
        reason, description = error_texts(_json_object(response.body[: MAX_BODY + 1]) or {}, credentials)
        retry_after = read_retry_after(response.retry_after, now)
        details = f"(HTTP {status}{_in_brackets(reason, description, opening='; ', closing='')})"
        return Failure(
            self._advice(status, details, credentials, retry_after),
            reason=reason or _phrase(status),
            status_code=status,
            description=description,
            retry_after=retry_after,
            retryable=status == 429 or status >= 500,
        )

    def _advice(self, status: int, details: str, credentials: AppCredentials, retry_after: float | None) -> str:
        """What happened, and what to do about it."""
        if status == 401:
            return (
                f"Dolby.io refused the app key {shown_key(credentials.app_key)!r} and its secret {details}. Are the two swapped?"
                " Compare both with the application's API keys in the Dolby.io dashboard."
            )
        if status in (404, 405):
            return f"There is no token endpoint at {self.shown_url} {details}. Check the path of token_url."
        if 300 <= status < 400:
            return f"The token endpoint redirects {details}, which is not followed. Check token_url ({self.shown_url})."
        if status == 429:
            wait = "later" if retry_after is None else f"in {retry_after:.0f} s"
            return f"The token endpoint gets too many requests {details}. Try again {wait}."
        if status >= 500:
            return f"The token endpoint fails {details}. The fault is on the server's side: try again later."
        return (
            f"The token endpoint refused the request {details}."
            f" Check scope, expires_in and token_url ({self.shown_url})."
        )


def is_token(value: object) -> bool:
    """Whether *value* can be sent as a Bearer token (RFC 6750 §2.1)."""
    return isinstance(value, str) and _B64TOKEN.match(value) is not None


def granted_scope(scope: object) -> frozenset[str] | None:
    """The scopes that an answer names. None: it names none."""
    if isinstance(scope, str):
        return frozenset(scope.split())
    if isinstance(scope, list) and all(isinstance(value, str) for value in scope):
        # The documented form is a string. Dolby's .NET library once expected a list.
        return frozenset(scope)
    return None


def read_retry_after(value: str | None, now: Instant) -> float | None:
    """Seconds from *now* (RFC 9110 §10.2.3: a number of seconds, or a date), None for anything else."""
    if value is None:
        return None
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,10}", value):
        return float(value)
    date = read_date(value)
    return None if date is None else max(0.0, (date - datetime.fromtimestamp(now.wall, UTC)).total_seconds())


def read_date(value: str) -> datetime | None:
    """The time that a header names (RFC 9110 §5.6.7), None for anything else."""
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date


def _seconds(expires_in: int | timedelta) -> int:
    if isinstance(expires_in, timedelta):
        if expires_in % timedelta(seconds=1):
            raise ValueError(f"expires_in must be whole seconds, got {expires_in!r}")
        expires_in = expires_in // timedelta(seconds=1)
    if isinstance(expires_in, bool) or not isinstance(expires_in, int):
        raise TypeError(f"expires_in must be an int of seconds or a timedelta, got {type(expires_in).__name__}")
    if not 1 <= expires_in <= MAX_LIFE:
        raise ValueError(f"expires_in must be 1 to {MAX_LIFE:,} seconds, got {expires_in:,}")
    return int(expires_in)


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        # The codec "utf-8-sig" would do the same, but Python imports it on first use. A fork during that import would leave the
        # child waiting for it for ever.
        answer = json.loads(body.removeprefix(codecs.BOM_UTF8).decode())
    except (ValueError, RecursionError):
        # Bytes that are not UTF-8, and integers of thousands of digits, raise ValueError too.
        return None
    return answer if isinstance(answer, dict) else None


def _fault(answer: dict[str, Any]) -> str | None:
    """Why *answer* has no token that can be sent, as the end of a sentence."""
    value = answer.get("access_token")
    if not isinstance(value, str) or not value:
        return "it has no access_token"
    if not is_token(value):
        return "its access_token has characters that RFC 6750 does not allow"
    kind = answer.get("token_type")
    if kind is not None and not (isinstance(kind, str) and kind.lower() == "bearer"):
        return "its token_type is not Bearer"
    return None


def _in_brackets(reason: str, description: str | None, opening: str = " (", closing: str = ")") -> str:
    texts = ": ".join(filter(None, (reason, description)))
    return f"{opening}{texts}{closing}" if texts else ""


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"HTTP {status}"
