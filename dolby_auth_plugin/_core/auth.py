"""
The part that all adapters share: one configuration, one token source, one host policy. It imports no HTTP library.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, ClassVar, Self

from .credentials import AppCredentials, CredentialsSource
from .endpoint import TokenEndpoint
from .errors import ScopeWarning, TokenError
from .fetch import Fetcher
from .hosts import KnownOrigins, policy_for
from .scope import unknown
from .source import TokenSource

# The libraries that have an adapter. Its module has the same name.
_ADAPTERS = frozenset({"requests", "httpx", "httpx2"})


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
        lent: Any,
    ) -> None:
        if isinstance(credentials, Exception):
            raise credentials
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
        endpoint = TokenEndpoint(token_url, scope, expires_in, library)
        self._origins = KnownOrigins(policy_for(allowed_hosts, endpoint.url))
        self._source = TokenSource(Fetcher(endpoint, credentials, self._sender(lent), timeout), self._error)
        # Errors and `vars` show it. Its query may hold a gateway's key.
        self._token_url = endpoint.url.partition("?")[0]
        for sentence in unknown(endpoint.scope):
            warnings.warn(sentence, ScopeWarning, stacklevel=3)

    def invalidate(self) -> None:
        """
        Forget the token and any remembered failure.

        A fetch that runs serves the callers that wait for it already. Its token is not kept.
        """
        self._source.invalidate()

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
