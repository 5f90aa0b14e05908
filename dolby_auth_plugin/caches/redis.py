"""
A cache in Redis or Valkey, for processes on many machines.

Each operation is one command with one key. So Redis Cluster and Sentinel work through the client that the user lends.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Protocol

from .redis_client import UrlClient, why_not

# Deletes a lock, unless another process holds it by now.
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"

# The classes of clients, in the packages `redis` and `valkey`. A lent client of one package must not need the other.
_CLIENTS = {"Redis", "RedisCluster", "Valkey", "ValkeyCluster"}


class RedisClient(Protocol):
    """What the cache needs of a client: `redis.Redis`, `redis.RedisCluster` and the clients of Valkey have it."""

    def execute_command(self, *args: Any, **options: Any) -> Any: ...


class RedisTokenCache:
    """
    Shares tokens through Redis or Valkey, for `DolbyAuth(cache=...)`.

    With a URL, a fetch opens a connection and closes it in the end. Its operations may take about a second together, the look-up of
    the host name not included. A lent client keeps its connections and its own time limits. Give it short ones:

        redis.Redis(..., socket_connect_timeout=0.5, socket_timeout=0.5, retry=Retry(NoBackoff(), 0))

    The user of Redis needs the commands GET, SET and EVAL for keys that begin with *prefix*. Where EVAL is forbidden, locks end only
    after their time, so a failed try delays the next one.

    Args:
        client_or_url: `redis://[[user]:password@]host[:port][/database]`, `rediss://...` for TLS or `unix:///path`, with the options
            that redis-py knows; or a sync client, which is used as it is: `redis.Redis`, `redis.RedisCluster`,
            `Sentinel(...).master_for(...)`, or one of Valkey. A client that reads from replicas may miss a new token.
        prefix: The beginning of each key. Different prefixes share nothing.

    Raises:
        TypeError: If *client_or_url* is something else, such as an async client.
        ValueError: If the URL is malformed. The message does not show the URL, which may hold a password.
        ImportError: If a URL is given and redis-py is not installed.
    """

    def __init__(self, client_or_url: str | RedisClient, *, prefix: str = "dolby-auth:") -> None:
        # For `repr`, which a rendering of this frame calls too.
        self._shown = f"<{type(client_or_url).__name__}>"
        self._prefix = prefix
        problem = _problem(client_or_url, prefix)
        if problem is not None:
            # A rendering of this frame's local variables would show the password.
            del client_or_url
            raise problem
        self._client: UrlClient | RedisClient = (
            client_or_url if not isinstance(client_or_url, str) else UrlClient(client_or_url)
        )
        if isinstance(self._client, UrlClient):
            self._shown = repr(self._client.shown)

    def load(self, key: str) -> bytes | None:
        name = self._name(key)
        # `keys` is for clients with a cache of their own.
        entry = self._execute("GET", name, keys=[name])
        if entry is not None and not isinstance(entry, bytes):
            raise ValueError("Redis answered GET with something other than a value")
        return entry

    def store(self, key: str, entry: bytes, seconds: float) -> None:
        self._set(self._name(key), entry, "PX", _milliseconds(seconds))

    @contextmanager
    def lock(self, key: str, seconds: float) -> Iterator[bool]:
        name, holder = self._name(f"{key}:lock"), secrets.token_bytes(16)
        is_held = self._set(name, holder, "NX", "PX", _milliseconds(seconds))
        try:
            yield is_held
        finally:
            if is_held:
                # A lock that can't be released ends by itself. An exception would replace the one of the `with` block.
                with suppress(Exception):
                    self._execute("EVAL", _RELEASE, 1, name, holder)

    def fetch_ended(self) -> None:
        """Close the connection of the fetch that this thread has run. A lent client is left alone."""
        if isinstance(self._client, UrlClient):
            self._client.close()

    def _name(self, key: str) -> bytes:
        # As bytes, since a lent client may have an encoding of its own.
        return f"{self._prefix}{key}".encode()

    def _set(self, *arguments: Any) -> bool:
        """Whether the value was set. With NX, another one may be there."""
        answer = self._execute("SET", *arguments)
        if answer is not None and answer is not True:
            raise ValueError("Redis answered SET with something other than OK")
        return answer is not None

    def _execute(self, *command: Any, **options: Any) -> Any:
        # The option keeps answers as bytes, also in a client that decodes them.
        return self._client.execute_command(*command, NEVER_DECODE=True, **options)

    def __repr__(self) -> str:
        return f"RedisTokenCache({self._shown}, prefix={self._prefix!r})"

    def __copy__(self) -> RedisTokenCache:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> RedisTokenCache:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if not isinstance(self._client, UrlClient):
            raise TypeError(
                "a RedisTokenCache with a lent client cannot be pickled: pass the URL of Redis instead of a client"
            )
        return partial(RedisTokenCache, self._client.url, prefix=self._prefix), ()


def _milliseconds(seconds: float) -> int:
    # Redis refuses 0.
    return max(1, round(seconds * 1000))


def _problem(client_or_url: object, prefix: object) -> Exception | None:
    """The error of arguments that can't be used. It is not raised here: the traceback would hold the URL, and with it a password."""
    if not isinstance(prefix, str):
        return TypeError(f"prefix must be a str, not {type(prefix).__name__}")
    if isinstance(client_or_url, str):
        return why_not(client_or_url)
    classes = [(one.__module__, one.__name__) for one in type(client_or_url).__mro__]
    if any(".asyncio." in f"{module}." and name in _CLIENTS for module, name in classes):
        return TypeError(
            "client_or_url is an async client: pass a sync one, such as redis.Redis(...), or a URL. A fetch has its own thread"
        )
    if any(module.partition(".")[0] in ("redis", "valkey") and name in _CLIENTS for module, name in classes):
        return None
    return TypeError(
        "client_or_url must be a URL or a client (redis.Redis, redis.RedisCluster, Sentinel(...).master_for(...), valkey.Valkey), "
        f"not {type(client_or_url).__name__}"
    )
