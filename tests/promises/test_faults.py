"""
What a token endpoint can do wrong, on real sockets: nothing hangs, nothing loops, each error is right.

What an answer means is tested without a socket in `test_endpoint.py`; here each library's sender has to bring it in.
"""

from __future__ import annotations

import errno
import functools
import gzip
import json
import os
import pickle
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import trustme

from dolby_auth_plugin import TokenError
from dolby_auth_plugin._core.endpoint import MAX_BODY
from dolby_auth_plugin.sandbox import Sandbox

from ..contract import CLASSIC, on_clock, server_context
from ..drivers import AsyncHttpxDriver, Client, Driver, HttpxDriver, RequestsDriver
from ..fakes import FakeClock, wait_for_fetches
from ..internals import fetcher_of, fresh_tls_contexts, set_timeout, source_of
from ..servers import Received, Reply, Server, serving

SENDERS: list[Driver] = [RequestsDriver("requests"), HttpxDriver("httpx"), HttpxDriver("httpx2")]

# A fetch is the same whoever waits for it, so that tasks need only a few of the cases.
ASYNC = AsyncHttpxDriver("httpx", "asyncio")

# In bodies and headers that must not be shown. As long as a token at least, since error texts are shown in part.
CANARY = "canary.0123456789.0123456789.0123456789"

GOOD = Reply(headers={"Content-Type": "application/json"}, body=b'{"access_token":"good"}')

# Seconds; FakeClock adds and compares it without an error.
TICK = 2**-10

# Seconds between the four tries of a failure that may pass, chance left out.
PAUSES = (0.5, 1.0, 2.0)

YEAR = 365 * 86_400


class Caller:
    """
    A user of the API whose token endpoint is at *token_url*.

    The clock stands still but for the pauses between tries, unless *in_real_time*.
    """

    def __init__(
        self,
        driver: Driver,
        client: Client,
        api: Server,
        token_url: str,
        /,
        *,
        in_real_time: bool = False,
        **options: Any,
    ) -> None:
        self.driver = driver
        self.client = client
        self.api = api
        self.clock = FakeClock()
        arguments = {**CLASSIC, "token_url": token_url, "allowed_hosts": [api.host], **options}
        auth = driver.adapter.DolbyAuth(**arguments)
        self.auth = auth if in_real_time else on_clock(auth, self.clock)

    def call(self) -> int:
        return self.client.get(self.api.url, auth=self.auth).status

    def fail(self) -> Any:
        """The error of a call, which can't have been sent."""
        with pytest.raises(self.driver.adapter.TokenError) as caught:
            self.call()
        return caught.value

    def hurry(self, seconds_a_try: float) -> None:
        """Have each try take so much at most, where the source allows it 10 s."""
        fetcher = fetcher_of(source_of(self.auth))
        send = fetcher.send
        fetcher.send = lambda request, seconds: send(request, seconds / 10 * seconds_a_try)


@pytest.fixture(params=SENDERS, ids=lambda driver: driver.name)
def driver(request: pytest.FixtureRequest) -> Driver:
    chosen: Driver = request.param
    return chosen


@dataclass
class Equipment:
    """What takes a while to set up, and serves all tests."""

    clients: dict[Driver, Client]
    endpoint: Server
    api: Server


@pytest.fixture(scope="module")
def equipment() -> Iterator[Equipment]:
    with ExitStack() as stack:
        clients = {driver: stack.enter_context(driver.open(None)) for driver in (*SENDERS, ASYNC)}
        yield Equipment(clients, stack.enter_context(serving()), stack.enter_context(serving()))


@pytest.fixture
def api(equipment: Equipment) -> Server:
    equipment.api.log.clear()
    return equipment.api


@pytest.fixture
def endpoint(equipment: Equipment) -> Server:
    equipment.endpoint.log.clear()
    return equipment.endpoint


@pytest.fixture
def slow_endpoint() -> Iterator[Server]:
    """One of the test's own: it takes its time, and is not to be met by the next test."""
    with serving() as server:
        yield server
    wait_for_fetches()


@pytest.fixture
def caller_of(driver: Driver, equipment: Equipment, api: Server) -> Callable[..., Caller]:
    return functools.partial(Caller, driver, equipment.clients[driver], api)


@pytest.fixture
def caller(caller_of: Callable[..., Caller], endpoint: Server) -> Caller:
    """Its endpoint's query may hold a gateway's key."""
    return caller_of(f"{endpoint.url}/token?key={CANARY}")


def fields(error: Any) -> tuple[int | None, str, bool, float | None]:
    return error.status_code, error.reason, error.retryable, error.retry_after


# Answers


@dataclass(frozen=True)
class Fault:
    """
    What the endpoint answers, and what is promised for that.

    Attributes:
        reason: None where it is in the library's own words.
        says: What the message has to tell: what happened, or what to do.
        pauses: Between the tries, in seconds; as many tries and one more.
        memory: Seconds until the endpoint is asked again.
    """

    name: str
    answer: Reply | Callable[[Received, FakeClock], Reply]
    status_code: int | None
    reason: str | None
    says: tuple[str, ...]
    retryable: bool = False
    retry_after: float | None = None
    pauses: tuple[float, ...] = ()
    memory: float = 3.0

    def reply(self, received: Received, clock: FakeClock) -> Reply:
        return self.answer if isinstance(self.answer, Reply) else self.answer(received, clock)


def refusal(status: int, *says: str) -> Fault:
    """Final at once; its body is of no known form."""
    reply = Reply(status, body=CANARY.encode())
    return Fault(str(status), reply, status, HTTPStatus(status).phrase, says)


def passing(status: int, *says: str) -> Fault:
    reply = Reply(status, body=CANARY.encode())
    return Fault(str(status), reply, status, HTTPStatus(status).phrase, says, retryable=True, pauses=PAUSES)


def put_off(
    name: str,
    header: Callable[[FakeClock], str],
    retry_after: float | None,
    *says: str,
    status: int = 429,
    pauses: tuple[float, ...] = PAUSES,
    memory: float = 3.0,
) -> Fault:
    """With a `Retry-After`."""
    return Fault(
        f"{status}, Retry-After {name}",
        lambda _, clock: Reply(status, {"Retry-After": header(clock)}, CANARY.encode()),
        status,
        HTTPStatus(status).phrase,
        says,
        retryable=True,
        retry_after=retry_after,
        pauses=pauses,
        memory=memory,
    )


def date(clock: FakeClock, seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(clock.time() + seconds, UTC), usegmt=True)


def no_token(name: str, body: bytes | str, why: str, **answer: Any) -> Fault:
    """A success that is none: final at once."""
    reply = Reply(**{"body": body.encode() if isinstance(body, str) else body, **answer})
    says = (f"(HTTP {reply.status}) is not a token: ", why, "Check token_url (http://127.0.0.1:")
    return Fault(name, reply, reply.status, "not a token", says)


def no_answer(name: str, raw: bytes, reason: str | None = None, *, reset: bool = False) -> Fault:
    return Fault(
        name,
        Reply(raw=raw, reset=reset),
        None,
        reason,
        ("No answer from the token endpoint: ", "Check the network, and the proxy settings in the environment."),
        retryable=True,
        pauses=PAUSES,
    )


def echo(received: Received, _: FakeClock) -> Reply:
    """A refusal that shows what it was sent, and more."""
    said = f"Not accepted: {received.token} ({CLASSIC['app_secret']}); {CANARY}"
    return Reply(401, body=json.dumps({"error": "invalid_client", "error_description": said, "hint": CANARY}).encode())


def member(text: str) -> str:
    """An answer that would be a token but for one member."""
    return f'{{"access_token":"{CANARY}",{text}}}'


HEAD = b"HTTP/1.1 200 OK\r\n"
RESET = os.strerror(errno.ECONNRESET)
GZIP = {"Content-Encoding": "gzip"}
TOKEN = member('"token_type":"Bearer"').encode()

FAULTS = [
    passing(429, "too many requests", "Try again later"),
    put_off("in seconds", lambda _: "2", 2, "Try again in 2 s", pauses=(2, 2, 2)),
    put_off("in few seconds", lambda _: "1", 1, "Try again in 1 s", pauses=(1, 1, 2)),
    put_off("as a date", lambda clock: date(clock, 5), 5, "Try again in 5 s", pauses=(5, 5, 5), memory=5),
    put_off("in the past", lambda clock: date(clock, -5), 0, "Try again in 0 s"),
    put_off("as nonsense", lambda _: f"soon {CANARY}", None, "Try again later"),
    put_off("of a year", lambda _: str(YEAR), YEAR, f"Try again in {YEAR} s", pauses=(), memory=10),
    put_off("of a year as a date", lambda clock: date(clock, YEAR), YEAR, f"in {YEAR} s", pauses=(), memory=10),
    put_off("in seconds", lambda _: "2", 2, "try again later", status=503, pauses=(2, 2, 2)),
    *(passing(status, "The fault is on the server's side: try again later") for status in (500, 502, 503, 504, 507)),
    refusal(400, "Check scope, expires_in and token_url (http://127.0.0.1:"),
    refusal(401, "app key 'an-app-key'", "dashboard"),
    refusal(403, "Check scope, expires_in and token_url"),
    refusal(404, "Check scope, expires_in and token_url"),
    refusal(405, "Check scope, expires_in and token_url"),
    Fault("401 that echoes", echo, 401, "invalid_client", ("invalid_client: Not accepted", "dashboard")),
    Fault(
        "400 with Retry-After",
        lambda _, clock: Reply(400, {"Retry-After": "7"}, b""),
        400,
        "Bad Request",
        ("Check scope",),
        retry_after=7,
        memory=7,
    ),
    Fault("status in other words", Reply(raw=f"HTTP/1.1 403 {CANARY}\r\n\r\n".encode()), 403, "Forbidden", ("403",)),
    Fault(
        "redirect to itself", Reply(307, {"Location": f"/token?{CANARY}"}), 307, "Temporary Redirect", ("redirects",)
    ),
    # Nothing that could be an answer.
    no_answer("reset", b"", RESET, reset=True),
    no_answer("reset in the headers", b"HTTP/1.1 200 OK\r\nX: ", reset=True),
    no_answer("reset in the body", HEAD + b"Content-Length: 99\r\n\r\n{", reset=True),
    no_answer("closed at once", b""),
    no_answer("closed in the status line", b"HTTP/1.1 2"),
    no_answer("closed in the body", HEAD + b"Content-Length: 1000\r\n\r\n" + TOKEN),
    no_answer("closed in a chunk", HEAD + b"Transfer-Encoding: chunked\r\n\r\nff\r\n" + TOKEN),
    no_answer("bad chunk", HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + TOKEN),
    no_answer("another protocol", f"SSH-2.0-{CANARY}\r\n".encode()),
    no_answer("header without an end", HEAD + b"X: " + b"x" * 300_000),
    no_answer("headers without an end", HEAD + b"X: x\r\n" * 60_000),
    # Successes that are none.
    no_token("no body", b"", "it is not a JSON object"),
    no_token("204", b"", "it is not a JSON object", status=204),
    no_token("HTML", f"<html>{CANARY}</html>", "it is not a JSON object", headers={"Content-Type": "text/html"}),
    no_token("JSON that is cut", TOKEN[:-1], "it is not a JSON object"),
    no_token("JSON in UTF-16", TOKEN.decode().encode("utf-16"), "it is not a JSON object"),
    no_token("a list", f"[{TOKEN.decode()}]", "it is not a JSON object"),
    no_token("deep nesting", "[" * 500_000, "it is not a JSON object"),
    no_token("bad gzip", TOKEN, "it is not a JSON object", headers=GZIP),
    no_token("gzip that is cut", gzip.compress(TOKEN)[:-12], "it is not a JSON object", headers=GZIP),
    no_token("no access_token", f'{{"token":"{CANARY}"}}', "it has no access_token"),
    no_token("characters", f'{{"access_token":"{CANARY}\\r\\nX: y"}}', "characters that RFC 6750 does not allow"),
    no_token("another token_type", member('"token_type":"mac"'), "its token_type is not Bearer"),
    no_token("expires_in 0", member('"expires_in":0'), "its expires_in is not a number of seconds above zero"),
    no_token("expires_in NaN", member('"expires_in":NaN'), "its expires_in is not a number of seconds above zero"),
    no_token("error", member(f'"error":"bad","error_description":"no {CANARY}"'), "it reports an error (bad: no "),
    no_token("1 MiB and more", TOKEN.ljust(MAX_BODY + 1), "it is longer than 1,048,576 bytes"),
    no_token("much more", TOKEN.ljust(9 * MAX_BODY), "it is longer than 1,048,576 bytes"),
    # The announced rest never comes: it must not be read for.
    no_token(
        "endless",
        b"",
        "it is longer than 1,048,576 bytes",
        raw=HEAD + b"Content-Length: 1000000000\r\n\r\n" + TOKEN.ljust(3 * MAX_BODY),
    ),
    no_token(
        "small gzip of 1 MiB and more",
        gzip.compress(TOKEN.ljust(MAX_BODY + 1)),
        "it is longer than 1,048,576 bytes",
        headers=GZIP,
    ),
]

# One of each kind, where they differ in nothing.
FEW = [
    fault
    for fault in FAULTS
    if fault.name in ("503", "429, Retry-After of a year", "401 that echoes", "reset", "closed in the body", "HTML")
]

each_fault = pytest.mark.parametrize(
    ("driver", "fault"),
    [pytest.param(sender, fault, id=f"{sender.name}-{fault.name}") for sender in SENDERS for fault in FAULTS]
    + [pytest.param(ASYNC, fault, id=f"asyncio-{fault.name}") for fault in FEW],
    indirect=["driver"],
)


@each_fault
def test_each_fault_is_the_right_error_after_as_many_tries_as_may_help(
    fault: Fault, caller: Caller, endpoint: Server, api: Server
) -> None:
    """And no request goes out without a token."""
    endpoint.answer = lambda received: fault.reply(received, caller.clock)

    error = caller.fail()

    reason = error.reason if fault.reason is None else fault.reason
    assert (fault.status_code, reason, fault.retryable, fault.retry_after) == fields(error)
    assert error.reason
    assert [] == [words for words in fault.says if words not in str(error)]
    assert list(fault.pauses) == caller.clock.slept
    assert (len(fault.pauses) + 1, []) == (len(endpoint.log), api.log)


@each_fault
def test_no_error_shows_a_secret_or_what_may_be_one(fault: Fault, caller: Caller, endpoint: Server) -> None:
    endpoint.answer = lambda received: fault.reply(received, caller.clock)

    error = caller.fail()

    shown = f"{error} {error!r} {vars(error)} {error.request.headers} {pickle.dumps(error)!r}"
    [basic] = {str(received.token).partition(" ")[2] for received in endpoint.log}
    assert [] == [secret for secret in ("canary", CANARY[10:], basic) if secret in shown]


@each_fault
def test_a_good_answer_is_used_once_the_failure_is_forgotten(
    fault: Fault, caller: Caller, endpoint: Server, api: Server
) -> None:
    """Until then each call gets an error of its own, at no cost."""
    endpoint.answer = lambda received: fault.reply(received, caller.clock)
    first = caller.fail()
    asked = len(endpoint.log)
    endpoint.answer = lambda _: GOOD

    caller.clock.advance(fault.memory - TICK)
    second = caller.fail()
    assert (str(first), fields(first), asked) == (str(second), fields(second), len(endpoint.log))
    assert first is not second
    caller.clock.advance(TICK)

    assert 200 == caller.call()
    assert (asked + 1, ["Bearer good"]) == (len(endpoint.log), [received.token for received in api.log])


@pytest.mark.parametrize("fault", FEW, ids=lambda fault: fault.name)
def test_a_good_answer_is_used_after_invalidate(fault: Fault, caller: Caller, endpoint: Server, api: Server) -> None:
    endpoint.answer = lambda received: fault.reply(received, caller.clock)
    caller.fail()
    endpoint.answer = lambda _: GOOD

    caller.auth.invalidate()

    assert 200 == caller.call()
    assert ["Bearer good"] == [received.token for received in api.log]


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.pauses], ids=lambda fault: fault.name)
def test_a_fault_that_passes_is_seen_by_nobody(fault: Fault, caller: Caller, endpoint: Server) -> None:
    endpoint.answer = lambda received: fault.reply(received, caller.clock) if len(endpoint.log) == 1 else GOOD

    assert 200 == caller.call()

    assert ([fault.pauses[0]], 2) == (caller.clock.slept, len(endpoint.log))


def test_an_answer_that_ends_in_its_headers_is_no_token(
    driver: Driver, caller: Caller, endpoint: Server, api: Server
) -> None:
    """To `http.client` the end of the connection is the end of the headers: requests sees a 200 without a body."""
    endpoint.answer = lambda _: Reply(raw=HEAD + b"Content-Type: application/json\r\nSet-Coo")

    error = caller.fail()

    if driver.name == "requests":
        assert (200, "not a token", False, None) == fields(error)
    else:
        assert (None, True, None) == (error.status_code, error.retryable, error.retry_after)
    assert (4 if error.retryable else 1, []) == (len(endpoint.log), api.log)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["the same host", "another host"])
def test_a_redirect_is_not_followed(status: int, where: str, caller: Caller, endpoint: Server, api: Server) -> None:
    """Wherever it leads: the credentials are for one address."""
    target = endpoint if where == "the same host" else api
    endpoint.answer = lambda _: Reply(status, {"Location": f"{target.url}/?{CANARY}"})

    error = caller.fail()

    assert (status, HTTPStatus(status).phrase, False, None) == fields(error)
    assert f"is not followed. Check token_url ({endpoint.url}/token)." in str(error)
    assert CANARY not in str(error)
    assert (1, []) == (len(endpoint.log), api.log)


@pytest.mark.parametrize("status", [302, 307])
def test_a_lent_client_that_follows_redirects_does_not_follow_this_one(
    status: int, driver: Driver, caller_of: Callable[..., Caller], endpoint: Server, api: Server
) -> None:
    endpoint.answer = lambda _: Reply(status, {"Location": f"{api.url}/token"})
    library = driver.library
    lent = (
        {"session": library.Session()}
        if driver.name == "requests"
        else {"client": library.Client(follow_redirects=True)}
    )

    with next(iter(lent.values())):
        error = caller_of(f"{endpoint.url}/token", **lent).fail()

    assert (status, HTTPStatus(status).phrase, False, None) == fields(error)
    assert (1, []) == (len(endpoint.log), api.log)


# Answers that are tokens all the same


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


ODD_BUT_GOOD = {
    "HTML by its type": Reply(headers={"Content-Type": "text/html; charset=utf-16"}, body=GOOD.body),
    "bytes by its type": Reply(headers={"Content-Type": "application/octet-stream"}, body=GOOD.body),
    "a type that is none": Reply(headers={"Content-Type": ";;"}, body=GOOD.body),
    "no type": Reply(body=GOOD.body),
    "201": Reply(201, body=GOOD.body),
    "BOM": Reply(body=b"\xef\xbb\xbf" + GOOD.body),
    "gzip": Reply(headers=GZIP, body=gzip.compress(GOOD.body)),
    "deflate": Reply(headers={"Content-Encoding": "deflate"}, body=zlib.compress(GOOD.body)),
    "1 MiB": Reply(body=GOOD.body.ljust(MAX_BODY)),
    "1 MiB as gzip": Reply(headers=GZIP, body=gzip.compress(GOOD.body.ljust(MAX_BODY))),
    "chunks": Reply(raw=HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(GOOD.body)),
    "chunks of gzip": Reply(
        raw=HEAD + b"Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n" + chunked(gzip.compress(GOOD.body))
    ),
    "length by its end": Reply(raw=HEAD + b"\r\n" + GOOD.body),
    "interim answer": Reply(raw=b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"\r\n" + GOOD.body),
    "byte by byte": Reply(raw=HEAD + b"\r\n" + GOOD.body, drip=0.001),
    # Its first ten bytes decode to nothing, which is no end.
    "gzip byte by byte": Reply(
        prompt=HEAD + b"Content-Encoding: gzip\r\n\r\n", raw=gzip.compress(GOOD.body), drip=0.001
    ),
}


@pytest.mark.parametrize("reply", ODD_BUT_GOOD.values(), ids=ODD_BUT_GOOD)
def test_a_json_object_counts_however_it_comes(reply: Reply, caller: Caller, endpoint: Server, api: Server) -> None:
    endpoint.answer = lambda _: reply

    assert 200 == caller.call()

    assert (1, ["Bearer good"]) == (len(endpoint.log), [received.token for received in api.log])


# Time


def noting(endpoint: Server, reply: Reply) -> threading.Semaphore:
    """Have *endpoint* answer *reply*; released for each token request that has come."""
    come = threading.Semaphore(0)

    def answer(_: Received) -> Reply:
        come.release()
        return reply

    endpoint.answer = answer
    return come


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = b"Content-Length: 1000\r\n\r\n"

# Each would take 10 s, with every read in time.
DRIPS = {
    "header": Reply(prompt=HEAD + b"X: ", raw=b"x" * 1000, drip=0.01),
    "interim answers": Reply(raw=b"HTTP/1.1 100 Continue\r\n\r\n" * 40, drip=0.01),
    "body": Reply(prompt=HEAD + LONG, raw=b" " * 1000, drip=0.01),
    "chunks": Reply(prompt=CHUNKED, raw=b"1\r\n \r\n" * 200, drip=0.01),
    # A file name without an end, so that there is never a decoded byte.
    "head of gzip": Reply(
        prompt=HEAD + b"Content-Encoding: gzip\r\n" + LONG + b"\x1f\x8b\x08\x08" + bytes(6), raw=b"n" * 1000, drip=0.01
    ),
    "body of a refusal": Reply(prompt=b"HTTP/1.1 401 No\r\n" + LONG, raw=b" " * 1000, drip=0.01),
}


@pytest.mark.parametrize(
    ("driver", "drip"),
    [pytest.param(sender, drip, id=f"{sender.name}-{drip}") for sender in SENDERS for drip in DRIPS]
    + [pytest.param(ASYNC, "header", id="asyncio-header")],
    indirect=["driver"],
)
def test_an_answer_that_drips_is_given_up_in_time(
    drip: str, caller_of: Callable[..., Caller], slow_endpoint: Server, api: Server
) -> None:
    """The bound is on the whole, not on each read."""
    come = noting(slow_endpoint, DRIPS[drip])
    caller = caller_of(f"{slow_endpoint.url}/token", in_real_time=True, timeout=0.2)
    began = time.monotonic()

    error = caller.fail()

    assert time.monotonic() - began < 5
    assert (None, "timed out", True, None) == fields(error)
    assert "Check the network" in str(error)
    assert come.acquire(timeout=10)
    assert (1, []) == (len(slow_endpoint.log), api.log)


@pytest.mark.usefixtures("trust")
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_a_server_that_drips_does_not_keep_the_fetchs_thread(
    driver: Driver, secure: bool, authority: trustme.CA
) -> None:
    """Its connection is cut off when the time is up; else there would be another thread for each fetch."""
    with serving(server_context(authority) if secure else None) as server:
        server.answer = lambda _: Reply(raw=b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000, drip=0.01)
        auth = driver.adapter.DolbyAuth(**CLASSIC, token_url=f"{server.url}/token", timeout=0.3)

        with pytest.raises(TokenError):
            auth.token()

        wait_for_fetches()


def test_an_answer_that_drips_to_a_lent_client_is_given_up_in_time(driver: Driver, slow_endpoint: Server) -> None:
    """Its connections are its own and not cut off, so the clock is looked at as the body comes."""
    slow_endpoint.answer = lambda _: Reply(prompt=HEAD + LONG, raw=b" " * 1000, drip=0.01)
    with lendable(driver) as lent:
        name = "session" if driver.name == "requests" else "client"
        auth = driver.adapter.DolbyAuth(**CLASSIC, token_url=f"{slow_endpoint.url}/token", timeout=0.3, **{name: lent})

        with pytest.raises(TokenError, match="timed out"):
            auth.token()

        wait_for_fetches()


def lendable(driver: Driver) -> Any:
    return driver.library.Session() if driver.name == "requests" else driver.library.Client(verify=False)


def test_a_good_answer_is_used_while_the_last_one_still_drips(
    caller_of: Callable[..., Caller], slow_endpoint: Server, api: Server
) -> None:
    come = noting(slow_endpoint, DRIPS["header"])
    caller = caller_of(f"{slow_endpoint.url}/token", in_real_time=True, timeout=0.2)
    caller.fail()
    assert come.acquire(timeout=10)
    slow_endpoint.answer = lambda _: GOOD
    # With time enough for a busy machine.
    set_timeout(caller.auth, 20)

    caller.auth.invalidate()

    assert 200 == caller.call()
    assert (2, ["Bearer good"]) == (len(slow_endpoint.log), [received.token for received in api.log])


@pytest.mark.parametrize(
    ("reply", "seconds_a_try"),
    [
        (Reply(prompt=HEAD + b"X: ", raw=b"x", drip=60), 0.025),
        (DRIPS["body"], 0.08),
    ],
    ids=["silence in the headers", "drip in the body"],
)
def test_an_answer_that_is_too_slow_is_tried_again(
    reply: Reply, seconds_a_try: float, caller_of: Callable[..., Caller], slow_endpoint: Server
) -> None:
    """One slow server of several must not use up the time for the others: each try has its own bound."""
    come = noting(slow_endpoint, reply)
    caller = caller_of(f"{slow_endpoint.url}/token")
    caller.hurry(seconds_a_try)
    began = time.monotonic()

    error = caller.fail()

    assert time.monotonic() - began < 5
    assert (None, "timed out", True, None) == fields(error)
    assert list(PAUSES) == caller.clock.slept
    assert [True] * 4 == [come.acquire(timeout=10) for _ in range(4)]
    assert len(slow_endpoint.log) == 4


# No connection


@contextmanager
def bound(backlog: int | None) -> Iterator[str]:
    """The address of a port that nobody serves: connections are refused, or wait for ever for an answer."""
    with socket.socket() as unserved:
        unserved.bind(("127.0.0.1", 0))
        if backlog is not None:
            unserved.listen(backlog)
        yield f"127.0.0.1:{unserved.getsockname()[1]}"


@contextmanager
def crowded() -> Iterator[str]:
    """The address of a port at which so many wait already that connecting takes for ever."""
    with bound(0) as address:
        host, _, port = address.partition(":")
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex((host, int(port)))
        try:
            yield address
        finally:
            for one in waiting:
                one.close()


@contextmanager
def plain() -> Iterator[str]:
    """The address of a server that knows no TLS."""
    with serving() as server:
        yield server.host


@contextmanager
def unknown() -> Iterator[str]:
    """A name that does not exist (RFC 6761 §6.4)."""
    yield "dolby.invalid"


# The scheme, what gives an address, and the reason; None where its words are the library's or the resolver's.
CONNECTIONS: dict[str, tuple[str, Callable[[], AbstractContextManager[str]], str | None]] = {
    "refused": ("http", lambda: bound(None), os.strerror(errno.ECONNREFUSED)),
    "silent": ("http", lambda: bound(16), "timed out"),
    "silent for TLS": ("https", lambda: bound(16), "timed out"),
    "crowded": ("http", crowded, "timed out"),
    "no TLS": ("https", plain, None),
    "no such name": ("https", unknown, None),
}


@pytest.mark.parametrize(
    ("driver", "connection"),
    [pytest.param(sender, name, id=f"{sender.name}-{name}") for sender in SENDERS for name in CONNECTIONS]
    + [pytest.param(ASYNC, "refused", id="asyncio-refused")],
    indirect=["driver"],
)
def test_without_a_connection_there_are_four_tries_and_the_systems_words(
    connection: str, caller_of: Callable[..., Caller], api: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    scheme, open_address, words = CONNECTIONS[connection]
    with open_address() as address:
        caller = caller_of(f"{scheme}://{address}/token?key={CANARY}")
        caller.hurry(0.025)

        error = caller.fail()

    assert (None, words or error.reason, True, None) == fields(error)
    assert f"No answer from the token endpoint: {error.reason}. Check the network, and the proxy" in str(error)
    assert CANARY not in f"{error!r} {vars(error)}"
    assert (list(PAUSES), []) == (caller.clock.slept, api.log)


def test_a_name_that_does_not_exist_is_told_as_the_resolver_tells_it(
    caller_of: Callable[..., Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(socket.gaierror) as told:
        socket.getaddrinfo("dolby.invalid", 443)

    error = caller_of("https://dolby.invalid/token").fail()

    assert told.value.strerror == error.reason


def test_an_endpoint_that_comes_up_is_asked_once_the_failure_is_forgotten(
    caller_of: Callable[..., Caller],
) -> None:
    with Sandbox() as sandbox:
        caller = caller_of(sandbox.token_url, app_key=sandbox.app_key, app_secret=sandbox.app_secret)
        sandbox.stop()
        refused = caller.fail()
        sandbox.start()

        assert str(refused) == str(caller.fail())
        caller.clock.advance(3)

        assert 200 == caller.call()
        assert sandbox.token_requests == 1


# Certificates


@pytest.fixture
def trust(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each library trusts the test's own authority, by its own variable in the environment."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "ca.pem"))
    # The context that other tests have made does not.
    fresh_tls_contexts(monkeypatch)


def bad_certificate(kind: str, authority: trustme.CA) -> ssl.SSLContext:
    context = server_context(authority)
    if kind == "expired":
        authority.issue_cert("127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=UTC)).configure_cert(context)
    elif kind == "self-signed":
        lone = trustme.CA()
        with trustme.Blob(lone.private_key_pem.bytes() + lone.cert_pem.bytes()).tempfile() as path:
            context.load_cert_chain(path)
    else:
        authority.issue_cert("api.dolby.example").configure_cert(context)
    return context


CERTIFICATES = {"expired": "expired", "self-signed": "self", "of another name": "not valid for '127.0.0.1'"}


@pytest.mark.usefixtures("trust")
@pytest.mark.parametrize(("kind", "words"), CERTIFICATES.items(), ids=CERTIFICATES)
def test_a_bad_certificate_is_final_and_gets_no_credentials(
    kind: str, words: str, authority: trustme.CA, caller_of: Callable[..., Caller], api: Server
) -> None:
    with serving(bad_certificate(kind, authority)) as endpoint:
        caller = caller_of(f"{endpoint.url}/token")

        error = caller.fail()

    assert (None, False, None) == (error.status_code, error.retryable, error.retry_after)
    assert error.reason.startswith("certificate not accepted: ")
    assert words in error.reason
    assert f"{error.reason}. Check the endpoint's certificate and this machine's CA bundle." in str(error)
    assert ([], [], []) == (caller.clock.slept, endpoint.log, api.log)


@pytest.mark.usefixtures("trust")
@pytest.mark.parametrize("kind", CERTIFICATES)
def test_a_certificate_that_is_mended_is_accepted_once_the_failure_is_forgotten(
    kind: str, authority: trustme.CA, caller_of: Callable[..., Caller]
) -> None:
    context = bad_certificate(kind, authority)
    with serving(context) as endpoint:
        endpoint.answer = lambda _: GOOD
        caller = caller_of(f"{endpoint.url}/token")
        refused = caller.fail()
        authority.issue_cert("127.0.0.1").configure_cert(context)

        assert str(refused) == str(caller.fail())
        caller.clock.advance(3)

        assert 200 == caller.call()
        assert len(endpoint.log) == 1


@pytest.mark.usefixtures("trust")
@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_from_https_to_http_is_not_followed(
    status: int, authority: trustme.CA, caller_of: Callable[..., Caller], api: Server
) -> None:
    with serving(server_context(authority)) as endpoint:
        endpoint.answer = lambda _: Reply(status, {"Location": f"{api.url}/token"})

        error = caller_of(f"{endpoint.url}/token").fail()

    assert (status, HTTPStatus(status).phrase, False, None) == fields(error)
    assert (1, []) == (len(endpoint.log), api.log)


# A wrong secret


def test_a_wrong_secret_used_by_a_thousand_calls_in_a_second_costs_one_token_request(
    caller_of: Callable[..., Caller], api: Server
) -> None:
    with Sandbox() as sandbox:
        caller = caller_of(sandbox.token_url, app_key=sandbox.app_key)

        errors = [caller.clock.advance(0.001) or caller.fail() for _ in range(1000)]

        assert (1, []) == (sandbox.token_requests, api.log)
    assert len({id(error) for error in errors}) == 1000
    assert {("Invalid_client", str(errors[0]))} == {(error.reason, str(error)) for error in errors}


def test_a_wrong_secret_used_by_a_thousand_tasks_at_once_costs_one_token_request() -> None:
    with Sandbox() as sandbox:
        auth = on_clock(ASYNC.adapter.DolbyAuth(**{**sandbox.options, "app_secret": "wrong"}), FakeClock())
        with ASYNC.open(auth) as client:
            errors = client.crowd(1000, "GET", sandbox.url)

        assert (1, 0) == (sandbox.token_requests, sandbox.api_calls)
    assert len({id(error) for error in errors}) == 1000
    assert [("TokenError", str(errors[0]))] == list({(type(error).__name__, str(error)) for error in errors})
