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

# Seconds between two looks at what there is to shut, once the time is up.
_AGAIN = 0.05


class Cutoff:
    """
    After so many seconds, shuts the connections that it watches; whoever reads from one wakes with an error.

    Attributes:
        over: Whether the time was up before the `with` block ended.
    """

    __slots__ = ("_ended", "_sockets", "_thread", "over")

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._sockets: list[Callable[[], object]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._cut, args=(seconds,), name="dolby-auth-cutoff", daemon=True)

    def watch(self, find: Callable[[], object]) -> None:
        """
        Watch the connection whose socket *find* gives.

        A function, since it may not be connected yet; and TLS wraps a socket in another, and the old one is then good
        for nothing.
        """
        self._sockets.append(find)

    def __enter__(self) -> Self:
        # Where no thread can be had, the libraries' own timeouts must do.
        with suppress(RuntimeError):
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _cut(self, seconds: float) -> None:
        pause = seconds
        while not self._ended.wait(pause):
            self.over = True
            for find in tuple(self._sockets):
                _shut(find())
            # And again: a connection that was being made when the time was up would be cut off by nobody.
            pause = _AGAIN


def _shut(connection: object) -> None:
    if isinstance(connection, socket.socket):
        # Below TLS, whose own way of shutting would change an object that another thread is reading from. An
        # OSError means that it is closed already.
        with suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
