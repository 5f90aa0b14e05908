"""
The failures that are not in an answer of the token endpoint, in words. No I/O.

The words come from the operating system, from OpenSSL, or from here. An exception's own text is never shown: it may quote a
proxy's URL with its password, or hold a secret.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from .errors import Failure, TokenError, printable

_CHECK_CERTIFICATE = " Check the endpoint's certificate and this machine's CA bundle."
_CHECK_NETWORK = " Check the network, and the proxy settings."
_NOT_SENT = "no token request was sent. Check whether credentials= waits without a limit, or for a token of the same auth object."

# The reasons of a TLS connection that failed begin like this: in the words here, and in those of OpenSSL.
_CERTIFICATE_REFUSED, _OPENSSL = "certificate not accepted", "[SSL"

# The message of `no_answer` begins like this.
_NO_ANSWER = "No answer from the token endpoint"

# The reason of `cannot_wait`.
_WAITS_FOR_ITSELF = "would wait for itself"


def no_answer(error: BaseException, *, retryable: bool, settings: str = "") -> Failure:
    """
    The failure of a token request to which no answer came.

    A certificate that can't be verified is final, whatever *retryable* says: another try meets the same certificate, and gives
    an attacker on the network another chance.

    Args:
        error: What the HTTP library raised.
        retryable: Whether another try may help.
        settings: A sentence that says where the proxy and the CA bundle of the token request come from.
    """
    refused_certificate, words = _system_words(error)
    if words is None:
        name = type(error).__name__
        if "timeout" in name.lower():
            words = "timed out"
        elif name == "ProxyError":
            # All three libraries use this name when a proxy refuses a CONNECT, with 407, 403 or 502.
            words = "the proxy refused the connection"
        elif retryable:
            words = f"the connection was closed, or the answer is not HTTP ({name})"
        else:
            words = name
    words = printable(words)
    check = _CHECK_CERTIFICATE if refused_certificate else _CHECK_NETWORK
    return Failure(
        f"{_NO_ANSWER}: {words}.{check}{settings}",
        reason=words,
        retryable=retryable and not refused_certificate,
    )


def no_ca_bundle(error: OSError, variables: str) -> Failure:
    """The failure of a token request for which the CA bundle can't be loaded. *variables* name it."""
    words = printable(_words_for_number(error) or type(error).__name__)
    return Failure(
        f"The CA bundle can't be loaded: {words}. Check {variables} in the environment.",
        reason=f"CA bundle not loaded: {words}",
    )


def is_no_answer(failure: Failure) -> bool:
    """Whether the endpoint did not answer. Otherwise this process is at fault: its code, or its CA bundle."""
    return failure.message.startswith(_NO_ANSWER)


def is_tls_failure(failure: Failure) -> bool:
    """Whether no answer came because TLS failed. The server was reached then."""
    return failure.reason.startswith((_CERTIFICATE_REFUSED, _OPENSSL))


def is_network_error(error: BaseException, *packages: str) -> bool:
    """
    Whether an exception that has the type of a network error is one.

    A mock's own exception class may derive from a connection error. It belongs to no HTTP library, and nothing caused it.
    """
    from_library = type(error).__module__.partition(".")[0] in packages
    return from_library or error.__cause__ is not None or error.__context__ is not None


def code_error(error: BaseException, what: str, reason: str = "") -> Failure:
    """
    The failure of code that raised something that is not a network error: a hook, a mock, a credentials callable.

    Args:
        error: What was raised. Its type and place are shown, its text is not.
        what: The code that was called, as the subject of a sentence.
        reason: A short name for the failure. By default the type and place.
    """
    place = described(error)
    return Failure(
        f"{what} raised {place}. This is an error in code: the network is not at fault.", reason=reason or place
    )


def described(error: BaseException) -> str:
    """The type and the place of an exception, with the operating system's words for its number."""
    known = _looked_up(_attribute(error, "errno")) if isinstance(error, OSError) else None
    words = f": {known}" if known else ""
    if isinstance(error, TokenError) and _attribute(error, "reason") == _WAITS_FOR_ITSELF:
        words = ": it needs a token of the auth object that called it"
    return f"{printable(type(error).__name__)}{words} {_place(error.__traceback__)}"


def out_of_time(seconds: float, *, sent: bool = True) -> Failure:
    """The failure of a caller that has waited *seconds* for a token. *sent*: whether the endpoint was asked."""
    why = f"the token endpoint did not answer in time.{_CHECK_NETWORK}" if sent else _NOT_SENT
    return Failure(
        f"No token within {seconds:g} s: {why}",
        reason="timed out",
        retryable=True,
    )


def too_many_overdue(number: int, seconds: float) -> Failure:
    """The failure of a caller while *number* overdue fetches are alive, and no other one begins for *seconds*."""
    return Failure(
        f"No token: {number} earlier token requests still wait for an answer, long after the timeout. Another one starts in"
        f" {seconds:.0f} s. Check whether credentials=, or a hook or adapter of session= or client=, waits without a limit."
        f"{_CHECK_NETWORK}",
        reason="too many token requests wait",
        retry_after=seconds,
        retryable=True,
    )


def expired_on_arrival() -> Failure:
    """The failure of a fetch that took longer than its token lives."""
    return Failure(
        "The token had expired when it arrived: it lives shorter than the token endpoint takes to answer."
        " Ask for a longer life with expires_in, and check this machine's clock.",
        reason="expired on arrival",
        retryable=True,
    )


def cannot_wait() -> Failure:
    """The failure of a caller that would wait for itself."""
    return Failure(
        "No token can be obtained from inside a token request: this call came from a signal handler, from credentials=, or"
        " from a hook of session= or client=, in the thread that obtains the token of the same auth object. Call again later.",
        reason=_WAITS_FOR_ITSELF,
        retryable=True,
    )


def _place(trace: TracebackType | None) -> str:
    """The innermost place of a traceback: file name and line."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "(place unknown)"
    file_name = trace.tb_frame.f_code.co_filename.replace("\\", "/").rpartition("/")[2]
    return f"({printable(file_name)}, line {trace.tb_lineno})"


def _system_words(error: BaseException) -> tuple[bool, str | None]:
    """Whether a certificate was refused; and the words of OpenSSL or the operating system, the innermost last."""
    words: str | None = None
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True, f"{_CERTIFICATE_REFUSED}: {_attribute(cause, 'verify_message')}"
        if isinstance(cause, TimeoutError):
            words = "timed out"
        elif isinstance(cause, OSError):
            words = _words_for_number(cause) or words
    return False, words


def _words_for_number(error: OSError) -> str | None:
    """The words of the operating system, of its resolver or of OpenSSL for an error number."""
    number = _attribute(error, "errno")
    if not isinstance(number, int):
        return None
    if number > 0 and not isinstance(error, ssl.SSLError):
        return _looked_up(number)
    text = _attribute(error, "strerror")
    return text if isinstance(text, str) else None


def _looked_up(number: object) -> str | None:
    """The operating system's words for an error number. The text in an exception comes from the code that raised it."""
    try:
        return os.strerror(number) if isinstance(number, int) and number > 0 else None
    except OverflowError:
        # The codes of some Windows libraries are larger than any number of the system.
        return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """*error* and the exceptions that led to it: causes, contexts, and exceptions inside others."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        candidate = waiting.pop(0)
        if isinstance(candidate, BaseException) and id(candidate) not in seen:
            seen.add(id(candidate))
            yield candidate
            waiting += [candidate.__cause__, candidate.__context__, _attribute(candidate, "reason")]
            inside = _attribute(candidate, "args")
            waiting += inside if isinstance(inside, tuple) else ()


def _attribute(error: BaseException, name: str) -> Any:
    try:
        return getattr(error, name, None)
    except Exception:  # noqa: BLE001 - a property of an unknown class may raise anything
        return None
