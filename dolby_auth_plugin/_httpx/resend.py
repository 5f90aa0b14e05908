"""
Prepares a refused request of httpx or httpx2 to be sent again: its body, its cookies, the body of the refusal.
"""

from __future__ import annotations

import io
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Any

# Bytes and seconds for reading the body of a refused response, see `RefusedBody`. A single read waits no longer than these seconds
# either.
_BODY_BYTES, _BODY_SECONDS = 1 << 16, 5.0


def why_not_resendable(library: Any, request: Any) -> str | None:
    """Why the body of *request* can't be sent once more, as the end of a sentence. None: it can."""
    stream = request.stream
    if isinstance(stream, library.ByteStream):
        return None
    # The class of a multipart body has no public name. The library rewinds each file to its start, if the file can do that. A file
    # whose size has changed would break the protocol.
    multipart = type(library.Request("POST", request.url, files={"a": b""}).stream)
    if not isinstance(stream, multipart):
        return "its body is a stream, which can be read only once"
    if not all(_rewound(getattr(field, "file", b"")) for field in stream.fields):
        return "a file in its body can't return to its start"
    if stream.get_headers().get("Content-Length") != request.headers.get("Content-Length"):
        return "a file in its body has changed its size"
    return None


def take_cookies(library: Any, request: Any, response: Any) -> None:
    """Have *request* send the cookies that came with the refusal."""
    cookies = library.Cookies()
    # `response.cookies` would stay on the response, which could not be pickled any more.
    cookies.extract_cookies(response)
    if not cookies:
        return
    probe = library.Request("GET", request.url)
    cookies.set_cookie_header(probe)
    pairs = "; ".join(filter(None, (request.headers.get("Cookie"), probe.headers.get("Cookie")))).split("; ")
    # If two cookies have the same name, the later one wins: it came with the refusal.
    request.headers["Cookie"] = "; ".join({pair.partition("=")[0]: pair for pair in pairs}.values())


class RefusedBody:
    """
    The body of a refused response. The client reads it whole before it sends the retry.

    It may be broken, endless, or never arrive. That must not prevent the retry, whatever timeout the call has: reading stops early
    instead. A body that can't be decoded is replaced by an empty one, because the client would raise an error for it.
    """

    _library: Any

    def __init__(self, response: Any) -> None:
        self._headers = response.headers
        self._extensions = response.request.extensions
        self._stream = response.stream
        self._until = time.monotonic() + _BODY_SECONDS

    @property
    def elapsed(self) -> Any:
        # httpx2 keeps a response's `elapsed` here.
        return self._stream.elapsed

    def __iter__(self) -> Iterator[bytes]:
        body = io.BytesIO()  # a traceback that shows local variables does not show its content
        with suppress(Exception), self._limited_reads():
            for _ in map(body.write, self._stream):
                if self._is_enough(body):
                    break
        yield self._decodable(body)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body = io.BytesIO()
        with suppress(Exception), self._limited_reads():
            async with aclosing(aiter(self._stream)) as stream:
                while True:
                    # Until StopAsyncIteration. The variable of an `async for` would show the body.
                    body.write(await anext(stream))
                    if self._is_enough(body):
                        # Close the connection, and read on: the library's own generators then end normally. A `break` here would
                        # leave them suspended, and trio warns of that.
                        await self._stream.aclose()
                    if body.tell() > 4 * _BODY_BYTES:
                        break
        yield self._decodable(body)

    def close(self) -> None:
        with suppress(Exception):
            self._stream.close()

    async def aclose(self) -> None:
        with suppress(Exception):
            await self._stream.aclose()

    @contextmanager
    def _limited_reads(self) -> Iterator[None]:
        """Shorten the read timeout of the request. The connection looks at it when the reading of the body begins."""
        timeout = self._extensions.get("timeout", {})
        read = timeout.get("read")
        self._extensions["timeout"] = {**timeout, "read": _BODY_SECONDS if read is None else min(read, _BODY_SECONDS)}
        try:
            yield
        finally:
            # The retry has the same extensions. In old versions of the libraries they may be an object of the user's.
            self._extensions["timeout"] = timeout

    def _is_enough(self, body: io.BytesIO) -> bool:
        return body.tell() > _BODY_BYTES or time.monotonic() > self._until

    def _decodable(self, body: io.BytesIO) -> bytes:
        try:
            self._library.Response(401, headers=self._headers, content=body.getvalue())
        except self._library.DecodingError:
            return b""
        return body.getvalue()


def _rewound(file: Any) -> bool:
    if isinstance(file, str | bytes):
        return True
    try:
        if not file.seekable():
            return False
        # Some files ignore `seek`.
        file.seek(0)
        return bool(file.tell() == 0)
    except Exception:  # noqa: BLE001 - an incomplete or closed file; a file of the user's may raise anything
        return False
