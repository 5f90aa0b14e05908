"""
The part that all adapters share: one configuration, one token source, one host policy. It imports no HTTP library.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self

from .credentials import AppCredentials, CredentialsSource, shown_key
from .endpoint import DEFAULT_TOKEN_URL, TokenEndpoint
from .errors import ScopeWarning, TokenError
from .fetch import Fetcher
from .hosts import DOLBY_HOSTS, policy_for
from .origins import KnownOrigins
from .scope import unknown
from .source import TokenSource

if TYPE_CHECKING:
    from ..caches.protocol import TokenCache
    from .ports import SharedEntries

# The libraries that have an adapter. Its module has the same name.
_ADAPTERS = frozenset({"requests", "httpx", "httpx2"})

# Entries of allowed_hosts that `repr` shows.
_SHOWN_HOSTS = 8


class BaseAuth:
    """
    The base of every `DolbyAuth`.

    All users of one object share its token. Copies and unpickled objects have the same configuration, and obtain their own token.
    """

    # An adapter sets these. `_lent` is the parameter and the type of the session or client that the user may lend, `_sender` sends
    # token requests with it. `_memory` names the attribute that remembers origins, which is not part of the configuration.
    _library: Any
    _error: ClassVar[type[TokenError]]
    _lent: ClassVar[tuple[str, type]]
    _sender: ClassVar[type[Any]]
    _memory: ClassVar[str]

    _source: TokenSource
    _origins: KnownOrigins

    # The constructor's credentials, or the complaint about them, until `_set_up` has used them. They are no argument of it: a
    # traceback that shows local variables would show a callable, whose `repr` may show a secret.
    _chosen: AppCredentials | CredentialsSource | Exception
    # The same for the cache: somebody may pass a URL with a password instead.
    _chosen_cache: TokenCache | TypeError | None

    def _set_up(
        self,
        *,
        scope: str | Iterable[str] | None,
        expires_in: int | timedelta,
        token_url: str | None,
        allowed_hosts: Iterable[str] | None,
        timeout: float,
        lent: Any,
    ) -> None:
        if isinstance(self._chosen, Exception):
            raise self._chosen
        if isinstance(self._chosen_cache, Exception):
            raise self._chosen_cache
        if isinstance(timeout, bool) or not isinstance(timeout, int | float):
            raise TypeError(f"timeout must be a number of seconds, got {type(timeout).__name__}")
        if not 0 < timeout <= 86_400:
            raise ValueError(f"timeout must be more than 0 and at most 86,400 seconds, got {timeout}")
        name, kind = self._lent
        if lent is not None and not isinstance(lent, kind):
            raise TypeError(
                f"{name} must be of type {self._library.__name__}.{kind.__name__}, got {type(lent).__name__}:"
                " token requests are sent from a thread"
            )
        library = f"{self._library.__name__}/{self._library.__version__}"
        endpoint = TokenEndpoint(token_url_or_default(token_url), scope, expires_in, library)
        self._origins = KnownOrigins(policy_for(hosts_or_default(allowed_hosts), endpoint.url))
        shared = None if self._chosen_cache is None else _shared(self._chosen_cache, endpoint, self._chosen)
        self._source = TokenSource(Fetcher(endpoint, self._chosen, self._sender(lent), timeout, shared), self._error)
        del self._chosen, self._chosen_cache
        for sentence in unknown(endpoint.scope):
            warnings.warn(sentence, ScopeWarning, stacklevel=3)

    def invalidate(self) -> None:
        """
        Forget the token and any remembered failure.

        A fetch that runs serves the callers that wait for it already. Its token is not kept.
        """
        self._source.invalidate()

    def __repr__(self) -> str:
        name = f"<DolbyAuth for {self._library.__name__}"
        try:
            fetcher, entries = self._source.fetcher, self._origins.policy.entries
        except AttributeError:
            # A debugger may show an object whose constructor has raised.
            return f"{name}, not set up>"
        credentials, scope = fetcher.credentials, " ".join(fetcher.endpoint.scope) or None
        key = shown_key(credentials.app_key) if isinstance(credentials, AppCredentials) else "from credentials="
        hosts = ", ".join(entries[:_SHOWN_HOSTS]) + (
            f" and {len(entries) - _SHOWN_HOSTS} more" if entries[_SHOWN_HOSTS:] else ""
        )
        return f"{name}, app_key={key!r}, scope={scope!r}, token_url={fetcher.endpoint.shown_url!r}, allowed_hosts={hosts!r}>"

    def __copy__(self) -> Self:
        clone = object.__new__(type(self))
        own = {"_source": self._source.without_token(), "_origins": KnownOrigins(self._origins.policy)}
        clone.__setstate__({**self.__getstate__(), **own})
        return clone

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != self._memory}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __deepcopy__(self, memo: object) -> Self:
        # The configuration is immutable, and a lent session or client is shared.
        return self.__copy__()


def token_url_or_default(token_url: str | None) -> str:
    return token_url if token_url is not None else os.environ.get("DOLBYIO_TOKEN_URL") or DEFAULT_TOKEN_URL


def hosts_or_default(allowed_hosts: Iterable[str] | None) -> Iterable[str]:
    if allowed_hosts is not None:
        return allowed_hosts
    listed = os.environ.get("DOLBYIO_ALLOWED_HOSTS")
    return [entry.strip() for entry in listed.split(",")] if listed else DOLBY_HOSTS


def choose_cache(cache: TokenCache | None) -> TokenCache | TypeError | None:
    """The cache of an auth object, or the error to raise. It is not raised here: the traceback would show *cache*."""
    methods = ("load", "store", "lock")
    if cache is None or (not isinstance(cache, type) and all(callable(getattr(cache, name, None)) for name in methods)):
        return cache
    return TypeError(
        f"cache must be a FileTokenCache, a RedisTokenCache, or an object with load, store and lock, got {type(cache).__name__}"
    )


def _shared(
    cache: TokenCache, endpoint: TokenEndpoint, credentials: AppCredentials | CredentialsSource
) -> SharedEntries:
    try:
        # Imported here: it needs another package, and most users need neither.
        from ..caches._shared import SealedEntries
    except ImportError:
        raise ImportError(
            "cache= needs cryptography: pip install 'dolby-auth-plugin[cache]'", name="cryptography"
        ) from None
    return SealedEntries(cache, endpoint, credentials if isinstance(credentials, AppCredentials) else None)


def wrong_library(given: object, mine: str) -> TypeError:
    """The error when the adapter of the library *mine* is called with *given*, which is not a request of that library."""
    theirs = type(given).__module__.partition(".")[0]
    if theirs in _ADAPTERS and theirs != mine:
        return TypeError(
            f"this DolbyAuth is for {mine}; for {theirs}: from dolby_auth_plugin.{theirs} import DolbyAuth"
        )
    return TypeError(f"pass DolbyAuth to {mine} as its auth: it can't be called with {type(given).__name__}")


def missing_library(name: str) -> ImportError:
    """The error when the HTTP library of an adapter is not installed."""
    return ImportError(f"dolby_auth_plugin.{name} needs {name}: pip install 'dolby-auth-plugin[{name}]'", name=name)


def unsupported_library(name: str, found: str, needed: str) -> ImportError:
    """The error when version *found* of the HTTP library has another API than *needed*, the versions that an adapter supports."""
    return ImportError(
        f"dolby_auth_plugin.{name} needs {name}{needed}, but {name} {found} is installed, which has another API:"
        f" pip install '{name}{needed}'",
        name=name,
    )
