"""
The error tree.

    DolbyAuthError
    └── TokenError               no token could be obtained
        ├── requests.TokenError  ... and a requests.RequestException
        ├── httpx.TokenError     ... and an httpx.RequestError
        └── httpx2.TokenError    ... and an httpx2.RequestError

Bad arguments are no part of it: they are `ValueError` and `TypeError`, raised where an auth object is made.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class DolbyAuthError(Exception):
    """Whatever this library raises by itself, bad arguments apart."""


class ScopeWarning(UserWarning):
    """A scope that was asked for is unknown, or was not granted: Dolby.io drops such scopes silently."""


class Failure(NamedTuple):
    """
    Why no token could be obtained: a value, from which every waiting caller gets an exception of its own.

    An exception object that is raised in several threads gathers all their tracebacks, and one made where
    the cause is at hand chains it, Basic header and all.
    """

    message: str
    reason: str
    status_code: int | None = None
    description: str | None = None
    retry_after: float | None = None
    retryable: bool = False


class TokenError(DolbyAuthError):
    """
    No token could be obtained.

    Attributes:
        status_code: The token endpoint's HTTP status, or None when no answer came.
        reason: What went wrong in a few words: the answer's own error name, or what the network said.
        description: The answer's own explanation, control characters and secrets taken out, or None.
        retry_after: Seconds the endpoint asked to wait, or None.
        retryable: Whether the same token request may succeed later (no answer, 429, 5xx).
        request: A copy of the request that needed the token, without `Authorization`, body and hooks.
    """

    status_code: int | None
    reason: str
    description: str | None
    retry_after: float | None
    retryable: bool
    # An attribute of both hosts' exceptions too, each with its own type.
    request: Any = None

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        status_code: int | None = None,
        description: str | None = None,
        retry_after: float | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.reason = reason
        self.description = description
        self.retry_after = retry_after
        self.retryable = retryable

    @classmethod
    def of(cls, failure: Failure) -> TokenError:
        return cls(
            failure.message,
            reason=failure.reason,
            status_code=failure.status_code,
            description=failure.description,
            retry_after=failure.retry_after,
            retryable=failure.retryable,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only fields, and a host's base class with a signature of its own, defeat the default.
        return _rebuild, (type(self), str(self), self.__dict__)


def _rebuild(cls: type[TokenError], message: str, state: dict[str, Any]) -> TokenError:
    error = cls(message)
    error.__dict__.update(state)
    return error
