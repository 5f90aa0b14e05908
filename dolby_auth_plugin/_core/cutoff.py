"""
Ends a token request at its deadline.

The timeouts of the HTTP libraries bound each read. While a header arrives byte by byte, no library limits the total time. Such a
server must not occupy the fetch's thread. So its connection is shut down at the deadline.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

# After the deadline: seconds between two checks for connections that were still being made.
_INTERVAL = 0.05


class Cutoff:
    """
    Shuts down the watched connections after *seconds*. A thread that reads from one gets an error.

    Attributes:
        passed: Whether the deadline passed before the `with` block ended.
    """

    __slots__ = ("_ended", "_sockets", "_thread", "passed")

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._sockets: list[Callable[[], object]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._cut, args=(seconds,), name="dolby-auth-cutoff", daemon=True)

    def watch(self, find: Callable[[], object]) -> None:
        """
        Watch the connection whose socket *find* returns.

        It is a function because the connection may not exist yet, and because TLS replaces its socket.
        """
        self._sockets.append(find)

    def __enter__(self) -> Self:
        # If no thread can be started, only the timeouts of the libraries are left.
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
        wait = seconds
        while not self._ended.wait(wait):
            self.passed = True
            for find in tuple(self._sockets):
                _shut(find())
            # Check again: a connection that was being made at the deadline would be missed.
            wait = _INTERVAL


def _shut(connection: object) -> None:
    if isinstance(connection, socket.socket):
        # Shut down below TLS: its own shutdown would change an object that another thread reads from. An OSError means that the
        # socket is closed already.
        with suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
