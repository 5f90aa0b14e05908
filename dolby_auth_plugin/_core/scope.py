"""
Scopes: what an API token may do (RFC 6749 §3.3).

Dolby.io drops unknown scopes silently, so a misspelt one shows only as a refused request much later. So two checks are made
here: of the scopes asked for, and of the scopes granted. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

# RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


class Scope(StrEnum):
    """The scopes that Dolby.io documents; all belong to the Communications APIs. Media has none."""

    ALL_COMMUNICATIONS = "comms:*"
    CLIENT_ACCESS_TOKEN_CREATE = "comms:client_access_token:create"  # noqa: S105 - a scope
    CONFERENCE_ADMIN = "comms:conf:admin"
    CONFERENCE_CREATE = "comms:conf:create"
    CONFERENCE_DESTROY = "comms:conf:destroy"
    MONITOR_DELETE = "comms:monitor:delete"
    MONITOR_DOWNLOAD = "comms:monitor:download"
    MONITOR_READ = "comms:monitor:read"
    RECORD_WRITE = "comms:record:write"
    REMIX_READ = "comms:remix:read"
    REMIX_WRITE = "comms:remix:write"
    STREAM_WRITE = "comms:stream:write"


def normalise(scope: str | Iterable[str] | None) -> tuple[str, ...]:
    """
    The scopes asked for, each once, in the order given. None asks for an unrestricted token and gives no scope.

    Raises:
        ValueError: If *scope* is malformed, or empty: an empty one must not become an unrestricted token.
        TypeError: If it is neither a string nor an iterable of strings.
    """
    if scope is None:
        return ()
    values = scope.split(" ") if isinstance(scope, str) else list(scope)
    if not values:
        raise ValueError("scope is empty: name at least one, or give None for an unrestricted token")
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f"a scope must be a str, got {type(value).__name__}")
        if not _SCOPE_TOKEN.fullmatch(value):
            raise ValueError(
                f"malformed scope {value!r}: a scope is printable ASCII without spaces, quotes and"
                " backslashes; one space separates two scopes (RFC 6749 §3.3)"
            )
    return tuple(dict.fromkeys(str.__str__(value) for value in values))


def unknown(scopes: Iterable[str]) -> list[str]:
    """
    A sentence for each scope that Dolby.io does not document. It names the nearest documented one.

    It never names a wider one, so a wildcard only for a wildcard with as many parts: a hint must not widen what a token may do.
    """
    known = [str(scope) for scope in Scope]
    sentences = []
    for scope in scopes:
        if scope not in known:
            import difflib  # needed for misspelt scopes only

            is_widest = scope.endswith("*") and scope.count(":") <= 1
            candidates = [name for name in known if is_widest or "*" not in name]
            near = difflib.get_close_matches(scope, candidates, n=1, cutoff=0)[0]
            sentences.append(f"unknown scope {scope!r}, which Dolby.io drops silently: did you mean {near!r}?")
    return sentences


def missing(asked: Iterable[str], granted: frozenset[str]) -> list[str]:
    """
    The scopes asked for that the granted ones don't cover.

    A wildcard covers the scopes that begin like it. A wildcard that was asked for counts as granted when any scope beneath it was
    granted: no source says whether the service answers `comms:*` or the single scopes.
    """
    return [
        scope
        for scope in asked
        if scope not in granted and not _wildcards_over(scope) & granted and not _is_granted_in_part(scope, granted)
    ]


def _wildcards_over(scope: str) -> set[str]:
    # A set look-up instead of a search: an answer may name hundreds of thousands of scopes.
    return {f"{scope[:end]}:*" for end, char in enumerate(scope) if char == ":"}


def _is_granted_in_part(scope: str, granted: frozenset[str]) -> bool:
    return scope.endswith(":*") and any(other.startswith(scope[:-1]) for other in granted)
