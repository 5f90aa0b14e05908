"""
A lock between the processes of one machine. It ends with its holder's process, and with its lease.

The lock is a folder. It contains an empty file, the lease. The name of the lease says which lock file belongs to the holder, since when,
and for how long. The holder keeps an operating system's lock on that lock file. It ends with the holder's process.

- The lock is free if the lease has expired, or if the holder's lock file is missing or not locked.
- A process that finds the lock free creates a lock file of its own, locks it, and renames the lease. Each name of a lease is used once,
  and only one process can rename it. So one process gets the lock, wherever another one is suspended or killed.
- A holder that releases the lock removes its own lock file, nothing else. So a holder whose lease has expired does not disturb the next one.

A lease is measured on the monotonic clock: all processes of a machine share it, and nobody can set it. It restarts with the machine, but
then no process locks the holder's lock file.
"""

from __future__ import annotations

import re
import secrets
import time
from pathlib import Path

from filelock import lock_descriptor

from .._core.forks import reset_in_children, unforkable
from .private import check, create_file, create_folder, open_file, remove, temporary

# Seconds. A listing may miss a file that is renamed meanwhile. It misses nothing if the folder has not changed for this long.
_SETTLED = 2.0

_LEASE = re.compile(r"[0-9a-f]{16}_[0-9.e-]+_[0-9.e-]+")

# The first lease. Its lock file does not exist, so the lock is free.
_NO_HOLDER = f"{0:016x}_0_0"


class LockFile:
    """A new file that this process locks. A forked child closes it, and so can't release it."""

    __slots__ = ("__weakref__", "_file", "_path")

    def __init__(self, path: Path) -> None:
        self._path = path
        with unforkable:
            self._file = create_file(path)
            reset_in_children(self)

    def lock(self) -> None:
        lock_descriptor(self._file.fileno(), blocking=False)

    def release(self) -> None:
        if not self._file.closed:
            self._file.close()
            remove([self._path])

    def reset_after_fork(self) -> None:
        self._file.close()


def acquire(folder: Path, seconds: float) -> LockFile | None:
    """Acquire the lock in *folder*, without waiting. The result releases it. None: another process holds it, or was faster."""
    # This comes first. If the process is suspended at a later step, its lease expires meanwhile.
    started, listed_at = time.monotonic(), time.time()
    try:
        check(folder)
    except FileNotFoundError:
        _make(folder)
    try:
        files = list(folder.iterdir())
        leases = list(filter(_is_lease, files))
        if leases:
            return _take(leases[0], files, started, seconds) if _is_free(leases[0]) else None
        if check(folder).st_mtime < listed_at - _SETTLED:
            # Something else has removed the lease, for example a program that removes old files. The next call makes a new lock.
            remove([*files, folder])
    except FileNotFoundError:
        pass
    return None


def discard(folder: Path) -> None:
    """Remove the lock in *folder*. Only its holder may do that."""
    remove([*folder.iterdir(), folder])


def _make(folder: Path) -> None:
    """Create a lock that is free. The folder appears together with its lease."""
    unfinished = temporary(folder.parent)
    create_folder(unfinished)
    try:
        create_file(unfinished / _NO_HOLDER).close()
        unfinished.rename(folder)
    except OSError:
        remove([unfinished / _NO_HOLDER, unfinished])
        # Another process may have created it meanwhile.
        if not folder.exists():
            raise


def _is_lease(file: Path) -> bool:
    return _LEASE.fullmatch(file.name) is not None


def _is_free(lease: Path) -> bool:
    """Whether the holder that *lease* names has released the lock, was killed, or has held the lock for its time."""
    holder, started, seconds = lease.name.split("_")
    try:
        with open_file(lease.with_name(holder)) as file:
            if lock_descriptor(file.fileno(), blocking=False):
                return True
    except FileNotFoundError:
        return True
    return not float(started) <= time.monotonic() < float(started) + float(seconds)


def _take(lease: Path, files: list[Path], started: float, seconds: float) -> LockFile:
    """Take the lock, which is free. A `FileNotFoundError` if another process was faster."""
    own = secrets.token_hex(8)
    held = LockFile(lease.with_name(own))
    try:
        held.lock()
        lease.rename(lease.with_name(f"{own}_{started!r}_{float(seconds)!r}"))
    except BaseException:
        held.release()
        raise
    # The other files belong to earlier holders, or to processes that were not fast enough. Their names are never used again.
    remove(files)
    return held
