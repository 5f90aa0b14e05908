"""
Silence about token requests. What an HTTP library logs of one is its URL, and at some levels its headers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Hush(logging.Filter):
    """Drops what is logged by threads that send a token request, and passes on all else."""

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - who logs it is what counts
        return not getattr(_sending, "depth", 0)


# A thread's own, not a set of their numbers: after a fork, or its end, another thread may have the same.
_sending = threading.local()
_hush = _Hush()


@contextmanager
def hushed(*libraries: str) -> Iterator[None]:
    """While it lasts, the loggers of these packages say nothing in this thread."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        # Of each, since a filter does not see what the loggers below its own pass on. Added once, and left there.
        if isinstance(logger, logging.Logger) and name.partition(".")[0] in libraries:
            logger.addFilter(_hush)
    depth = getattr(_sending, "depth", 0)
    _sending.depth = depth + 1
    try:
        yield
    finally:
        _sending.depth = depth
