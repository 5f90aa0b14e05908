"""
Every kind of body that the libraries accept, in a request that is answered with 401.

The body arrives whole a second time, or it is not sent again and the caller gets the 401. An error that the library
itself raises for a body comes through unchanged.
"""

from __future__ import annotations

import email
import functools
import io
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

from ..drivers import Client, Driver
from ..family import AsyncFile, HalfAFile, Unseekable
from ..matrix import ALL, ASYNC, ASYNCIO, HTTPX, HTTPX2, REQUESTS, TRIO, Scene, each, matrix
from ..servers import Received, Reply, Server, serving

CONTENT = b"content"
MEBIBYTE = bytes(range(256)) * 4096

# The options of a call, made again for each call. The stack closes files.
Options = Callable[[ExitStack], dict[str, Any]]


@dataclass(frozen=True)
class Body:
    """
    Attributes:
        options: The options for the client.
        sent: The body that must arrive. For a multipart body, the names and contents of its parts.
        again: Whether it can be sent again.
        chunked: Whether it has no `Content-Length`.
    """

    name: str
    options: Options
    sent: bytes | list[tuple[str, bytes]] = CONTENT
    again: bool = True
    chunked: bool = False


# Bodies


def content(value: Callable[[], Any]) -> Options:
    return lambda _: {"content": value()}


def files(value: Callable[[], Any]) -> Options:
    return lambda _: {"files": {"file": ("name", value())}}


def kept(stack: ExitStack, file: Any, written: str | bytes, position: int = 0) -> Any:
    stack.enter_context(file)
    file.write(written)
    file.flush()
    file.seek(position)
    return file


def disk_file(stack: ExitStack, position: int = 0) -> Any:
    return kept(stack, tempfile.TemporaryFile(), CONTENT, position)


def text_file(stack: ExitStack) -> Any:
    return kept(stack, tempfile.TemporaryFile("w+", encoding="utf-8"), "täxt")


def memory_map(stack: ExitStack) -> mmap.mmap:
    return stack.enter_context(mmap.mmap(disk_file(stack).fileno(), 0))


def pipe(stack: ExitStack) -> Any:
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as end:
        end.write(CONTENT)
    return stack.enter_context(os.fdopen(reader, "rb"))


def generator() -> Iterator[bytes]:
    yield CONTENT[:3]
    yield CONTENT[3:]


async def async_generator() -> AsyncIterator[bytes]:
    yield CONTENT[:3]
    yield CONTENT[3:]


class FileWithoutTell:
    """A file without `tell`."""

    def __init__(self) -> None:
        self._file = io.BytesIO(CONTENT)
        self.len = len(CONTENT)
        self.read = self._file.read
        self.seek: Callable[[int], int] = self._file.seek

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._file)


class FileFailingSeek(FileWithoutTell):
    """A file whose `seek` raises."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.tell = self._file.tell
        self._error = error
        self.seek = self._fail

    def _fail(self, position: int) -> int:
        raise self._error


class FileIgnoringSeek(io.BytesIO):
    """A file that accepts any `seek`, and does not move."""

    def seek(self, position: int, whence: int = 0) -> Any:
        return None


class FileRejectingSeek(io.BytesIO):
    """A file that says that it can seek, like its base class, but can't."""

    def seek(self, position: int, whence: int = 0) -> int:
        raise io.UnsupportedOperation


class FileFailingSeekable(io.BytesIO):
    """A file whose `seekable` raises."""

    def seekable(self) -> bool:
        raise NotImplementedError


def stream_of(library: Any, **attributes: Any) -> Any:
    """A caller's own stream, for sync and async clients. It can be read once."""

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


MULTIPART = [("file", CONTENT)]

IN_MEMORY = [
    Body("bytes", content(lambda: bytes(range(256))), bytes(range(256))),
    Body("text", content(lambda: "täxt"), "täxt".encode()),
    Body("json", lambda _: {"json": [1]}, b"[1]"),
    Body("form", lambda _: {"data": {"a": "1", "b": ["2", "ü"]}}, b"a=1&b=2&b=%C3%BC"),
    Body("nothing", lambda _: {}, b""),
    Body("1 MiB", content(lambda: MEBIBYTE), MEBIBYTE),
    Body(
        "multipart of bytes",
        lambda _: {"data": {"field": "1"}, "files": {"file": ("name", CONTENT)}},
        [("field", b"1"), *MULTIPART],
    ),
    Body("multipart of text", files(lambda: "text"), [("file", b"text")]),
    Body("multipart of a file", lambda stack: {"files": {"file": disk_file(stack)}}, MULTIPART),
]

OF_REQUESTS = [
    *IN_MEMORY,
    Body("bytearray", content(lambda: bytearray(CONTENT))),
    Body("memoryview", content(lambda: memoryview(CONTENT))),
    Body("file", lambda stack: {"content": disk_file(stack)}),
    Body("file with a position", lambda stack: {"content": disk_file(stack, 3)}, CONTENT[3:]),
    Body("file at its end", lambda stack: {"content": disk_file(stack, 7)}, b"", chunked=True),
    Body("text file", lambda stack: {"content": text_file(stack)}, "täxt".encode()),
    # It could be sent again, but requests notes the position only of a body with `__iter__`.
    Body("memory map", lambda stack: {"content": memory_map(stack)}, again=False),
    Body("pipe", lambda stack: {"content": pipe(stack)}, again=False, chunked=True),
    Body("file without tell", content(FileWithoutTell), again=False),
    Body("file whose seek fails", content(lambda: FileFailingSeek(OSError("no"))), again=False),
    Body(
        "file whose seek is not implemented", content(lambda: FileFailingSeek(NotImplementedError("no"))), again=False
    ),
    Body("file that ignores seek", content(lambda: FileIgnoringSeek(CONTENT)), again=False, chunked=True),
    Body("generator", content(generator), again=False, chunked=True),
]

OF_FAMILY = [
    *IN_MEMORY,
    # The libraries send it from its beginning, whatever its position.
    Body("multipart of a file with a position", lambda stack: {"files": {"file": disk_file(stack, 3)}}, MULTIPART),
    Body(
        "multipart of one file twice",
        lambda _: {"files": [("one", file := io.BytesIO(CONTENT)), ("two", file)]},
        [("one", CONTENT), ("two", CONTENT)],
    ),
    Body("multipart of an incomplete file object", files(HalfAFile), MULTIPART, again=False),
    Body(
        "multipart of a file and a stream",
        lambda _: {"files": [("file", io.BytesIO(CONTENT)), ("stream", Unseekable(CONTENT))]},
        [*MULTIPART, ("stream", CONTENT)],
        again=False,
    ),
    Body(
        "multipart of a file whose seekable fails", files(lambda: FileFailingSeekable(CONTENT)), MULTIPART, again=False
    ),
    Body(
        "multipart of a file whose seek fails",
        files(lambda: FileRejectingSeek(CONTENT)),
        MULTIPART,
        again=False,
        chunked=True,
    ),
    Body(
        "multipart of a file that ignores seek",
        files(lambda: FileIgnoringSeek(CONTENT)),
        MULTIPART,
        again=False,
        chunked=True,
    ),
]

OF_SYNC_FAMILY = [
    *OF_FAMILY,
    # A file could be sent again, but no public name distinguishes it from a consumed stream.
    Body("file", lambda stack: {"content": disk_file(stack)}, again=False),
    Body("generator", content(generator), again=False, chunked=True),
    Body("list", content(lambda: [CONTENT, CONTENT]), CONTENT * 2, again=False, chunked=True),
]

OF_ASYNC_FAMILY = [
    *OF_FAMILY,
    Body("file", content(lambda: AsyncFile(CONTENT)), again=False, chunked=True),
    Body("generator", content(async_generator), again=False, chunked=True),
]


def bodies(*, again: bool) -> pytest.MarkDecorator:
    """Each kind of body once in each flow. The second library of a flow gets one body for each class of streams."""
    few = ("bytes", "multipart of a file", "multipart of a file and a stream", "generator")
    tables: list[tuple[Driver, list[Body]]] = [
        (REQUESTS, OF_REQUESTS),
        (HTTPX, OF_SYNC_FAMILY),
        (TRIO, OF_ASYNC_FAMILY),
        (HTTPX2, [body for body in OF_SYNC_FAMILY if body.name in few]),
        (ASYNCIO, [body for body in OF_ASYNC_FAMILY if body.name in few]),
    ]
    rows = [([driver], [(body.name, body) for body in table if body.again is again]) for driver, table in tables]
    return matrix("body", *rows)


# Bodies that arrived


def arrived(received: Received) -> bytes | list[tuple[str, bytes]]:
    """The body, or the names and contents of the parts of a multipart body."""
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


# The tables


# requests warns of a file in text mode, which is one of the bodies.
@pytest.mark.filterwarnings("ignore::requests.exceptions.FileModeWarning")
@bodies(again=True)
def test_a_body_that_can_be_sent_again_arrives_whole_both_times(body: Body, scene: Scene) -> None:
    scene.api.refuse_old_tokens()

    seen = scene.send("POST", **body.options(scene.stack))
    then = scene.send()

    first, second, last = scene.api.log
    assert (200, [401], 200, []) == (seen.status, seen.history, then.status, then.history)
    assert body.sent == arrived(first)
    # All bytes are the same, boundaries included.
    assert first.body == second.body
    assert [right_framing(body, first)] * 2 == [framing(first), framing(second)]
    assert first.headers["Content-Type"] == second.headers["Content-Type"]
    assert first.token != second.token == last.token
    assert len(scene.endpoint.log) == 2


@bodies(again=False)
def test_a_body_that_cannot_be_sent_again_is_not_resent_and_the_next_request_has_a_new_token(
    body: Body, scene: Scene
) -> None:
    scene.api.refuse_old_tokens()

    seen = scene.send("POST", **body.options(scene.stack))
    then = scene.send()

    first, last = scene.api.log
    assert (401, [], b"refused", 200, []) == (seen.status, seen.history, seen.body, then.status, then.history)
    assert body.sent == arrived(first)
    assert right_framing(body, first) == framing(first)
    assert first.token != last.token
    assert len(scene.endpoint.log) == 2


@pytest.mark.parametrize("attributes", [{}, {"fields": []}, {"fields": ["text"]}], ids=["plain", "no fields", "fields"])
@each([HTTPX, TRIO])
def test_a_callers_own_stream_is_not_sent_again(attributes: dict[str, Any], scene: Scene) -> None:
    """Not even one that looks like the library's own multipart stream."""
    scene.api.refuse_old_tokens()
    library, client = scene.driver.library, scene.client
    headers = {"Host": scene.api.host, "Transfer-Encoding": "chunked"}
    request = library.Request("POST", scene.api.url, headers=headers, stream=stream_of(library, **attributes))

    send: Any = functools.partial(client.client.send, request, auth=scene.auth)  # type: ignore[attr-defined] # httpx's
    response = client.portal.call(send) if scene.driver in ASYNC else send()  # type: ignore[attr-defined] # an async one
    then = scene.send()

    assert (401, [], 200) == (response.status_code, response.history, then.status)
    assert [CONTENT, b""] == [received.body for received in scene.api.log]
    assert len(scene.endpoint.log) == 2


# Methods and redirects


def replayable(driver: Driver, file: Any = None) -> dict[str, Any]:
    """The options that send *file* in a way that can be repeated."""
    file = file or io.BytesIO(CONTENT)
    return {"content": file} if driver is REQUESTS else {"files": {"file": file}}


def answer_in_turn(server: Server, *replies: Reply) -> None:
    """Answer with *replies* in this order."""
    left = list(replies)
    server.answer = lambda _: left.pop(0)


REDIRECT = Reply(307, {"Location": "/there"})
# The replies of the API, the paths that it sees, and the statuses in `history`.
CHAINS: dict[str, tuple[list[Reply], list[str], list[int]]] = {
    "refused after a redirect": ([REDIRECT, Reply(401), Reply()], ["/", "/there", "/there"], [307, 401]),
    "redirected after a retry": ([Reply(401), REDIRECT, Reply()], ["/", "/", "/there"], [401, 307]),
    "refused between redirects": (
        [REDIRECT, Reply(401), Reply(307, {"Location": "/further"}), Reply()],
        ["/", "/there", "/there", "/further"],
        [307, 401, 307],
    ),
    "refused twice": ([REDIRECT, Reply(401), Reply(401)], ["/", "/there", "/there"], [307, 401]),
}


@matrix("chain", (ALL, CHAINS.items()))
def test_a_file_arrives_whole_each_time_if_a_redirect_and_a_401_come_together(
    chain: tuple[list[Reply], list[str], list[int]], scene: Scene
) -> None:
    replies, paths, history = chain
    answer_in_turn(scene.api, *replies)
    options = replayable(scene.driver)
    if scene.driver is REQUESTS:
        options["content"].seek(3)

    seen = scene.send("POST", **options)

    first = scene.api.log[0]
    assert (replies[-1].status, scene.as_told(*history)) == (seen.status, seen.history)
    assert [(path, "POST", first.body, framing(first)) for path in paths] == [
        (received.path, received.method, received.body, framing(received)) for received in scene.api.log
    ]
    assert CONTENT[3:] in first.body
    assert len(scene.endpoint.log) == 2


@matrix("chain", (ALL, CHAINS.items()))
def test_history_shows_each_response_once_with_the_request_that_was_sent(
    chain: tuple[list[Reply], list[str], list[int]], scene: Scene
) -> None:
    """After a redirect, requests leaves the 401 out."""
    answer_in_turn(scene.api, *chain[0])

    response = scene.send().response

    shown = [(one.status_code, one.request.headers["Authorization"]) for one in (*response.history, response)]
    sent = [(reply.status, received.token) for reply, received in zip(chain[0], scene.api.log, strict=True)]
    told = scene.as_told(*(status for status, _ in sent[:-1]))
    assert [one for one in sent[:-1] if one[0] in told] + sent[-1:] == shown


@each(ALL)
def test_a_body_that_a_redirect_dropped_does_not_come_back(scene: Scene) -> None:
    answer_in_turn(scene.api, Reply(303, {"Location": "/there"}), Reply(401), Reply())

    seen = scene.send("POST", **replayable(scene.driver))

    assert (200, scene.as_told(303, 401)) == (seen.status, seen.history)
    assert [("GET", b"", (None, None))] * 2 == [
        (received.method, received.body, framing(received)) for received in scene.api.log[1:]
    ]
    assert len(scene.endpoint.log) == 2


@each(ALL)
def test_a_body_that_is_redirected_to_another_allowed_host_arrives_whole_with_the_token(scene: Scene) -> None:
    """The second host gets it twice, because the libraries remove the token on a redirect."""
    other = scene.stack.enter_context(serving())
    scene.options["allowed_hosts"].append(other.host)
    scene.api.answer = lambda _: Reply(307, {"Location": f"{other.url}/there"})
    other.answer = lambda received: Reply(200 if received.token else 401)

    seen = scene.send("POST", **replayable(scene.driver))

    assert (200, scene.as_told(307, 401)) == (seen.status, seen.history)
    assert [scene.api.log[0].body] * 3 == [received.body for received in (*scene.api.log, *other.log)]
    assert CONTENT in scene.api.log[0].body
    assert len(scene.endpoint.log) == 1


# Errors of the library and of the body

# httpx does not close an async stream that raised an error. trio warns of that.
leaving_streams = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")


def outcome(client: Client, url: str, options: dict[str, Any]) -> Any:
    """The status, or the type and text of the error."""
    try:
        return client.send("POST", url, **options).status
    except Exception as error:
        return type(error), str(error)


@matrix(
    "options",
    (ALL, [("number", content(lambda: 7))]),
    ([HTTPX, TRIO], [("memory map", lambda stack: {"content": memory_map(stack)})]),
    ([HTTPX, TRIO], [("multipart of a text file", lambda stack: {"files": {"file": text_file(stack)}})]),
    ([HTTPX], [("async generator", content(async_generator))]),
    (ASYNC, [("sync generator", content(generator))]),
    ([REQUESTS], [("list", content(lambda: [b"one", b"two"])), ("numbers", content(lambda: iter([1, 2])))]),
)
@leaving_streams
def test_a_body_that_the_library_rejects_raises_the_librarys_own_error(options: Options, scene: Scene) -> None:
    client, url = scene.client, scene.api.url
    plain = outcome(client, url, options(scene.stack))

    assert plain == outcome(client, url, {"auth": scene.auth, **options(scene.stack)})
    assert isinstance(plain, tuple)
    assert scene.send().status == 200
    assert len(scene.endpoint.log) == 1


@each(ALL)
def test_a_stream_that_the_library_redirects_ends_as_it_would_without_the_auth(scene: Scene) -> None:
    """httpx raises an error. requests sends an empty body, and the 401 to that is not retried."""
    scene.api.answer = lambda received: Reply(401) if received.path == "/there" else REDIRECT
    spent = async_generator if scene.driver in ASYNC else generator

    plain = outcome(scene.client, scene.api.url, {"content": spent()})
    alone = [(received.path, received.body) for received in scene.api.log]
    scene.api.log.clear()

    assert plain == outcome(scene.client, scene.api.url, {"content": spent(), "auth": scene.auth})
    assert alone == [(received.path, received.body) for received in scene.api.log]
    assert len(scene.endpoint.log) == 1


class BrokenSourceError(Exception):
    """An error in the caller's own code."""


@each(ALL)
def test_an_error_of_the_body_itself_comes_through_unchanged(scene: Scene) -> None:
    """It costs no token, and its connection is not used again."""
    error = BrokenSourceError("half-way")

    def chunks() -> Iterator[bytes]:
        yield CONTENT
        raise error

    async def async_chunks() -> AsyncIterator[bytes]:
        for chunk in chunks():
            yield chunk

    with pytest.raises(BrokenSourceError) as caught:
        scene.send("POST", content=async_chunks() if scene.driver in ASYNC else chunks())
    then = scene.send("POST", content=CONTENT)

    assert caught.value is error
    assert (200, CONTENT) == (then.status, scene.api.log[-1].body)
    assert len(scene.endpoint.log) == 1


# Changes between two sends


def shrink(file: Any) -> None:
    file.truncate(3)


def grow(file: Any) -> None:
    file.write(b"more")
    file.flush()


def close(file: Any) -> None:
    file.close()


class ReadWhole(io.BufferedRandom):
    """A file that tells when a client has met its end. A change before that would be part of the first request."""

    def __init__(self, raw: Any) -> None:
        super().__init__(raw)
        self.ended = threading.Event()

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if not data:
            self.ended.set()
        return data


@matrix("change", ([REQUESTS, HTTPX, TRIO], [("shrink", shrink), ("grow", grow), ("close", close)]))
def test_a_file_that_has_changed_is_not_sent_again(change: Callable[[Any], None], scene: Scene) -> None:
    """With the old `Content-Length`, the server would wait for the rest, or read the surplus as another request."""
    raw = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - `ReadWhole` closes it
    file = kept(scene.stack, ReadWhole(raw), CONTENT)

    def answer(_: Received) -> Reply:
        if len(scene.api.log) > 1:
            return Reply()
        assert file.ended.wait(10)
        change(file)
        return Reply(401)

    scene.api.answer = answer
    seen = scene.send("POST", **replayable(scene.driver, file))
    then = scene.send()

    assert (401, [], 200) == (seen.status, seen.history, then.status)
    assert (2, 2) == (len(scene.api.log), len(scene.endpoint.log))


# Refusals before the body was read


class Source:
    """Many chunks. From the second on, they wait until the server has closed the connection."""

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
    """A file whose second read waits until the server has closed the connection."""

    def __init__(self, hung_up: threading.Event) -> None:
        super().__init__(MEBIBYTE)
        self.hung_up = hung_up

    def read(self, size: int | None = -1) -> bytes:
        assert self.tell() == 0 or self.hung_up.wait(10)
        return super().read(size)


def hurry(api: Server) -> None:
    """Refuse the first token, or a missing one, before the body was read, and close the connection."""
    first: list[str | None] = []

    def hurried(headers: Message) -> bool:
        first.append(headers["Authorization"])
        return first[-1] == first[0]

    api.hurried = hurried
    api.answer = lambda received: Reply(401, {"Connection": "close"}) if received.token == first[0] else Reply()


def status_or_error(scene: Scene, api: Server, options: dict[str, Any]) -> int | None:
    hurry(api)
    try:
        return scene.client.send("POST", api.url, **options).status
    except scene.driver.host_error:
        return None


@each(ALL)
@leaving_streams
def test_a_stream_refused_before_it_was_read_ends_as_it_would_without_the_auth(scene: Scene) -> None:
    """The library returns the 401, or raises an error for the closed connection. The stream is not started twice."""

    def stream(api: Server) -> Any:
        source = Source(api.hung_up)
        return source.async_chunks() if scene.driver in ASYNC else source.chunks()

    with serving() as other:
        plain = status_or_error(scene, other, {"content": stream(other)})

    end = status_or_error(scene, scene.api, {"content": stream(scene.api), "auth": scene.auth})
    requests = len(scene.api.log)
    then = scene.send()

    assert plain in {401, None}
    assert (plain, 1) == (end, requests)
    # If the library did not see the first 401, this request is refused and retried.
    assert then.status == 200
    assert len(scene.endpoint.log) == 2


@each(ALL)
@leaving_streams
def test_a_file_refused_before_it_was_read_arrives_whole_if_the_library_sees_the_401(scene: Scene) -> None:
    with serving() as other:
        plain = status_or_error(scene, other, replayable(scene.driver, Waiting(other.hung_up)))

    options = replayable(scene.driver, Waiting(scene.api.hung_up))
    end = status_or_error(scene, scene.api, {**options, "auth": scene.auth})

    assert plain in {401, None}
    assert (end, len(scene.api.log)) == ((None, 1) if plain is None else (200, 2))
    if plain is not None:
        assert arrived(scene.api.log[1]) == (MEBIBYTE if scene.driver is REQUESTS else [("file", MEBIBYTE)])
