"""The error tree by itself; each host's branch of it is part of the contract."""

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


def test_each_error_is_an_object_of_its_own() -> None:
    """One raised in several threads would gather all their tracebacks."""
    assert TokenError.of(FAILURE) is not TokenError.of(FAILURE)


def test_an_error_can_be_pickled() -> None:
    error = TokenError.of(FAILURE)
    error.add_note("seen in the wild")

    copied = pickle.loads(pickle.dumps(error))

    assert (vars(error), str(error)) == (vars(copied), str(copied))


def test_an_error_can_be_made_for_a_test_of_the_users_own() -> None:
    with pytest.raises(TokenError, match="refused"):
        raise TokenError("refused", status_code=401)
