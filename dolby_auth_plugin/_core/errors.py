"""
The error tree.

    DolbyAuthError
    ├── CredentialsError         a file, the keyring or the environment has no app key and secret; a ValueError too
    └── TokenError               no token could be obtained
        ├── requests.TokenError  ... and a requests.RequestException
        ├── httpx.TokenError     ... and an httpx.RequestError
        └── httpx2.TokenError    ... and an httpx2.RequestError

Bad arguments are not part of it: they are `ValueError` and `TypeError`, raised when an auth object is made.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class DolbyAuthError(Exception):
    """The base class of all errors of this library. Bad arguments are `ValueError` and `TypeError`."""


class CredentialsError(DolbyAuthError, ValueError):
    """
    A file, the system's keyring or the environment has no usable app key and secret.

    Its text says what is missing and where, and shows no content. A `TokenError` repeats it.
    """


class CredentialsWarning(UserWarning):
    """Other users of this machine may change the file with the app key or secret."""


class ScopeWarning(UserWarning):
    """A scope that was asked for is unknown, or was not granted. Dolby.io drops such scopes silently."""


class Failure(NamedTuple):
    """
    Why no token could be obtained: a value, from which each caller gets an exception of its own.

    One exception object raised in several threads would collect the tracebacks of all. One created where the cause was caught
    would chain it, with the Basic header in its request.
    """

    message: str
    reason: str
    status_code: int | None = None
    description: str | None = None
    retry_after: float | None = None
    retryable: bool = False
    # Seconds for which it is remembered, if not the usual ones.
    memory: float | None = None


class TokenError(DolbyAuthError):
    """
    No token could be obtained.

    Attributes:
        status_code: The token endpoint's HTTP status, or None when no answer came.
        reason: The error in a few words: the endpoint's error name, or the words of the operating system.
        description: The endpoint's explanation without control characters and secrets, or None.
        retry_after: Seconds the endpoint asked to wait, or None.
        retryable: Whether the same token request may succeed later (no answer, 429, 5xx).
        request: A copy of the request that needed the token, without `Authorization`, body and hooks.
    """

    status_code: int | None
    reason: str
    description: str | None
    retry_after: float | None
    retryable: bool
    # The exceptions of the HTTP libraries have this attribute too, each with its own type.
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
        # Pickle's default fails: the fields are keyword-only, and an HTTP library's base class has another signature.
        return _rebuild, (type(self), str(self), self.__dict__)


def printable(text: str, limit: int = 200) -> str:
    """*text* cut to *limit* characters, without control characters, which could forge a log line."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:limit])


def _rebuild(cls: type[TokenError], message: str, state: dict[str, Any]) -> TokenError:
    error = cls(message)
    error.__dict__.update(state)
    return error
