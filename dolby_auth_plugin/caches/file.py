"""
`FileTokenCache`: a folder that all processes of one machine share.

An entry is a file. A temporary file with the new entry replaces it. The modification time says until when the entry is needed.
"""

from __future__ import annotations

import io
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .private import check, create_file, create_folder, is_temporary, open_file, remove, retry, temporary

try:
    from platformdirs import user_cache_path as _user_cache_path

    from .lease import acquire as _acquire
    from .lease import discard as _discard
except ImportError as _error:
    raise ImportError(
        f"FileTokenCache needs {_error.name}: pip install 'dolby-auth-plugin[file]'", name=_error.name
    ) from None

# Bytes. A sealed entry has some kilobytes.
_LARGEST_ENTRY = 2**20

# Seconds. A temporary file of this age belongs to a process that was killed.
_ABANDONED = 600.0

# Seconds. A key is removed when its entry expired this long ago, or when its lock was not used for this long.
_UNUSED = 86_400.0

_KEY = re.compile(r"([0-9a-f]{64})(\.lock)?")


class FileTokenCache:
    """
    Shares a token between the processes of one user on one machine: `DolbyAuth(cache=FileTokenCache())`.

    The folder and its files are for this user only. The cache refuses symbolic links, files of other users and files that others may
    change, with a `PermissionError`. The folder must be on a local disk: network file systems do not lock files reliably.

    Args:
        path: A folder. It is created if it is missing. None: `dolby-auth-plugin` in the user's cache folder.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        folder = _user_cache_path("dolby-auth-plugin", appauthor=False) if path is None else Path(path)
        # If there is no home folder, the default begins with "~". Then this raises an error, and makes no folder of that name.
        self.path: Path = folder.expanduser().absolute()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def load(self, key: str) -> bytes | None:
        """The entry that was stored last under *key*, or None."""
        try:
            check(self.path)
            with open_file(self.path / key) as file:
                entry = file.read(_LARGEST_ENTRY + 1)
        except FileNotFoundError:
            return None
        return entry if len(entry) <= _LARGEST_ENTRY else None

    def store(self, key: str, entry: bytes, seconds: float) -> None:
        """Keep *entry* under *key*, in place of the one before. It is needed for *seconds*."""
        self._make_folder()
        unfinished = temporary(self.path)
        try:
            with io.BufferedWriter(create_file(unfinished)) as file:
                file.write(entry)
                file.flush()
                os.fsync(file.fileno())
            expiry = time.time() + seconds
            os.utime(unfinished, (expiry, expiry))
            retry(lambda: unfinished.replace(self.path / key))
        except BaseException:
            remove([unfinished])
            raise
        self._tidy()

    @contextmanager
    def lock(self, key: str, seconds: float) -> Iterator[bool]:
        """Acquire the lock of *key*, without waiting, for at most *seconds*. It yields whether the lock was acquired."""
        self._make_folder()
        held = _acquire(self._lock_folder(key), seconds)
        try:
            yield held is not None
        finally:
            if held is not None:
                held.release()

    def clear(self) -> int:
        """
        Remove all entries, for any credentials. Locks stay with their holders.

        Returns:
            How many entries were removed.
        """
        removed = 0
        with suppress(FileNotFoundError):
            check(self.path)
            for path in filter(lambda path: _KEY.fullmatch(path.name), self.path.iterdir()):
                # Another process may remove it too.
                with suppress(FileNotFoundError):
                    # Locks are folders. A link is removed itself, and not the file that it names.
                    if not stat.S_ISDIR(path.lstat().st_mode):
                        retry(path.unlink)
                        removed += 1
            self._tidy()
        return removed

    def _lock_folder(self, key: str) -> Path:
        return self.path / f"{key}.lock"

    def _make_folder(self) -> None:
        try:
            check(self.path)
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                create_folder(self.path)
            check(self.path)

    def _tidy(self) -> None:
        """Remove what killed processes left, and keys that are not used any more."""
        for path in self.path.iterdir():
            # Another process may remove it too.
            with suppress(OSError):
                status = path.lstat()
                age = time.time() - status.st_mtime
                if age > _ABANDONED and is_temporary(path):
                    remove([*path.iterdir(), path] if stat.S_ISDIR(status.st_mode) else [path])
                elif age > _UNUSED and (match := _KEY.fullmatch(path.name)):
                    self._forget(match[1])

    def _forget(self, key: str) -> None:
        """Remove *key*, unless its lock is held: its holder may be about to store an entry."""
        entry = self.path / key
        with self.lock(key, _ABANDONED) as is_held:
            if is_held:
                with suppress(FileNotFoundError):
                    if time.time() - entry.lstat().st_mtime > _UNUSED:
                        entry.unlink()
                _discard(self._lock_folder(key))
