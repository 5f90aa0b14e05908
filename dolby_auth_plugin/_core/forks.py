"""
Work that a fork must not interrupt, and state that a forked child resets.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

# Held while a TLS context is made. OpenSSL has locks of its own; a fork in the middle would leave them locked in the child for
# ever. So a fork waits, some tens of milliseconds once in the life of a process.
unforkable = threading.RLock()


class Resettable(Protocol):
    """An object with state that belongs to threads of the parent."""

    def reset_after_fork(self) -> None: ...


# `os.register_at_fork` keeps its functions for ever. So it gets one function for all objects, and this set drops unused objects.
_resettable: weakref.WeakSet[Resettable] = weakref.WeakSet()


def reset_in_children(subject: Resettable) -> None:
    """Have every forked child reset *subject*, for as long as it is in use."""
    _resettable.add(subject)


def _reset_all() -> None:
    for subject in _resettable:
        subject.reset_after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(
        before=unforkable.acquire, after_in_parent=unforkable.release, after_in_child=unforkable.release
    )
    os.register_at_fork(after_in_child=_reset_all)
