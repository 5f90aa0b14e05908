"""
The token endpoint's wire format: what to send, and what an answer means. No I/O, and nothing here raises
for what a server may do: an answer is an `AccessToken` or a `Failure`.

RFC 6749 §4.4 (client credentials grant), RFC 7617 (Basic), RFC 6750 (Bearer); where Dolby.io differs, a
comment says so.
"""

from __future__ import annotations

import base64
import codecs
import json
import random
import re
import ssl
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

from .credentials import AppCredentials
from .errors import Failure
from .hosts import check_token_url, printable
from .scope import normalise
from .token import MAX_LIFE, AccessToken, Instant
from .version import __version__

DEFAULT_TOKEN_URL = "https://api.dolby.io/v1/auth/token"  # noqa: S105 - an address, no password

# Seconds, the service's own default (D-AUTH).
DEFAULT_EXPIRES_IN = 1800

# Bytes of an answer, once decoded. A real one has about 2 KiB.
MAX_BODY = 1 << 20

# Digits in a life given as text: past that it is an attack on the parser, not a number of seconds.
_MAX_DIGITS = 20

# RFC 6750 §2.1. `\Z`, since `$` lets a newline pass, and a header with it would be two.
_B64TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*\Z")

# Characters of a secret that an error's text is searched for, and of such a text: more of either would take long, and
# a text is cut to much less when it is shown. Dolby.io's secrets have about 43.
_SEARCHABLE_SECRET, _SEARCHED_TEXT = 256, 8192

# As HTML writes them; `html` itself, with its two thousand names, is a fifth more to import.
_HTML_NAMES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}

# Long unbroken runs in an error's text may be a secret in some encoding; error names are shorter.
_SECRET_LIKE = re.compile(r"[A-Za-z0-9\-._~+/=%]{24,}")


class TokenRequest:
    """A POST. Its headers hold the Basic credentials, and its URL may hold a gateway's key: `repr` shows none of it."""

    __slots__ = ("body", "headers", "url")

    def __init__(self, url: str, headers: dict[str, str], body: bytes) -> None:
        self.url = url
        self.headers = headers
        self.body = body

    @property
    def is_plain(self) -> bool:
        """Whether it is sent without TLS: to loopback, then, and by no proxy, which would read the app secret."""
        return self.url[:5].lower() == "http:"


class TokenResponse:
    """
    What came back. It holds the token, so `repr` shows none of it.

    Args:
        status_code: HTTP status.
        retry_after: The `Retry-After` header as it stands, or None.
        body: Decoded, cut off somewhere past `MAX_BODY`.
    """

    __slots__ = ("body", "retry_after", "status_code")

    def __init__(self, status_code: int, retry_after: str | None, body: bytes) -> None:
        self.status_code = status_code
        self.retry_after = retry_after
        self.body = body


class TokenEndpoint:
    """
    Dolby.io's `POST /v1/auth/token`.

    Args:
        url: https, or http on loopback.
        scope: The scopes to ask for, see `normalise`.
        expires_in: Lifetime to ask for, whole seconds, 1 to 86,400.
        host_library: Name and version of the HTTP library, for the `User-Agent`.

    Raises:
        ValueError, TypeError: If one of them is malformed or out of range.
    """

    __slots__ = ("expires_in", "scope", "url", "user_agent")

    def __init__(
        self,
        url: str,
        scope: str | Iterable[str] | None,
        expires_in: int | timedelta,
        host_library: str,
    ) -> None:
        check_token_url(url)
        # What was looked at is what is dialled: of a subclass (an Enum, say) `str` may give another text.
        self.url = str.__str__(url)
        self.scope = normalise(scope)
        self.expires_in = _seconds(expires_in)
        self.user_agent = f"dolby-auth-plugin/{__version__} {host_library}"

    @property
    def _shown_url(self) -> str:
        # A query may hold a gateway's key.
        return self.url.partition("?")[0]

    def request(self, credentials: AppCredentials) -> TokenRequest:
        """The token request for *credentials*."""
        form = {"grant_type": "client_credentials", "expires_in": str(self.expires_in)}
        if self.scope:
            form["scope"] = " ".join(self.scope)
        return TokenRequest(
            self.url,
            {
                "Authorization": f"Basic {_basic(credentials)}",
                "Content-Type": "application/x-www-form-urlencoded",
                "Accept": "application/json",
                "User-Agent": self.user_agent,
            },
            urlencode(form).encode(),
        )

    def read(
        self,
        response: TokenResponse,
        credentials: AppCredentials,
        asked_at: Instant,
        chance: Callable[[], float] = random.random,
    ) -> AccessToken | Failure:
        """
        What the answer to a request with *credentials*, sent at *asked_at*, means.

        Any 2xx whose body is a JSON object counts as an answer, whatever its content type. *chance* draws
        the token's place in its renewal window.
        """
        if not 200 <= response.status_code < 300:
            return self._refusal(response, credentials, asked_at)
        if len(response.body) > MAX_BODY:
            return self._no_token(response, f"it is longer than {MAX_BODY:,} bytes")
        answer = _json_object(response.body)
        if answer is None:
            return self._no_token(response, "it is no JSON object")
        if answer.get("error") is not None:
            reason, description = _error_texts(answer, credentials)
            return self._no_token(response, f"it reports an error{_in_brackets(reason, description)}")
        value = answer.get("access_token")
        if not isinstance(value, str) or not value:
            return self._no_token(response, "it has no access_token")
        if not _B64TOKEN.match(value):
            return self._no_token(response, "its access_token has characters that RFC 6750 does not allow")
        kind = answer.get("token_type")
        if kind is not None and not (isinstance(kind, str) and kind.lower() == "bearer"):
            return self._no_token(response, "its token_type is not Bearer")
        life = self._life(answer.get("expires_in"))
        if life is None:
            return self._no_token(response, "its expires_in is no number of seconds above zero")
        return AccessToken.issued(value, _granted(answer.get("scope")), life, asked_at, chance())

    def _life(self, given: object) -> int | None:
        """Whole seconds; the asked ones for an answer that names none, None for one that makes no sense."""
        if given is None:
            return self.expires_in
        if isinstance(given, str):
            # `float` would take other scripts' digits, and underscores between them.
            if sum(char.isdigit() for char in given) > _MAX_DIGITS or "_" in given or not given.isascii():
                return None
            try:
                given = float(given)
            except ValueError:
                return None
        # `not > 0` rather than `<= 0`: that is NaN's answer to both.
        if isinstance(given, bool) or not isinstance(given, int | float) or not given > 0:
            return None
        return int(min(given, MAX_LIFE)) or None

    def _no_token(self, response: TokenResponse, why: str) -> Failure:
        return Failure(
            f"The token endpoint's answer (HTTP {response.status_code}) is not a token: {why}."
            f" Check token_url ({self._shown_url}), and whether a proxy or gateway answers in its place.",
            reason="not a token",
            status_code=response.status_code,
        )

    def _refusal(self, response: TokenResponse, credentials: AppCredentials, now: Instant) -> Failure:
        status = response.status_code
        reason, description = _error_texts(_json_object(response.body[: MAX_BODY + 1]) or {}, credentials)
        retry_after = read_retry_after(response.retry_after, now)
        told = f"(HTTP {status}{_in_brackets(reason, description, opening='; ', closing='')})"
        if status == 401:
            message = (
                f"Dolby.io refused the app key {credentials.app_key[:100]!r} and its secret {told}."
                " Compare both with the application's API keys in the Dolby.io dashboard."
            )
        elif 300 <= status < 400:
            message = (
                f"The token endpoint redirects {told}, which is not followed. Check token_url ({self._shown_url})."
            )
        elif status == 429:
            wait = "later" if retry_after is None else f"in {retry_after:.0f} s"
            message = f"The token endpoint has too many requests {told}. Try again {wait}."
        elif status >= 500:
            message = f"The token endpoint fails {told}. Nothing is wrong on this side: try again later."
        else:
            message = f"The token endpoint refused the request {told}. Check scope, expires_in and token_url ({self._shown_url})."
        return Failure(
            message,
            reason=reason or _phrase(status),
            status_code=status,
            description=description,
            retry_after=retry_after,
            retryable=status == 429 or status >= 500,
        )


def no_answer(error: BaseException, *, retryable: bool) -> Failure:
    """
    The failure of a token request to which no answer came, told in words.

    The words are the operating system's or OpenSSL's, never the library's, which may quote a proxy's URL
    and password. A certificate that can't be verified is final, whatever *retryable* says: asking again
    won't mend it, and each try is one more chance for whoever sits in between.
    """
    words, refused_certificate = type(error).__name__, False
    if "timeout" in words.lower():
        words = "timed out"
    elif words == "ProxyError":
        # What all three libraries call it when a proxy answers a CONNECT with no: a 407, 403 or 502.
        words = "the proxy did not let it pass"
    elif retryable:
        words = f"the connection was closed, or what came is not HTTP ({words})"
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            words, refused_certificate = f"certificate not accepted: {cause.verify_message}", True
            break
        if isinstance(cause, TimeoutError):
            words = "timed out"
        elif isinstance(cause, OSError) and cause.strerror and isinstance(cause.strerror, str):
            words = cause.strerror
    advice = (
        " Check the endpoint's certificate and this machine's CA bundle."
        if refused_certificate
        else " Check the network, and the proxy settings in the environment."
    )
    return Failure(
        f"No answer from the token endpoint: {printable(words)}.{advice}",
        reason=printable(words),
        retryable=retryable and not refused_certificate,
    )


def read_retry_after(value: str | None, now: Instant) -> float | None:
    """Seconds from *now* (RFC 9110 §10.2.3: a number of seconds, or a date), None for anything else."""
    if value is None:
        return None
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,10}", value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.fromtimestamp(now.wall, UTC)).total_seconds())


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


def _basic(credentials: AppCredentials) -> str:
    # RFC 7617 §2 with UTF-8; Dolby.io does not decode the percent-encoding that RFC 6749 §2.3.1 asks for.
    return base64.b64encode(f"{credentials.app_key}:{credentials.app_secret}".encode()).decode()


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        # Not by the codec that knows of it, which is imported when first used: a fork meanwhile leaves the child
        # waiting for ever at that import.
        answer = json.loads(body.removeprefix(codecs.BOM_UTF8).decode())
    except (ValueError, RecursionError):
        # ValueError also for bytes that are no UTF-8, and for integers of thousands of digits.
        return None
    return answer if isinstance(answer, dict) else None


def _granted(scope: object) -> frozenset[str] | None:
    if isinstance(scope, str):
        return frozenset(scope.split())
    if isinstance(scope, list) and all(isinstance(value, str) for value in scope):
        # Not the documented form, but Dolby's .NET library once took it for that.
        return frozenset(scope)
    return None


def _error_texts(answer: dict[str, Any], credentials: AppCredentials) -> tuple[str, str | None]:
    """
    An error's short name and its explanation, fit to be shown.

    Members in this order: Communications (`error_reason`, `error_description`), RFC 6749 §5.2 (`error`),
    Media (`title`, `detail`), others (`message`). Which the token endpoint uses is unconfirmed.
    """
    names = [answer.get(name) for name in ("error_reason", "error", "title")]
    texts = [answer.get(name) for name in ("error_description", "detail", "message")]
    name, text = (
        next((_shown(value, credentials) for value in values if isinstance(value, str) and value), None)
        for values in (names, texts)
    )
    return name or "", text


def _shown(text: str, credentials: AppCredentials) -> str:
    # A server may echo what it was sent, in whatever form it meets the eye of its makers.
    secret = credentials.app_secret
    text = text[:_SEARCHED_TEXT]
    if len(secret) <= _SEARCHABLE_SECRET:
        for form in (secret, _basic(credentials), base64.b64encode(secret.encode()).decode()):
            text = text.replace(form, "[hidden]")
        text = _any_form(secret).sub("[hidden]", text)
    elif len(text) > _SEARCHABLE_SECRET:
        # It could hold what can't be looked for.
        return "[hidden]"
    return printable(_SECRET_LIKE.sub("[hidden]", text))


def _any_form(secret: str) -> re.Pattern[str]:
    """*secret* with each character as it is, or as URLs, forms, HTML, JSON and Python write it."""
    # Atomic groups: where two spellings overlap, as a backslash's do, trying all of them could take for ever.
    return re.compile("".join(f"(?>{'|'.join(map(re.escape, _forms(char)))})" for char in secret), re.IGNORECASE)


def _forms(char: str) -> list[str]:
    forms = {
        char,
        quote(char, safe=""),
        quote_plus(char),
        quote(quote(char, safe=""), safe=""),
        _HTML_NAMES.get(char, char),
        f"&#{ord(char)};",
        f"&#x{ord(char):x};",
        json.dumps(char)[1:-1],
        ascii(char)[1:-1],
        # Read in the wrong character set, which for Basic credentials is an old custom.
        char.encode().decode("latin-1"),
    }
    if not char.isalnum():
        forms.add(f"\\{char}")
    return sorted(forms, key=len, reverse=True)


def _in_brackets(reason: str, description: str | None, opening: str = " (", closing: str = ")") -> str:
    told = ": ".join(filter(None, (reason, description)))
    return f"{opening}{told}{closing}" if told else ""


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"HTTP {status}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """*error* and what led to it, as far as the libraries tell: causes, contexts, and exceptions they wrap."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        candidate = waiting.pop(0)
        if isinstance(candidate, BaseException) and id(candidate) not in seen:
            seen.add(id(candidate))
            yield candidate
            # Not by `getattr`: a property of somebody's own may raise.
            waiting += [candidate.__cause__, candidate.__context__, vars(candidate).get("reason")]
            waiting += candidate.args
