"""
Every kind of body that the host libraries take, on a request that is answered 401.

It arrives whole a second time, or is not sent again and the 401 goes back: nothing in between. What the libraries
themselves make of a body is not judged here; where it is an error, it has to come through as it is.
"""

from __future__ import annotations

import email
import io
import json
import mmap
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from email.message import Message
from typing import Any

import pytest

from dolby_auth_plugin.sandbox import Sandbox

from ..drivers import AsyncHttpxDriver, Client, Driver, HttpxDriver, RequestsDriver
from ..family import AsyncFile, HalfAFile, Unseekable
from ..servers import Received, Reply, Server, serving

CONTENT = b"content"
MEBIBYTE = bytes(range(256)) * 4096

REQUESTS = RequestsDriver("requests")
HTTPX, HTTPX2 = HttpxDriver("httpx"), HttpxDriver("httpx2")
ASYNC: list[Driver] = [
    AsyncHttpxDriver(library, backend) for library in ("httpx", "httpx2") for backend in ("asyncio", "trio")
]
SYNC_FAMILY: list[Driver] = [HTTPX, HTTPX2]
FAMILY: list[Driver] = [*SYNC_FAMILY, *ASYNC]
ALL: list[Driver] = [REQUESTS, *FAMILY]

# A call's options, made anew for each call; what has to be closed goes on the stack.
Options = Callable[[ExitStack], dict[str, Any]]


@dataclass(frozen=True)
class Body:
    """
    Attributes:
        options: What the client is given.
        sent: What has to arrive; of a multipart body, the names and contents of its parts.
        again: Whether it can be sent again.
        chunked: Whether it has no `Content-Length`.
    """

    name: str
    options: Options
    sent: bytes | list[tuple[str, bytes]]
    again: bool = True
    chunked: bool = False


# Bodies


def content(value: Callable[[], Any]) -> Options:
    return lambda _: {"content": value()}


def files(value: Callable[[], Any]) -> Options:
    return lambda _: {"files": {"file": ("name", value())}}


def kept(stack: ExitStack, file: Any, position: int = 0, written: str | bytes = CONTENT) -> Any:
    """*file* with what is written to it, standing at *position*, to be closed by *stack*."""
    stack.enter_context(file)
    file.write(written)
    file.flush()
    file.seek(position)
    return file


def disk_file(stack: ExitStack, position: int = 0) -> Any:
    return kept(stack, tempfile.TemporaryFile(), position)


def spooled_file(stack: ExitStack) -> Any:
    return kept(stack, tempfile.SpooledTemporaryFile(max_size=1 << 20))


def memory_map(stack: ExitStack) -> mmap.mmap:
    return stack.enter_context(mmap.mmap(disk_file(stack).fileno(), 0))


def text_file(stack: ExitStack) -> Any:
    return kept(stack, tempfile.TemporaryFile("w+", encoding="utf-8"), written="täxt")


def pipe(stack: ExitStack) -> Any:
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as end:
        end.write(CONTENT)
    return stack.enter_context(os.fdopen(reader, "rb"))


# What a caller adds who knows a stream's length.
KNOWN_LENGTH = {"Content-Length": str(len(CONTENT))}


def generator() -> Iterator[bytes]:
    yield CONTENT[:3]
    yield CONTENT[3:]


def empty_generator() -> Iterator[bytes]:
    yield from ()


async def async_generator() -> AsyncIterator[bytes]:
    yield CONTENT[:3]
    yield CONTENT[3:]


async def empty_async_generator() -> AsyncIterator[bytes]:
    for chunk in b"":
        yield bytes([chunk])


class Iterable:
    """Starts from the beginning each time, but nobody can see that."""

    def __iter__(self) -> Iterator[bytes]:
        return generator()


class AsyncIterable:
    def __aiter__(self) -> AsyncIterator[bytes]:
        return async_generator()


class Encoder:
    """As multipart encoders are for requests: read once, of a known length, and no file otherwise."""

    def __init__(self) -> None:
        self._file = io.BytesIO(CONTENT)
        self.len = len(CONTENT)
        self.read = self._file.read


class Untold(Encoder):
    """A file without `tell`."""

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._file)

    def seek(self, position: int) -> int:
        return self._file.seek(position)


class Seekless(Untold):
    """A file whose `seek` raises."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, position: int) -> int:
        raise self._error


class Stuck(io.BytesIO):
    """A file that takes any `seek`, and stays where it is."""

    def seek(self, position: int, whence: int = 0) -> Any:
        return None


class Unmoved(io.BytesIO):
    """A stream made of a file: it says that it can seek, as its base does, and can't."""

    def seek(self, position: int, whence: int = 0) -> int:
        raise io.UnsupportedOperation


class Unasked(io.BytesIO):
    """A file that can't even be asked."""

    def seekable(self) -> bool:
        raise NotImplementedError


def stream_of(library: Any, **attributes: Any) -> Any:
    """A stream of the caller's own, for clients of both kinds, that can be read once."""

    class OneShot(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[misc] # known at run time
        def __init__(self) -> None:
            self._chunks = generator()
            self.__dict__.update(attributes)

        def __iter__(self) -> Iterator[bytes]:
            yield from self._chunks

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for chunk in self._chunks:
                yield chunk

    return OneShot()


IN_MEMORY = [
    Body("bytes", content(lambda: bytes(range(256))), bytes(range(256))),
    Body("text", content(lambda: "täxt"), "täxt".encode()),
    Body("form", lambda _: {"data": {"a": "1", "b": ["2", "ü"]}}, b"a=1&b=2&b=%C3%BC"),
    Body("no bytes", content(lambda: b""), b""),
    Body("nothing", lambda _: {}, b""),
    Body("1 MiB", content(lambda: MEBIBYTE), MEBIBYTE),
    Body(
        "multipart of bytes",
        lambda _: {"data": {"field": "1"}, "files": {"file": ("name", CONTENT)}},
        [("field", b"1"), ("file", CONTENT)],
    ),
    Body("multipart of text", files(lambda: "text"), [("file", b"text")]),
    Body("multipart of a file", lambda stack: {"files": {"file": disk_file(stack)}}, [("file", CONTENT)]),
    Body("multipart of a spooled file", lambda stack: {"files": {"file": spooled_file(stack)}}, [("file", CONTENT)]),
    Body("multipart of an empty file", files(io.BytesIO), [("file", b"")]),
    Body("multipart of 1 MiB", files(lambda: io.BytesIO(MEBIBYTE)), [("file", MEBIBYTE)]),
]

OF_REQUESTS = [
    *IN_MEMORY,
    Body("json", lambda _: {"json": {"a": ["ü"]}}, json.dumps({"a": ["ü"]}).encode()),
    Body("pairs", content(lambda: [("a", "1"), ("a", "2")]), b"a=1&a=2"),
    Body("bytearray", content(lambda: bytearray(CONTENT)), CONTENT),
    Body("memoryview", content(lambda: memoryview(CONTENT)), CONTENT),
    Body("multipart of a read file", lambda stack: {"files": {"file": disk_file(stack, 3)}}, [("file", b"tent")]),
    Body("multipart of a pipe", lambda stack: {"files": {"file": pipe(stack)}}, [("file", CONTENT)]),
    Body("file in memory", content(lambda: io.BytesIO(CONTENT)), CONTENT),
    Body("file", lambda stack: {"content": disk_file(stack)}, CONTENT),
    Body("file somewhere inside", lambda stack: {"content": disk_file(stack, 3)}, CONTENT[3:]),
    Body("file at its end", lambda stack: {"content": disk_file(stack, 7)}, b"", chunked=True),
    Body("file of 1 MiB", content(lambda: io.BytesIO(MEBIBYTE)), MEBIBYTE),
    Body("empty file", content(io.BytesIO), b"", chunked=True),
    Body("spooled file", lambda stack: {"content": spooled_file(stack)}, CONTENT),
    Body("text file", lambda stack: {"content": text_file(stack)}, "täxt".encode()),
    Body("text file in memory", content(lambda: io.StringIO("content")), CONTENT),
    # It could, but requests, which asks for an `__iter__`, does not note where it stands.
    Body("memory map", lambda stack: {"content": memory_map(stack)}, CONTENT, again=False),
    Body("pipe", lambda stack: {"content": pipe(stack)}, CONTENT, again=False, chunked=True),
    Body("encoder", content(Encoder), CONTENT, again=False),
    Body("file without tell", content(Untold), CONTENT, again=False),
    Body("file without seek", content(lambda: Seekless(OSError("no"))), CONTENT, again=False),
    Body("file that is no file", content(lambda: Seekless(NotImplementedError("no"))), CONTENT, again=False),
    Body("file that stays", content(lambda: Stuck(CONTENT)), CONTENT, again=False, chunked=True),
    Body("generator", content(generator), CONTENT, again=False, chunked=True),
    Body("empty generator", content(empty_generator), b"", again=False, chunked=True),
    Body("iterator", content(lambda: iter([CONTENT])), CONTENT, again=False, chunked=True),
    # This one could too: iterated twice, or found spent, are not told apart.
    Body("iterable", content(Iterable), CONTENT, again=False, chunked=True),
]

OF_FAMILY = [
    *IN_MEMORY,
    Body("json", lambda _: {"json": {"a": ["ü"]}}, '{"a":["ü"]}'.encode()),
    # The libraries send it from its beginning wherever it stands.
    Body("multipart of a read file", lambda stack: {"files": {"file": disk_file(stack, 3)}}, [("file", CONTENT)]),
    Body(
        "multipart of one file twice",
        lambda _: {"files": [("one", file := io.BytesIO(CONTENT)), ("two", file)]},
        [("one", CONTENT), ("two", CONTENT)],
    ),
    Body("multipart of half a file", files(HalfAFile), [("file", CONTENT)], again=False),
    Body(
        "multipart of a file and a stream",
        lambda _: {"files": [("file", io.BytesIO(CONTENT)), ("stream", Unseekable(CONTENT))]},
        [("file", CONTENT), ("stream", CONTENT)],
        again=False,
    ),
    Body("multipart of a file that cannot be asked", files(lambda: Unasked(CONTENT)), [("file", CONTENT)], again=False),
    Body(
        "multipart of a file that raises",
        files(lambda: Unmoved(CONTENT)),
        [("file", CONTENT)],
        again=False,
        chunked=True,
    ),
    Body(
        "multipart of a file that stays", files(lambda: Stuck(CONTENT)), [("file", CONTENT)], again=False, chunked=True
    ),
]

OF_SYNC_FAMILY = [
    *OF_FAMILY,
    # Files, and what can be iterated again, could be; but here too nobody tells them from what is spent.
    Body("file in memory", content(lambda: io.BytesIO(CONTENT)), CONTENT, again=False),
    Body("file", lambda stack: {"content": disk_file(stack)}, CONTENT, again=False),
    Body("spooled file", lambda stack: {"content": spooled_file(stack)}, CONTENT, again=False),
    Body("empty file", content(io.BytesIO), b"", again=False),
    Body("pipe", lambda stack: {"content": pipe(stack), "headers": KNOWN_LENGTH}, CONTENT, again=False),
    Body("generator", content(generator), CONTENT, again=False, chunked=True),
    Body(
        "generator of known length", lambda _: {"content": generator(), "headers": KNOWN_LENGTH}, CONTENT, again=False
    ),
    Body("empty generator", content(empty_generator), b"", again=False, chunked=True),
    Body("iterator", content(lambda: iter([CONTENT])), CONTENT, again=False, chunked=True),
    Body("list", content(lambda: [CONTENT, CONTENT]), CONTENT * 2, again=False, chunked=True),
    Body("iterable", content(Iterable), CONTENT, again=False, chunked=True),
]

OF_ASYNC_FAMILY = [
    *OF_FAMILY,
    Body("file", content(lambda: AsyncFile(CONTENT)), CONTENT, again=False, chunked=True),
    Body("generator", content(async_generator), CONTENT, again=False, chunked=True),
    Body(
        "generator of known length",
        lambda _: {"content": async_generator(), "headers": KNOWN_LENGTH},
        CONTENT,
        again=False,
    ),
    Body("empty generator", content(empty_async_generator), b"", again=False, chunked=True),
    Body("iterator", content(lambda: aiter(AsyncIterable())), CONTENT, again=False, chunked=True),
    Body("iterable", content(AsyncIterable), CONTENT, again=False, chunked=True),
]


def rows(*, again: bool) -> list[Any]:
    tables: list[tuple[list[Driver], list[Body]]] = [
        ([REQUESTS], OF_REQUESTS),
        (SYNC_FAMILY, OF_SYNC_FAMILY),
        (ASYNC, OF_ASYNC_FAMILY),
    ]
    return [
        pytest.param(driver, body, id=f"{label(driver)}-{body.name}")
        for drivers, bodies in tables
        for driver in drivers
        for body in bodies
        if body.again is again
    ]


def label(driver: Driver) -> str:
    return "-".join([driver.name, *([driver.backend] if isinstance(driver, AsyncHttpxDriver) else [])])


def each(drivers: list[Driver]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("driver", drivers, ids=label)


# What arrived


def arrived(received: Received) -> bytes | list[tuple[str, bytes]]:
    """The body; of a multipart one, the names and contents of its parts."""
    kind = received.headers["Content-Type"] or ""
    if not kind.startswith("multipart/"):
        return received.body
    whole = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + received.body)
    parts: Any = whole.get_payload()
    assert whole.is_multipart(), received.body
    return [
        (str(part.get_param("name", header="Content-Disposition")), part.get_payload(decode=True)) for part in parts
    ]


def framing(received: Received) -> tuple[str | None, str | None]:
    return received.headers["Content-Length"], received.headers["Transfer-Encoding"]


def right_framing(body: Body, received: Received) -> tuple[str | None, str | None]:
    return (None, "chunked") if body.chunked else (str(len(received.body)), None)


# The servers and the auth


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def api() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def other() -> Iterator[Server]:
    with serving() as server:
        yield server


def opened(driver: Driver, sandbox: Sandbox, *allowed: Server) -> Any:
    """A context manager of a client whose auth may talk to *allowed*."""
    hosts = [server.host for server in allowed]
    return driver.open(driver.adapter.DolbyAuth(**{**sandbox.options, "allowed_hosts": hosts}))


# The tables


@pytest.mark.filterwarnings("ignore::requests.exceptions.FileModeWarning")
@pytest.mark.parametrize(("driver", "body"), rows(again=True))
def test_a_body_that_can_be_sent_again_arrives_whole_both_times(
    driver: Driver, body: Body, sandbox: Sandbox, api: Server
) -> None:
    api.refuse_old_tokens()

    with ExitStack() as stack:
        client: Client = stack.enter_context(opened(driver, sandbox, api))
        seen = client.send("POST", api.url, **body.options(stack))
        then = client.get(api.url)

    first, second, last = api.log
    assert (200, [401], 200, []) == (seen.status, seen.history, then.status, then.history)
    assert body.sent == arrived(first)
    # Byte by byte, boundaries included.
    assert first.body == second.body
    assert [right_framing(body, first)] * 2 == [framing(first), framing(second)]
    assert first.headers["Content-Type"] == second.headers["Content-Type"]
    assert first.token != second.token == last.token
    assert sandbox.token_requests == 2


@pytest.mark.parametrize(("driver", "body"), rows(again=False))
def test_a_body_that_cannot_be_sent_again_is_not_and_the_next_request_has_a_fresh_token(
    driver: Driver, body: Body, sandbox: Sandbox, api: Server
) -> None:
    api.refuse_old_tokens()

    with ExitStack() as stack:
        client: Client = stack.enter_context(opened(driver, sandbox, api))
        seen = client.send("POST", api.url, **body.options(stack))
        then = client.get(api.url)

    first, last = api.log
    assert (401, [], b"refused", 200, []) == (seen.status, seen.history, seen.body, then.status, then.history)
    assert body.sent == arrived(first)
    assert right_framing(body, first) == framing(first)
    assert first.token != last.token
    assert sandbox.token_requests == 2


@pytest.mark.parametrize("attributes", [{}, {"fields": []}, {"fields": ["text"]}], ids=["plain", "no fields", "fields"])
@each(FAMILY)
def test_a_stream_of_the_callers_own_is_not_sent_again(
    driver: Driver, attributes: dict[str, Any], sandbox: Sandbox, api: Server
) -> None:
    """Not either if it looks a little like the library's own multipart stream."""
    api.refuse_old_tokens()
    headers = {"Host": api.host, "Transfer-Encoding": "chunked"}
    request = driver.library.Request("POST", api.url, headers=headers, stream=stream_of(driver.library, **attributes))

    with opened(driver, sandbox, api) as client:
        send = client.client.send
        response = client.portal.call(send, request) if driver in ASYNC else send(request)
        then = client.get(api.url)

    assert (401, [], 200) == (response.status_code, response.history, then.status)
    assert [CONTENT, b""] == [received.body for received in api.log]
    assert sandbox.token_requests == 2


# Methods and redirects


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@each(ALL)
def test_every_method_has_its_body_again(driver: Driver, method: str, sandbox: Sandbox, api: Server) -> None:
    api.refuse_old_tokens()

    with opened(driver, sandbox, api) as client:
        assert client.send(method, api.url, content=CONTENT).status == 200

    assert [(method, CONTENT)] * 2 == [(received.method, received.body) for received in api.log]


def replayable(driver: Driver, kind: str) -> dict[str, Any]:
    if kind == "bytes":
        return {"content": CONTENT}
    file = io.BytesIO(CONTENT)
    if driver is not REQUESTS:
        return {"files": {"file": file}}
    file.seek(3)
    return {"content": file}


def as_told(driver: Driver, history: list[int]) -> list[int]:
    """*history* as far as the library tells it: requests writes its own list of redirects over it."""
    return [status for status in history if driver is not REQUESTS or status != 401]


@pytest.mark.parametrize("kind", ["bytes", "file"])
@each(ALL)
def test_a_body_that_is_refused_after_a_redirect_arrives_whole_each_time(
    driver: Driver, kind: str, sandbox: Sandbox, api: Server
) -> None:
    refused: list[str | None] = []

    def answer(received: Received) -> Reply:
        if received.path != "/there":
            return Reply(307, {"Location": "/there"})
        refused.append(received.token)
        return Reply(401 if len(refused) == 1 else 200)

    api.answer = answer

    with opened(driver, sandbox, api) as client:
        seen = client.send("POST", api.url, **replayable(driver, kind))

    assert (200, as_told(driver, [307, 401])) == (seen.status, seen.history)
    assert ["/", "/there", "/there"] == [received.path for received in api.log]
    assert [("POST", api.log[0].body, framing(api.log[0]))] * 3 == [
        (received.method, received.body, framing(received)) for received in api.log
    ]
    assert CONTENT[3:] in api.log[0].body
    assert sandbox.token_requests == 2


@each(ALL)
def test_a_body_that_a_redirect_dropped_does_not_come_back(driver: Driver, sandbox: Sandbox, api: Server) -> None:
    tokens: list[str | None] = []

    def answer(received: Received) -> Reply:
        if received.method == "POST":
            return Reply(303, {"Location": "/there"})
        tokens.append(received.token)
        return Reply(401 if len(tokens) == 1 else 200)

    api.answer = answer

    with opened(driver, sandbox, api) as client:
        seen = client.send("POST", api.url, **replayable(driver, "file"))

    assert (200, as_told(driver, [303, 401])) == (seen.status, seen.history)
    assert [("GET", b"", (None, None))] * 2 == [
        (received.method, received.body, framing(received)) for received in api.log[1:]
    ]
    assert sandbox.token_requests == 2


@pytest.mark.parametrize("kind", ["bytes", "file"])
@each(ALL)
def test_a_body_that_is_redirected_after_a_healed_401_arrives_whole_each_time(
    driver: Driver, kind: str, sandbox: Sandbox, api: Server
) -> None:
    refused: list[str | None] = []

    def answer(received: Received) -> Reply:
        if not refused:
            refused.append(received.token)
            return Reply(401)
        return Reply() if received.path == "/there" else Reply(307, {"Location": "/there"})

    api.answer = answer

    with opened(driver, sandbox, api) as client:
        seen = client.send("POST", api.url, **replayable(driver, kind))

    assert (200, as_told(driver, [401, 307])) == (seen.status, seen.history)
    assert ["/", "/", "/there"] == [received.path for received in api.log]
    assert [api.log[0].body] * 3 == [received.body for received in api.log]
    assert CONTENT[3:] in api.log[0].body
    assert sandbox.token_requests == 2


@pytest.mark.parametrize("kind", ["bytes", "file"])
@each(ALL)
def test_a_body_that_is_redirected_to_another_allowed_host_arrives_whole_with_the_token(
    driver: Driver, kind: str, sandbox: Sandbox, api: Server, other: Server
) -> None:
    """The second host sees it twice, since the libraries strip the token on the way."""
    api.answer = lambda _: Reply(307, {"Location": f"{other.url}/there"})
    other.answer = lambda received: Reply(200 if received.token else 401)

    with opened(driver, sandbox, api, other) as client:
        seen = client.send("POST", api.url, **replayable(driver, kind))

    assert (200, as_told(driver, [307, 401])) == (seen.status, seen.history)
    assert [api.log[0].body] * 3 == [received.body for received in (*api.log, *other.log)]
    assert CONTENT[3:] in api.log[0].body
    assert sandbox.token_requests == 1


# What the library does by itself

# httpx leaves an async stream that broke off to trio, which tells of it.
leaving_streams = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")


def outcome(client: Client, url: str, options: dict[str, Any]) -> Any:
    """The status, or the error by its kind and words."""
    try:
        return client.send("POST", url, **options).status
    except Exception as error:
        return type(error), str(error)


def at_position_3() -> io.BytesIO:
    file = io.BytesIO(CONTENT)
    file.seek(3)
    return file


OWN_ERRORS: list[tuple[list[Driver], str, Options]] = [
    (FAMILY, "bytearray", content(lambda: bytearray(CONTENT))),
    (FAMILY, "memoryview", content(lambda: memoryview(CONTENT))),
    (FAMILY, "memory map", lambda stack: {"content": memory_map(stack)}),
    (SYNC_FAMILY, "text in a list", content(lambda: ["content"])),
    ([HTTPX], "file somewhere inside", content(at_position_3)),
    (FAMILY, "multipart of a pipe", lambda stack: {"files": {"file": pipe(stack)}}),
    (FAMILY, "multipart of a text file", lambda stack: {"files": {"file": text_file(stack)}}),
    (SYNC_FAMILY, "async generator", content(async_generator)),
    (ASYNC, "sync generator", content(generator)),
    (ASYNC, "file", content(lambda: io.BytesIO(CONTENT))),
    (ALL, "number", content(lambda: 7)),
    ([REQUESTS], "list", content(lambda: [b"one", b"two"])),
    ([REQUESTS], "numbers", content(lambda: iter([1, 2]))),
]


@pytest.mark.parametrize(
    ("driver", "options"),
    [
        pytest.param(driver, options, id=f"{label(driver)}-{name}")
        for drivers, name, options in OWN_ERRORS
        for driver in drivers
    ],
)
@leaving_streams
def test_what_the_library_does_not_take_is_its_own_error(
    driver: Driver, options: Options, sandbox: Sandbox, api: Server
) -> None:
    with ExitStack() as stack:
        plain = outcome(stack.enter_context(driver.open(None)), api.url, options(stack))
        client = stack.enter_context(opened(driver, sandbox, api))

        assert plain == outcome(client, api.url, options(stack))
        assert isinstance(plain, tuple)
        assert client.get(api.url).status == 200

    assert sandbox.token_requests == 1


def spent(driver: Driver) -> Any:
    return async_generator() if driver in ASYNC else generator()


@each(ALL)
def test_a_stream_that_the_library_redirects_ends_as_it_would_without_the_auth(
    driver: Driver, sandbox: Sandbox, api: Server
) -> None:
    """In an error of httpx, or emptied by requests; then the 401 is not healed with nothing."""
    api.answer = lambda received: Reply(401) if received.path == "/there" else Reply(307, {"Location": "/there"})

    with driver.open(None) as client:
        plain = outcome(client, api.url, {"content": spent(driver)})
    alone = [(received.path, received.body) for received in api.log]
    api.log.clear()
    with opened(driver, sandbox, api) as client:
        assert plain == outcome(client, api.url, {"content": spent(driver)})

    assert alone == [(received.path, received.body) for received in api.log]
    assert sandbox.token_requests == 1


class BrokenSourceError(Exception):
    """The caller's own."""


def breaking(driver: Driver, error: Exception) -> Any:
    def chunks() -> Iterator[bytes]:
        yield CONTENT
        raise error

    async def async_chunks() -> AsyncIterator[bytes]:
        yield CONTENT
        raise error

    return async_chunks() if driver in ASYNC else chunks()


@each(ALL)
def test_an_error_of_the_body_itself_comes_through_untouched(driver: Driver, sandbox: Sandbox, api: Server) -> None:
    """It costs no token and no connection that is used further."""
    error = BrokenSourceError("half-way")

    with opened(driver, sandbox, api) as client:
        with pytest.raises(BrokenSourceError) as caught:
            client.send("POST", api.url, content=breaking(driver, error))
        then = client.send("POST", api.url, content=CONTENT)

    assert caught.value is error
    assert (200, CONTENT) == (then.status, api.log[-1].body)
    assert sandbox.token_requests == 1


# Between the sends


def shrink(file: Any) -> None:
    file.truncate(3)


def grow(file: Any) -> None:
    file.write(b"more")
    file.flush()


@pytest.mark.parametrize("change", [shrink, grow])
@each(ALL)
def test_a_file_that_has_another_size_by_now_is_not_sent_again(
    driver: Driver, change: Callable[[Any], None], sandbox: Sandbox, api: Server
) -> None:
    """With the first `Content-Length` the server would wait for the rest, or take the surplus for another request."""
    first: list[str | None] = []

    with ExitStack() as stack:
        file = disk_file(stack)

        def answer(received: Received) -> Reply:
            if first:
                return Reply()
            first.append(received.token)
            change(file)
            return Reply(401)

        api.answer = answer
        client = stack.enter_context(opened(driver, sandbox, api))
        seen = client.send("POST", api.url, **({"content": file} if driver is REQUESTS else {"files": {"file": file}}))
        then = client.get(api.url)

    assert (401, [], 200) == (seen.status, seen.history, then.status)
    assert len(api.log) == 2
    assert sandbox.token_requests == 2


# Answers that come early


class Source:
    """Many chunks; from the second on they wait for the server to have hung up."""

    def __init__(self, hung_up: threading.Event) -> None:
        self.hung_up = hung_up
        self.starts = 0

    def chunks(self) -> Iterator[bytes]:
        self.starts += 1
        yield MEBIBYTE[: 1 << 16]
        assert self.hung_up.wait(10)
        for start in range(1 << 16, len(MEBIBYTE), 1 << 16):
            yield MEBIBYTE[start : start + (1 << 16)]

    async def async_chunks(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks():
            yield chunk


class Waiting(io.BytesIO):
    """A file of which all after the first piece waits for the server to have hung up."""

    def __init__(self, hung_up: threading.Event) -> None:
        super().__init__(MEBIBYTE)
        self.hung_up = hung_up

    def read(self, size: int | None = -1) -> bytes:
        assert self.tell() == 0 or self.hung_up.wait(10)
        return super().read(size)


def hurry(api: Server) -> None:
    """The first token, or its lack, is refused before the body has been read, and the connection closed."""
    first: list[str | None] = []

    def hurried(headers: Message) -> bool:
        first.append(headers["Authorization"])
        return first[-1] == first[0]

    api.hurried = hurried
    api.answer = lambda received: Reply(401, {"Connection": "close"}) if received.token == first[0] else Reply()


def status_or_error(driver: Driver, client: Client, url: str, options: dict[str, Any]) -> int | None:
    try:
        return client.send("POST", url, **options).status
    except driver.host_error:
        return None


def end_without_auth(driver: Driver, options: Callable[[Server], dict[str, Any]]) -> int | None:
    with serving() as api, driver.open(None) as client:
        hurry(api)
        return status_or_error(driver, client, api.url, options(api))


@each(ALL)
@leaving_streams
def test_a_stream_refused_before_it_was_read_ends_as_it_would_without_the_auth(
    driver: Driver, sandbox: Sandbox, api: Server
) -> None:
    """With the 401 or in an error, as the library sees the connection go; it is not begun twice."""

    def stream(api: Server) -> dict[str, Any]:
        source = Source(api.hung_up)
        return {"content": source.async_chunks() if driver in ASYNC else source.chunks()}

    plain = end_without_auth(driver, stream)
    hurry(api)

    with opened(driver, sandbox, api) as client:
        end = status_or_error(driver, client, api.url, stream(api))
        requests = len(api.log)
        then = client.get(api.url)

    assert plain in {401, None}
    assert (plain, 1) == (end, requests)
    # Who did not see the 401 then, has it healed now.
    assert then.status == 200
    assert sandbox.token_requests == 2


@each(ALL)
@leaving_streams
def test_a_file_refused_before_it_was_read_arrives_whole_where_the_refusal_is_seen(
    driver: Driver, sandbox: Sandbox, api: Server
) -> None:
    def file(api: Server) -> dict[str, Any]:
        waiting = Waiting(api.hung_up)
        return {"content": waiting} if driver is REQUESTS else {"files": {"file": waiting}}

    plain = end_without_auth(driver, file)
    hurry(api)

    with opened(driver, sandbox, api) as client:
        end = status_or_error(driver, client, api.url, file(api))

    assert plain in {401, None}
    if plain is None:
        assert (None, 1) == (end, len(api.log))
    else:
        assert (200, 2) == (end, len(api.log))
        assert arrived(api.log[1]) == (MEBIBYTE if driver is REQUESTS else [("file", MEBIBYTE)])
