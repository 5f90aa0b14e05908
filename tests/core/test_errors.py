"""The base of the error tree. The contract tests the errors of each adapter."""

from __future__ import annotations

import pickle

import pytest

from dolby_auth_plugin import DolbyAuthError, TokenError
from dolby_auth_plugin._core.errors import Failure

FAILURE = Failure("No token.", "down", 503, "Try later.", 7.0, retryable=True)


def test_an_error_has_the_failures_fields() -> None:
    error = TokenError.of(FAILURE)

    assert isinstance(error, DolbyAuthError)
    assert ("No token.", "down", 503, "Try later.", 7.0, True, None) == (
        str(error),
        error.reason,
        error.status_code,
        error.description,
        error.retry_after,
        error.retryable,
        error.request,
    )


def test_each_error_is_a_separate_object() -> None:
    """One object raised in several threads would collect all their tracebacks."""
    assert TokenError.of(FAILURE) is not TokenError.of(FAILURE)


def test_an_error_can_be_pickled() -> None:
    error = TokenError.of(FAILURE)
    error.add_note("a note")

    copied = pickle.loads(pickle.dumps(error))

    assert (vars(error), str(error)) == (vars(copied), str(copied))


def test_users_can_create_errors_for_their_own_tests() -> None:
    with pytest.raises(TokenError, match="refused"):
        raise TokenError("refused", status_code=401)
