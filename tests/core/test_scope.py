"""Scopes: as asked for, and as granted."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import pytest

from dolby_auth_plugin import Scope
from dolby_auth_plugin._core.scope import missing, normalise, unknown


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        (None, ()),
        ("comms:monitor:read", ("comms:monitor:read",)),
        ("comms:monitor:read comms:monitor:delete", ("comms:monitor:read", "comms:monitor:delete")),
        (["comms:*"], ("comms:*",)),
        (iter(["b", "a", "b"]), ("b", "a")),
        (Scope.MONITOR_READ, ("comms:monitor:read",)),
        ([Scope.MONITOR_READ, "x"], ("comms:monitor:read", "x")),
    ],
)
def test_a_scope_is_a_string_or_an_iterable_of_strings(given: str | Iterable[str] | None, asked: tuple[str]) -> None:
    """Each once, in the order given."""
    scopes = normalise(given)

    assert asked == scopes
    assert all(type(scope) is str for scope in scopes)


@pytest.mark.parametrize("given", ["", " ", "a  b", " a", "a\tb", "a\n", 'a"b', "a\\b", "ü", "a\x00", ["a b"], [""]])
def test_a_malformed_scope_is_a_value_error(given: str | list[str]) -> None:
    """RFC 6749 §3.3 allows printable ASCII without space, quote and backslash."""
    with pytest.raises(ValueError, match="malformed scope"):
        normalise(given)


def test_an_empty_list_of_scopes_is_a_value_error() -> None:
    """An empty list must not become an unrestricted token."""
    with pytest.raises(ValueError, match="scope is empty"):
        normalise([])


@pytest.mark.parametrize("asked", ["comms:nope", "comms:", "comms:monitor:*", "comms"])
def test_the_hint_for_an_unknown_scope_never_names_a_wildcard(asked: str) -> None:
    """It would widen what the token may do."""
    assert "did you mean" in unknown([asked])[0]
    assert "comms:*" not in unknown([asked])[0]


def test_the_hint_for_a_misspelt_wildcard_names_the_wildcard() -> None:
    assert "did you mean 'comms:*'" in unknown(["coms:*"])[0]


@pytest.mark.parametrize("given", [[1], [None], [b"a"]])
def test_a_scope_that_is_not_a_string_is_a_type_error(given: list[str]) -> None:
    with pytest.raises(TypeError, match="a scope must be a str"):
        normalise(given)


def test_the_warning_for_an_unknown_scope_names_the_nearest_known_one() -> None:
    """Dolby.io drops it silently."""
    assert ["comms:monitor:read"] == [
        line.rpartition("did you mean ")[2].strip("'?")
        for line in unknown(["comms:monitor:raed", Scope.ALL_COMMUNICATIONS])
    ]


@pytest.mark.parametrize(
    ("asked", "granted", "lacking"),
    [
        (["a"], {"a"}, []),
        (["a", "b"], {"a"}, ["b"]),
        (["comms:monitor:read"], {"comms:*"}, []),
        (["media:read"], {"comms:*"}, ["media:read"]),
        (["comms:*"], {"comms:monitor:read"}, []),
        (["comms:*"], set(), ["comms:*"]),
        (["comms:monitor:read"], {"comms:monitor"}, ["comms:monitor:read"]),
        ([], set(), []),
    ],
)
def test_a_scope_is_missing_if_no_granted_scope_covers_it(
    asked: list[str], granted: set[str], lacking: list[str]
) -> None:
    assert lacking == missing(asked, frozenset(granted))


def test_known_scopes_import_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the hint for another one needs `difflib`."""
    monkeypatch.delitem(sys.modules, "difflib", raising=False)

    assert unknown(["comms:*", *Scope]) == []
    assert "difflib" not in sys.modules
