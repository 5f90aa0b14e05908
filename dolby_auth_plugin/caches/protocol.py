"""
The protocol of a store through which processes share a token. It imports nothing of the package.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class UnusableCacheError(PermissionError):
    """A store that can't be used safely. Its text is shown in a warning, so it must hold no secret."""


class TokenCache(Protocol):
    """
    A store that processes or machines share, for `DolbyAuth(cache=...)`.

    A cache sees opaque keys and opaque bytes. Keys reveal nothing, and entries are sealed: the library encrypts them with a key derived
    from the app secret. So a cache needs no encryption of its own, and can't forge a token.

    All methods are synchronous and thread-safe. Only a fetch calls them, in its own thread: one to five times in the life of a token, and
    more often while it waits for another process. A method may raise any exception. Then the request goes on without the cache, with
    one WARNING, and the cache is left alone for some seconds. A method should not take longer than about a second.

    A cache may have a method `fetch_ended()`. It is called when a fetch has ended, in the fetch's thread, and can close sockets.

    `dolby_auth_plugin.caches.contract.TokenCacheContract` tests a cache of your own. A cache for one process, as an example:

        class DictTokenCache:
            def __init__(self):
                self._mutex = threading.Lock()
                self._entries = {}
                self._locks = {}

            def load(self, key):
                with self._mutex:
                    return self._entries.get(key)

            def store(self, key, entry, seconds):
                with self._mutex:
                    self._entries[key] = entry

            @contextlib.contextmanager
            def lock(self, key, seconds):
                end = time.monotonic() + seconds
                with self._mutex:
                    is_held = self._locks.get(key, 0) <= time.monotonic()
                    if is_held:
                        self._locks[key] = end
                try:
                    yield is_held
                finally:
                    with self._mutex:
                        if is_held and self._locks.get(key) == end:
                            del self._locks[key]
    """

    def load(self, key: str) -> bytes | None:
        """
        The entry that was stored last under *key*, or None.

        Args:
            key: 64 hexadecimal digits.
        """
        ...

    def store(self, key: str, entry: bytes, seconds: float) -> None:
        """
        Keep *entry* under *key*, in place of the one before. A reader gets one or the other, never a mixture.

        Args:
            key: 64 hexadecimal digits.
            entry: Some kilobytes at most.
            seconds: For how long it is needed. Then the cache may drop it.
        """
        ...

    def lock(self, key: str, seconds: float) -> AbstractContextManager[bool]:
        """
        A lock that one process holds at a time, inside the `with` block. It is acquired without waiting.

        The context manager yields whether the lock was acquired. The lock ends by itself after *seconds*, since its holder may be
        killed or suspended. A holder whose lock has ended must not release the lock of the next one.

        Args:
            key: 64 hexadecimal digits.
            seconds: After this time the lock is free, whatever its holder does.
        """
        ...
