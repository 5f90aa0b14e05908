"""
Files and folders for this user only. Others can neither read nor change them, and nothing that others made is used.
"""

from __future__ import annotations

import io
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from .protocol import UnusableCacheError

T = TypeVar("T")

_TEMPORARY = re.compile(r"[0-9a-f]{16}\.tmp")


def check(path: Path, is_expected: Callable[[int], bool] = stat.S_ISDIR) -> os.stat_result:
    """The status of the folder or file at *path*. An `UnusableCacheError` if somebody else has made it or may change it."""
    status = path.lstat()
    found = None
    if stat.S_ISLNK(status.st_mode):
        found = "is a symbolic link"
    elif not is_expected(status.st_mode):
        found = "is not a folder" if is_expected is stat.S_ISDIR else "is not a regular file"
    elif hasattr(os, "geteuid"):  # pragma: no branch - on Windows, the user's profile folder protects the files
        if status.st_uid != os.geteuid():
            found = "belongs to another user"
        elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            found = "may be changed by other users"
    if found:
        raise UnusableCacheError(f"{path} {found}. FileTokenCache does not use it: remove it, or choose another folder")
    return status


def open_file(path: Path) -> io.BufferedReader:
    check(path, stat.S_ISREG)
    return retry(lambda: open(path, "rb", opener=_open_private))


def create_file(path: Path) -> io.FileIO:
    """A new file. It has no buffer, because a buffer has a lock that a fork could leave locked in the child."""
    file = open(path, "xb", buffering=0, opener=_open_private)  # noqa: SIM115 - the caller closes it
    try:
        # The umask may have removed permissions.
        path.chmod(0o600)
    except OSError:
        # Another process may have removed the file: it holds the lock.
        file.close()
        raise
    return file


def create_folder(path: Path) -> None:
    path.mkdir(0o700)
    # The umask may have removed permissions.
    path.chmod(0o700)


def temporary(folder: Path) -> Path:
    """A name in *folder* for something that is not complete yet. It is used once."""
    return folder / f"{secrets.token_hex(8)}.tmp"


def is_temporary(path: Path) -> bool:
    return _TEMPORARY.fullmatch(path.name) is not None


def remove(paths: Iterable[Path]) -> None:
    """Remove files and empty folders, in this order, as far as possible."""
    for path in paths:
        with suppress(OSError):
            path.rmdir() if stat.S_ISDIR(path.lstat().st_mode) else path.unlink()


def retry(action: Callable[[], T]) -> T:
    """Call *action*. On Windows, a file can't be replaced or opened at the instant when another process opens or replaces it."""
    for pause in (0.01, 0.03, 0.1):
        try:
            return action()
        except PermissionError:
            time.sleep(pause)
    return action()


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)
