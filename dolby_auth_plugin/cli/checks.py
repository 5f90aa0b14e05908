"""
The checks of `dolby-auth check`. This module prints nothing but warnings.

One token request tells almost everything. It is sent as the library sends it, once. Without credentials, an empty request goes to the same
place, so that the network is checked all the same.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import click

from .._core.auth import hosts_or_default, token_url_or_default
from .._core.credentials import shown_key
from .._core.endpoint import DEFAULT_TOKEN_URL, TokenEndpoint, TokenRequest, TokenResponse, read_date
from .._core.errors import Failure
from .._core.failures import code_error, is_no_answer, is_tls_failure
from .._core.hosts import policy_for
from .._core.scope import missing, normalise, unknown
from .._core.token import AccessToken, Instant
from .account import Account, find
from .auth import adapter

# Seconds for the request: as long as one try of an auth object.
_PATIENCE = 10.0

# Seconds that two clocks may differ. Processes that share a token tolerate as much.
_CLOCK_TOLERANCE = 10.0

# The library's own advice is for programs, and longer.
_CHECK_NETWORK = "Check the network, HTTPS_PROXY and NO_PROXY"
_CHECK_BUNDLE = "Check the URL, and REQUESTS_CA_BUNDLE (requests) or SSL_CERT_FILE (httpx)"


class Check(NamedTuple):
    """
    One line of the report.

    Attributes:
        name: What was checked.
        passed: None if it was not checked.
        detail: What was found, or why it was not checked.
    """

    name: str
    passed: bool | None
    detail: str


class _Exchange(NamedTuple):
    """One request to the token endpoint, and what came back. The moments are before and after it."""

    endpoint: TokenEndpoint
    outcome: TokenResponse | Failure
    before: Instant
    after: Instant


def run(app_secret_file: str | None, token_url: str | None, scope: str | None, expires_in: int) -> list[Check]:
    """All checks, in the order of the report. The arguments are those of an auth object, see `make_auth`."""
    account, credentials = _credentials(app_secret_file)
    asked, malformed = _asked(scope)
    try:
        exchange = _exchange(adapter().DolbyAuth, account, token_url_or_default(token_url), asked, expires_in)
    except (ImportError, TypeError, ValueError) as error:
        network = [Check("endpoint", False, str(error))]
        network += [Check(name, None, "not checked: no request was sent") for name in ("tls", "clock", "token")]
        token = None
    else:
        granted, token = _token(exchange, account)
        network = [_endpoint(exchange), _tls(exchange), _clock(exchange), granted]
    return [credentials, *network, malformed or _scopes(asked, token), _hosts()]


def _credentials(app_secret_file: str | None) -> tuple[Account | None, Check]:
    try:
        account = find(app_secret_file)
    except click.ClickException as error:
        return None, Check("credentials", False, error.message)
    key = shown_key(account.credentials.app_key)
    return account, Check("credentials", True, f"app key {key} and its secret, from {account.origin}")


def _asked(scope: str | None) -> tuple[tuple[str, ...], Check | None]:
    """The scopes to ask for, and the complaint about them. With a complaint, the request is made without scopes."""
    try:
        return normalise(scope), None
    except ValueError as error:
        return (), Check("scopes", False, str(error))


def _exchange(library: Any, account: Account | None, url: str, asked: tuple[str, ...], expires_in: int) -> _Exchange:
    """One request with the sender of *library*, the class of an auth object."""
    name = f"{library._library.__name__}/{library._library.__version__}"  # noqa: SLF001 - it is of this package
    endpoint, send = TokenEndpoint(url, asked or None, expires_in, name), library._sender(None)  # noqa: SLF001 - as above
    request = TokenRequest(endpoint.url, {"User-Agent": endpoint.user_agent}, b"")
    if account is not None:
        request = endpoint.request(account.credentials)
    before = Instant.now(time)
    try:
        outcome = send(request, _PATIENCE)
    except Exception as error:  # noqa: BLE001 - the command shows it, as a call would
        outcome = code_error(error, "The code that sends the token request")
    return _Exchange(endpoint, outcome, before, Instant.now(time))


def _endpoint(exchange: _Exchange) -> Check:
    outcome, url = exchange.outcome, exchange.endpoint.shown_url
    if not isinstance(outcome, Failure):
        seconds = exchange.after.monotonic - exchange.before.monotonic
        return Check("endpoint", True, f"{url} answers with HTTP {outcome.status_code} in {seconds:.2f} s")
    if is_tls_failure(outcome):
        return Check("endpoint", True, f"{url} is reached")
    if is_no_answer(outcome):
        return Check("endpoint", False, f"{url} gives no answer: {outcome.reason}. {_CHECK_NETWORK}")
    return Check("endpoint", False, f"no answer from {url}. {outcome.message}")


def _tls(exchange: _Exchange) -> Check:
    outcome, url = exchange.outcome, urlsplit(exchange.endpoint.url)
    if url.scheme == "http":
        return Check("tls", None, "not checked: the endpoint is on this machine, and uses plain http")
    if not isinstance(outcome, Failure):
        return Check("tls", True, f"the certificate of {url.hostname} is accepted")
    if is_tls_failure(outcome):
        return Check("tls", False, f"{outcome.reason}. {_CHECK_BUNDLE}")
    return Check("tls", None, "not checked: no answer")


def _clock(exchange: _Exchange) -> Check:
    outcome = exchange.outcome
    if isinstance(outcome, Failure):
        return Check("clock", None, "not checked: no answer")
    date = None if outcome.date is None else read_date(outcome.date)
    if date is None:
        return Check("clock", None, "not checked: the answer has no Date")
    # The endpoint wrote the date between the two moments, and cut it to whole seconds.
    earliest, latest = exchange.before.wall - 1, exchange.after.wall
    ahead = max(0.0, earliest - date.timestamp()) - max(0.0, date.timestamp() - latest)
    if abs(ahead) <= _CLOCK_TOLERANCE:
        return Check("clock", True, "this machine and the endpoint agree")
    where = "ahead of" if ahead > 0 else "behind"
    return Check("clock", False, f"this machine is {abs(ahead):,.0f} s {where} the endpoint. Set its clock")


def _token(exchange: _Exchange, account: Account | None) -> tuple[Check, AccessToken | None]:
    outcome, endpoint = exchange.outcome, exchange.endpoint
    if account is None:
        return Check("token", None, "not checked: no credentials"), None
    if isinstance(outcome, Failure):
        return Check("token", None, "not checked: no answer"), None
    token = endpoint.read(outcome, account.credentials, exchange.before)
    if isinstance(token, Failure):
        return Check("token", False, token.message), None
    asked = "" if token.life == endpoint.expires_in else f", not {endpoint.expires_in:,} s as asked"
    end = f"until {token.expires_at:%Y-%m-%d %H:%M:%S} UTC"
    return Check("token", True, f"granted for {token.life:,} s{asked}, {end}"), token


def _scopes(asked: tuple[str, ...], token: AccessToken | None) -> Check:
    found = f"asked for {' '.join(asked) or 'none, so for everything'}"
    if token is None or token.scope is None:
        why = "the grant is not checked: no token" if token is None else "the answer names no scopes"
        complaints = unknown(asked)
        passed = True if token is not None and not asked else None
        return Check("scopes", False if complaints else passed, "; ".join((found, why, *complaints)))
    granted = f"granted {' '.join(sorted(token.scope)) or 'none'}"
    absent = missing(asked, token.scope)
    if not absent:
        return Check("scopes", True, f"{found}; {granted}")
    return Check("scopes", False, "; ".join((found, granted, f"missing {' '.join(absent)}", *unknown(absent))))


def _hosts() -> Check:
    try:
        # Not with the URL of the endpoint, which has a check of its own.
        entries = policy_for(hosts_or_default(None), DEFAULT_TOKEN_URL).entries
    except ValueError as error:
        return Check("hosts", False, str(error))
    return Check("hosts", True, f"the token may go to {', '.join(entries)}")
