"""
Faults of a token endpoint, on real sockets: nothing hangs, nothing loops, each error is right.

`test_endpoint.py` tests without a socket what an answer means. Here each library's sender has to read it: a fault of
the transport is tested with every sender, a fault of the content with one.
"""

from __future__ import annotations

import errno
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
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any

import pytest
import trustme

from dolby_auth_plugin import TokenError
from dolby_auth_plugin._core.endpoint import MAX_BODY
from dolby_auth_plugin.sandbox import Sandbox

from ..contract import CLASSIC, server_context
from ..drivers import Driver
from ..fakes import FakeClock, wait_for_fetches
from ..internals import set_timeout, source_of
from ..matrix import ASYNCIO, REQUESTS, SYNC, Scene, Stage, each, matrix, names_settings
from ..servers import Received, Reply, Server, serving

# In bodies and headers that must not be shown. At least as long as a token, because parts of error texts are shown.
CANARY = "canary.0123456789.0123456789.0123456789"

GOOD = Reply(headers={"Content-Type": "application/json"}, body=b'{"access_token":"good"}')

# Seconds. FakeClock adds and compares it without a rounding error.
TICK = 2**-10

# Seconds between the four tries after a temporary failure, without chance.
PAUSES = (0.5, 1.0, 2.0)

YEAR = 365 * 86_400


def fields(error: Any) -> tuple[int | None, str, bool, float | None]:
    return error.status_code, error.reason, error.retryable, error.retry_after


# Answers


@dataclass(frozen=True)
class Fault:
    """
    An answer of the endpoint, and the result that is promised for it.

    Attributes:
        reason: None if it is in the library's own words.
        says: Texts that the message must contain: what happened, or what to do.
        pauses: Seconds between the tries. There is one more try than pauses.
        memory: Seconds until the endpoint is asked again.
        drivers: The senders that are tested with it.
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
    drivers: tuple[Driver, ...] = (REQUESTS,)

    def reply(self, received: Received, clock: FakeClock) -> Reply:
        return self.answer if isinstance(self.answer, Reply) else self.answer(received, clock)


EVERY = tuple(SYNC)


def refusal(status: int, *says: str, retryable: bool = False) -> Fault:
    """A refusal whose body has no known form."""
    reply = Reply(status, body=CANARY.encode())
    pauses = PAUSES if retryable else ()
    return Fault(str(status), reply, status, HTTPStatus(status).phrase, says, retryable=retryable, pauses=pauses)


def with_retry_after(
    name: str,
    header: Callable[[FakeClock], str],
    retry_after: float | None,
    *says: str,
    status: int = 429,
    **promised: Any,
) -> Fault:
    """A refusal with a `Retry-After`."""
    return Fault(
        f"{status}, Retry-After {name}",
        lambda _, clock: Reply(status, {"Retry-After": header(clock)}, CANARY.encode()),
        status,
        HTTPStatus(status).phrase,
        says,
        retry_after=retry_after,
        **{"retryable": True, "pauses": PAUSES, **promised},
    )


def date(clock: FakeClock, seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(clock.time() + seconds, UTC), usegmt=True)


def no_token(name: str, body: bytes | str, why: str, drivers: tuple[Driver, ...] = (REQUESTS,), **answer: Any) -> Fault:
    """A 2xx without a token, which is not retried."""
    reply = Reply(**{"body": body.encode() if isinstance(body, str) else body, **answer})
    says = (f"(HTTP {reply.status}) is not a token: ", why, "Check token_url (http://127.0.0.1:")
    return Fault(name, reply, reply.status, "not a token", says, drivers=drivers)


def no_answer(name: str, raw: bytes, reason: str | None = None, *, reset: bool = False) -> Fault:
    return Fault(
        name,
        Reply(raw=raw, reset=reset),
        None,
        reason,
        ("No answer from the token endpoint: ", "Check the network, and the proxy settings."),
        retryable=True,
        pauses=PAUSES,
        drivers=EVERY,
    )


def echo(received: Received, _: FakeClock) -> Reply:
    """A refusal that repeats the credentials that it got."""
    text = f"Not accepted: {received.token} ({CLASSIC['app_secret']}); {CANARY}"
    return Reply(401, body=json.dumps({"error": "invalid_client", "error_description": text, "hint": CANARY}).encode())


def member(text: str) -> str:
    """An answer that would be a token without the member *text*."""
    return f'{{"access_token":"{CANARY}",{text}}}'


HEAD = b"HTTP/1.1 200 OK\r\n"
RESET = os.strerror(errno.ECONNRESET)
GZIP, TWICE = {"Content-Encoding": "gzip"}, {"Content-Encoding": "gzip, gzip"}
TOKEN = member('"token_type":"Bearer"').encode()

TOO_LONG = TOKEN.ljust(MAX_BODY + 1)
LONG_ANSWER = "it is longer than 1,048,576 bytes"
NO_OBJECT = "it is not a JSON object"
SERVER_FAULT = "The fault is on the server's side: try again later"
CHECK_SCOPE = "Check scope, expires_in and token_url (http://127.0.0.1:"

FAULTS = [
    refusal(429, "too many requests", "Try again later", retryable=True),
    with_retry_after("in seconds", lambda _: "2", 2, "Try again in 2 s", pauses=(2, 2, 2), drivers=EVERY),
    with_retry_after("in few seconds", lambda _: "1", 1, "Try again in 1 s", pauses=(1, 1, 2)),
    with_retry_after("as a date", lambda clock: date(clock, 5), 5, "Try again in 5 s", pauses=(5, 5, 5), memory=5),
    with_retry_after("in the past", lambda clock: date(clock, -5), 0, "Try again in 0 s"),
    with_retry_after("that is malformed", lambda _: f"soon {CANARY}", None, "Try again later"),
    with_retry_after("of a year", lambda _: str(YEAR), YEAR, f"Try again in {YEAR} s", pauses=(), memory=10),
    with_retry_after("in seconds", lambda _: "2", 2, SERVER_FAULT, status=503, pauses=(2, 2, 2)),
    refusal(500, SERVER_FAULT, retryable=True),
    refusal(507, SERVER_FAULT, retryable=True),
    refusal(400, CHECK_SCOPE),
    refusal(401, "app key 'an-a…'", "dashboard"),
    Fault("401 that echoes", echo, 401, "invalid_client", ("invalid_client: Not accepted", "dashboard"), drivers=EVERY),
    with_retry_after("in seconds", lambda _: "7", 7, "Check scope", status=400, retryable=False, pauses=(), memory=7),
    Fault(
        "another reason phrase",
        Reply(raw=f"HTTP/1.1 403 {CANARY}\r\n\r\n".encode()),
        403,
        "Forbidden",
        ("403",),
        drivers=EVERY,
    ),
    Fault(
        "redirect to itself",
        Reply(307, {"Location": f"/token?{CANARY}"}),
        307,
        "Temporary Redirect",
        ("redirects", "is not followed. Check token_url (http://127.0.0.1:"),
        drivers=EVERY,
    ),
    Fault(
        "503 in bad gzip",
        Reply(503, GZIP, CANARY.encode()),
        503,
        "Service Unavailable",
        (SERVER_FAULT,),
        retryable=True,
        pauses=PAUSES,
        drivers=EVERY,
    ),
    # No complete HTTP answer.
    no_answer("reset", b"", RESET, reset=True),
    no_answer("reset in the body", HEAD + b"Content-Length: 99\r\n\r\n{", reset=True),
    no_answer("closed at once", b""),
    no_answer("closed in the body", HEAD + b"Content-Length: 1000\r\n\r\n" + TOKEN),
    no_answer("closed in a chunk", HEAD + b"Transfer-Encoding: chunked\r\n\r\nff\r\n" + TOKEN),
    no_answer("bad chunk", HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + TOKEN),
    no_answer("another protocol", f"SSH-2.0-{CANARY}\r\n".encode()),
    no_answer("header without an end", HEAD + b"X: " + b"x" * 300_000),
    no_answer("headers without an end", HEAD + b"X: x\r\n" * 60_000),
    # Successes without a token.
    no_token("204", b"", NO_OBJECT, EVERY, status=204),
    no_token("HTML", f"<html>{CANARY}</html>", NO_OBJECT, EVERY, headers={"Content-Type": "text/html"}),
    no_token("JSON in UTF-16", TOKEN.decode().encode("utf-16"), NO_OBJECT),
    no_token("a list", f"[{TOKEN.decode()}]", NO_OBJECT),
    no_token("deep nesting", "[" * 500_000, NO_OBJECT),
    no_token("bad gzip", TOKEN, NO_OBJECT, EVERY, headers=GZIP),
    no_token("truncated gzip", gzip.compress(GOOD.body)[:-4], NO_OBJECT, EVERY, headers=GZIP),
    no_token("no access_token", f'{{"token":"{CANARY}"}}', "it has no access_token"),
    no_token(
        "invalid characters", f'{{"access_token":"{CANARY}\\r\\nX: y"}}', "characters that RFC 6750 does not allow"
    ),
    no_token("another token_type", member('"token_type":"mac"'), "its token_type is not Bearer"),
    no_token("expires_in 0", member('"expires_in":0'), "its expires_in is not a number of seconds above zero"),
    no_token("expires_in NaN", member('"expires_in":NaN'), "its expires_in is not a number of seconds above zero"),
    no_token("error", member(f'"error":"bad","error_description":"no {CANARY}"'), "it reports an error (bad: no "),
    no_token("more than 1 MiB", TOO_LONG, LONG_ANSWER, EVERY),
    no_token("9 MiB", TOKEN.ljust(9 * MAX_BODY), LONG_ANSWER, EVERY),
    # The announced rest never comes. The sender must not wait for it.
    no_token("endless", b"", LONG_ANSWER, EVERY, raw=HEAD + b"Content-Length: 999999999\r\n\r\n" + TOO_LONG),
    no_token("gzip twice", gzip.compress(gzip.compress(GOOD.body)), NO_OBJECT, EVERY, headers=TWICE),
    no_token("an encoding that nobody asked for", TOKEN, NO_OBJECT, EVERY, headers={"Content-Encoding": "br"}),
    no_token("small gzip of more than 1 MiB", gzip.compress(TOO_LONG), LONG_ANSWER, EVERY, headers=GZIP),
]


def rows(*names: str, drivers: list[Driver] | None = None) -> list[tuple[list[Driver], list[tuple[str, Fault]]]]:
    """The faults with these *names*, or all faults, each with its drivers."""
    return [
        (drivers or list(fault.drivers), [(fault.name, fault)]) for fault in FAULTS if not names or fault.name in names
    ]


@pytest.fixture
def scene(stage: Stage, driver: Driver) -> Iterator[Scene]:
    """A scene whose token URL has a query, which may hold a gateway's key."""
    with stage.scene(driver) as scene:
        scene.token_url += f"?key={CANARY}"
        yield scene


@matrix("fault", *rows(), *rows("429, Retry-After of a year", "401 that echoes", "reset", drivers=[ASYNCIO]))
def test_each_fault_is_the_right_error_for_as_long_as_it_is_remembered(fault: Fault, scene: Scene) -> None:
    """No secret is shown, and no request goes out without a token. Afterwards a good answer is used."""
    endpoint, clock = scene.endpoint, scene.clock
    endpoint.answer = lambda received: fault.reply(received, clock)

    error = scene.fail()

    reason = error.reason if fault.reason is None else fault.reason
    assert (fault.status_code, reason, fault.retryable, fault.retry_after) == fields(error)
    assert error.reason
    assert [] == [words for words in fault.says if words not in str(error)]
    assert list(fault.pauses) == clock.slept
    asked = len(endpoint.log)
    assert (len(fault.pauses) + 1, []) == (asked, scene.api.log)
    shown = f"{error} {error!r} {vars(error)} {error.request.headers} {pickle.dumps(error)!r}"
    [basic] = {str(received.token).partition(" ")[2] for received in endpoint.log}
    assert [] == [secret for secret in ("canary", CANARY[10:], basic) if secret in shown]

    endpoint.answer = lambda _: GOOD
    clock.advance(fault.memory - TICK)
    second = scene.fail()
    assert (str(error), fields(error), asked) == (str(second), fields(second), len(endpoint.log))
    assert error is not second
    clock.advance(TICK)

    assert 200 == scene.send().status
    assert (asked + 1, ["Bearer good"]) == (len(endpoint.log), scene.tokens_sent())


@matrix("lent", (SYNC, [("own", False), ("lent", True)]))
@pytest.mark.parametrize("location", ["http://[", "/other"])
def test_an_endless_redirect_of_the_endpoint_is_not_read(location: str, lent: bool, scene: Scene) -> None:
    """It would fill the memory. requests reads the body of a redirect, even if it does not follow it."""
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 100000000\r\n\r\n".encode()
    scene.endpoint.answer = lambda _: Reply(raw=head + b"x" * 3_000_000)
    scene.options |= scene.lend() if lent else {}

    error = scene.fail()

    assert "redirects" in str(error)
    assert (error.status_code, len(scene.endpoint.log)) == (302, 1)


def test_a_good_answer_is_used_after_invalidate(scene: Scene) -> None:
    scene.endpoint.answer = lambda _: Reply(429, {"Retry-After": "10"})
    scene.fail()
    scene.endpoint.answer = lambda _: GOOD

    scene.auth.invalidate()

    assert 200 == scene.send().status
    assert ["Bearer good"] == scene.tokens_sent()


@matrix("fault", *rows("500", "429, Retry-After in seconds", "reset", "closed in the body"))
def test_a_temporary_fault_affects_no_caller(fault: Fault, scene: Scene) -> None:
    endpoint = scene.endpoint
    endpoint.answer = lambda received: fault.reply(received, scene.clock) if len(endpoint.log) == 1 else GOOD

    assert 200 == scene.send().status

    assert ([fault.pauses[0]], 2) == (scene.clock.slept, len(endpoint.log))


@each(SYNC)
def test_an_answer_that_ends_in_its_headers_is_not_a_token(scene: Scene) -> None:
    """For `http.client` the end of the connection is the end of the headers. So requests sees a 200 without a body."""
    scene.endpoint.answer = lambda _: Reply(raw=HEAD + b"Content-Type: application/json\r\nSet-Coo")

    error = scene.fail()

    if scene.driver is REQUESTS:
        assert (200, "not a token", False, None) == fields(error)
    else:
        assert (None, True, None) == (error.status_code, error.retryable, error.retry_after)
    assert (4 if error.retryable else 1, []) == (len(scene.endpoint.log), scene.api.log)


# Unusual answers that are tokens


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


MEANING = {
    "binary content type": Reply(headers={"Content-Type": "application/octet-stream"}, body=GOOD.body),
    "201": Reply(201, body=GOOD.body),
    "BOM": Reply(body=b"\xef\xbb\xbf" + GOOD.body),
}
TRANSPORT = {
    "malformed content type": Reply(headers={"Content-Type": ";;"}, body=GOOD.body),
    "deflate": Reply(headers={"Content-Encoding": "deflate"}, body=zlib.compress(GOOD.body)),
    "deflate without a header": Reply(
        headers={"Content-Encoding": "deflate"}, body=zlib.compress(GOOD.body, wbits=-15)
    ),
    "1 MiB as gzip": Reply(headers=GZIP, body=gzip.compress(GOOD.body.ljust(MAX_BODY))),
    "chunks of gzip": Reply(
        raw=HEAD + b"Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n" + chunked(gzip.compress(GOOD.body))
    ),
    "interim answer": Reply(raw=b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"\r\n" + GOOD.body),
    # Its first ten bytes decode to nothing. That is not the end of the body.
    "gzip byte by byte": Reply(
        prompt=HEAD + b"Content-Encoding: gzip\r\n\r\n", raw=gzip.compress(GOOD.body), drip=0.001
    ),
}


@matrix("reply", ([REQUESTS], MEANING.items()), (SYNC, TRANSPORT.items()))
def test_a_json_object_is_accepted_however_it_is_sent(reply: Reply, scene: Scene) -> None:
    scene.endpoint.answer = lambda _: reply

    assert 200 == scene.send().status

    assert (1, ["Bearer good"]) == (len(scene.endpoint.log), scene.tokens_sent())


# Time


def noting(endpoint: Server, reply: Reply) -> threading.Semaphore:
    """Make *endpoint* answer *reply*. The semaphore is released for each token request."""
    come = threading.Semaphore(0)

    def answer(_: Received) -> Reply:
        come.release()
        return reply

    endpoint.answer = answer
    return come


LONG = b"Content-Length: 1000\r\n\r\n"

# Each would take 10 s, with every read in time.
DRIPS = {
    "header": Reply(prompt=HEAD + b"X: ", raw=b"x" * 1000, drip=0.01),
    "body": Reply(prompt=HEAD + LONG, raw=b" " * 1000, drip=0.01),
    # A file name without an end, so that there is never a decoded byte.
    "head of gzip": Reply(
        prompt=HEAD + b"Content-Encoding: gzip\r\n" + LONG + b"\x1f\x8b\x08\x08" + bytes(6), raw=b"n" * 1000, drip=0.01
    ),
    "body of a refusal": Reply(prompt=b"HTTP/1.1 401 No\r\n" + LONG, raw=b" " * 1000, drip=0.01),
}


@matrix("drip", (SYNC, DRIPS.items()), ([ASYNCIO], [("header", DRIPS["header"])]))
def test_an_answer_that_arrives_byte_by_byte_is_given_up_in_time(drip: Reply, scene: Scene) -> None:
    """The timeout limits the whole answer, not each read. A good answer is used while the slow one still arrives."""
    come = noting(scene.endpoint, drip)
    scene.in_real_time = True
    scene.options["timeout"] = 0.2
    began = time.monotonic()

    error = scene.fail()

    assert time.monotonic() - began < 5
    assert (None, "timed out", True, None) == fields(error)
    assert "Check the network" in str(error)
    assert come.acquire(timeout=10)
    assert (1, []) == (len(scene.endpoint.log), scene.api.log)

    scene.endpoint.answer = lambda _: GOOD
    # Enough time for a busy machine.
    set_timeout(scene.auth, 20)
    scene.auth.invalidate()
    assert 200 == scene.send().status
    assert ["Bearer good"] == scene.tokens_sent()


@pytest.mark.usefixtures("trust")
@pytest.mark.parametrize("way", ["plain", "TLS", "lent"])
@each(SYNC)
def test_a_server_that_sends_byte_by_byte_does_not_occupy_the_fetchs_thread(
    way: str, scene: Scene, authority: trustme.CA
) -> None:
    """
    Its connection is shut down at the deadline. Otherwise each fetch would leave a thread.

    The connections of a lent client are not shut down. There, the time is checked while the body arrives.
    """
    with serving(server_context(authority) if way == "TLS" else None) as server:
        server.answer = lambda _: Reply(raw=b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000, drip=0.01)
        if way == "lent":
            server.answer = lambda _: Reply(
                prompt=HEAD + b"Content-Length: 10000\r\n\r\n", raw=b" " * 10_000, drip=0.01
            )
            scene.options |= scene.lend()
        auth = scene.driver.adapter.DolbyAuth(
            **{**CLASSIC, "token_url": f"{server.url}/token", "timeout": 0.3, **scene.options}
        )

        with pytest.raises(TokenError) as caught:
            auth.token()

        wait_for_fetches()
    # The messages differ: on a busy machine the caller may give up before the fetch does.
    assert (None, "timed out", True, None) == fields(caught.value)


# Each read is in time, and no answer ever comes. No library limits the time for them.
ENDLESS = {
    "byte by byte": Reply(prompt=HEAD + b"X: ", raw=b"x" * 10_000, drip=0.01),
    "interim answers": Reply(raw=b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, drip=0.0005),
}


@matrix("endless", (SYNC, ENDLESS.items()))
def test_endless_headers_occupy_four_threads_of_a_lent_client_at_most(endless: Reply, scene: Scene) -> None:
    """Then callers are told so at once. They could not know that their calls leave threads and sockets behind."""
    scene.options |= {"timeout": 5, **scene.lend()}
    come = noting(scene.endpoint, endless)

    def wait_in_vain() -> None:
        scene.auth.invalidate()  # forgets the failure of the call before
        steps = source_of(scene.auth).steps(None, None)
        next(steps)
        assert come.acquire(timeout=10)
        scene.clock.advance(5)
        next(steps)

    reasons = []
    for _ in range(12):
        with pytest.raises(TokenError) as caught:
            wait_in_vain()
        reasons.append(caught.value.reason)

    assert ["timed out"] * 4 + ["too many token requests wait"] * 8 == reasons
    assert len(scene.endpoint.log) == 4
    assert "4 earlier token requests still wait" in str(caught.value)
    assert caught.value.retry_after == 25


@matrix(
    "slow",
    (SYNC, [("silence in the headers", (Reply(prompt=HEAD + b"X: ", raw=b"x", drip=60), 0.025, False))]),
    (SYNC, [("slow body", (DRIPS["body"], 0.08, False))]),
    # No cut-off ends it: the library's own time-out does.
    (SYNC, [("silence in the body, lent", (Reply(prompt=HEAD + LONG, raw=b" ", drip=60), 0.08, True))]),
)
def test_a_token_request_whose_answer_is_too_slow_is_retried(slow: tuple[Reply, float, bool], scene: Scene) -> None:
    """One slow server of several must not use up all the time: each try has its own limit."""
    reply, seconds_a_try, lent = slow
    if lent:
        scene.options |= scene.lend()
    come = noting(scene.endpoint, reply)
    scene.hurry(seconds_a_try)
    began = time.monotonic()

    error = scene.fail()

    assert time.monotonic() - began < 5
    assert (None, "timed out", True, None) == fields(error)
    assert list(PAUSES) == scene.clock.slept
    assert [True] * 4 == [come.acquire(timeout=10) for _ in range(4)]
    assert len(scene.endpoint.log) == 4


# No connection


@contextmanager
def bound(backlog: int | None) -> Iterator[str]:
    """The address of a port without a server: connections are refused, or never get an answer."""
    with socket.socket() as unserved:
        unserved.bind(("127.0.0.1", 0))
        if backlog is not None:
            unserved.listen(backlog)
        yield f"127.0.0.1:{unserved.getsockname()[1]}"


@contextmanager
def crowded() -> Iterator[str]:
    """The address of a port whose queue of connections is full, so that connecting never ends."""
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
    """The address of a server without TLS."""
    with serving() as server:
        yield server.host


# The scheme, a function that gives an address, and the reason. None: the reason is in the library's own words.
CONNECTIONS: dict[str, tuple[str, Callable[[], AbstractContextManager[str]], str | None]] = {
    "refused": ("http", lambda: bound(None), os.strerror(errno.ECONNREFUSED)),
    "silent for TLS": ("https", lambda: bound(16), "timed out"),
    "crowded": ("http", crowded, "timed out"),
    "no TLS": ("https", plain, None),
}


@matrix("connection", (SYNC, CONNECTIONS.items()), ([ASYNCIO], [("refused", CONNECTIONS["refused"])]))
def test_without_a_connection_there_are_four_tries_and_the_words_of_the_operating_system(
    connection: tuple[str, Callable[[], AbstractContextManager[str]], str | None],
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    scheme, open_address, words = connection
    with open_address() as address:
        scene.token_url = f"{scheme}://{address}/token?key={CANARY}"
        scene.hurry(0.025)

        error = scene.fail()

    assert (None, words or error.reason, True, None) == fields(error)
    assert f"No answer from the token endpoint: {error.reason}. Check the network, and the proxy" in str(error)
    assert CANARY not in f"{error!r} {vars(error)}"
    assert (list(PAUSES), []) == (scene.clock.slept, scene.api.log)


@each(SYNC)
def test_a_name_that_does_not_exist_is_reported_in_the_resolvers_words(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 6761 §6.4 reserves the name."""
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(socket.gaierror) as caught:
        socket.getaddrinfo("dolby.invalid", 443)
    scene.token_url = "https://dolby.invalid/token"

    error = scene.fail()

    assert (None, caught.value.strerror, True, None) == fields(error)
    assert list(PAUSES) == scene.clock.slept


# Certificates


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


CERTIFICATES = {"expired": "expired", "self-signed": "self", "for another name": "not valid for '127.0.0.1'"}


@pytest.mark.usefixtures("trust")
@pytest.mark.parametrize(("kind", "words"), CERTIFICATES.items(), ids=CERTIFICATES)
@pytest.mark.parametrize("lent", [False, True], ids=["own", "lent"])
@each(SYNC)
def test_a_bad_certificate_is_final_and_gets_no_credentials_until_it_is_replaced(
    kind: str, words: str, lent: bool, authority: trustme.CA, scene: Scene
) -> None:
    context = bad_certificate(kind, authority)
    with serving(context) as endpoint:
        if lent:
            scene.options |= scene.lend(verify=True)
        endpoint.answer = lambda _: GOOD
        scene.token_url = f"{endpoint.url}/token"

        error = scene.fail()

        assert (None, False, None) == (error.status_code, error.retryable, error.retry_after)
        assert error.reason.startswith("certificate not accepted: ")
        assert words in error.reason
        assert f"{error.reason}. Check the endpoint's certificate and this machine's CA bundle." in str(error)
        assert names_settings(scene.driver, error, lent=lent)
        assert ([], [], []) == (scene.clock.slept, endpoint.log, scene.api.log)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        assert str(error) == str(scene.fail())
        scene.clock.advance(3)

        assert 200 == scene.send().status
        assert len(endpoint.log) == 1


# A wrong secret


def test_a_wrong_secret_used_by_a_thousand_calls_in_a_second_costs_one_token_request(scene: Scene) -> None:
    with Sandbox() as sandbox:
        scene.options["app_key"] = sandbox.app_key
        scene.token_url = sandbox.token_url

        errors = [scene.clock.advance(0.001) or scene.fail() for _ in range(1000)]

        assert (1, []) == (sandbox.token_requests, scene.api.log)
    assert len({id(error) for error in errors}) == 1000
    assert {("Invalid_client", str(errors[0]))} == {(error.reason, str(error)) for error in errors}
