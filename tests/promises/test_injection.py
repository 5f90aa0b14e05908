"""
What goes over the wire and comes back from it when a value holds what it should not: bytes, not mocks.

Control characters, line ends, what reorders text, lone surrogates, and a mebibyte of it: in what a user gives and in
what an endpoint answers. Each has one defined outcome, and no line of ours can be forged with it. And the Basic
credentials go to the token endpoint alone, whatever the answer, the environment or a lent client says.
"""

from __future__ import annotations

import base64
import enum
import json
import logging
import os
import pickle
import re
import ssl
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest
import trustme

from dolby_auth_plugin import AccessToken, AppCredentials, ScopeWarning, TokenError, __version__
from dolby_auth_plugin._core.endpoint import MAX_BODY, TokenEndpoint
from dolby_auth_plugin._core.errors import Failure
from dolby_auth_plugin._core.hosts import HostPolicy, KnownOrigins, check_token_url
from dolby_auth_plugin._core.scope import Scope, missing, normalise

from ..contract import CLASSIC, on_clock
from ..drivers import Driver, HttpxDriver, RequestsDriver
from ..fakes import EPOCH, KEY, SECRET, TOKEN_URL, FakeClock, ScriptedSender, answer, make_source, wait_for_fetches
from ..internals import fetcher_of, source_of
from ..servers import Reply, Server, Wire, serving, wired
from .test_faults import CERTIFICATES, bad_certificate

DRIVERS: list[Driver] = [RequestsDriver("requests"), HttpxDriver("httpx"), HttpxDriver("httpx2")]

# By what they do to a line, a header, a terminal or a reader's eye.
DANGEROUS = {
    "CR": "\r",
    "LF": "\n",
    "a header": "\r\nX-Injected: yes",
    "a request": "\r\n\r\nPOST /more HTTP/1.1\r\n\r\n",
    "NUL": "\0",
    "TAB": "\t",
    "VT": "\v",
    "FF": "\f",
    "ESC": "\x1b[2J",
    "DEL": "\x7f",
    "NEL": "\x85",
    "CSI": "\x9b",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "right-to-left override": "\u202e",
    "isolate": "\u2067",
    "right-to-left mark": "\u200f",
    "zero width space": "\u200b",
    "byte order mark": "\ufeff",
    "tag": "\U000e0041",
    "private use": "\ue000",
    "noncharacter": "\uffff",
    "high surrogate": "\ud83d",
    "low surrogate": "\udcff",
}
HARMLESS = {"emoji": "\N{SNAKE}", "beyond the BMP": "\U0001d11e", "accent": "e\u0301", "Hebrew": "\u05d0"}

# What has no place in a key or secret; the rest of it is just odd.
UNSENDABLE = {
    name: text for name, text in DANGEROUS.items() if any(unicodedata.category(char) in ("Cc", "Cs") for char in text)
}
SENDABLE = "".join(text for name, text in {**DANGEROUS, **HARMLESS}.items() if name not in UNSENDABLE)

NOW = FakeClock().now()
CREDENTIALS = AppCredentials(KEY, SECRET)

# Characters of a line that a person is to read.
READABLE = 1_500


def unprintable(*texts: object) -> str:
    """What in them could forge a line, or have it read in another order. Judged by Unicode's own categories."""
    joined = "".join(str(text) for text in texts if text is not None)
    categories = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return "".join(sorted(char for char in set(joined) if unicodedata.category(char) in categories))


def is_readable(error: TokenError | Failure, message: str) -> bool:
    texts = (message, error.reason, error.description)
    return not unprintable(*texts) and all(len(text or "") < READABLE for text in texts)


class Sender(NamedTuple):
    """Who sends the token request: a library's own client, or one that was lent."""

    driver: Driver
    lends: bool

    @property
    def option(self) -> str:
        return "session" if self.driver.name == "requests" else "client"

    def client(self) -> Any:
        """One to lend. It would follow redirects, and knows no certificates."""
        if self.driver.name == "requests":
            return self.driver.library.Session()
        return self.driver.library.Client(verify=False, follow_redirects=True)

    def auth(self, token_url: str, lent: Any = None, **options: Any) -> Any:
        arguments = {**CLASSIC, "token_url": token_url, **options}
        if lent is not None:
            arguments[self.option] = lent
        return on_clock(self.driver.adapter.DolbyAuth(**arguments), FakeClock())


OWN = [Sender(driver, False) for driver in DRIVERS]
LENT = [Sender(driver, True) for driver in DRIVERS]


def named(sender: Sender) -> str:
    return f"{sender.driver.name}{'-lent' if sender.lends else ''}"


each_own = pytest.mark.parametrize("sender", OWN, ids=named)
each_lent = pytest.mark.parametrize("sender", LENT, ids=named)
each_sender = pytest.mark.parametrize("sender", [*OWN, *LENT], ids=named)


@pytest.fixture
def lent(sender: Sender) -> Iterator[Any]:
    """A client to lend, or None."""
    if not sender.lends:
        yield None
        return
    with sender.client() as client:
        yield client


@pytest.fixture(scope="module")
def _wire() -> Iterator[Wire]:
    with wired() as wire:
        yield wire


@pytest.fixture
def wire(_wire: Wire) -> Wire:
    _wire.log.clear()
    _wire.answers.clear()
    return _wire


@pytest.fixture(scope="module")
def _other() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def other(_other: Server) -> Server:
    """A server that has no business with any of this."""
    _other.log.clear()
    return _other


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Sent(NamedTuple):
    """A request, as the bytes tell it."""

    line: str
    headers: dict[str, str]
    body: str

    @property
    def credentials(self) -> str:
        scheme, _, encoded = self.headers["authorization"].partition(" ")
        assert scheme == "Basic"
        return base64.b64decode(encoded, validate=True).decode()


def parsed(raw: bytes) -> Sent:
    """It is one request: nothing else is a line end, and no header comes twice."""
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *headers = head.decode("ascii").split("\r\n")
    assert "" == unprintable(line, *headers)
    pairs = [header.partition(": ") for header in headers]
    by_name = {name.lower(): value for name, _, value in pairs}
    assert len(pairs) == len(by_name)
    assert len(body) == int(by_name["content-length"])
    return Sent(line, by_name, body.decode("ascii"))


# What a token request has, and no more.
HEADERS = {
    "accept",
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "host",
    "user-agent",
}


def expected(sender: Sender, wire: Wire) -> dict[str, str]:
    library = sender.driver.library
    return {
        "host": wire.host,
        "user-agent": f"dolby-auth-plugin/{__version__} {sender.driver.name}/{library.__version__}",
        "accept": "application/json",
        "content-type": "application/x-www-form-urlencoded",
    }


# What a user gives


@each_sender
def test_credentials_of_odd_characters_are_on_the_wire_as_they_are(sender: Sender, lent: Any, wire: Wire) -> None:
    """In base64, so that the request is the same as any other: its lines, its headers, its body."""
    scope = ["comms:*", "comms:conf:admin"]
    auth = sender.auth(f"{wire.url}/token", lent, app_key=f"k{SENDABLE}", app_secret=f"s:{SENDABLE}", scope=scope)

    token = auth.token()

    [sent] = map(parsed, wire.log)
    assert "good" == token.value
    assert ("POST /token HTTP/1.1", HEADERS) == (sent.line, set(sent.headers))
    assert expected(sender, wire).items() <= sent.headers.items()
    assert f"k{SENDABLE}:s:{SENDABLE}" == sent.credentials
    assert "grant_type=client_credentials&expires_in=1800&scope=comms%3A%2A+comms%3Aconf%3Aadmin" == sent.body


# How a key and secret come in: given, in the environment, from a callable.
def by_argument(sender: Sender, key: str, secret: str, _: pytest.MonkeyPatch) -> Any:
    return sender.auth(TOKEN_URL, app_key=key, app_secret=secret)


def by_environment(sender: Sender, key: str, secret: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("DOLBYIO_APP_KEY", key)
    monkeypatch.setenv("DOLBYIO_APP_SECRET", secret)
    return sender.driver.adapter.DolbyAuth()


@pytest.mark.parametrize("give", [by_argument, by_environment], ids=["given", "in the environment"])
@each_own
def test_a_key_or_secret_that_cannot_be_sent_is_refused_in_a_line_that_shows_no_secret(
    give: Callable[..., Any], sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Linux the environment's bytes that are no UTF-8 come as lone surrogates; NUL can't stand there."""
    told: dict[str, str] = {}
    texts = {name: text for name, text in UNSENDABLE.items() if give is by_argument or "\0" not in text}
    if give is by_environment:
        # Others can't be written there.
        texts = {name: text for name, text in texts.items() if "\ud83d" not in text}

    for name, text in texts.items():
        for what, pair in {"app key": (f"k{text}", "canary"), "app secret": ("k", f"canary{text}")}.items():
            with pytest.raises(ValueError, match=f"the {what} must not contain control characters") as caught:
                give(sender, *pair, monkeypatch)
            told[f"{what}, {name}"] = str(caught.value)

    assert 2 * len(texts) == len(told)
    assert [] == [name for name, message in told.items() if "canary" in message or unprintable(message)]


def test_credentials_in_bytes_that_are_no_utf_8_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when the token is asked for, in another thread and with a `UnicodeEncodeError`."""
    monkeypatch.setenv("DOLBYIO_APP_KEY", "k")
    monkeypatch.setenv("DOLBYIO_APP_SECRET", os.fsdecode(b"canary\xe9"))

    with pytest.raises(ValueError, match="lone surrogates") as caught:
        OWN[0].driver.adapter.DolbyAuth()

    assert "canary" not in str(caught.value)


class Changing(AppCredentials):
    """As a vault's client may make them: looked up when they are asked for."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("k", "s")

    @property
    def app_secret(self) -> str:
        return "canary\udcff"

    @app_secret.setter
    def app_secret(self, _: str) -> None:
        """What it is made with is not kept."""


BAD_CALLABLES: dict[str, Callable[[], AppCredentials]] = {
    "a lone surrogate": lambda: AppCredentials("k", "canary\udcff"),
    "a line end": lambda: AppCredentials("k", "canary\r\nX-Injected: yes"),
    "an error of many lines": lambda: (_ for _ in ()).throw(RuntimeError("canary\r\nforged")),
    "later than at construction": Changing,
}


@pytest.mark.parametrize("make", BAD_CALLABLES.values(), ids=BAD_CALLABLES)
@each_own
def test_a_callables_bad_credentials_are_an_error_and_asked_for_once(
    make: Callable[[], AppCredentials], sender: Sender, wire: Wire
) -> None:
    """A fetch that ended without an outcome would be begun again at once, thousands of times a second."""
    asked: list[None] = []

    def credentials() -> AppCredentials:
        asked.append(None)
        return make()

    # By the real clock: on one that stands still such a storm would have no end.
    auth = sender.driver.adapter.DolbyAuth(credentials=credentials, token_url=f"{wire.url}/token", timeout=2)

    with pytest.raises(TokenError, match=r"credentials\(\) raised (ValueError|RuntimeError)") as caught:
        auth.token()

    wait_for_fetches()
    assert (1, [], "no credentials") == (len(asked), wire.log, caught.value.reason)
    assert is_readable(caught.value, str(caught.value))
    assert "canary" not in str(caught.value)


ARGUMENTS: dict[str, Callable[[str], object]] = {
    "scope": lambda text: normalise(f"comms:{text}x"),
    "scope in a list": lambda text: normalise(["comms:*", f"comms:{text}x"]),
    "scope at its end": lambda text: normalise(f"comms:*{text}"),
    "token_url, host": lambda text: check_token_url(f"https://api{text}.dolby.io/token"),
    "token_url, path": lambda text: check_token_url(f"https://api.dolby.io/to{text}ken"),
    "token_url, query": lambda text: check_token_url(f"https://api.dolby.io/token?x={text}"),
    "token_url, front": lambda text: check_token_url(f"{text}https://api.dolby.io/token"),
    "token_url, end": lambda text: check_token_url(f"https://api.dolby.io/token{text}"),
    "allowed_hosts": lambda text: HostPolicy([f"api{text}.dolby.com"], TOKEN_URL),
    "allowed_hosts, end": lambda text: HostPolicy([f"api.dolby.com{text}"], TOKEN_URL),
    "allowed_hosts, port": lambda text: HostPolicy([f"api.dolby.com:443{text}"], TOKEN_URL),
    "allowed_hosts, bare": lambda text: HostPolicy(f"api.dolby.com{text}", TOKEN_URL),
}


@pytest.mark.parametrize("argument", ARGUMENTS.values(), ids=ARGUMENTS)
def test_other_arguments_are_plain_ascii_and_the_complaint_is_one_line(argument: Callable[[str], object]) -> None:
    told: list[str] = []

    for text in {**DANGEROUS, **HARMLESS}.values():
        with pytest.raises((ValueError, TypeError)) as caught:
            argument(text)
        told.append(str(caught.value))

    assert [] == [message for message in told if unprintable(message)]


@each_own
def test_any_ascii_in_the_token_urls_path_and_query_leaves_one_request(sender: Sender, wire: Wire) -> None:
    """The libraries quote some of it, each in its own way; it is the same path all the same."""
    odd = "".join(char for char in map(chr, range(0x21, 0x7F)) if char not in "#?\\")

    sender.auth(f"{wire.url}/a{odd}?q={odd}").token()

    [sent] = map(parsed, wire.log)
    method, target, version = sent.line.split(" ")
    assert ("POST", "HTTP/1.1", HEADERS) == (method, version, set(sent.headers))
    assert unquote(f"/a{odd}?q={odd}") == unquote(target.replace("%25&", "%&"))
    assert expected(sender, wire).items() <= sent.headers.items()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        *(
            (f"https://{host}/token", "plain host name")
            for host in ("*.dolby.io", ".dolby.io", "a..b", "a%2eb", "a|b", "[v1.x]", "[::1]x", f"{'a' * 64}.io")
        ),
        ("https://api.dolby.io/".ljust(1 << 20, "a"), "at most 8,000 characters"),
    ],
    ids=lambda text: text[:40],
)
def test_a_token_url_that_would_be_dialled_as_another_is_refused(url: str, why: str) -> None:
    """Folded, decoded or read in different ways, by a library or a server; or refused by a library with its own error."""
    with pytest.raises(ValueError, match="token_url") as caught:
        check_token_url(f"{url}?key=canary")

    assert why in str(caught.value)
    assert "canary" not in str(caught.value)
    assert len(str(caught.value)) < READABLE


def test_a_key_and_secret_given_as_one_shows_the_key_alone() -> None:
    """What follows the colon is a secret to its giver."""
    with pytest.raises(ValueError, match=r"colon .*, got 'the-key'") as caught:
        AppCredentials("the-key:canary", "s")

    assert "canary" not in str(caught.value)


class Text(str, enum.Enum):  # noqa: UP042 - the point
    """Strings to `isinstance`, but what `format` and `str` make of them is another text."""

    KEY = "the-key"
    SECRET = "the-secret"
    SCOPE = "comms:*"
    URL = TOKEN_URL

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}\r\nX-Injected: yes"

    def __format__(self, spec: str) -> str:
        return str(self)


class Number(int, enum.Enum):
    HOUR = 3600

    def __str__(self) -> str:
        return "1\r\n"


def test_what_was_checked_is_what_is_sent() -> None:
    plain = TokenEndpoint(TOKEN_URL, "comms:*", 3600, "host/1.0").request(AppCredentials("the-key", "the-secret"))

    request = TokenEndpoint(Text.URL, [Text.SCOPE], Number.HOUR, "host/1.0").request(
        AppCredentials(Text.KEY, Text.SECRET)
    )

    assert (plain.url, plain.headers, plain.body) == (request.url, request.headers, request.body)
    assert type(request.url) is str


@each_own
def test_a_key_and_secret_of_a_mebibyte_are_sent_once_and_refused_in_a_short_message(
    sender: Sender, wire: Wire
) -> None:
    """Hardly a server takes such a header; what it says of it shows neither."""
    key, secret = "k" * (1 << 20), "s" * (1 << 20)
    said = json.dumps({"error": "too_large", "error_description": f"{key[:9000]} {secret[:9000]}"})
    wire.answers[:] = [f"HTTP/1.1 431 No\r\nConnection: close\r\n\r\n{said}".encode()]

    with pytest.raises(TokenError, match="HTTP 431") as caught:
        sender.auth(f"{wire.url}/token", app_key=key, app_secret=secret).token()

    [sent] = map(parsed, wire.log)
    assert f"{key}:{secret}" == sent.credentials
    assert (431, "too_large") == (caught.value.status_code, caught.value.reason)
    assert is_readable(caught.value, str(caught.value))


def test_a_refused_key_of_a_mebibyte_is_shown_in_part() -> None:
    refused = TokenEndpoint(TOKEN_URL, None, 1800, "host/1.0").read(
        answer(401), AppCredentials("k" * (1 << 20), "s"), NOW
    )
    with pytest.raises(ValueError, match="app key") as caught:
        AppCredentials("k\n" * (1 << 19), "s")

    assert isinstance(refused, Failure)
    assert "app key 'kkk" in refused.message
    assert max(len(refused.message), len(str(caught.value))) < READABLE


# What the endpoint answers


def outcome(status: int = 200, **members: Any) -> AccessToken | Failure:
    endpoint = TokenEndpoint(TOKEN_URL, None, 1800, "host/1.0")
    return endpoint.read(answer(status, **members), CREDENTIALS, NOW)


ERROR_TEXTS = ("error", "error_description", "error_reason", "title", "detail", "message")
PLACES = ("{}", "before {} after", "{}end", "start{}")


@pytest.mark.parametrize("status", [200, 401, 503])
@pytest.mark.parametrize("member", ERROR_TEXTS)
def test_no_error_text_forges_a_line(member: str, status: int) -> None:
    """What is left of it shows where something was."""
    members = {"error": "bad"} if status == 200 else {}

    for text in {**DANGEROUS, **HARMLESS}.values():
        for place in PLACES:
            failure = outcome(status, **{**members, member: place.format(text)})

            assert isinstance(failure, Failure)
            assert is_readable(failure, failure.message)


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.name)
def test_an_error_with_hostile_texts_can_be_pickled(driver: Driver) -> None:
    hostile = "".join(DANGEROUS.values())
    failure = outcome(400, error=hostile, error_description=hostile)
    assert isinstance(failure, Failure)
    error = driver.adapter.TokenError.of(failure)

    copied = pickle.loads(pickle.dumps(error))

    assert (str(error), vars(error), type(error)) == (str(copied), vars(copied), type(copied))
    assert "" == unprintable(repr(copied), copied.reason, copied.description)


@pytest.mark.parametrize("member", ["access_token", "token_type"])
def test_a_token_or_its_type_with_anything_odd_in_it_is_no_token(member: str) -> None:
    good: dict[str, Any] = {"access_token": "good", "token_type": "Bearer"}

    for text in {**DANGEROUS, **HARMLESS}.values():
        value = good[member]
        for odd in (text, text + value, value + text, value[:3] + text + value[3:]):
            failure = outcome(**{**good, member: odd})

            assert isinstance(failure, Failure), odd
            assert is_readable(failure, failure.message)


@pytest.mark.parametrize("text", DANGEROUS.values(), ids=DANGEROUS)
def test_expires_in_with_anything_odd_in_it_is_whole_seconds_or_no_token(text: str) -> None:
    outcomes = [outcome(access_token="good", expires_in=place.format(text)) for place in ("6{}00", "{}600", "600{}")]

    lives = [one.expires_at.timestamp() - EPOCH for one in outcomes if isinstance(one, AccessToken)]
    assert set(lives) <= {600}
    assert [] == [one for one in outcomes if isinstance(one, Failure) and not is_readable(one, one.message)]


@pytest.mark.parametrize(
    "form", [lambda text: f"comms:{text}x", lambda text: ["a", f"comms:{text}x"]], ids=["str", "list"]
)
def test_granted_scopes_with_anything_odd_in_them_are_shown_in_one_line(form: Callable[[str], Any]) -> None:
    for text in {**DANGEROUS, **HARMLESS}.values():
        token = outcome(access_token="good", scope=form(text))

        assert isinstance(token, AccessToken)
        assert ("Bearer good", "") == (token.authorization, unprintable(repr(token), str(token), f"{token}"))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('{"access_token":"a\\nb","access_token":"good"}', None),
        ('{"access_token":"good","access_token":"a\\nb"}', "RFC 6750"),
        ('{"error":"bad","error":null,"access_token":"good"}', None),
        ('{"error":null,"access_token":"good","error":"bad\\r\\n"}', "reports an error (bad"),
    ],
)
def test_of_a_member_that_comes_twice_the_last_counts(body: str, why: str | None) -> None:
    given = outcome(body=body)

    if why is None:
        assert isinstance(given, AccessToken)
        assert "Bearer good" == given.authorization
    else:
        assert isinstance(given, Failure)
        assert why in given.message
        assert is_readable(given, given.message)


MEBIBYTES = {"a run": "x", "words": "so ", "reordering": "\u202ex", "half of a pair": "\ud83d", "line ends": "\r\n"}


@pytest.mark.parametrize("piece", MEBIBYTES.values(), ids=MEBIBYTES)
@pytest.mark.parametrize(
    ("member", "status"), [("error", 400), ("error_description", 400), ("token_type", 200), ("access_token", 200)]
)
def test_a_member_of_a_mebibyte_makes_a_short_message(member: str, status: int, piece: str) -> None:
    text = piece * ((MAX_BODY - 100) // len(json.dumps(piece)[1:-1]))
    body = json.dumps({"access_token": "good", member: text})
    assert MAX_BODY - 200 < len(body) <= MAX_BODY

    given = outcome(status, body=body)

    if (member, piece) == ("access_token", "x"):
        assert isinstance(given, AccessToken)
        assert (f"Bearer {text}", "") == (given.authorization, unprintable(repr(given)))
    else:
        assert isinstance(given, Failure)
        assert is_readable(given, given.message)


def test_a_secret_of_one_letter_in_a_mebibyte_of_it_makes_a_short_message() -> None:
    """Each is replaced by something longer."""
    endpoint = TokenEndpoint(TOKEN_URL, None, 1800, "host/1.0")

    failure = endpoint.read(answer(400, error="x" * (1 << 19)), AppCredentials("k", "x"), NOW)

    assert isinstance(failure, Failure)
    assert is_readable(failure, failure.message)


class Counted(frozenset[str]):
    looks = 0

    def __iter__(self) -> Iterator[str]:
        Counted.looks += 1
        return super().__iter__()


def test_very_many_granted_scopes_are_not_gone_through_for_each_that_was_asked_for() -> None:
    """An answer has room for a quarter of a million, and all callers would wait for seconds meanwhile."""
    granted = Counted({f"g{number}:*" for number in range(1000)} | {"comms:conf:*"})
    Counted.looks = 0

    lacking = missing([str(scope) for scope in Scope if scope != "comms:*"], granted)

    assert 0 == Counted.looks
    assert [str(scope) for scope in Scope if not scope.startswith(("comms:*", "comms:conf:"))] == lacking


# Log records and warnings


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the package has logged, once it is done with it."""
    wait_for_fetches()
    return [record.getMessage() for record in caplog.records if record.name == "dolby_auth_plugin"]


def forged(lines: list[str]) -> list[str]:
    return [line for line in lines if unprintable(line) or len(line) > READABLE]


HOSTILE_SCOPES: dict[str, Any] = {
    "str": " ".join(f"comms:{text}x" for text in DANGEROUS.values()),
    "list": [f"comms:{text}x" for text in DANGEROUS.values()],
    "very many": [str(number) for number in range(50_000)],
}


@pytest.mark.parametrize("scope", HOSTILE_SCOPES.values(), ids=HOSTILE_SCOPES)
def test_granted_scopes_forge_no_log_line_and_no_warning(scope: Any, caplog: pytest.LogCaptureFixture) -> None:
    source = make_source(ScriptedSender(answer(access_token="good", scope=scope)), scope="comms:conf:admin")

    with caplog.at_level(logging.DEBUG):
        with pytest.warns(ScopeWarning) as warned:
            source.token()
        lines = lines_of(caplog)

    assert ["token obtained: lives 1800 s, scopes "] == [line[:37] for line in lines]
    assert [] == forged(lines)
    [warning] = warned
    assert "Dolby.io did not grant 'comms:conf:admin': requests that need it will be refused" == str(warning.message)


@pytest.mark.parametrize("member", ERROR_TEXTS)
def test_the_texts_of_a_failed_renewal_forge_no_log_line(member: str, caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    hostile = "".join(DANGEROUS.values())
    source = make_source(ScriptedSender(answer(access_token="good"), answer(400, **{member: hostile})), clock)
    source.token()
    clock.advance(1500)

    with caplog.at_level(logging.DEBUG):
        source.token()
        lines = lines_of(caplog)

    assert ["renewal failed, the present token is used"] == [line[:41] for line in lines if "renewal" in line]
    assert [] == forged(lines)


def test_hosts_forge_no_log_line(caplog: pytest.LogCaptureFixture) -> None:
    """A URL may come from anywhere: an answer of an API, a user's input."""
    origins = KnownOrigins(HostPolicy(["api.dolby.com"], TOKEN_URL))
    names = [*(f"evil{text}.test" for text in DANGEROUS.values()), "x" * (1 << 20)]

    with caplog.at_level(logging.DEBUG):
        answers = {origins.allowed_host(("https", name, None), "/") for name in names}

    assert {None} == answers
    lines = lines_of(caplog)
    assert len(DANGEROUS) + 1 == len(lines)
    assert [] == forged(lines)


def test_unknown_scopes_forge_no_warning() -> None:
    """They are printable as it is, quotes and all."""
    odd = "".join(char for char in map(chr, range(0x21, 0x7F)) if char not in '"\\')

    with pytest.warns(ScopeWarning) as warned:
        OWN[0].driver.adapter.DolbyAuth(**CLASSIC, scope=[odd, "%s", "{0}"])

    assert 3 == len(warned)
    assert [] == forged([str(warning.message) for warning in warned])


def framed(place: str, odd: bytes) -> bytes:
    """A refusal that has *odd* somewhere in its head."""
    parts = {"reason": b"No", "name": b"X", "value": b"x", "Retry-After": b"5"}
    parts[place] += odd
    body = b'{"error":"bad"}'
    return (
        b"HTTP/1.1 401 %b\r\nX-%b: %b\r\nRetry-After: %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        % (parts["reason"], parts["name"], parts["value"], parts["Retry-After"], len(body))
    ) + body


ODD_BYTES = [b"\r", b"\0", b"\x1b[2J", b"\x85", b"\xe2\x80\xae", b"\r\nX-More: yes"]


@pytest.mark.parametrize("place", ["reason", "name", "value", "Retry-After"])
@each_own
def test_whatever_the_head_of_an_answer_holds_is_one_error_and_forges_no_line(
    sender: Sender, place: str, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """Some libraries read it, others don't take it for HTTP: so tried again at most, and never passed on."""
    with caplog.at_level(logging.DEBUG, logger="dolby_auth_plugin"):
        for odd in ODD_BYTES:
            wire.log.clear()
            wire.answers[:] = [framed(place, odd)] * 4
            with pytest.raises(sender.driver.adapter.TokenError) as caught:
                sender.auth(f"{wire.url}/token").token()

            error: Any = caught.value
            assert is_readable(error, str(error)), odd
            assert (error.status_code, len(wire.log)) in ((401, 1), (None, 4)), odd
            assert error.retry_after in (None, 5)
        lines = lines_of(caplog)

    assert [] == forged(lines)


@pytest.mark.parametrize("place", ["reason", "name"])
@each_own
def test_the_library_logs_nothing_of_such_an_answer(
    sender: Sender, place: str, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """It would show the token request's URL with a gateway's key, and the odd bytes as they come."""
    with caplog.at_level(logging.DEBUG):
        for odd in (b"\0", b"\x85", b" "):
            wire.answers[:] = [framed(place, odd)] * 4
            with pytest.raises(sender.driver.adapter.TokenError):
                sender.auth(f"{wire.url}/token?key=canary").token()

    wait_for_fetches()
    assert {"dolby_auth_plugin"} >= {record.name for record in caplog.records}


# Where the Basic credentials go


REDIRECTS = [*range(300, 309), 399]


@each_sender
def test_no_redirect_of_whatever_status_is_followed(sender: Sender, lent: Any, wire: Wire, other: Server) -> None:
    """Nor whatever else in an answer's headers names another place."""
    elsewhere = f"{other.url}/token"
    for status in (*REDIRECTS, 201, 401):
        wire.log.clear()
        wire.answers[:] = [
            f"HTTP/1.1 {status} Elsewhere\r\nLocation: {elsewhere}\r\nContent-Location: {elsewhere}\r\n"
            f'Refresh: 0; url={elsewhere}\r\nAlt-Svc: http/1.1="{other.host}"\r\nLink: <{elsewhere}>; rel=canonical\r\n'
            "Proxy-Authenticate: Basic\r\nWWW-Authenticate: Basic\r\nConnection: close\r\n\r\n".encode()
        ]

        with pytest.raises(TokenError) as caught:
            sender.auth(f"{wire.url}/token", lent).token()

        assert (status, False) == (caught.value.status_code, caught.value.retryable)
        assert (status in REDIRECTS) == ("redirects" in str(caught.value))
        assert (1, []) == (len(wire.log), other.log)


@each_sender
def test_a_service_told_of_elsewhere_is_asked_where_it_was(
    sender: Sender, lent: Any, wire: Wire, other: Server
) -> None:
    wire.answers[:] = [
        f'HTTP/1.1 200 OK\r\nAlt-Svc: http/1.1="{other.host}"; persist=1\r\nConnection: close\r\n\r\n'.encode()
        + b'{"access_token":"good"}'
    ]
    auth = sender.auth(f"{wire.url}/token", lent)
    auth.token()
    auth.invalidate()

    auth.token()

    assert (2, []) == (len(wire.log), other.log)


@each_sender
def test_cookies_of_the_token_endpoint_go_nowhere_else(sender: Sender, lent: Any, wire: Wire, other: Server) -> None:
    """And with a client of our own not back to it either."""
    cookies = "Set-Cookie: session=canary; Path=/; Domain=127.0.0.1\r\nSet-Cookie: other=canary; Path=/"
    wire.answers[:] = [f"HTTP/1.1 503 Later\r\n{cookies}\r\nConnection: close\r\n\r\n".encode()]
    auth = sender.auth(f"{wire.url}/token", lent, allowed_hosts=[other.host])

    with sender.driver.open(auth) as client:
        client.get(other.url)

    first, second = map(parsed, wire.log)
    assert ("cookie" in second.headers) == sender.lends
    assert (first.credentials, "an-app-key:canary-secret") == (second.credentials, first.credentials)
    [request] = other.log
    assert ("Bearer good", None) == (request.token, request.headers["Cookie"])


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login another password another\ndefault login another password another\n")
    monkeypatch.setenv("NETRC", str(path))


@pytest.mark.usefixtures("netrc")
@each_sender
def test_netrc_neither_replaces_nor_adds_credentials(sender: Sender, lent: Any, wire: Wire) -> None:
    sender.auth(f"{wire.url}/token", lent).token()

    [sent] = map(parsed, wire.log)
    assert ("an-app-key:canary-secret", HEADERS) == (sent.credentials, set(sent.headers))


def with_headers(client: Any) -> None:
    client.headers["authorization"] = "Bearer another"
    client.headers["X-Gateway"] = "1"


def with_auth(client: Any) -> None:
    client.auth = ("another", "another")


def with_params(client: Any) -> None:
    client.params = {"gateway": "1"}


def with_cookies(client: Any) -> None:
    client.cookies.set("gateway", "1")


def with_base(client: Any) -> None:
    # On a requests.Session it has no meaning.
    client.base_url = "http://127.0.0.1:1/base/"


LENDERS = [with_headers, with_auth, with_params, with_cookies, with_base]


@pytest.mark.parametrize("configure", LENDERS, ids=lambda configure: configure.__name__)
@each_lent
def test_what_a_lent_client_adds_of_its_own_changes_neither_address_nor_credentials(
    sender: Sender, configure: Callable[[Any], None], lent: Any, wire: Wire
) -> None:
    configure(lent)

    sender.auth(f"{wire.url}/token?tenant=7", lent).token()

    [sent] = map(parsed, wire.log)
    assert ("POST /token?tenant=7", wire.host) == (
        re.sub("&?gateway=1&?| HTTP/1.1", "", sent.line),
        sent.headers["host"],
    )
    assert "an-app-key:canary-secret" == sent.credentials
    assert "grant_type=client_credentials&expires_in=1800" == sent.body


@each_lent
def test_a_lent_clients_header_with_a_line_end_is_final_and_never_sent(sender: Sender, lent: Any, wire: Wire) -> None:
    """The libraries refuse it each time."""
    lent.headers["X-Gateway"] = "1\r\nX-Injected: yes"

    with pytest.raises(TokenError) as caught:
        sender.auth(f"{wire.url}/token", lent).token()

    assert (None, False) == (caught.value.status_code, caught.value.retryable)
    assert is_readable(caught.value, str(caught.value))
    assert not [raw for raw in wire.log if b"Injected" in raw]


# Proxies


@pytest.fixture
def proxied(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's proxy for everything is *wire*, with a password of its own."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://proxy-user:proxy-canary@{wire.host}")
        monkeypatch.setenv(name.upper(), f"http://proxy-user:proxy-canary@{wire.host}")


@pytest.mark.usefixtures("proxied")
@pytest.mark.parametrize("status", [302, 407])
@each_own
def test_a_proxy_is_told_the_host_and_its_own_password_and_nothing_else(
    sender: Sender, status: int, wire: Wire, other: Server
) -> None:
    """Nor is a redirect of its own followed."""
    refusal = f"HTTP/1.1 {status} No\r\nLocation: {other.url}\r\nProxy-Authenticate: Basic\r\nConnection: close\r\n\r\n"
    wire.answers[:] = [refusal.encode()] * 4

    with pytest.raises(TokenError) as caught:
        sender.auth("https://api.dolby.invalid/token?key=canary").token()

    assert {b"CONNECT api.dolby.invalid:443"} == {raw.partition(b" HTTP/1.")[0] for raw in wire.log}
    own = base64.b64encode(b"proxy-user:proxy-canary")
    for raw in wire.log:
        _, *headers = raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
        assert {header for header in headers if b"uthoriz" in header} == {b"Proxy-Authorization: Basic " + own}
        assert b"canary" not in raw
    assert "canary" not in str(caught.value)
    assert [] == other.log


@pytest.mark.usefixtures("proxied")
@each_own
def test_no_proxy_stands_between_here_and_loopback(sender: Sender, wire: Wire, other: Server) -> None:
    """There the token request is in plain text: another machine would read the secret in it."""
    other.answer = lambda _: Reply(body=b'{"access_token":"good"}')

    for scheme in ("http", "HTTP"):
        sender.auth(f"{scheme}://{other.host}/token").token()

    assert ([], 2) == (wire.log, len(other.log))


# Certificates, with a lent client; our own are in test_faults.py


@pytest.mark.parametrize(("kind", "words"), CERTIFICATES.items(), ids=CERTIFICATES)
@each_lent
def test_a_bad_certificate_is_final_for_a_lent_client_too(
    sender: Sender, kind: str, words: str, authority: trustme.CA, tmp_path: Path
) -> None:
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with serving(bad_certificate(kind, authority)) as endpoint, trusting(sender, bundle) as client:
        auth = sender.auth(f"{endpoint.url}/token", client)

        with pytest.raises(TokenError, match="certificate not accepted") as caught:
            auth.token()

    assert (None, False) == (caught.value.status_code, caught.value.retryable)
    assert words in caught.value.reason
    assert ([], []) == (fetcher_of(source_of(auth)).clock.slept, endpoint.log)


def trusting(sender: Sender, bundle: Path) -> Any:
    if sender.driver.name == "requests":
        session = sender.driver.library.Session()
        session.verify = str(bundle)
        return session
    return sender.driver.library.Client(verify=ssl.create_default_context(cafile=str(bundle)))
