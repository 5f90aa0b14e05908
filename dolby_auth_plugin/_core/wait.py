"""
How a caller waits for the end of a fetch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from .state import Fetch


class Wait:
    """A caller has to wait for the end of *fetch*, at most *seconds*."""

    __slots__ = ("fetch", "seconds")

    def __init__(self, fetch: Fetch, seconds: float) -> None:
        self.fetch = fetch
        self.seconds = max(0.0, seconds)

    @contextmanager
    def calling(self, wake: Callable[[], None]) -> Iterator[None]:
        """Inside the block, the end of the fetch calls *wake*, in any thread; at once if it has ended."""
        self.fetch.waiters[wake] = None
        try:
            if self.fetch.ended:
                wake()
            yield
        finally:
            self.fetch.waiters.pop(wake, None)

    def in_thread(self) -> None:
        """Wait in this thread."""
        # A bare lock: its release never waits and never fails. An Event holds a lock of its own, and a signal handler or a
        # KeyboardInterrupt inside `Event.wait` would leave it locked for the fetch's `set`.
        gate = threading.Lock()
        gate.acquire()

        def wake() -> None:
            with suppress(RuntimeError):  # a second call
                gate.release()

        with self.calling(wake):
            gate.acquire(timeout=self.seconds)


def wake_callers(fetch: Fetch) -> None:
    """Wake all callers that wait for *fetch*. It may be called twice."""
    # `dict.copy` is atomic, even while other threads change the dict.
    for wake in fetch.waiters.copy():
        wake()
