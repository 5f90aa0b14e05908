"""
Scopes: what an API token may do (RFC 6749 §3.3).

Dolby.io drops a scope it does not know without a word, so a misspelt one comes to light only as a refused
request much later. Hence the two looks here: at what is asked for, and at what was granted. No I/O.
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
    The scopes asked for, each once, in the order given; none for None, which asks for an unrestricted token.

    Raises:
        ValueError: If *scope* is malformed, or given but empty: an empty one must not end up unrestricted.
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
                " backslashes, and one space stands between two (RFC 6749 §3.3)"
            )
    return tuple(dict.fromkeys(str.__str__(value) for value in values))


def unknown(scopes: Iterable[str]) -> list[str]:
    """A sentence for each scope that Dolby.io does not document, naming the nearest that it does."""
    import difflib  # only for what is misspelt

    known = [str(scope) for scope in Scope]
    sentences = []
    for scope in scopes:
        if scope not in known:
            near = difflib.get_close_matches(scope, known, n=1, cutoff=0)[0]
            sentences.append(f"unknown scope {scope!r}, which Dolby.io drops silently: is it {near!r}?")
    return sentences


def missing(asked: Iterable[str], granted: frozenset[str]) -> list[str]:
    """
    Those of the scopes asked for that the granted ones don't cover.

    A wildcard covers what begins like it. One that was asked for counts as granted when anything beneath it
    was: whether the service answers `comms:*` as it stands or spelt out is unconfirmed.
    """
    return [
        scope
        for scope in asked
        if scope not in granted and not _wildcards_over(scope) & granted and not _is_met_in_part(scope, granted)
    ]


def _wildcards_over(scope: str) -> set[str]:
    # Looked up rather than looked for: an answer has room for hundreds of thousands of scopes.
    return {f"{scope[:end]}:*" for end, char in enumerate(scope) if char == ":"}


def _is_met_in_part(scope: str, granted: frozenset[str]) -> bool:
    return scope.endswith(":*") and any(other.startswith(scope[:-1]) for other in granted)
