"""
Tests that every `TokenCache` must pass, also one of your own. pytest runs them in a subclass:

    class TestMyCache(TokenCacheContract):
        def make_cache(self):
            return MyCache("redis://localhost")
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier
from uuid import uuid4

from .protocol import TokenCache

# Seconds of a lock, or of an entry, that a test waits for, and of one that does not end meanwhile.
_SHORT, _LONG = 0.2, 60.0


class TokenCacheContract(ABC):
    """What the library needs of a cache. It needs no other package, and uses keys of its own, so the store may hold other entries."""

    @abstractmethod
    def make_cache(self) -> TokenCache:
        """A cache object. All objects of one test share one store, like caches of several processes."""

    def sleep(self, seconds: float) -> None:
        """Let the time of the store pass. Override it if the store has a clock of its own."""
        time.sleep(seconds)

    def test_an_unknown_key_has_no_entry(self) -> None:
        assert self.make_cache().load(_key()) is None

    def test_an_entry_is_loaded_as_it_was_stored(self) -> None:
        key, entry = _key(), bytes(range(256)) * 40
        self.make_cache().store(key, entry, _LONG)

        assert self.make_cache().load(key) == entry

    def test_a_new_entry_replaces_the_one_before(self) -> None:
        cache, key = self.make_cache(), _key()
        cache.store(key, b"a longer entry", _LONG)
        cache.store(key, b"new", _LONG)

        assert cache.load(key) == b"new"

    def test_each_key_has_an_entry_of_its_own(self) -> None:
        cache, key = self.make_cache(), _key()
        cache.store(key, b"one", _LONG)
        cache.store(_key(), b"other", _LONG)

        assert cache.load(key) == b"one"

    def test_an_entry_is_kept_as_long_as_it_is_needed(self) -> None:
        cache, key = self.make_cache(), _key()
        cache.store(key, b"short", _SHORT)
        cache.store(key, b"long", _LONG)
        self.sleep(2 * _SHORT)

        assert cache.load(key) == b"long"

    def test_a_reader_never_gets_a_mixture_of_two_entries(self) -> None:
        cache, key = self.make_cache(), _key()
        entries = [letter * 5_000 for letter in (b"a", b"b")]
        cache.store(key, entries[0], _LONG)

        def write(count: int) -> set[bytes | None]:
            for number in range(count):
                cache.store(key, entries[number % 2], _LONG)
            return set()

        def read(count: int) -> set[bytes | None]:
            return {self.make_cache().load(key) for _ in range(count)}

        with ThreadPoolExecutor(3) as pool:
            seen = set().union(*pool.map(lambda work: work(50), [write, read, read]))

        assert seen <= set(entries)

    def test_a_lock_has_one_holder(self) -> None:
        key = _key()
        with self.make_cache().lock(key, _LONG) as first, self.make_cache().lock(key, _LONG) as second:
            assert (first, second) == (True, False)

    def test_a_lock_has_one_holder_within_one_cache_object_too(self) -> None:
        cache, key = self.make_cache(), _key()
        with cache.lock(key, _LONG) as first, cache.lock(key, _LONG) as second:
            assert (first, second) == (True, False)

    def test_each_key_has_a_lock_of_its_own(self) -> None:
        cache = self.make_cache()
        with cache.lock(_key(), _LONG) as first, cache.lock(_key(), _LONG) as second:
            assert (first, second) == (True, True)

    def test_a_lock_is_free_after_its_holder(self) -> None:
        cache, key = self.make_cache(), _key()
        with cache.lock(key, _LONG):
            pass

        with self.make_cache().lock(key, _LONG) as is_held:
            assert is_held

    def test_a_lock_is_free_after_an_exception_in_its_holder(self) -> None:
        cache, key = self.make_cache(), _key()
        try:
            with cache.lock(key, _LONG):
                raise ValueError
        except ValueError:
            pass

        with cache.lock(key, _LONG) as is_held:
            assert is_held

    def test_a_caller_that_did_not_get_the_lock_does_not_free_it(self) -> None:
        cache, key = self.make_cache(), _key()
        with cache.lock(key, _LONG):
            with cache.lock(key, _LONG):
                pass
            with cache.lock(key, _LONG) as is_held:
                assert not is_held

    def test_a_lock_ends_by_itself(self) -> None:
        key = _key()
        with self.make_cache().lock(key, _SHORT):
            self.sleep(2 * _SHORT)
            with self.make_cache().lock(key, _LONG) as is_held:
                assert is_held

    def test_a_holder_whose_lock_has_ended_does_not_free_the_next_one(self) -> None:
        key = _key()
        with ExitStack() as next_holder:
            with self.make_cache().lock(key, _SHORT):
                self.sleep(2 * _SHORT)
                assert next_holder.enter_context(self.make_cache().lock(key, _LONG))

            with self.make_cache().lock(key, _LONG) as is_held:
                assert not is_held

    def test_of_many_threads_one_gets_an_ended_lock(self) -> None:
        """A store in which the end of a lock is found and the lock is taken in two steps may give it to two."""
        key, barrier = _key(), Barrier(8)
        with self.make_cache().lock(key, _SHORT), ExitStack() as holders:
            self.sleep(2 * _SHORT)

            def acquire(_: int) -> bool:
                lock = self.make_cache().lock(key, _LONG)
                barrier.wait()
                return holders.enter_context(lock)

            with ThreadPoolExecutor(8) as pool:
                assert sum(pool.map(acquire, range(8))) == 1


def _key() -> str:
    return uuid4().hex * 2
