"""
The HTTP servers: an event loop in a thread that runs uvicorn's protocol.

The sandbox does not use uvicorn's `Server`, which polls ten times a second for its shutdown and
logs through global loggers. It uses the layer below: one protocol object per connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Sequence
from typing import cast

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

# Log only errors of the sandbox itself. Tests send bad requests on purpose.
_LOGGER = logging.getLogger("dolby_auth_plugin.sandbox")
_LOGGER.setLevel(logging.ERROR)

# The length of the accept queue: a thousand tasks can connect at once.
_BACKLOG = 2048


class Servers:
    """
    One HTTP server per application, on loopback. All share one event loop in a daemon thread.

    The first start picks a free port in place of each 0; later starts reuse it.
    """

    def __init__(self, apps: Sequence[ASGIApp], ports: Sequence[int]) -> None:
        self.ports = list(ports)
        self._configs = [_config(app) for app in apps]
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event

    @property
    def running(self) -> bool:
        return self._thread is not None

    def start(self) -> None:
        with contextlib.ExitStack() as undo:
            # The sockets listen before the thread runs. Until then, connections wait in the kernel.
            sockets = [undo.enter_context(_listener(port)) for port in self.ports]
            for listener in sockets:
                # Connections inherit TCP_NODELAY. Without it, each response on a reused connection
                # takes 40 ms. asyncio sets it only on sockets with an explicit protocol number.
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.ports = [listener.getsockname()[1] for listener in sockets]
            self._loop = undo.enter_context(contextlib.closing(asyncio.SelectorEventLoop()))
            self._stopping = asyncio.Event()
            thread = threading.Thread(target=self._run, args=[sockets], name="dolby-sandbox", daemon=True)
            thread.start()
            self._thread = thread
            undo.pop_all()

    def stop(self) -> None:
        """Reset open connections and wait until the thread has ended."""
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = None

    def _run(self, sockets: list[socket.socket]) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(sockets))

    async def _serve(self, sockets: list[socket.socket]) -> None:
        state = ServerState()
        servers = [
            await self._loop.create_server(
                lambda config=config: _Protocol(config, state, {}),  # type: ignore[misc] # the default binds it
                sock=listener,
                backlog=_BACKLOG,
            )
            for config, listener in zip(self._configs, sockets, strict=True)
        ]
        await self._stopping.wait()
        for server in servers:
            server.close()
        # Other tasks are active requests, and new connections without a protocol object.
        while state.connections or len(asyncio.all_tasks()) > 1:
            requests = list(state.tasks)
            for connection in list(state.connections):
                cast(_Protocol, connection).transport.abort()
            # A request must notice the closed connection before the cancellation. Otherwise
            # uvicorn answers with a 500.
            await asyncio.sleep(0)
            for request in requests:
                request.cancel()


def _listener(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port), backlog=_BACKLOG)
    except OSError as error:
        # The standard library appends the address.
        reason = str(error.strerror).partition(" (while")[0]
        raise OSError(error.errno, f"the sandbox can't use port {port} of 127.0.0.1: {reason}") from None


class _Protocol(H11Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # TCP has no other
        self.logger = _LOGGER
        self.access_log = False
        # Each request gets a copy as `scope["state"]`.
        self.app_state = {"transport": transport}
        super().connection_made(transport)


def _config(app: ASGIApp) -> Config:
    async def quiet(scope: Scope, receive: Receive, send: Send) -> None:
        # Both mean that the client is gone. uvicorn would log them as errors.
        with contextlib.suppress(asyncio.CancelledError, ClientDisconnect):
            await app(scope, receive, send)

    config = Config(
        quiet,
        http=_Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        workers=1,
        # Seconds. No test leaves a pooled connection idle for longer.
        timeout_keep_alive=300,
    )
    config.load()
    # At the lowest log level, `load` wraps the application to log every message. Undo that.
    config.loaded_app = quiet
    return config
