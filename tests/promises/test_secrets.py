"""
Every call, failure and complaint gets a secret, a token, an answer's body and a gateway's key. Everything that is shown
is searched for them.

A library may show the caller's own request, which carries the token. Nobody may show any part of the token request.
"""

from __future__ import annotations

import ast
import asyncio
import base64
import contextlib
import copy
import faulthandler
import functools
import html
import http.client
import io
import json
import logging
import pickle
import pprint
import re
import sys
import tempfile
import threading
import traceback
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Self

import pytest
import rich.console
import rich.pretty
import trustme
from click.testing import CliRunner

import dolby_auth_plugin
from dolby_auth_plugin import AccessToken, AppCredentials, ScopeWarning, TokenError, cli
from dolby_auth_plugin._core.endpoint import TokenEndpoint, TokenRequest, TokenResponse
from dolby_auth_plugin._core.errors import Failure
from dolby_auth_plugin._core.token import Instant

from ..contract import rendered, server_context
from ..drivers import Driver
from ..fakes import Gate, MemoryCache, answer, eventually, make_source, wait_for_fetches
from ..internals import fetcher_of, parts_of, sender_of, source_of, thread_frames
from ..matrix import ASYNCIO, HTTPX, HTTPX2, REQUESTS, SYNC, TRIO, Scene, each, matrix
from ..servers import Received, Reply, refusing, serving

PACKAGE = Path(dolby_auth_plugin.__file__).parent

# A text made from one of these words (quoted, escaped, cut) still contains it, or one of its forms below.
IN_SECRET, IN_TOKEN, IN_BODY, IN_QUERY = WORDS = ("Hushabye", "Lullaby", "Nightjar", "Gatekey")

# Quoting, HTML, JSON and a wrong character set each change it.
SECRET = f"\u00fc {IN_SECRET}\"'/&<+%"
CREDENTIALS = AppCredentials("an-app-key", SECRET)
BASIC = base64.b64encode(f"an-app-key:{SECRET}".encode()).decode()
PATH = "/grant"

NOW = Instant(1000.0, 1_700_000_000.0)


def forms(word: str) -> Iterator[str]:
    """*word* as plain text, and as part of any longer text that was written in hexadecimal, base64 or UTF-16."""
    yield word
    yield word.encode().hex()
    yield "\0".join(word)
    for before in range(3):
        # The characters that depend only on the word.
        encoded = base64.b64encode(b"-" * before + word.encode()).decode()
        yield encoded[(0, 2, 3)[before] : (before + len(word)) * 8 // 6]


FORMS = {word: tuple(forms(word)) for word in WORDS}


def found(shown: str | bytes, words: Iterable[str] = WORDS) -> list[str]:
    """The *words* that *shown* contains in some form."""
    text = shown.decode("latin-1") if isinstance(shown, bytes) else shown
    return [f"{word} as {form!r}" for word in words for form in FORMS[word] if form in text]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("before", ["", "x", "xx"])
def test_the_search_finds_a_word_in_every_form(word: str, before: str) -> None:
    text = f"{before}{word}!"

    for shown in (
        text,
        text.encode().hex(),
        base64.b64encode(text.encode()),
        text.encode("utf-16"),
        pickle.dumps([text]),
    ):
        assert len(found(shown)) == 1


# Views of an object


def views(thing: Any) -> str:
    """*thing* as logs, notebooks, debuggers and failing tests show it."""
    fields = vars(thing) if hasattr(thing, "__dict__") else {}
    plain = f"{thing!r} {thing!s} {thing} {thing!a} {[thing]} {fields}"
    return "\n".join(
        [plain, *(f"{pprint.pformat(it)} {rich.pretty.pretty_repr(it)}" for it in ({"it": thing}, fields))]
    )


def inspected(thing: Any) -> str:
    console = rich.console.Console(file=io.StringIO(), width=200)
    rich.inspect(thing, console=console, private=True)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return] # it is the StringIO


def frames_of(error: BaseException) -> list[FrameType]:
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def locals_shown(frames: Iterable[FrameType]) -> str:
    """The local variables of the package's own *frames*, as different traceback tools show them."""
    return "\n".join(
        f"{frame.f_code.co_name}: {name} = {value!r} {rich.pretty.pretty_repr(value)}"
        for frame in frames
        if frame.f_code.co_filename.startswith(str(PACKAGE))
        for name, value in frame.f_locals.items()
    )


def everything_shown_by(error: BaseException) -> str:
    """Everything that *error* shows, except the frames of other packages."""
    shown = [views(error), rendered(error), locals_shown(frames_of(error)), *traceback.format_exception(error)]
    with contextlib.suppress(TypeError):
        shown.append(pickle.dumps(error).decode("latin-1"))
    request = getattr(error, "request", None)
    if request is not None:
        shown += [views(request), repr(dict(request.headers)), str(request.url)]
    for earlier in (error.__cause__, error.__context__):
        # A suppressed context counts too: it can still be read.
        shown.append("" if earlier is None else f"{earlier!r} {vars(earlier)}")
    return "\n".join(shown)


# The caller


@dataclass
class Caller:
    """
    A scene whose token URL has a gateway's key, and the results of its calls.

    Attributes:
        seen: Responses, tokens and warnings.
        members: Further members of an answer with a token.
    """

    scene: Scene
    lent: bool = False
    seen: list[Any] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    members: dict[str, Any] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scene.token_url = f"{self.scene.endpoint.url}{PATH}?key={IN_QUERY}"
        self.scene.options |= {"app_secret": SECRET, **(self.scene.lend() if self.lent else {})}
        self.scene.endpoint.answer = self._grant

    def _grant(self, _: Received) -> Reply:
        self.tokens.append(f"{IN_TOKEN}.{len(self.tokens)}")
        members = {"access_token": self.tokens[-1], "expires_in": 1800, "hint": IN_BODY, **self.members}
        return Reply(headers={"X-Hint": IN_BODY}, body=json.dumps(members).encode())

    def revoke(self) -> None:
        revoked = {f"Bearer {token}" for token in self.tokens}
        self.scene.api.answer = lambda received: Reply(401 if received.token in revoked else 200)

    def gets(self, status: int = 200) -> None:
        seen = self.scene.send()
        self.seen.append(seen.response)
        assert status == seen.status

    def fails(self) -> None:
        """Fail in a call, and in `token()`. The second failure comes from memory."""
        self.errors.append(self.scene.fail())
        with pytest.raises(TokenError) as caught:
            self.scene.driver.token(self.scene.auth)
        self.errors.append(caught.value)

    def parts(self) -> list[Any]:
        auth = self.scene.auth
        request = fetcher_of(source_of(auth)).endpoint.request(CREDENTIALS)
        return [auth, copy.copy(auth), *parts_of(auth), request, TokenResponse(200, None, IN_BODY.encode())]


@pytest.fixture
def caller(scene: Scene) -> Caller:
    return Caller(scene)


# Situations


def is_answered(caller: Caller) -> None:
    caller.gets()
    caller.seen.append(caller.scene.driver.token(caller.scene.auth))


def is_retried(caller: Caller) -> None:
    caller.gets()
    caller.revoke()
    caller.gets()


def is_refused_twice(caller: Caller) -> None:
    caller.scene.api.answer = lambda _: Reply(401)
    caller.gets(401)


def is_not_renewed(caller: Caller) -> None:
    caller.gets()
    caller.scene.endpoint.answer = echo(500)
    caller.scene.clock.advance(1600)
    caller.gets()


def gets_no_replacement(caller: Caller) -> None:
    caller.gets()
    caller.revoke()
    caller.scene.endpoint.answer = echo(403)
    caller.fails()


def waits_for_a_token(auth: Any) -> threading.Thread:
    def wait() -> None:
        with contextlib.suppress(TokenError):
            auth.token()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def is_overdue(caller: Caller) -> None:
    """The fetch is overdue, and its token arrives later."""
    gate = Gate(CREDENTIALS.app_key, SECRET)
    caller.scene.options |= {"app_key": None, "app_secret": None, "credentials": gate}
    first = waits_for_a_token(caller.scene.auth)
    try:
        assert gate.asked.acquire(timeout=10)
        caller.scene.clock.advance(31)
        caller.fails()
    finally:
        gate.open()
        first.join(10)
    assert not first.is_alive()


def misses_a_scope(caller: Caller) -> None:
    caller.scene.options |= {"scope": "comms:conf:admin comms:monitor:read"}
    caller.members = {"scope": "comms:monitor:read"}
    with pytest.warns(ScopeWarning) as caught:
        caller.gets()
    caller.seen += [warning.message for warning in caught]


def shares_its_token(caller: Caller) -> None:
    """Each operation of the cache sees the frames of the package that called it. The entry holds a token and a failure."""
    cache = MemoryCache(caller.scene.clock)
    operations = ("load", "lock", "enter", "store", "exit", "fetch_ended")
    cache.trouble = dict.fromkeys(operations, lambda: caller.seen.append(locals_shown(frames_from_here())))
    caller.scene.options |= {"cache": cache}
    caller.gets()
    caller.revoke()
    caller.scene.endpoint.answer = echo(500)
    caller.fails()
    caller.seen += [cache, *cache.entries.items()]


def frames_from_here() -> list[FrameType]:
    return [frame for frame, _ in traceback.walk_stack(None)]


def has_trouble_with_a_cache(caller: Caller) -> None:
    cache = MemoryCache(caller.scene.clock)
    caller.scene.options |= {"cache": cache}
    for operation in ("load", "lock", "enter", "store", "exit", "fetch_ended"):
        cache.trouble = {operation: raising(ValueError(SECRET))}
        caller.scene.clock.advance(10)
        caller.scene.auth.invalidate()
        caller.gets()


def has_no_server(caller: Caller) -> None:
    with refusing() as host:
        caller.scene.token_url = caller.scene.token_url.replace(caller.scene.endpoint.host, host)
        caller.fails()


def is_refused_a_certificate(caller: Caller) -> None:
    with serving(server_context(trustme.CA())) as server:
        caller.scene.token_url = f"{server.url}{PATH}?key={IN_QUERY}"
        caller.fails()


def always(reply: Reply) -> Callable[[Received], Reply]:
    return lambda _: reply


def fails_with(*grants: Callable[[Received], Reply] | Reply) -> Callable[[Caller], None]:
    def situation(caller: Caller) -> None:
        for grant in grants:
            caller.scene.endpoint.answer = always(grant) if isinstance(grant, Reply) else grant
            caller.scene.auth.invalidate()
            caller.fails()

    return situation


def has_credentials(ask: Callable[[], Any]) -> Callable[[Caller], None]:
    def situation(caller: Caller) -> None:
        caller.scene.options |= {"app_key": None, "app_secret": None, "credentials": ask}
        caller.fails()

    return situation


def raising(error: BaseException) -> Callable[[], Any]:
    def ask() -> Any:
        raise error

    return ask


def echo(status: int) -> Callable[[Received], Reply]:
    """An answer that repeats the credentials that it got, in several forms."""

    def answer(received: Received) -> Reply:
        text = f"{received.token} is {SECRET}, {urllib.parse.quote(SECRET)}, {html.escape(SECRET)}"
        body = {"error": "bad", "error_description": text, "hint": IN_BODY, "access_token": IN_TOKEN}
        return Reply(status, {"X-Hint": IN_BODY, "Retry-After": f"{IN_BODY} {SECRET!a}"}, json.dumps(body).encode())

    return answer


HEAD = b"HTTP/1.1 200 OK\r\n"
TOKEN = json.dumps({"access_token": IN_TOKEN, "hint": [IN_BODY, SECRET]}).encode()

OF_SENDERS: dict[str, Callable[[Caller], None]] = {
    "success": is_answered,
    "401 retried": is_retried,
    "401 without a new token": gets_no_replacement,
    "renewal fails": is_not_renewed,
    "no server": has_no_server,
    "certificate refused": is_refused_a_certificate,
    "echo": fails_with(*map(echo, (200, 400, 401, 403, 429, 500))),
    "no token": fails_with(
        Reply(body=TOKEN[:-1]),
        Reply(body=b"[" + TOKEN + b"]"),
        Reply(body=TOKEN.replace(b'",', b'\\r\\n",')),
        Reply(body=TOKEN.replace(b"{", b'{"token_type":"mac",')),
        Reply(body=TOKEN.replace(b"{", b'{"expires_in":0,')),
        Reply(body=TOKEN, headers={"Content-Encoding": "gzip"}),
    ),
    "no answer": fails_with(
        Reply(raw=HEAD + b"Content-Length: 999\r\n\r\n" + TOKEN),
        Reply(raw=HEAD + b"Content-Length: 999\r\n\r\n" + TOKEN, reset=True),
        Reply(raw=HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + TOKEN),
        Reply(raw=IN_BODY.encode() + b"\r\n\r\n"),
        # urllib3 warns of such header lines, and names the URL.
        Reply(raw=HEAD + f"X-{IN_BODY}\r\nContent-Length: 2\r\n\r\n{{}}".encode()),
    ),
    "redirect": fails_with(
        Reply(302, {"Location": f"/?{IN_BODY}={urllib.parse.quote(SECRET)}"}),
        Reply(307, {"Location": f"https://{IN_BODY}:{IN_SECRET}@[/"}),
    ),
}

# These do not depend on the library.
OF_THE_CORE: dict[str, Callable[[Caller], None]] = {
    "401 twice": is_refused_twice,
    "fetch overdue": is_overdue,
    "scope not granted": misses_a_scope,
    "shared token": shares_its_token,
    "shared token, and the cache in trouble": has_trouble_with_a_cache,
    "error in an unknown form": fails_with(*(Reply(status, body=TOKEN * 2) for status in (400, 401, 418, 503))),
    "credentials() raises": has_credentials(raising(ValueError(SECRET))),
    "credentials() exits": has_credentials(raising(SystemExit(SECRET))),
    "credentials() returns a str": has_credentials(lambda: SECRET),
    "credentials() returns an incomplete tuple": has_credentials(lambda: ("an-app-key", SECRET)),
}


def situations(cases: dict[str, Callable[[Caller], None]], *, lent: bool = False) -> list[tuple[str, Any]]:
    return [(f"{name}, lent" if lent else name, (case, lent)) for name, case in cases.items()]


@matrix(
    "case",
    ([*SYNC, ASYNCIO], situations(OF_SENDERS)),
    ([REQUESTS, HTTPX], situations(OF_SENDERS, lent=True)),
    ([REQUESTS, ASYNCIO], situations(OF_THE_CORE)),
)
def test_no_secret_is_shown(
    case: tuple[Callable[[Caller], None], bool],
    scene: Scene,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    situation, lent = case
    caller = Caller(scene, lent)
    if not lent:
        # For a lent session, its owner decides this.
        monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    caplog.set_level(logging.DEBUG)
    situation(caller)
    wait_for_fetches()

    ours = [*caller.parts(), *caller.seen]
    records = [f"{record.name} {record.getMessage()} {record.__dict__}" for record in caplog.records]
    by_us = [record for record in records if record.startswith("dolby_auth_plugin")]
    by_others = "\n".join([*(record for record in records if record not in by_us), *capfd.readouterr()])
    assert [] == found("\n".join([*map(views, ours), *map(everything_shown_by, caller.errors), *by_us]))
    assert [] == found(by_others, (IN_SECRET, IN_BODY, IN_QUERY))
    assert PATH not in by_others
    # The token is part of the caller's own request.
    answered = [seen for seen in caller.seen if isinstance(seen, scene.driver.library.Response)]
    assert [] == found(pickle.dumps(answered), (IN_SECRET, IN_BODY, IN_QUERY))
    if not lent and "credentials" not in scene.options:
        assert [f"{IN_SECRET} as {IN_SECRET!r}"] == found(pickle.dumps(scene.auth), (IN_SECRET, IN_TOKEN, IN_BODY))


@each([REQUESTS, HTTPX])
def test_an_inspection_with_rich_shows_no_secret(caller: Caller) -> None:
    caller.gets()
    auth = caller.scene.auth

    shown = "".join(map(inspected, (auth, source_of(auth), sender_of(auth))))

    assert "_source" in shown
    assert [] == found(shown, (IN_SECRET, IN_TOKEN, IN_BODY))


# During a fetch


@each(SYNC)
def test_a_dump_of_all_threads_during_an_answer_shows_no_secret(caller: Caller) -> None:
    """Watchdogs write such dumps when a process hangs."""
    dumps: list[str] = []

    def is_dumped() -> bool:
        frames = [frame for top in thread_frames().values() for frame, _ in traceback.walk_stack(top)]
        dumps.append(locals_shown(frames))
        return sum("_body: " in dump for dump in dumps) > 50

    prompt = HEAD + b"Content-Length: 9999\r\n\r\n" + TOKEN
    # The pieces come slowly, so that many dumps see the one with the token.
    caller.scene.endpoint.answer = lambda _: Reply(raw=b" " * 9999, prompt=prompt, drip=0.1)
    waiting = waits_for_a_token(caller.scene.auth)
    with tempfile.TemporaryFile("w+") as file:
        eventually(is_dumped)
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        dumps.append(file.read())
    caller.scene.endpoint.ended.set()
    waiting.join(10)

    assert not waiting.is_alive()
    assert " in _body" in dumps[-1]
    assert [] == found("".join(dumps))


class LineByLine:
    """
    Looks at the local variables of the package's frames before each line that they run, in all new threads too.

    Attributes:
        places: The functions that ran.
        shown: Their local variables that showed one of the `WORDS`.
    """

    def __init__(self) -> None:
        self.places: set[str] = set()
        self.shown: set[str] = set()

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        threading.settrace(self._trace)
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)
        threading.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        module = Path(code.co_filename).stem
        if not code.co_filename.startswith(str(PACKAGE)) or module in VALUES or code.co_name == "trace":
            return None
        place = f"{module}.{code.co_qualname}"
        self.places.add(place)
        for name, value in frame.f_locals.items():
            with contextlib.suppress(AttributeError):  # an object whose constructor has not ended yet
                self.shown |= {f"{place}: {name}"} if found(repr(value)) else set()
        return self._trace


# The modules that check, read and make values. They hold a secret for microseconds, wait for nothing, and raise nothing with it. So
# does the function `trace`, to which httpcore gives the headers of an answer.
VALUES = {"credentials", "decoding", "endpoint", "redaction", "token"}


@each([*SYNC, ASYNCIO, TRIO])
def test_no_local_variable_shows_a_secret_before_any_line_that_runs(caller: Caller) -> None:
    """A token is obtained, refused, and not replaced. The API repeats the token in its refusal."""
    scene = caller.scene
    scene.token_url, scene.in_real_time = f"{scene.endpoint.url}{PATH}", True
    auth = scene.auth
    with LineByLine() as lines, scene.driver.open(auth) as client:
        client.get(scene.api.url)
        scene.api.refuse_old_tokens(Reply(401, {"Set-Cookie": "a=1"}, f"{IN_BODY} {caller.tokens[-1]}".encode()))
        assert client.get(scene.api.url).history == [401]
        scene.api.refuse_old_tokens()
        scene.endpoint.answer = echo(403)
        with pytest.raises(TokenError):
            client.get(scene.api.url)
        wait_for_fetches()

    assert [] == sorted(lines.shown)
    assert {"sender._exchange", "sender._body", "fetch.Fetcher.obtain", "source.TokenSource._run"} <= lines.places


@each(SYNC)
def test_an_interrupt_in_a_caller_that_fetches_shows_no_secret(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread can be started, so the caller fetches. The interrupt comes while the library handles an error."""

    def interrupted() -> tuple[int, bytes]:
        try:
            raise ValueError(SECRET)
        except ValueError:
            raise KeyboardInterrupt from None

    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    log: list[Any] = []
    auth = driver.adapter.DolbyAuth(CREDENTIALS.app_key, SECRET, **driver.lend(interrupted, log))
    monkeypatch.setattr(threading.Thread, "start", no_thread)

    with pytest.raises(KeyboardInterrupt) as caught:
        auth.token()

    assert len(log) == 1
    assert [] == found(everything_shown_by(caught.value))
    assert driver.name not in {frame.f_globals["__name__"].partition(".")[0] for frame in frames_of(caught.value)}


class OddError(Exception):
    @property
    def reason(self) -> str:
        raise ValueError(SECRET)


class Unusual(BaseException):
    pass


@pytest.mark.parametrize(
    "error",
    [
        ValueError(SECRET),
        Unusual(SECRET),
        SystemExit(SECRET),
        KeyboardInterrupt(SECRET),
        OSError(5, SECRET.encode()),
        OSError(5, ValueError(SECRET)),
        OSError(SECRET),
        OddError(SECRET),
        ValueError(OddError(SECRET)),
    ],
    ids=repr,
)
def test_an_exception_of_the_sender_never_leaves_the_fetchs_thread(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crash reporters would report it with the local variables of all frames. Callers would ask again and again."""
    asked: list[float] = []

    def send(_: TokenRequest, seconds: float) -> TokenResponse | Failure:
        asked.append(seconds)
        if len(asked) > 20:
            return Failure("too many tries", "too many tries")
        raise error

    escaped: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", escaped.append)
    subject = make_source(send, credentials=CREDENTIALS)  # type: ignore[arg-type] # it is a sender too

    with pytest.raises(TokenError) as caught:
        subject.token()
    wait_for_fetches()

    assert ([], 1) == (escaped, len(asked))
    assert re.fullmatch(
        rf"{type(error).__name__}(: Input/output error)? \(test_secrets\.py, line \d+\)", caught.value.reason
    )
    assert [] == found(everything_shown_by(caught.value))
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)


# Answers that echo

ECHOES = {
    "plain text": SECRET,
    "Basic header": f"Basic {BASIC}",
    "URL-safe base64, unpadded": base64.urlsafe_b64encode(f"an-app-key:{SECRET}".encode()).decode().rstrip("="),
    "percent-encoded": urllib.parse.quote(SECRET, safe=""),
    "percent-encoded in lower case": re.sub("%..", lambda code: code[0].lower(), urllib.parse.quote(SECRET, safe="")),
    "form-encoded": urllib.parse.quote_plus(SECRET),
    "form-encoded twice": urllib.parse.quote_plus(urllib.parse.quote_plus(SECRET)),
    "JSON": json.dumps(SECRET),
    "JSON in UTF-8": json.dumps(SECRET, ensure_ascii=False),
    "JSON with a slash escaped": json.dumps(SECRET).replace("/", "\\/"),
    "HTML": html.escape(SECRET),
    "HTML in numbers": html.escape(SECRET).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),
    "Python": repr(SECRET),
    "Python in ASCII": ascii(SECRET),
    "read as Latin-1": SECRET.encode().decode("latin-1"),
    "in hexadecimal": SECRET.encode().hex(),
}


@pytest.mark.parametrize("echoed", ECHOES.values(), ids=ECHOES)
def test_an_error_text_shows_no_secret_in_any_form(echoed: str) -> None:
    endpoint = TokenEndpoint("https://gateway.test/token", None, 1800, "host/1.0")
    texts = ({"error": f"{echoed}.", "message": f"no {echoed}, no"}, {"error": "bad", "detail": echoed})
    answers = [answer(status, **members) for status in (200, 401) for members in texts]

    failures = [endpoint.read(one, CREDENTIALS, NOW) for one in answers]

    assert [] == found(views(failures))
    assert all("[hidden]" in views(failure) for failure in failures)


# Comparisons in tests

PAIRS = [
    (AccessToken.issued(f"{IN_TOKEN}.1", None, 1800, NOW, 0), AccessToken.issued(f"{IN_TOKEN}.2", None, 1800, NOW, 0)),
    (CREDENTIALS, AppCredentials("an-app-key", f"{SECRET}2")),
]


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=["AccessToken", "AppCredentials"])
def test_pytests_explanation_of_a_failed_comparison_shows_no_secret(
    one: Any, other: Any, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pytestconfig.option, "verbose", 2)

    with pytest.raises(AssertionError) as alone:
        assert one == other
    with pytest.raises(AssertionError) as inside:
        assert {"it": [one]} == {"it": [other]}
    with pytest.raises(AssertionError) as with_another_kind:
        assert one == 1

    assert "assert" in str(alone.value)
    assert [] == found(f"{alone.value} {inside.value} {with_another_kind.value}")


# Complaints


@pytest.mark.parametrize("one", [one for one, _ in PAIRS], ids=["AccessToken", "AppCredentials"])
def test_the_error_for_a_changed_attribute_does_not_show_the_new_value(one: Any) -> None:
    with pytest.raises(AttributeError) as caught:
        one.value = SECRET

    assert [] == found(rendered(caught.value))


MISTAKES: dict[str, dict[str, Any]] = {
    "key and secret in one": {"app_key": f"an-app-key:{SECRET}"},
    "key and secret in two lines": {"app_key": f"an-app-key\n{SECRET}"},
    "key and secret in a tuple": {"app_key": ("an-app-key", SECRET)},
    "secret in two lines": {"app_secret": f"{SECRET}\n"},
    "secret as bytes": {"app_secret": SECRET.encode()},
    "secret in a tuple": {"app_secret": (SECRET,)},
    "callable together with a key": {"credentials": lambda: CREDENTIALS},
    "a callable that shows the secret, and a bad option": {
        "app_key": None,
        "app_secret": None,
        "credentials": functools.partial(AppCredentials, "an-app-key", SECRET),
        "timeout": -1,
    },
    "an async callable": {"app_key": None, "app_secret": None, "credentials": asyncio.sleep},
    "credentials in a tuple": {"app_key": None, "app_secret": None, "credentials": ("an-app-key", SECRET)},
    "malformed scope": {"scope": "a,b c\\"},
    "scope of another type": {"scope": [b"comms:*"]},
    "expires_in as text": {"expires_in": "1800"},
    "expires_in out of range": {"expires_in": 0},
    "timeout as text": {"timeout": "30"},
    "timeout out of range": {"timeout": -1},
    "unknown option": {"app_secert": SECRET},
    "userinfo": {"token_url": f"https://an-app-key:{IN_SECRET}@api.dolby.io/v1/auth/token"},
    "userinfo instead of a host": {"token_url": f"https://an-app-key:{IN_SECRET}/v1/auth/token"},
    "userinfo without a scheme": {"token_url": f"an-app-key:{IN_SECRET}@api.dolby.io/v1/auth/token"},
    "userinfo after a scheme only": {"token_url": f"https:an-app-key:{IN_SECRET}@api.dolby.io/v1/auth/token"},
    "plain http": {"token_url": f"http://api.dolby.io/token?key={IN_QUERY}"},
    "no host": {"token_url": f"https:///token?key={IN_QUERY}"},
    "bad port": {"token_url": f"https://api.dolby.io:x/token?key={IN_QUERY}"},
    "fragment": {"token_url": f"https://api.dolby.io/token?key={IN_QUERY}#{IN_TOKEN}"},
    "space": {"token_url": f"https://api.dolby.io/token?key={IN_QUERY} "},
    "hosts in a string": {"allowed_hosts": f"https://an-app-key:{IN_SECRET}@api.dolby.io"},
    "host with userinfo": {"allowed_hosts": [f"an-app-key:{IN_SECRET}@api.dolby.io"]},
    "host with scheme and userinfo": {"allowed_hosts": [f"https://an-app-key:{IN_SECRET}@api.dolby.io/"]},
    "host with a query": {"allowed_hosts": [f"api.dolby.io/?key={IN_QUERY}"]},
    "host of another type": {"allowed_hosts": [SECRET.encode()]},
    "the URL of a cache": {"cache": f"redis://:{IN_SECRET}@cache.example.com"},
    "the URL of a cache, and a bad option": {"cache": f"redis://:{IN_SECRET}@cache.example.com", "timeout": "30"},
}


# httpx and httpx2 have their own constructors, which read the arguments in the same way.
OF_THE_FAMILY = (
    "key and secret in one",
    "secret in two lines",
    "secret as bytes",
    "a callable that shows the secret, and a bad option",
    "credentials in a tuple",
    "unknown option",
    "timeout as text",
    "the URL of a cache",
)


@matrix(
    "mistake", ([REQUESTS], MISTAKES.items()), ([HTTPX, HTTPX2], [(name, MISTAKES[name]) for name in OF_THE_FAMILY])
)
def test_an_error_of_the_constructor_shows_no_secret(driver: Driver, mistake: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        driver.adapter.DolbyAuth(**{"app_key": "an-app-key", "app_secret": SECRET, **mistake})

    assert [] == found(f"{caught.value} {caught.value!r} {vars(caught.value)}")
    assert (None, True) == (
        caught.value.__cause__,
        caught.value.__context__ is None or caught.value.__suppress_context__,
    )
    if "token_url" not in mistake and "allowed_hosts" not in mistake:
        # The local variables of the frames contain these two arguments.
        assert [] == found(rendered(caught.value), (IN_SECRET,))


@each(SYNC)
def test_the_error_for_a_request_of_another_library_shows_no_part_of_it(driver: Driver) -> None:
    auth = driver.adapter.DolbyAuth("an-app-key", SECRET)
    other = next(other for other in SYNC if other is not driver)
    request = other.library.Request("GET", f"https://h/?{IN_QUERY}", headers={"Authorization": f"Bearer {IN_TOKEN}"})

    with pytest.raises(TypeError, match="is for") as caught:
        auth(request)

    assert [] == found(everything_shown_by(caught.value), (IN_SECRET, IN_TOKEN))


# The source code

# The expressions that a message may contain, everywhere or in one module, and why they are not secret. `type(x).__name__` and
# `printable(x)` are always allowed.
ALLOWED = {
    "credentials: what": "'app key' or 'app secret', the words",
    "credentials: str(pair)": "of an error made of what is in this list, or of the operating system about a file",
    "credentials: where": "paths of files",
    "credentials: error": "made of what is in this list",
    "credentials: given": "the name of a type, or the first characters of an app key",
    "_WAITS_FOR_ITSELF": "four words",
    "_error.name": "the name of a module",
    "path": "the folder of a cache, or a file in it",
    "found": "words about a file",
    "missing": "the name of a variable",
    "' and '.join(names)": "names of variables",
    "names[0]": "the name of a variable",
    "names[1]": "the name of a variable",
    "other_names[0]": "the name of a variable",
    "other_names[1]": "the name of a variable",
    "pairs": "names of variables",
    "mine": "the name of a library",
    "theirs": "the name of a library",
    "name": "the name of a library, or of an attribute",
    "__name__": "a module",
    "auth: found": "the version of a library",
    "auth: needed": "the versions of a library",
    "self._library.__name__": "a module",
    "kind.__name__": "a class",
    "timeout": "a number",
    "expires_in": "a number",
    "MAX_LIFE": "a number",
    "_MAX_URL": "a number",
    "len(token_url)": "a number",
    "number": "a number",
    "seconds": "a number",
    "scope: value": "a malformed scope",
    "sentence": "of an unknown scope, or of a file that others may write",
    "secret_files: wanted": "names of variables",
    "secret_files: _LARGEST": "a number",
    "secret_files: number": "of a line",
    "error.lineno": "of a line",
    "host": "host and port",
    "_shown(token_url)": "without userinfo and query",
    "_shown(allowed_hosts)": "without userinfo and query",
    "_shown(entry)": "without userinfo and query",
    "self.shown_url": "a token_url without its query",
    "why": "a sentence of ours",
    "why_not": "a sentence of ours, with the name of a type",
    "self.policy.why_not(origin)[0]": "a sentence of ours",
    "settings": "a sentence of ours",
    "advice": "a sentence of ours",
    "message": "a sentence of ours, with text that `error_texts` allowed",
    "reason": "text that `error_texts` allowed",
    "description": "text that `error_texts` allowed",
    "failure.message": "made of what is in this list",
    "str(error)": "of an error made of what is in this list",
    "status": "a number",
    "response.status_code": "a number",
    "_phrase(status)": "the standard library's words for a number",
    "retry_after": "a number",
    "retryable": "true or false",
    "self._advice(status, details, credentials, retry_after)": "a sentence of ours, with text that `error_texts` allowed",
    "complaint": "a sentence of ours",
    "failures: words": "words of the operating system or of OpenSSL",
    "failures: what": "the name of what was called",
    "_shared: what": "type, file and line, or a sentence of ours",
    "failures: number": "how many token requests are overdue",
    "failures: place": "type, file and line",
    "_CHECK_CERTIFICATE": "a sentence of ours",
    "_NO_ANSWER": "words of ours",
    "failures: variables": "names of variables",
    "check": "a sentence of ours",
    "_CHECK_NETWORK": "a sentence of ours",
    "event": "a name of ours",
    "origins: scheme": "made by `printable`",
    "records: _VERBS[event]": "words of ours",
    "records: lifetime": "a number",
    "records: scopes": "made by `printable`",
    "records: level": "a number",
    "records: *values": "checked wherever `log` is called",
    "records: {'event': event, **fields}": "checked wherever `log` is called",
    "shown_key(self._app_key)": "the first characters of an app key",
    "shown_key(found.app_key)": "the first characters of an app key",
    "names": "scopes that were asked for",
}

SHOWING = re.compile(
    r"(.*\.)?(debug|info|warning|error|exception|critical|log|warn|print|exit|Failure|bad|\w*(Error|Exception|Warning))"
)


def shown_by(source: str, module: str = "") -> list[str]:
    """The expressions in log records, warnings, errors and failures of the source code that are not in `ALLOWED`."""
    return [
        f"line {call.lineno}: {expression}"
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call) and SHOWING.fullmatch(ast.unparse(call.func))
        for argument in (*call.args, *(keyword.value for keyword in call.keywords))
        for expression in made_of(argument)
        if not {expression, f"{module}: {expression}"} & ALLOWED.keys()
        and not re.fullmatch(r"type\(\w+\)\.__name__|[A-Z]\w+Warning|logging\.[A-Z]+", expression)
    ]


def made_of(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant() | ast.Compare() | ast.UnaryOp(ast.Not()) | ast.Call(ast.Name("printable")):
            pass
        case ast.JoinedStr(values) | ast.BoolOp(values=values):
            for value in values:
                yield from made_of(value)
        case ast.FormattedValue(value):
            yield from made_of(value)
        case ast.IfExp(body=one, orelse=other) | ast.BinOp(one, ast.Add() | ast.Mod(), other):
            yield from made_of(one)
            yield from made_of(other)
        case _:
            yield ast.unparse(node)


# The command line and the sandbox write messages of their own.
MODULES = sorted({*PACKAGE.rglob("*.py")} - {*(PACKAGE / "cli").glob("*"), *(PACKAGE / "sandbox").glob("*")})


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_no_module_shows_an_object_that_can_hold_a_secret(module: Path) -> None:
    assert [] == shown_by(module.read_text(), module.stem)


def test_every_allowed_expression_is_used() -> None:
    everything = "".join(ast.unparse(ast.parse(module.read_text())) for module in MODULES)

    assert [] == [expression for expression in ALLOWED if expression.rpartition(": ")[2] not in everything]


@pytest.mark.parametrize(
    ("source", "holder"),
    [
        ('logger.debug("%s", request.headers)', "request.headers"),
        ('logger.info(f"sent {token!r}")', "token"),
        ('logging.getLogger("x").warning("no %s" % response)', "response"),
        ('logger.log(10, "a" + body)', "body"),
        ('log(logging.INFO, "an_event", "a sentence", host=request.url)', "request.url"),
        ('warnings.warn("no", source=self)', "self"),
        ('raise ValueError(f"bad {app_secret}")', "app_secret"),
        ('complaint = TypeError("bad: " + (seconds or app_secret))', "app_secret"),
        ('print(header if header else "none")', "header"),
        ('Failure("no", reason=str(answer))', "str(answer)"),
    ],
)
def test_the_check_finds_an_expression_that_is_not_allowed(source: str, holder: str) -> None:
    assert [f"line 1: {holder}"] == shown_by(source)


def test_no_module_starts_a_process() -> None:
    """`ps` would show its command line. The demonstration of processes passes all it has through a pipe."""
    modules = [module for module in PACKAGE.rglob("*.py") if module.name != "processes.py"]
    everything = "".join(module.read_text() for module in modules)

    assert not re.search(r"\bsubprocess\b|\bmultiprocessing\b|os\.(exec|spawn|popen|posix_spawn|system)", everything)


# The command


def test_no_option_of_the_command_takes_a_secret() -> None:
    """`ps` would show it."""
    taken = {
        parameter.name
        for command in (cli.main, *cli.main.commands.values())
        for parameter in command.params
        if not getattr(parameter, "is_flag", False)
    }

    # A number each, one of two words, scopes, a path, and a URL. A URL with a key belongs into the environment, as the help says.
    assert {"cache", "expires_in", "port", "processes", "seconds"} | {"scopes", "app_secret_file", "token_url"} == taken


@pytest.mark.parametrize("command", ["demo --live", "token", "check"])
@pytest.mark.parametrize("status", [200, 400, 401])
def test_the_commands_explanation_of_a_failure_shows_no_secret(
    status: int, command: str, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    endpoint = caller.scene.endpoint
    endpoint.answer = echo(status)
    environment = {
        "DOLBYIO_APP_KEY": CREDENTIALS.app_key,
        "DOLBYIO_APP_SECRET": CREDENTIALS.app_secret,
        "DOLBYIO_TOKEN_URL": f"{endpoint.url}{PATH}",
    }

    result = CliRunner(env=environment).invoke(cli.main, command.split())

    assert result.exit_code == 1
    assert "bad: " in result.output
    # `output` includes stderr.
    assert [] == found(f"{result.output} {caplog.text}")
