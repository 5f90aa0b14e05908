"""
What every adapter is, whatever its host library: one configuration, one token source, one host policy.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterable
from datetime import timedelta
from typing import Any, Generic, Self, TypeVar

from .credentials import AppCredentials, CredentialsSource
from .endpoint import TokenEndpoint
from .errors import ScopeWarning, TokenError
from .fetch import Fetcher, Sender
from .hosts import Verdicts, verdicts_for
from .scope import unknown
from .source import TokenSource

OriginT = TypeVar("OriginT", bound=Hashable)

# The libraries that have an adapter here, in the module of the same name.
_ADAPTERS = frozenset({"requests", "httpx", "httpx2"})


class BaseAuth(Generic[OriginT]):
    """
    The part of an auth object that knows no HTTP library.

    Sharing is per object: copies and unpickled ones have the same configuration and obtain a token of their own.
    """

    _source: TokenSource
    _verdicts: Verdicts[OriginT]
    _token_url: str

    def _set_up(
        self,
        credentials: AppCredentials | CredentialsSource | Exception,
        *,
        scope: str | Iterable[str] | None,
        expires_in: int | timedelta,
        token_url: str,
        allowed_hosts: Iterable[str],
        timeout: float,
        host_library: str,
        send: Sender,
        read_origin: Callable[[OriginT], tuple[str, str, int | None]],
        error: type[TokenError],
    ) -> None:
        if isinstance(credentials, Exception):
            raise credentials
        if isinstance(timeout, bool) or not isinstance(timeout, int | float):
            raise TypeError(f"timeout must be a number of seconds, got {type(timeout).__name__}")
        if not 0 < timeout <= 86_400:
            raise ValueError(f"timeout must be more than 0 and at most 86,400 seconds, got {timeout}")
        endpoint = TokenEndpoint(token_url, scope, expires_in, host_library)
        self._verdicts = verdicts_for(allowed_hosts, endpoint.url, read_origin)
        self._source = TokenSource(Fetcher(endpoint, credentials, send, timeout), error)
        # Without its query, which may hold a gateway's key: it shows in errors' requests, and in `vars`.
        self._token_url = endpoint.url.partition("?")[0]
        for sentence in unknown(endpoint.scope):
            warnings.warn(sentence, ScopeWarning, stacklevel=3)

    def invalidate(self) -> None:
        """
        Forget the token and any remembered failure.

        A fetch that is under way serves those who wait for it already; its token is not kept.
        """
        self._source.invalidate()

    def __copy__(self) -> Self:
        clone = object.__new__(type(self))
        clone.__setstate__({**self.__getstate__(), "_source": self._source.without_token()})
        return clone

    def __getstate__(self) -> dict[str, Any]:
        # What it has met is no configuration.
        return {name: value for name, value in self.__dict__.items() if name != "_cleared"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __deepcopy__(self, memo: object) -> Self:
        # All of the configuration is frozen, apart from what is lent: and that is shared, not copied.
        return self.__copy__()


def wrong_host(given: object, mine: str) -> TypeError:
    """The complaint of *mine*'s adapter about *given*, which is no request of its host library."""
    theirs = type(given).__module__.partition(".")[0]
    if theirs in _ADAPTERS and theirs != mine:
        return TypeError(
            f"this DolbyAuth is for {mine}; for {theirs}: from dolby_auth_plugin.{theirs} import DolbyAuth"
        )
    return TypeError(f"DolbyAuth is given to {mine} as its auth, and can't be called with {type(given).__name__}")


def missing_host(name: str) -> ImportError:
    """The complaint that an adapter's host library is not installed."""
    return ImportError(f"dolby_auth_plugin.{name} needs {name}: pip install 'dolby-auth-plugin[{name}]'", name=name)
