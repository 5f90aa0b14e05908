"""
Properties that hold for any input, each with its own oracle: what the package reads from URLs, answers and arguments.

The suite tries the same few inputs each time. `nox -s fuzz` tries others in rounds, until its time is over. A failure shows
the shortest input, and the seed that repeats its round.
"""

from __future__ import annotations

import base64
import functools
import html
import json
import re
import time
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

import hypothesis
import pytest
from hypothesis import strategies as st

from dolby_auth_plugin import AccessToken, AppCredentials, Scope
from dolby_auth_plugin._core.decoding import decoded
from dolby_auth_plugin._core.endpoint import TokenEndpoint, TokenResponse, read_retry_after
from dolby_auth_plugin._core.errors import Failure
from dolby_auth_plugin._core.scope import missing, normalise, unknown
from dolby_auth_plugin._core.token import Instant

from ..fakes import EPOCH, KEY, SECRET, TOKEN_URL, answer
from .test_urls import CALLERS, agreement, redirects
from .test_urls import TRIES as MORE_TRIES

TRIES = hypothesis.settings(MORE_TRIES, max_examples=40)
NOW = Instant(1000.0, EPOCH)
ENDPOINT = TokenEndpoint(TOKEN_URL, None, 1234, "host/1.0")

# Lone surrogates too, which `st.text()` leaves out.
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)


def read(response: TokenResponse, credentials: AppCredentials | None = None) -> AccessToken | Failure:
    return ENDPOINT.read(response, credentials or AppCredentials(KEY, SECRET), NOW)


def texts_of(failure: Failure) -> list[str]:
    return [failure.message, failure.reason, failure.description or ""]


# Answers of the token endpoint

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=5,
)
B64TOKENS = st.from_regex(r"[A-Za-z0-9\-._~+/]+=*", fullmatch=True)
LIVES = st.integers(-2, 10**25) | st.floats() | st.sampled_from([0, 0.5, 1, 1.5, 86_401, float("inf"), float("nan")])
MEMBERS = {
    "access_token": st.tuples(st.just("tokencanary"), B64TOKENS, st.sampled_from(["", "", "\n", " ", "a"])).map(
        "".join
    ),
    "token_type": st.sampled_from(["Bearer", "bearer", "MAC"]),
    "expires_in": LIVES | LIVES.map(str),
    "scope": st.text("ab: ") | st.lists(st.text("ab: ")),
    **dict.fromkeys(("error", "error_reason", "error_description", "title", "detail", "message"), ANY_TEXT),
}
OBJECTS = st.fixed_dictionaries({}, optional={name: usual | ANY_JSON for name, usual in MEMBERS.items()})


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """JSON objects with the members of an answer, some of them damaged; and any bytes."""
    body = json.dumps(draw(OBJECTS | ANY_JSON), ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")
    start = draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf"]))
    if draw(st.integers(0, 3)):
        return start + body
    at = draw(st.integers(0, len(body)))
    return start + body[:at] + draw(st.binary(max_size=3)) + body[at + draw(st.integers(0, 3)) :]


DATES = st.integers(0, 2**37).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
DATE_LIKE = st.text("0123456789 ,:+-.JanGMT\t\u0661\x00", max_size=30)
RETRY_AFTER = st.none() | ANY_TEXT | DATE_LIKE | DATES.map(format_datetime) | st.integers().map(str)


@TRIES
@hypothesis.given(status=st.integers(100, 999) | st.just(200), retry_after=RETRY_AFTER, body=bodies())
def test_any_answer_is_a_token_that_can_be_sent_or_a_failure_of_one_line(
    status: int, retry_after: str | None, body: bytes
) -> None:
    outcome = read(TokenResponse(status, retry_after, body))

    if isinstance(outcome, AccessToken):
        given = json.loads(body.decode("utf-8-sig"))
        assert 200 <= status < 300 and given.get("error") is None
        assert given["access_token"] == outcome.value and re.fullmatch(rb"[\w.~+/-]+=*", outcome.value.encode())
        assert f"Bearer {outcome.value}" == outcome.authorization
        assert outcome.expires_at.timestamp() - EPOCH in range(1, 86_401)
        assert outcome.is_fresh(NOW) and not outcome.is_good(NOW.after(outcome.expires_at.timestamp() - EPOCH))
    else:
        assert all(text.isprintable() and len(text) < 1000 for text in texts_of(outcome))
        assert outcome.message and outcome.reason
        assert "tokencanary" not in repr(outcome)
        assert (status, status == 429 or status >= 500) == (outcome.status_code, outcome.retryable)
        assert outcome.retry_after is None or 0 <= outcome.retry_after < float("inf")


def life_of(given: float | str | None) -> int | None:
    """The rule in other words: whole seconds, at most a day; at most 20 digits of text."""
    if given is None:
        return ENDPOINT.expires_in
    if isinstance(given, bool) or (isinstance(given, str) and len(re.findall("[0-9]", given)) > 20):
        return None
    number = float(given)
    return int(min(number, 86_400)) if number >= 1 else None


@TRIES
@hypothesis.given(
    value=B64TOKENS,
    kind=st.sampled_from(["Bearer", "bEARER", None]),
    given=st.none() | st.booleans() | LIVES | LIVES.map(str),
    scope=st.none() | st.lists(st.text("ab:", min_size=1)),
    status=st.integers(200, 299),
    others=st.dictionaries(st.text(max_size=3), ANY_JSON, max_size=3),
)
def test_a_good_answer_is_a_token_with_the_life_that_it_names(
    value: str, kind: str | None, given: float | str | None, scope: list[str] | None, status: int, others: Any
) -> None:
    """A life below one second, or one that is not a number, makes the answer a bad one."""
    text = None if scope is None else " ".join(scope)
    members = {**others, "access_token": value, "token_type": kind, "expires_in": given, "scope": text}

    outcome = read(answer(status, **members))

    life = life_of(given)
    if life is None:
        assert isinstance(outcome, Failure) and "expires_in" in outcome.message
    else:
        assert isinstance(outcome, AccessToken), outcome
        assert (value, None if scope is None else frozenset(scope)) == (outcome.value, outcome.scope)
        assert life == outcome.expires_at.timestamp() - EPOCH


@TRIES
@hypothesis.given(date=DATES, seconds=st.integers(0, 10**10 - 1), blank=st.sampled_from(["", " ", "\t"]))
def test_retry_after_is_read_exactly(date: datetime, seconds: int, blank: str) -> None:
    assert seconds == read_retry_after(f"{blank}{seconds}{blank}", NOW)
    assert max(0, date.timestamp() - EPOCH) == read_retry_after(f"{blank}{format_datetime(date)}{blank}", NOW)
    assert max(0, date.timestamp() - EPOCH) == read_retry_after(format_datetime(date, usegmt=True), NOW)


# Error texts


def _json_escaped(text: str, marked: str) -> str:
    """A JSON text in which the *marked* characters are escaped too, as the encoders of Go and .NET do."""
    return "".join(f"\\u{ord(char):04X}" if char in marked else json.dumps(char)[1:-1] for char in text)


# As real encoders do it; the package has its own list of the forms.
ENCODERS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "URL": functools.partial(quote, safe=""),
    "URL path": quote,
    "URL, small letters": lambda text: re.sub("%..", lambda escape: escape[0].lower(), quote(text, safe="")),
    "URL twice": lambda text: quote(quote(text, safe=""), safe=""),
    "form": quote_plus,
    "HTML of Python": html.escape,
    "HTML of PHP": lambda text: html.escape(text).replace("&#x27;", "&#039;"),
    "XML": lambda text: escape(text, {'"': "&quot;", "'": "&apos;"}),
    "HTML, decimal": lambda text: "".join(f"&#{ord(char)};" for char in text),
    "HTML, hexadecimal": lambda text: "".join(f"&#x{ord(char):X};" for char in text),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON, not ASCII": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON of Go": functools.partial(_json_escaped, marked="<>&"),
    "JSON of .NET": functools.partial(_json_escaped, marked="<>&'\"+`"),
    "repr": lambda text: repr(text)[1:-1],
    "ascii": lambda text: ascii(text)[1:-1],
    "shell": lambda text: re.sub(r"(\W)", r"\\\1", text),
    "UTF-8 as Latin-1": lambda text: text.encode().decode("latin-1"),
    "Base64": lambda text: base64.b64encode(text.encode()).decode(),
}
# Many of them look as if they were encoded.
SECRETS = st.lists(
    st.sampled_from([*"aB-_/+=%&;#<>'\"\\ \u00e9\u20ac\U0001f600", "%25", "&amp;", "&#39;", "\\u0062", "\\\\"])
    | st.characters(exclude_categories=["Cc", "Cs"]),
    min_size=6,
    max_size=12,
).map("".join)
KEYS = SECRETS.map(lambda text: text.replace(":", "="))
AROUND = st.sampled_from(["", " ", "no ", '"', "'", "\\", "%", "&", "=", "app_secret=", "Basic ", "a" * 30])


@TRIES
@hypothesis.given(
    key=KEYS,
    secret=SECRETS,
    which=st.sampled_from(["key", "secret", "pair"]),
    encoder=st.sampled_from(sorted(ENCODERS)),
    before=AROUND,
    after=AROUND,
    status=st.sampled_from([200, 400, 401, 429, 503]),
    member=st.sampled_from(["error", "error_reason", "error_description", "title", "detail", "message"]),
)
def test_no_failure_shows_a_key_or_secret_in_any_encoding(
    key: str, secret: str, which: str, encoder: str, before: str, after: str, status: int, member: str
) -> None:
    credentials = AppCredentials(key, secret)
    form = ENCODERS[encoder]({"key": key, "secret": secret, "pair": f"{key}:{secret}"}[which])

    def shown(text: str) -> str:
        outcome = read(answer(status, **{"error": "bad", member: text}), credentials)
        assert isinstance(outcome, Failure)
        return "\n".join(texts_of(outcome))

    # A secret that looks like a part of our own sentences can't be missing there.
    hypothesis.assume(form not in shown("[hidden]"))
    assert form not in shown(f"{before}{form}{after}")


# Credentials


def is_sendable(text: str) -> bool:
    return text != "" and not any(unicodedata.category(char) in ("Cc", "Cs") for char in text)


@TRIES
@hypothesis.given(key=ANY_TEXT, secret=ANY_TEXT, ending=st.sampled_from(["", "", "\n", "\r\n"]))
def test_credentials_are_sent_exactly_or_refused_without_showing_the_secret(key: str, secret: str, ending: str) -> None:
    secret = f"canary{secret}{ending}"
    if not (is_sendable(key) and ":" not in key and is_sendable(secret)):
        with pytest.raises(ValueError, match=r"app (key|secret)") as caught:
            AppCredentials(key, secret)
        assert "canary" not in repr(caught.value) and str(caught.value).isprintable()
        return

    credentials = AppCredentials(key, secret)

    scheme, encoded = ENDPOINT.request(credentials).headers["Authorization"].split(" ")
    assert ("Basic", f"{key}:{secret}".encode()) == (scheme, base64.b64decode(encoded, validate=True))
    assert "canary" not in repr(credentials)


# Scopes

# Few names, so that many of them are related.
SCOPES = st.lists(st.sampled_from(["a", "ab", "*", ""]), min_size=1, max_size=3).map(":".join)
ANY_SCOPE = SCOPES.filter(bool) | st.sampled_from([str(scope) for scope in Scope])


@TRIES
@hypothesis.given(
    given=st.text('ab!~" \\\x7f\t\u00e9') | st.lists(ANY_TEXT | ANY_SCOPE) | st.lists(ANY_SCOPE).map(" ".join)
)
def test_scopes_are_asked_for_each_once_in_order_or_refused(given: str | list[str]) -> None:
    named = given.split(" ") if isinstance(given, str) else given
    is_good = bool(named) and all(
        scope and all("!" <= char <= "~" and char not in '"\\' for char in scope) for scope in named
    )
    if not is_good:
        with pytest.raises(ValueError, match="scope"):
            normalise(given)
        return

    asked = normalise(given)

    assert sorted(set(named), key=named.index) == list(asked)
    assert asked == normalise(asked) == normalise(" ".join(asked))


def is_under(scope: str, wildcard: str) -> bool:
    """Whether *scope* begins with the segments of *wildcard*, which ends in `:*`, and has more."""
    *beginning, end = wildcard.split(":")
    segments = scope.split(":")
    return end == "*" and bool(beginning) and beginning == segments[: len(beginning)] and len(segments) > len(beginning)


def covers(granted: str, scope: str) -> bool:
    """Whether *granted* covers *scope*. A wildcard is also covered by any scope beneath it."""
    return granted == scope or is_under(scope, granted) or is_under(granted, scope)


@TRIES
@hypothesis.given(asked=st.lists(SCOPES, max_size=4), granted=st.frozensets(SCOPES, max_size=3))
def test_exactly_the_scopes_that_no_granted_one_covers_are_missing(asked: list[str], granted: frozenset[str]) -> None:
    assert [scope for scope in asked if not any(covers(one, scope) for one in granted)] == missing(asked, granted)


@TRIES
@hypothesis.given(asked=st.lists(ANY_SCOPE, max_size=4))
def test_the_hint_for_an_unknown_scope_is_a_known_one_that_is_not_wider(asked: list[str]) -> None:
    strange = [scope for scope in asked if scope not in list(Scope)]

    hints = [re.fullmatch(r"unknown scope '(.*)', .* did you mean '(.*)'\?", line) for line in unknown(asked)]

    assert strange == [hint[1] for hint in hints if hint]
    for hint in filter(None, hints):
        assert hint[2] in list(Scope)
        assert "*" not in hint[2] or re.fullmatch(r"[^:]*:?[^:]*\*", hint[1])


# Bodies


@st.composite
def compressed(draw: st.DrawFn) -> tuple[bytes, str]:
    """A body and its encoding. It may be damaged, or have another encoding."""
    names = {"gzip": [31], "x-gzip": [31], "deflate": [15, -15]}
    encoding = draw(st.sampled_from(sorted(names)))
    compressor = zlib.compressobj(wbits=draw(st.sampled_from(names[encoding])))
    body = compressor.compress(draw(st.binary(max_size=50)) * draw(st.integers(1, 1000))) + compressor.flush()
    damage = draw(st.sampled_from(["none", "none", "end", "byte", "more", "all"]))
    at = draw(st.integers(0, len(body) - 1))
    changed = {
        "none": body,
        "end": body[:at],
        "byte": body[:at] + draw(st.binary(min_size=1, max_size=1)) + body[at + 1 :],
        "more": body + draw(st.binary(max_size=20)),
        "all": draw(st.binary(max_size=50)),
    }
    return changed[damage], draw(st.sampled_from([encoding, encoding.upper(), f" {encoding} ", "br", "gzip, gzip"]))


def by_zlib(body: bytes, encoding: str) -> bytes | None:
    """The whole body, or None if zlib refuses it."""
    for wbits in {"gzip": [31], "x-gzip": [31], "deflate": [15, -15]}.get(encoding.strip().lower(), []):
        try:
            return zlib.decompress(body, wbits)
        except zlib.error:
            continue
    return None


@TRIES
@hypothesis.given(given=compressed(), limit=st.integers(1, 60_000) | st.integers(1, 100))
def test_a_body_is_decoded_as_zlib_does_and_never_beyond_the_limit(given: tuple[bytes, str], limit: int) -> None:
    body, encoding = given
    whole = by_zlib(body, encoding)

    result = decoded(body, encoding, limit)

    assert len(result) <= limit
    if whole is not None:
        assert whole[:limit] == result
    else:
        # What is beyond the limit is not looked at.
        assert len(result) in (0, limit)


# The fuzzing

# The tests above, and the two properties of `test_urls.py`, which take longer.
PROPERTIES: list[Any] = [
    *(globals()[name] for name in list(globals()) if name.startswith("test_")),
    agreement,
    redirects,
]


def counted(given: Any, tried: Counter[str]) -> None:
    """Count the inputs of a property."""
    inner = given.hypothesis.inner_test

    @functools.wraps(inner)
    def count(*args: object, **kwargs: object) -> None:
        tried[given.__name__] += 1
        inner(*args, **kwargs)

    given.hypothesis.inner_test = count


def run(given: Any, seed: int) -> None:
    """Try a property with the inputs of *seed*. It shares nothing with an earlier run, so that the seed repeats it."""
    arguments: list[Any] = []
    if given is agreement:
        arguments = [{name: make() for name, make in CALLERS.items()}, Counter()]
    elif given is redirects:
        arguments = [Counter()]
    try:
        hypothesis.seed(seed)(given)(*arguments)
    except BaseException as error:
        error.add_note(f"Repeat it with: nox -s fuzz -- --seed {seed}")
        raise


@pytest.mark.fuzz
def test_no_input_breaks_a_property(
    pytestconfig: pytest.Config, record_property: Callable[[str, object], None]
) -> None:
    """Each property begins with the first seed, and goes on with the next one. All get the same time, and at least one turn."""
    ends = time.monotonic() + pytestconfig.getoption("fuzz_seconds")
    spent = dict.fromkeys(PROPERTIES, 0.0)
    seeds = dict.fromkeys(PROPERTIES, pytestconfig.getoption("fuzz_seed"))
    tried: Counter[str] = Counter()
    for given in PROPERTIES:
        counted(given, tried)
    while (began := time.monotonic()) < ends or 0 in spent.values():
        given = min(PROPERTIES, key=spent.__getitem__)
        try:
            run(given, seeds[given])
        except BaseException:
            record_property("fuzz", f"{given.__name__} fails with --seed {seeds[given]}")
            raise
        spent[given] += time.monotonic() - began
        seeds[given] += 1
    record_property(
        "fuzz", f"{tried.total():,} inputs: {', '.join(f'{name} {count:,}' for name, count in tried.items())}"
    )
