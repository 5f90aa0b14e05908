"""
The connection to Redis that `RedisTokenCache` makes if it is given a URL: one for each fetch, with a limit of time for the whole fetch.
"""

from __future__ import annotations

import threading
import time
import weakref
from typing import Any
from urllib.parse import urlsplit

from .._core.cutoff import Cutoff

# Seconds that the operations of one fetch may lose together. Then further operations fail at once.
_BUDGET = 0.8

# Seconds of each operation that do not count. A fetch that waits for another process makes some fifty operations, and a busy
# machine slows down each of them.
_NORMAL = 0.1

# Seconds to connect to one address of a host.
_CONNECT = 0.5


class UrlClient:
    """A client that connects anew for each fetch. A fetch runs in one thread, so each thread has a connection of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        parts = urlsplit(url)
        # The URL without user, password and options.
        self.shown: str = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self._threads = threading.local()

    def execute_command(self, *command: Any, **options: Any) -> Any:
        operations = getattr(self._threads, "operations", None)
        if operations is None:
            operations = self._threads.operations = _Operations(self.url)
        return operations.execute(*command, **options)

    def close(self) -> None:
        """Close the connection of this thread. The next operation has a new connection and a new budget."""
        operations = self._threads.__dict__.pop("operations", None)
        if operations is not None:
            operations.close()


class _Operations:
    """The operations of one fetch, with one connection and one budget."""

    def __init__(self, url: str) -> None:
        self._left = _BUDGET
        self._watch = _Watch()
        self._client = _make_client(url, self._watch)

    def execute(self, *command: Any, **options: Any) -> Any:
        if self._left <= 0:
            raise TimeoutError("Redis is too slow: earlier operations of this fetch have used up its time")
        began = time.monotonic()
        # The timeouts of redis-py limit each read. An answer that arrives byte by byte would take for ever.
        with Cutoff(self._left + _NORMAL) as cutoff:
            cutoff.watch(self._watch.socket)
            try:
                return self._client.execute_command(*command, **options)
            except Exception:
                if not cutoff.passed:
                    raise
            finally:
                self._left -= max(0.0, time.monotonic() - began - _NORMAL)
        raise TimeoutError("Redis did not answer in time")

    def close(self) -> None:
        self._client.connection_pool.disconnect()


class _Watch:
    """Prepares each new connection of redis-py, and finds the socket of the last one."""

    def __init__(self) -> None:
        self._connection: Any = None

    def __call__(self, connection: Any) -> None:
        # A weak reference: a cycle would keep the socket open after a thread that ends without `close`.
        self._connection = weakref.ref(connection)
        # No CLIENT SETINFO, which costs two answers of a slow server. The names depend on the release of redis-py.
        connection.driver_info = connection.lib_name = connection.lib_version = None
        connection.on_connect()

    def socket(self) -> object:
        return self._connection and getattr(self._connection(), "_sock", None)


def _make_client(url: str, prepare: _Watch) -> Any:
    import encodings.idna  # noqa: F401 - a socket needs it to look up a name

    from redis import ConnectionPool, Redis
    from redis.backoff import NoBackoff
    from redis.connection import parse_url
    from redis.retry import Retry

    options = parse_url(url)  # type: ignore[no-untyped-call] # redis-py leaves it untyped
    # These replace the limits in the URL. RESP2 needs no greeting.
    options |= {
        "protocol": 2,
        "socket_connect_timeout": _CONNECT,
        "socket_timeout": _BUDGET + _NORMAL,
        "retry": Retry(NoBackoff(), 0),
    }
    return Redis(connection_pool=ConnectionPool(**options, redis_connect_func=prepare))


def why_not(url: str) -> Exception | None:
    """The error of a URL that can't be used. It is not raised here: the traceback would hold the URL, and with it a password."""
    try:
        import redis as _  # noqa: F401 - whether it is installed
    except ImportError:
        return ImportError("a URL of Redis needs redis-py: pip install 'dolby-auth-plugin[redis]'", name="redis")
    try:
        # redis-py checks the options when it makes a connection object, which does not connect yet.
        _make_client(url, _Watch()).connection_pool.make_connection()
        parts = urlsplit(url)
        # In `redis://user:1/2@host`, the host is "user". Part of a password could be taken for a host, and errors show the host.
        is_clear = "@" not in parts.path + parts.query and "#" not in url
    except Exception:  # noqa: BLE001 - redis-py raises many types, and their texts may show the password
        is_clear = False
    if is_clear:
        return None
    return ValueError(
        "client_or_url is not a URL that redis-py accepts: redis://[[user]:password@]host[:port][/database], rediss://... or "
        "unix:///path. Write special characters in percent-encoding, such as %40 for @. The URL is not shown: it may hold a password"
    )
