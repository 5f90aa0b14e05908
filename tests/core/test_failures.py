"""The failures that are not in an answer of the token endpoint."""

from __future__ import annotations

import gc
import socket
import ssl

import pytest

from dolby_auth_plugin._core.errors import Failure
from dolby_auth_plugin._core.failures import code_error, is_network_error, is_tls_failure, no_answer


def chained(outer: Exception, *inner: BaseException) -> Exception:
    error: BaseException = outer
    for cause in inner:
        error.__cause__ = cause
        error = cause
    return outer


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (chained(Exception("http://user:canary@proxy"), ConnectionRefusedError(111, "Connection refused")), "refused"),
        (chained(Exception(), socket.gaierror(-2, "Name or service not known")), "Name or service not known"),
        (chained(Exception(), TimeoutError()), "timed out"),
        (type("ReadTimeout", (Exception,), {})("canary"), "timed out"),
        (Exception("wrapping", chained(ValueError("canary"), OSError(5, "Input/output error"))), "Input/output error"),
        (Exception("canary"), "the connection was closed, or the answer is not HTTP (Exception)"),
    ],
)
def test_a_missing_answer_is_described_in_the_words_of_the_operating_system(error: Exception, words: str) -> None:
    """The library's own text may contain a proxy's password."""
    failure = no_answer(error, retryable=True)

    assert words in failure.message
    assert "canary" not in failure.message
    assert (None, True) == (failure.status_code, failure.retryable)


def test_a_certificate_that_cannot_be_verified_is_final() -> None:
    """Another try would meet the same certificate."""
    refusal = ssl.SSLCertVerificationError(1, "certificate verify failed")
    refusal.verify_message = "self-signed certificate"

    failure = no_answer(chained(Exception(), Exception(), refusal), retryable=True)

    assert not failure.retryable
    assert "self-signed certificate" in failure.message
    assert "CA bundle" in failure.message


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), True),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), True),
        (OSError(111, "Connection refused"), False),
    ],
)
def test_a_failure_of_tls_is_told_from_one_of_the_network(error: Exception, expected: bool) -> None:
    assert is_tls_failure(no_answer(chained(Exception(), error), retryable=True)) is expected


def test_exceptions_that_cause_each_other_do_not_make_an_endless_loop() -> None:
    first, second = Exception(), Exception()
    first.__cause__, second.__cause__ = second, first

    failure = no_answer(first, retryable=True)

    assert "Exception" in failure.message
    first.__cause__ = None
    gc.collect()


class HostileError(OSError):
    """A user's exception class whose properties all raise."""

    @property
    def strerror(self) -> str:  # type: ignore[override] # the point
        raise RuntimeError("canary")

    @property
    def args(self) -> tuple[object, ...]:  # type: ignore[override] # the point
        raise RuntimeError("canary")

    @property
    def reason(self) -> str:
        raise RuntimeError("canary")


def test_an_exception_whose_properties_raise_becomes_a_failure() -> None:
    failure = no_answer(HostileError(), retryable=True)

    assert "HostileError" in failure.message


def test_an_error_number_that_the_system_does_not_know_becomes_a_failure() -> None:
    """Some Windows libraries have larger ones."""
    assert "No answer" in no_answer(OSError(2147942405, "canary"), retryable=True).message
    assert "raised OSError (" in raised(OSError(2147942405, "canary")).message


def test_a_certificate_error_without_a_message_becomes_a_failure() -> None:
    assert not no_answer(ssl.SSLCertVerificationError(), retryable=True).retryable


def raised(error: Exception) -> Failure:
    try:
        raise error
    except Exception as caught:
        return code_error(caught, "The hook")


def test_an_error_in_code_is_reported_with_type_file_and_line_and_without_its_text() -> None:
    failure = raised(TypeError("canary"))

    line = raised.__code__.co_firstlineno + 2
    assert f"The hook raised TypeError (test_failures.py, line {line})." in failure.message
    assert failure.reason == f"TypeError (test_failures.py, line {line})"
    assert "canary" not in failure.message
    assert "heck the network" not in failure.message
    assert not failure.retryable


def test_an_error_that_was_never_raised_has_no_place() -> None:
    assert "TypeError (place unknown)" in code_error(TypeError(), "The hook").message


def test_the_place_is_the_innermost_one() -> None:
    def inner() -> None:
        raise KeyError

    try:
        inner()
    except KeyError as error:
        failure = code_error(error, "The hook")

    assert f"line {inner.__code__.co_firstlineno + 1})" in failure.message


def test_an_exception_class_of_another_package_without_a_cause_is_not_a_network_error() -> None:
    """requests-mock derives one from a connection error."""
    mocks = type("NoMockAddress", (OSError,), {"__module__": "requests_mock.exceptions"})
    librarys = type("ConnectError", (OSError,), {"__module__": "httpx._exceptions"})

    assert not is_network_error(mocks(), "httpx")
    assert is_network_error(librarys(), "httpx")
    assert is_network_error(chained(mocks(), ConnectionResetError()), "httpx")


def test_the_text_that_code_has_put_into_an_os_error_is_not_shown() -> None:
    failure = no_answer(ConnectionResetError(104, "canary"), retryable=True)

    assert "Connection reset by peer" in failure.message
    assert "canary" not in failure.message
