"""
The end of a token request's time.

The libraries' timeouts bound each read, and where a header drips in byte by byte nobody looks at a clock in
between. Such a server must not keep the fetch's thread: when the time is up, the connection is shut under it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self


class Cutoff:
    """
    After so many seconds, shuts the connections that it watches; whoever reads from one wakes with an error.

    Attributes:
        over: Whether the time was up before the `with` block ended.
    """

    __slots__ = ("_sockets", "_timer", "over")

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._sockets: list[Callable[[], object]] = []
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.name = "dolby-auth-cutoff"
        self._timer.daemon = True

    def watch(self, find: Callable[[], object]) -> None:
        """
        Watch the connection whose socket *find* gives.

        A function, since TLS wraps a socket in another, and the old one is then good for nothing.
        """
        self._sockets.append(find)
        if self.over:
            _shut(find())

    def __enter__(self) -> Self:
        # Where no thread can be had, the libraries' own timeouts must do.
        with suppress(RuntimeError):
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._timer.ident is not None:
            self._timer.join()

    def _cut(self) -> None:
        self.over = True
        for find in self._sockets:
            _shut(find())


def _shut(connection: object) -> None:
    if isinstance(connection, socket.socket):
        # Below TLS, whose own way of shutting would change an object that another thread is reading from. An
        # OSError means that it is closed already.
        with suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
