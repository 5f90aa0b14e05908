"""Servers for the tests of `RedisTokenCache`: a real Redis, the one of `fakeredis`, and one that answers as a test says."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedIOBase
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import fakeredis
import redis

from ..fakes import eventually
from ..servers import running

# Either program takes the same options.
PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")

OK, NOTHING = b"+OK\r\n", b"$-1\r\n"


class RealRedis:
    """
    A process of Redis or Valkey. It listens on a socket in *folder*, and on a port if the options name one.

    Attributes:
        url: The address of the socket.
    """

    def __init__(self, folder: Path, *options: str, file: Path | None = None) -> None:
        path = folder / "redis.sock"
        self.url = f"unix://{path}"
        assert PROGRAM is not None
        # No persistence, so that it is empty after a restart. A Sentinel has none, and keeps its state in its *file*.
        first = ["--save", ""] if file is None else [str(file)]
        self._command = [PROGRAM, *first, "--port", "0", "--unixsocket", str(path), "--dir", str(folder), *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        eventually(self._answers)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def send_signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the server has ended"
        with redis.Redis.from_url(self.url) as client:
            try:
                return bool(client.ping())
            except redis.AuthenticationError:
                return True
            except redis.RedisError:
                return False


def free_ports(count: int) -> list[int]:
    with ExitStack() as taken:
        sockets = [taken.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def real_cluster(folder: Path) -> Iterator[int]:
    """A cluster of three nodes, and the port of one."""
    ports, bus_ports = free_ports(3), free_ports(3)
    with ExitStack() as servers:
        nodes = []
        for number, (port, bus_port) in enumerate(zip(ports, bus_ports, strict=True)):
            (folder / str(port)).mkdir()
            options = ("--port", str(port), "--cluster-enabled", "yes", "--cluster-port", str(bus_port))
            server = servers.enter_context(real_redis(folder / str(port), *options))
            node = servers.enter_context(redis.Redis.from_url(server.url))
            node.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", number * 16384 // 3, (number + 1) * 16384 // 3 - 1)
            nodes.append(node)
        for port, bus_port in zip(ports[1:], bus_ports[1:], strict=True):
            nodes[0].execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus_port)
        eventually(lambda: all(node.execute_command("CLUSTER INFO")["cluster_state"] == "ok" for node in nodes))
        yield ports[0]


@contextmanager
def real_sentinel(folder: Path) -> Iterator[int]:
    """The port of a Sentinel. It watches a Redis that it calls `main`."""
    port, sentinel_port = free_ports(2)
    (folder / "sentinel").mkdir()
    file = folder / "sentinel.conf"
    file.write_text(f"sentinel monitor main 127.0.0.1 {port} 1\n")
    with real_redis(folder, "--port", str(port)):
        with real_redis(folder / "sentinel", "--port", str(sentinel_port), "--sentinel", file=file):
            yield sentinel_port


@contextmanager
def real_redis(folder: Path, *options: str, file: Path | None = None) -> Iterator[RealRedis]:
    server = RealRedis(folder, *options, file=file)
    try:
        server.start()
        yield server
    finally:
        server.stop()


class FakeRedis(fakeredis.TcpFakeServer):
    # With the default of 5 waiting connections, a crowd loses the others, and connects again a second later.
    request_queue_size = 256


@contextmanager
def fake_redis() -> Iterator[str]:
    """The URL of a server of `fakeredis`."""
    server = FakeRedis(("127.0.0.1", 0))
    with running(server):
        yield f"redis://127.0.0.1:{server.server_address[1]}"


class ScriptedRedis:
    """
    Attributes:
        answer: Returns the chunks that answer a command. None hangs up.
        log: The commands, in order.
        ports: The port of each connection that was made, in order.
        connections: The number of open connections.
        ended: Set at the end of the test. Answers that wait can wait for it.
    """

    def __init__(self) -> None:
        self.answer: Callable[[list[bytes]], Iterable[bytes] | None] = known_answer
        self.log: list[list[bytes]] = []
        self.ports: list[int] = []
        self.connections = 0
        self.ended = threading.Event()
        outer = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                outer.ports.append(self.client_address[1])
                outer.connections += 1
                # The client may have given up.
                with suppress(OSError):
                    self._answer_all()
                outer.connections -= 1

            def _answer_all(self) -> None:
                while command := _read_command(self.rfile):
                    outer.log.append(command)
                    chunks = outer.answer(command)
                    if chunks is None:
                        return
                    for chunk in chunks:
                        self.wfile.write(chunk)

        self.server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"redis://{self.host}"

    def silence(self, _: list[bytes]) -> Iterable[bytes]:
        """Accept a command, and never answer it."""
        self.ended.wait()
        return []

    def drip(self, command: list[bytes]) -> Iterable[bytes]:
        """An answer that does not end. After five seconds the server hangs up, so that no fault makes a test hang."""
        for _ in range(500):
            if self.ended.wait(0.01):
                return
            yield b"x"
        raise ConnectionAbortedError


def known_answer(command: list[bytes]) -> Iterable[bytes]:
    """The answer of an empty Redis."""
    return [{b"GET": NOTHING, b"EVAL": b":1\r\n"}.get(command[0], OK)]


@contextmanager
def scripted_redis() -> Iterator[ScriptedRedis]:
    scripted = ScriptedRedis()
    with running(scripted.server):
        try:
            yield scripted
        finally:
            scripted.ended.set()


def _read_command(stream: BufferedIOBase) -> list[bytes]:
    """A command as RESP writes it: the number of its words, then the length of each word and the word. Empty at the end."""
    count = stream.readline()
    return [stream.read(int(stream.readline()[1:]) + 2)[:-2] for _ in range(int(count[1:] or 0))]
