"""Small HTTP servers on real sockets. A test decides every response."""

from __future__ import annotations

import http.client
import selectors
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
from socketserver import StreamRequestHandler, TCPServer, ThreadingTCPServer
from typing import Any, TypeVar
from urllib.parse import urlsplit


@dataclass
class Received:
    method: str
    path: str
    headers: Message
    body: bytes
    # The port of the client.
    port: int

    @property
    def token(self) -> str | None:
        return self.headers["Authorization"]


@dataclass
class Reply:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    # Raw bytes that replace the response. The connection is closed after them.
    raw: bytes | None = None
    # Seconds before each byte of `raw`.
    drip: float = 0.0
    # Sent before `raw`, all at once.
    prompt: bytes = b""
    # Whether the connection is reset after `raw`.
    reset: bool = False
    # A socket to which the connection is relayed after the response.
    tunnel: socket.socket | None = None


class QuietServer(ThreadingHTTPServer):
    # With the default of 5 waiting connections, a crowd loses the others and connects again a second later.
    request_queue_size = 256

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.hung_up = threading.Event()

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.hung_up.set()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors: in some tests clients disconnect or reject the certificate."""


class Server:
    """
    Attributes:
        answer: Returns the response to a request. The default is 200.
        log: The requests, in order.
        hurried: Returns whether a request with these headers is answered before its body is read. The connection is
            closed then.
        hung_up: Set after the server has closed a connection.
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
                acknowledge_at_once(self.connection)
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
                        # A linger time of zero makes the close send a reset (RST) instead of a normal end (FIN).
                        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        socket.close(self.connection.detach())
                    return
                self.send_response(reply.status)
                headers = {"Content-Length": str(len(reply.body)), **reply.headers}
                if reply.tunnel is not None:
                    # A client would apply it to the relayed data.
                    del headers["Content-Length"]
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body)
                self.close_connection |= hurried
                if reply.tunnel is not None:
                    self.close_connection = True
                    relay(self.connection, reply.tunnel)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_CONNECT = handle_any

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

        self.server = QuietServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.hung_up = self.server.hung_up
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.ended = threading.Event()
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"{'http' if tls is None else 'https'}://{self.host}"

    def write(self, stream: BufferedIOBase, data: bytes, drip: float) -> None:
        with suppress(OSError):  # the client may have given up
            if not drip:
                stream.write(data)
                return
            for byte in data:
                if self.ended.wait(drip):
                    return
                stream.write(bytes([byte]))

    def refuse_old_tokens(
        self, refusal: Reply | None = None, then: Callable[[Received], Reply] = lambda _: Reply()
    ) -> None:
        """Answer with *refusal*, or a 401, to the first token that arrives. Answer with *then*, or 200, to all others."""
        first: list[str | None] = []

        def answer(received: Received) -> Reply:
            if not first:
                first.append(received.token)
            return (refusal or Reply(401, body=b"refused")) if received.token in first else then(received)

        self.answer = answer


class Proxy(Server):
    """
    A forward proxy: it tunnels (CONNECT) and forwards requests for absolute URLs.

    Attributes:
        hosts: The server for each `name:port`. Other hosts get a 502.
        refusal: Returns a response that replaces the service, or None to serve the request.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.hosts: dict[str, Server] = {}
        self.refusal: Callable[[Received], Reply | None] = lambda _: None
        self.answer = self._serve

    def _serve(self, received: Received) -> Reply:
        refusal = self.refusal(received)
        if refusal is not None:
            return refusal
        parts = urlsplit(received.path)
        server = self.hosts.get(
            received.path if received.method == "CONNECT" else f"{parts.hostname}:{parts.port or 80}"
        )
        if server is None:
            return Reply(502, body=b"no such host")
        host, port = server.host.split(":")
        if received.method == "CONNECT":
            tunnel = socket.create_connection((host, int(port)), 20)
            # Otherwise the second of two small writes waits for an acknowledgement of the first.
            tunnel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return Reply(body=b"", tunnel=tunnel)
        headers = {name: value for name, value in received.headers.items() if not name.lower().startswith("proxy-")}
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        try:
            connection.request(received.method, target, received.body, headers)
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.headers.items()), answer.read())
        finally:
            connection.close()


class SocksProxy:
    """
    A SOCKS5 proxy (RFC 1928), which looks up the names itself.

    Attributes:
        hosts: The server for each `name:port`. Other hosts are refused.
        log: The hosts that were asked for.
        host: The proxy's own address.
    """

    def __init__(self) -> None:
        self.hosts: dict[str, Server] = {}
        self.log: list[str] = []
        outer = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                if not (greeting := self.rfile.read(2)):
                    return
                self.rfile.read(greeting[1])
                self.wfile.write(b"\x05\x00")
                # A request to connect to a name: its length, the name, the port.
                assert self.rfile.read(4) == b"\x05\x01\x00\x03"
                name = self.rfile.read(*self.rfile.read(1)).decode()
                host = f"{name}:{int.from_bytes(self.rfile.read(2), 'big')}"
                outer.log.append(host)
                server = outer.hosts.get(host)
                self.wfile.write(bytes([5, 4 if server is None else 0, 0, 1, *bytes(6)]))
                if server is not None:
                    address, port = server.host.split(":")
                    relay(self.connection, socket.create_connection((address, int(port)), 20))

        self.server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_address[1]}"


@contextmanager
def socks_proxying() -> Iterator[SocksProxy]:
    proxy = SocksProxy()
    with running(proxy.server):
        yield proxy


def acknowledge_at_once(connection: socket.socket) -> None:
    """
    Disable delayed acknowledgements for the next packets.

    With proxies, urllib3 leaves Nagle's algorithm on: it sends the body only after the headers are acknowledged, which
    usually takes 40 ms. Systems without this option are only slower.
    """
    if hasattr(socket, "TCP_QUICKACK"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def relay(one: socket.socket, other: socket.socket) -> None:
    """Forward the data of both sockets until one of them closes."""
    with other, selectors.DefaultSelector() as selector, suppress(OSError):
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            acknowledge_at_once(one)
            for key, _ in selector.select():
                data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr] # both are sockets
                if not data:
                    return
                key.data.sendall(data)


ServerT = TypeVar("ServerT", bound=Server)


class Wire:
    """
    A server that works with raw bytes only.

    Attributes:
        answers: The next responses. Each one closes its connection.
        otherwise: The response when `answers` is empty.
        log: The bytes of each request. Empty connections are not logged.
    """

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.otherwise = b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"access_token":"good"}'
        self.log: list[bytes] = []
        outer = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                got, length = b"", 0
                while line := self.rfile.readline():
                    got += line
                    name, _, value = line.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                    if line == b"\r\n":
                        break
                if not got:
                    return  # the client connected and sent nothing
                outer.log.append(got + self.rfile.read(length))
                with suppress(OSError):  # the client may have given up
                    self.wfile.write(outer.answers.pop(0) if outer.answers else outer.otherwise)

        self.server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.host}"


@contextmanager
def wired() -> Iterator[Wire]:
    wire = Wire()
    with running(wire.server):
        yield wire


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    with _serving(Server(tls)) as server:
        yield server


@contextmanager
def refusing() -> Iterator[str]:
    """The `host:port` of a port that refuses connections. It stays taken, or a server of another test could get it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield "{}:{}".format(*taken.getsockname())


@contextmanager
def proxying() -> Iterator[Proxy]:
    with _serving(Proxy()) as proxy:
        yield proxy


@contextmanager
def _serving(server: ServerT) -> Iterator[ServerT]:
    with running(server.server):
        try:
            yield server
        finally:
            server.ended.set()


@contextmanager
def running(server: TCPServer) -> Iterator[None]:
    """A connection ends the thread. `serve_forever` would look many times a second whether it is time to end."""
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            server.handle_request()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        with suppress(OSError):
            socket.create_connection(server.socket.getsockname()).close()
        thread.join()
        server.server_close()
