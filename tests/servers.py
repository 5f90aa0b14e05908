"""A small HTTP server whose every answer a test decides, on a real socket."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from typing import Any


@dataclass
class Received:
    method: str
    path: str
    headers: Message
    body: bytes
    # The client's end of the connection.
    port: int

    @property
    def token(self) -> str | None:
        return self.headers["Authorization"]


@dataclass
class Reply:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    # Sent as it is in place of all that, and then the connection is closed.
    raw: bytes | None = None
    # Seconds between its bytes.
    drip: float = 0.0
    # Sent before it, all at once.
    prompt: bytes = b""
    # Whether the connection is then reset.
    reset: bool = False


class QuietServer(ThreadingHTTPServer):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.hung_up = threading.Event()

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.hung_up.set()

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away, or refuse the certificate, are what some tests are about."""


class Server:
    """
    Attributes:
        answer: What is answered to a request; by default 200.
        log: The requests, in their order.
        hurried: Whether the request with these headers is answered, and its connection closed, with its body unread.
        hung_up: Set once a connection has been closed from this side.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answer: Callable[[Received], Reply] = lambda _: Reply()
        self.log: list[Received] = []
        self.hurried: Callable[[Message], bool] = lambda _: False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_any(self) -> None:
                hurried = outer.hurried(self.headers)
                body = b"" if hurried else self._body()
                received = Received(self.command, self.path, self.headers, body, self.client_address[1])
                outer.log.append(received)
                reply = outer.answer(received)
                if reply.raw is not None:
                    self.close_connection = True
                    outer.write(self.wfile, reply.prompt, 0)
                    outer.write(self.wfile, reply.raw, reply.drip)
                    if reply.reset:
                        # Closing with no time to linger sends a reset instead of an orderly end.
                        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        socket.close(self.connection.detach())
                    return
                self.send_response(reply.status)
                headers = {"Content-Length": str(len(reply.body)), **reply.headers}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body)
                self.close_connection |= hurried

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

            def _body(self) -> bytes:
                if self.headers["Transfer-Encoding"] != "chunked":
                    return self.rfile.read(int(self.headers["Content-Length"] or 0))
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = QuietServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.hung_up = self._server.hung_up
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._ended = threading.Event()
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"{'http' if tls is None else 'https'}://{self.host}"

    def write(self, stream: BufferedIOBase, data: bytes, drip: float) -> None:
        with suppress(OSError):  # the client may have given up
            if not drip:
                stream.write(data)
                return
            for byte in data:
                stream.write(bytes([byte]))
                if self._ended.wait(drip):
                    return

    def refuse_old_tokens(self) -> None:
        """401 to the first token that comes, 200 to others."""
        first: list[str | None] = []

        def answer(received: Received) -> Reply:
            if not first:
                first.append(received.token)
            return Reply(401, body=b"refused") if received.token in first else Reply()

        self.answer = answer


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(tls)
    thread = threading.Thread(target=server._server.serve_forever, kwargs={"poll_interval": 0.002})
    thread.start()
    try:
        yield server
    finally:
        server._ended.set()
        server._server.shutdown()
        server._server.server_close()
        thread.join()
