"""
The log records of the library. Each has an event and fields for programs, and a message for people; docs/logging.md lists them.

Nothing else here uses the logger, so that no record lacks its event.
"""

from __future__ import annotations

import logging
from typing import Literal, TypeAlias

from .errors import Failure, printable
from .token import AccessToken, Instant

Event: TypeAlias = Literal[
    "token_obtained",
    "token_renewed",
    "token_found",
    "renewal_failed",
    "token_replaced",
    "token_kept",
    "request_not_resent",
    "host_not_allowed",
    "refused_without_token",
    "cache_in_trouble",
]

_VERBS: dict[Event, str] = {
    "token_obtained": "obtained",
    "token_renewed": "renewed",
    "token_found": "found in the cache",
}

# How many scopes of a token a record lists. Dolby.io has a dozen, and an answer may have hundreds of thousands.
_MAX_SCOPES = 50

_logger = logging.getLogger("dolby_auth_plugin")


def log(level: int, event: Event, message: str, *values: object, **fields: object) -> None:
    """
    Log one record.

    Args:
        level: One of the levels of `logging`.
        event: Its name. Users' filters and dashboards depend on it, so it never changes.
        message: A sentence for people, with a place for each of the *values*.
        fields: What the message says, for programs: numbers, lists and texts, which JSON can hold. Each becomes an attribute of the
            `LogRecord`, so none may be named like one of those.
    """
    # The record shows the line that calls this function.
    _logger.log(level, message, *values, extra={"event": event, **fields}, stacklevel=2)


def log_token(token: AccessToken, event: Event, began: Instant, now: Instant) -> None:
    """Log that a fetch, which *began* then, has its token *now*."""
    lifetime = round(token.expires_at.timestamp() - now.wall)
    seconds = round(now.monotonic - began.monotonic, 3)
    scopes = None if token.scope is None else [printable(scope) for scope in sorted(token.scope)[:_MAX_SCOPES]]
    log(
        logging.INFO,
        event,
        "token %s: lives %d s, scopes %s, took %.3f s",
        _VERBS[event],
        lifetime,
        "not named" if scopes is None else printable(" ".join(scopes)) or "none",
        seconds,
        lifetime=lifetime,
        scopes=scopes,
        seconds=seconds,
    )


def log_not_resent(host: str, why: str) -> None:
    """Log that a refused request is not sent again."""
    message = "401 from %s: the request is not sent again: %s"
    log(logging.DEBUG, "request_not_resent", message, host, why, host=host, reason=why)


def log_renewal_failure(failure: Failure) -> None:
    """Log a failed renewal. Its message has been searched for secrets."""
    message = "renewal failed, the present token is used until it expires: %s"
    log(logging.WARNING, "renewal_failed", message, failure.message, reason=failure.message)
