"""
Keeps the HTTP libraries' loggers silent about token requests: they log the URL, and at some levels the headers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Silence(logging.Filter):
    """Drops the records of threads that send a token request."""

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - the thread decides, not the record
        return not getattr(_sending, "depth", 0)


# Thread-local, rather than a set of thread numbers: after a thread has ended, or after a fork, another thread may have its number.
_sending = threading.local()
_silence = _Silence()


@contextmanager
def silenced(*libraries: str) -> Iterator[None]:
    """Inside the block, the loggers of these packages log nothing from this thread."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        # Each logger needs the filter: a logger's filter does not see records of the loggers below it. It is added once and stays.
        if isinstance(logger, logging.Logger) and name.partition(".")[0] in libraries:
            logger.addFilter(_silence)
    depth = getattr(_sending, "depth", 0)
    _sending.depth = depth + 1
    try:
        yield
    finally:
        _sending.depth = depth
