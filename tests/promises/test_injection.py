"""
Invalid values in arguments and responses, tested with real bytes on the wire, not with mocks.

The values contain control characters, line ends, bidirectional marks, lone surrogates, or a mebibyte of text. Each has
one defined result and cannot forge a line of a log or message. The Basic credentials are sent to the token endpoint
only, independent of the response, the environment and a lent client.
"""

from __future__ import annotations

import base64
import enum
import json
import logging
import pickle
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest

from dolby_auth_plugin import AccessToken, AppCredentials, ScopeWarning, TokenError, __version__
from dolby_auth_plugin._core.endpoint import MAX_BODY, TokenEndpoint
from dolby_auth_plugin._core.errors import Failure
from dolby_auth_plugin._core.hosts import HostPolicy, check_token_url
from dolby_auth_plugin._core.origins import KnownOrigins
from dolby_auth_plugin._core.scope import Scope, missing, normalise

from ..contract import CLASSIC, on_clock
from ..drivers import Driver
from ..fakes import EPOCH, KEY, SECRET, TOKEN_URL, FakeClock, ScriptedSender, answer, make_source, wait_for_fetches
from ..matrix import SYNC, each
from ..servers import Server, Wire, serving, wired

# Characters that are dangerous in a line, in a header, in a terminal or for a reader.
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

# Characters that are not allowed in a key or secret. The others are unusual, but allowed.
UNSENDABLE = {
    name: text for name, text in DANGEROUS.items() if any(unicodedata.category(char) in ("Cc", "Cs") for char in text)
}
SENDABLE = "".join(text for name, text in {**DANGEROUS, **HARMLESS}.items() if name not in UNSENDABLE)

NOW = FakeClock().now()
CREDENTIALS = AppCredentials(KEY, SECRET)

# The maximum length of a readable line.
READABLE = 1_500


def unprintable(*texts: object) -> str:
    """The characters that could forge or reorder a line, by their Unicode category."""
    joined = "".join(str(text) for text in texts if text is not None)
    categories = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return "".join(sorted(char for char in set(joined) if unicodedata.category(char) in categories))


def is_readable(error: TokenError | Failure, message: str) -> bool:
    texts = (message, error.reason, error.description)
    return not unprintable(*texts) and all(len(text or "") < READABLE for text in texts)


class Sender(NamedTuple):
    """The sender of the token request: the adapter's own client, or a lent one."""

    driver: Driver
    lends: bool

    @property
    def option(self) -> str:
        return "session" if self.driver.name == "requests" else "client"

    def client(self) -> Any:
        """A client to lend. That of httpx follows redirects and does not verify certificates."""
        if self.driver.name == "requests":
            return self.driver.library.Session()
        return self.driver.library.Client(verify=False, follow_redirects=True)

    def auth(self, token_url: str, lent: Any = None, **options: Any) -> Any:
        arguments = {**CLASSIC, "token_url": token_url, **options}
        if lent is not None:
            arguments[self.option] = lent
        return on_clock(self.driver.adapter.DolbyAuth(**arguments), FakeClock())


OWN = [Sender(driver, False) for driver in SYNC]
LENT = [Sender(driver, True) for driver in SYNC]


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
    """A server that must not receive credentials."""
    _other.log.clear()
    return _other


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Sent(NamedTuple):
    """A request, parsed from its bytes."""

    line: str
    headers: dict[str, str]
    body: str

    @property
    def credentials(self) -> str:
        scheme, _, encoded = self.headers["authorization"].partition(" ")
        assert scheme == "Basic"
        return base64.b64decode(encoded, validate=True).decode()


def parsed(raw: bytes) -> Sent:
    """Parse *raw* and check that it is one request without injected lines or duplicate headers."""
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *headers = head.decode("ascii").split("\r\n")
    assert "" == unprintable(line, *headers)
    pairs = [header.partition(": ") for header in headers]
    by_name = {name.lower(): value for name, _, value in pairs}
    assert len(pairs) == len(by_name)
    assert len(body) == int(by_name["content-length"])
    return Sent(line, by_name, body.decode("ascii"))


# The complete set of headers of a token request.
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


# Arguments of the user


@each_sender
def test_credentials_with_unusual_characters_are_sent_unchanged(sender: Sender, lent: Any, wire: Wire) -> None:
    """Base64 encodes them, so the lines, headers and body of the request are as usual."""
    scope = ["comms:*", "comms:conf:admin"]
    auth = sender.auth(f"{wire.url}/token", lent, app_key=f"k{SENDABLE}", app_secret=f"s:{SENDABLE}", scope=scope)

    token = auth.token()

    [sent] = map(parsed, wire.log)
    assert "good" == token.value
    assert ("POST /token HTTP/1.1", HEADERS) == (sent.line, set(sent.headers))
    assert expected(sender, wire).items() <= sent.headers.items()
    assert f"k{SENDABLE}:s:{SENDABLE}" == sent.credentials
    assert "grant_type=client_credentials&expires_in=1800&scope=comms%3A%2A+comms%3Aconf%3Aadmin" == sent.body


# Two ways to provide a key and a secret.
def by_argument(sender: Sender, key: str, secret: str, _: pytest.MonkeyPatch) -> Any:
    return sender.auth(TOKEN_URL, app_key=key, app_secret=secret)


def by_environment(sender: Sender, key: str, secret: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("DOLBYIO_APP_KEY", key)
    monkeypatch.setenv("DOLBYIO_APP_SECRET", secret)
    return sender.driver.adapter.DolbyAuth()


@pytest.mark.parametrize("give", [by_argument, by_environment], ids=["as arguments", "in the environment"])
@each_own
def test_a_key_or_secret_that_cannot_be_sent_is_rejected_in_one_line_without_the_secret(
    give: Callable[..., Any], sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Linux, invalid UTF-8 in the environment becomes lone surrogates. NUL cannot occur there."""
    messages: dict[str, str] = {}
    texts = {name: text for name, text in UNSENDABLE.items() if give is by_argument or "\0" not in text}
    if give is by_environment:
        # The environment cannot contain a high surrogate.
        texts = {name: text for name, text in texts.items() if "\ud83d" not in text}

    for name, text in texts.items():
        for what, pair in {"app key": (f"k{text}", "canary"), "app secret": ("k", f"canary{text}")}.items():
            with pytest.raises(ValueError, match=f"the {what} (must not contain control|ends in a newline)") as caught:
                give(sender, *pair, monkeypatch)
            messages[f"{what}, {name}"] = str(caught.value)

    assert 2 * len(texts) == len(messages)
    assert [] == [name for name, message in messages.items() if "canary" in message or unprintable(message)]


class Changing(AppCredentials):
    """Credentials as the client of a vault may create them: the secret is looked up at each access."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("k", "s")

    @property
    def app_secret(self) -> str:
        return "canary\udcff"

    @app_secret.setter
    def app_secret(self, _: str) -> None:
        """Ignore the value."""


BAD_CALLABLES: dict[str, Callable[[], AppCredentials]] = {
    "a lone surrogate": lambda: AppCredentials("k", "canary\udcff"),
    "a line end": lambda: AppCredentials("k", "canary\r\nX-Injected: yes"),
    "an error with several lines": lambda: (_ for _ in ()).throw(RuntimeError("canary\r\nforged")),
    "a value that changes later": Changing,
}


@pytest.mark.parametrize("make", BAD_CALLABLES.values(), ids=BAD_CALLABLES)
@each_own
def test_bad_credentials_of_a_callable_are_an_error_after_one_call(
    make: Callable[[], AppCredentials], sender: Sender, wire: Wire
) -> None:
    """Without a result, the fetch would start again immediately, thousands of times per second."""
    asked: list[None] = []

    def credentials() -> AppCredentials:
        asked.append(None)
        return make()

    # Use the real clock. With a fake clock, such a loop would never end.
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
def test_other_arguments_must_be_ascii_and_the_error_is_one_line(argument: Callable[[str], object]) -> None:
    messages: list[str] = []

    for text in {**DANGEROUS, **HARMLESS}.values():
        with pytest.raises((ValueError, TypeError)) as caught:
            argument(text)
        messages.append(str(caught.value))

    assert [] == [message for message in messages if unprintable(message)]


@each_own
def test_ascii_characters_in_the_token_url_cannot_split_the_request(sender: Sender, wire: Wire) -> None:
    """The libraries quote different characters, but the path is the same."""
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
            for host in ("*.dolby.io", ".dolby.io", "a..b", "a%2eb", "a|b", "[v1.x]", f"{'a' * 64}.io")
        ),
        # Some releases of Python reject this one themselves, before our own check.
        ("https://[::1]x/token", " host "),
        ("https://api.dolby.io/".ljust(1 << 20, "a"), "at most 8,000 characters"),
    ],
    ids=lambda text: text[:40],
)
def test_an_ambiguous_token_url_is_rejected(url: str, why: str) -> None:
    """Libraries and servers normalise or decode such URLs differently, or raise their own errors."""
    with pytest.raises(ValueError, match="token_url") as caught:
        check_token_url(f"{url}?key=canary")

    assert why in str(caught.value)
    assert "canary" not in str(caught.value)
    assert len(str(caught.value)) < READABLE


def test_the_error_for_a_pasted_key_and_secret_shows_only_the_key() -> None:
    """The user means the part after the colon as the secret."""
    with pytest.raises(ValueError, match=r"colon .*, got 'the-…'") as caught:
        AppCredentials("the-key:canary", "s")

    assert "canary" not in str(caught.value)


class Text(str, enum.Enum):  # noqa: UP042 - the point
    """Strings for `isinstance`, but `format` and `str` return another text."""

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


def test_the_checked_values_are_sent_not_their_str_or_format() -> None:
    plain = TokenEndpoint(TOKEN_URL, "comms:*", 3600, "host/1.0").request(AppCredentials("the-key", "the-secret"))

    request = TokenEndpoint(Text.URL, [Text.SCOPE], Number.HOUR, "host/1.0").request(
        AppCredentials(Text.KEY, Text.SECRET)
    )

    assert (plain.url, plain.headers, plain.body) == (request.url, request.headers, request.body)
    assert type(request.url) is str


@each_own
def test_a_key_and_secret_of_a_mebibyte_are_sent_once_and_the_error_is_short(sender: Sender, wire: Wire) -> None:
    """Most servers reject such a header and may repeat it. The error shows neither the key nor the secret."""
    key, secret = "k" * (1 << 20), "s" * (1 << 20)
    said = json.dumps({"error": "too_large", "error_description": f"{key[:9000]} {secret[:9000]}"})
    wire.answers[:] = [f"HTTP/1.1 431 No\r\nConnection: close\r\n\r\n{said}".encode()]

    with pytest.raises(TokenError, match="HTTP 431") as caught:
        sender.auth(f"{wire.url}/token", app_key=key, app_secret=secret).token()

    [sent] = map(parsed, wire.log)
    assert f"{key}:{secret}" == sent.credentials
    assert (431, "too_large") == (caught.value.status_code, caught.value.reason)
    assert is_readable(caught.value, str(caught.value))


def test_an_error_shows_only_the_start_of_a_long_key() -> None:
    refused = TokenEndpoint(TOKEN_URL, None, 1800, "host/1.0").read(
        answer(401), AppCredentials("k" * (1 << 20), "s"), NOW
    )
    with pytest.raises(ValueError, match="app key") as caught:
        AppCredentials("k\n" * (1 << 19), "s")

    assert isinstance(refused, Failure)
    assert "app key 'kkk" in refused.message
    assert max(len(refused.message), len(str(caught.value))) < READABLE


# Responses of the token endpoint


def outcome(status: int = 200, **members: Any) -> AccessToken | Failure:
    endpoint = TokenEndpoint(TOKEN_URL, None, 1800, "host/1.0")
    return endpoint.read(answer(status, **members), CREDENTIALS, NOW)


ERROR_TEXTS = ("error", "error_description", "error_reason", "title", "detail", "message")
PLACES = ("{}", "before {} after", "{}end", "start{}")


@pytest.mark.parametrize("status", [200, 401, 503])
@pytest.mark.parametrize("member", ERROR_TEXTS)
def test_no_error_text_forges_a_line(member: str, status: int) -> None:
    """Each removed character leaves a visible mark."""
    members = {"error": "bad"} if status == 200 else {}

    for text in {**DANGEROUS, **HARMLESS}.values():
        for place in PLACES:
            failure = outcome(status, **{**members, member: place.format(text)})

            assert isinstance(failure, Failure)
            assert is_readable(failure, failure.message)


@each(SYNC)
def test_an_error_with_hostile_texts_can_be_pickled(driver: Driver) -> None:
    hostile = "".join(DANGEROUS.values())
    failure = outcome(400, error=hostile, error_description=hostile)
    assert isinstance(failure, Failure)
    error = driver.adapter.TokenError.of(failure)

    copied = pickle.loads(pickle.dumps(error))

    assert (str(error), vars(error), type(error)) == (str(copied), vars(copied), type(copied))
    assert "" == unprintable(repr(copied), copied.reason, copied.description)


@pytest.mark.parametrize("member", ["access_token", "token_type"])
def test_a_token_or_token_type_with_an_invalid_character_is_rejected(member: str) -> None:
    good: dict[str, Any] = {"access_token": "good", "token_type": "Bearer"}

    for text in {**DANGEROUS, **HARMLESS}.values():
        value = good[member]
        for odd in (text, text + value, value + text, value[:3] + text + value[3:]):
            failure = outcome(**{**good, member: odd})

            assert isinstance(failure, Failure), odd
            assert is_readable(failure, failure.message)


@pytest.mark.parametrize("text", DANGEROUS.values(), ids=DANGEROUS)
def test_expires_in_with_an_unusual_character_is_whole_seconds_or_an_error(text: str) -> None:
    outcomes = [outcome(access_token="good", expires_in=place.format(text)) for place in ("6{}00", "{}600", "600{}")]

    lives = [one.expires_at.timestamp() - EPOCH for one in outcomes if isinstance(one, AccessToken)]
    assert set(lives) <= {600}
    assert [] == [one for one in outcomes if isinstance(one, Failure) and not is_readable(one, one.message)]


@pytest.mark.parametrize(
    "form", [lambda text: f"comms:{text}x", lambda text: ["a", f"comms:{text}x"]], ids=["str", "list"]
)
def test_granted_scopes_with_unusual_characters_are_shown_in_one_line(form: Callable[[str], Any]) -> None:
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
def test_the_last_of_two_members_with_the_same_name_counts(body: str, why: str | None) -> None:
    given = outcome(body=body)

    if why is None:
        assert isinstance(given, AccessToken)
        assert "Bearer good" == given.authorization
    else:
        assert isinstance(given, Failure)
        assert why in given.message
        assert is_readable(given, given.message)


MEBIBYTES = {"a run": "x", "words": "so ", "reordering": "\u202ex", "lone surrogate": "\ud83d", "line ends": "\r\n"}


@pytest.mark.parametrize("piece", MEBIBYTES.values(), ids=MEBIBYTES)
@pytest.mark.parametrize(
    ("member", "status"), [("error", 400), ("error_description", 400), ("token_type", 200), ("access_token", 200)]
)
def test_a_member_of_a_mebibyte_leads_to_a_short_message(member: str, status: int, piece: str) -> None:
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


def test_a_secret_of_one_letter_in_a_long_text_leads_to_a_short_message() -> None:
    """Each occurrence is replaced by a longer text."""
    endpoint = TokenEndpoint(TOKEN_URL, None, 1800, "host/1.0")

    failure = endpoint.read(answer(400, error="x" * (1 << 19)), AppCredentials("k", "x"), NOW)

    assert isinstance(failure, Failure)
    assert is_readable(failure, failure.message)


class Counted(frozenset[str]):
    looks = 0

    def __iter__(self) -> Iterator[str]:
        Counted.looks += 1
        return super().__iter__()


def test_the_granted_scopes_are_not_searched_for_each_requested_scope() -> None:
    """A response can contain 250,000 scopes. A search for each requested scope would delay all callers by seconds."""
    granted = Counted({f"g{number}:*" for number in range(1000)} | {"comms:conf:*"})
    Counted.looks = 0

    lacking = missing([str(scope) for scope in Scope if scope != "comms:*"], granted)

    assert 0 == Counted.looks
    assert [str(scope) for scope in Scope if not scope.startswith(("comms:*", "comms:conf:"))] == lacking


# Log records and warnings


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The messages that the package has logged, after all fetches have ended."""
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
    """A URL may come from an untrusted source, such as a response or user input."""
    origins = KnownOrigins(HostPolicy(["api.dolby.com"], TOKEN_URL))
    names = [*(f"evil{text}.test" for text in DANGEROUS.values()), "x" * (1 << 20)]

    with caplog.at_level(logging.DEBUG):
        answers = {origins.allowed_host(("https", name, None), "/") for name in names}

    assert {None} == answers
    lines = lines_of(caplog)
    # A name that no resolver accepts is not logged.
    assert len(DANGEROUS) == len(lines)
    assert [] == forged(lines)


def test_unknown_scopes_forge_no_warning() -> None:
    """Printable characters, including quotes, stay unchanged."""
    odd = "".join(char for char in map(chr, range(0x21, 0x7F)) if char not in '"\\')

    with pytest.warns(ScopeWarning) as warned:
        OWN[0].driver.adapter.DolbyAuth(**CLASSIC, scope=[odd, "%s", "{0}"])

    assert 3 == len(warned)
    assert [] == forged([str(warning.message) for warning in warned])


def framed(place: str, odd: bytes) -> bytes:
    """A 401 response that contains *odd* in the given place of its head."""
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
def test_odd_bytes_in_a_response_head_lead_to_one_error_and_forge_no_line(
    sender: Sender, place: str, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """Some libraries accept such a response. For others it is not valid HTTP, and the request is retried."""
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


# The Basic credentials


REDIRECTS = [*range(300, 309), 399]


@each_sender
def test_redirects_are_not_followed(sender: Sender, lent: Any, wire: Wire, other: Server) -> None:
    """This applies to every status, and to every other header that contains a URL."""
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
def test_an_alternative_service_is_ignored(sender: Sender, lent: Any, wire: Wire, other: Server) -> None:
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
    """The library's own client does not even send them back to the token endpoint."""
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
    # requests.Session ignores it.
    client.base_url = "http://127.0.0.1:1/base/"


LENDERS = [with_headers, with_auth, with_params, with_cookies, with_base]


@pytest.mark.parametrize("configure", LENDERS, ids=lambda configure: configure.__name__)
@each_lent
def test_settings_of_a_lent_client_change_neither_address_nor_credentials(
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
    """The libraries always reject such a header, so a retry is useless."""
    lent.headers["X-Gateway"] = "1\r\nX-Injected: yes"

    with pytest.raises(TokenError) as caught:
        sender.auth(f"{wire.url}/token", lent).token()

    assert (None, False) == (caught.value.status_code, caught.value.retryable)
    assert is_readable(caught.value, str(caught.value))
    assert not [raw for raw in wire.log if b"Injected" in raw]
