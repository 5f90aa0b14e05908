"""Entries of a cache are unreadable, and nothing is believed that was not sealed with the same secret for the same key."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from dolby_auth_plugin import AppCredentials, TokenError
from dolby_auth_plugin._core.endpoint import TokenEndpoint, is_token
from dolby_auth_plugin._core.entry import Entry
from dolby_auth_plugin._core.errors import Failure
from dolby_auth_plugin._core.token import AccessToken, Instant
from dolby_auth_plugin.caches._sealing import Seal

from ..fakes import EPOCH, KEY, SECRET, TOKEN_URL
from ..internals import seal_text, sealed_text

NOW = Instant(1000.0, EPOCH)
LIFE, LEASE = 1800, 12.0


def make_seal(
    app_key: str = KEY, secret: str = SECRET, scope: Any = "comms:a", expires_in: int = LIFE, url: str = TOKEN_URL
) -> Seal:
    return Seal(AppCredentials(app_key, secret), TokenEndpoint(url, scope, expires_in, "host/1.0"))


SEAL = make_seal()
TOKEN = AccessToken.issued("tok.en-value==", frozenset({"comms:a"}), LIFE, NOW, 0.0)
FAILURE = Failure("It is down.", "down", 503, "maintenance", 7.0, True)
ENTRY = Entry(TOKEN, True, EPOCH + 60, 2, EPOCH - 1, 1.5, FAILURE)
SEALED = SEAL.seal(ENTRY)


def opened(sealed: bytes, now: Instant = NOW, subject: Seal = SEAL) -> Entry | None:
    return subject.open(sealed, now, lambda: 0.0)


def with_members(*path: str, value: Any) -> bytes:
    """The entry, sealed rightly, with *value* in the place of the member at *path*."""
    members = json.loads(sealed_text(SEAL, SEALED))
    place = members
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return seal_text(SEAL, json.dumps(members).encode())


# What is shared


@pytest.mark.parametrize("entry", [ENTRY, Entry(), Entry(failure=FAILURE, tries=4, failed_at=EPOCH), Entry(TOKEN)])
def test_an_entry_is_opened_as_it_was_sealed(entry: Entry) -> None:
    full_at = max(entry.full_at, 0.0)

    assert opened(SEAL.seal(entry)) == entry._replace(full_at=full_at, failed_at=max(entry.failed_at, -math.inf))


@pytest.mark.parametrize(
    "other",
    [
        {"app_key": "other"},
        {"secret": "other"},
        {"scope": "comms:b"},
        {"scope": None},
        {"expires_in": 60},
        {"url": f"{TOKEN_URL}/"},
        {"url": f"{TOKEN_URL}?a=b"},
    ],
    ids=str,
)
def test_different_tokens_never_share_an_entry(other: dict[str, Any]) -> None:
    subject = make_seal(**other)

    assert subject.name != SEAL.name
    assert opened(SEALED, subject=subject) is None


def test_the_same_scopes_in_another_order_share_an_entry() -> None:
    one, other = make_seal(scope=["a", "b"]), make_seal(scope="b a a")

    assert opened(one.seal(ENTRY), subject=other) == ENTRY
    assert one.name == other.name


def test_the_name_of_an_entry_is_the_same_in_all_releases() -> None:
    """Releases run side by side while a fleet is updated."""
    assert SEAL.name == "9ebbd07234dc73cccbcc3023f4ecae8f4f6f98616bede5624031ecb79b705c6d"


def test_each_process_draws_its_own_moment_of_renewal() -> None:
    tokens = [entry.token for chance in (0.0, 1.0) if (entry := SEAL.open(SEALED, NOW, lambda: chance))]  # noqa: B023 - called at once

    assert [1500.0, 1590.0] == [token.renew_at.wall - EPOCH for token in tokens if token]


# What is revealed


def pieces(text: str) -> Iterator[str]:
    """Parts of *text*, plain and encoded."""
    for start in range(len(text) - 5):
        part = text[start : start + 6].encode()
        yield from (part.decode(), part.hex(), base64.b64encode(part).decode(), base64.urlsafe_b64encode(part).decode())


@pytest.mark.parametrize("text", [KEY, SECRET, TOKEN_URL, TOKEN.value, "comms:a", FAILURE.message, "access_token"])
def test_neither_the_name_nor_the_entry_reveals_anything(text: str) -> None:
    shown = f"{SEAL.name} {SEALED.decode('latin-1')} {SEALED.hex()} {base64.b64encode(SEALED).decode()}"

    assert [] == [piece for piece in pieces(text) if piece in shown]


def test_two_equal_entries_look_different() -> None:
    assert SEAL.seal(ENTRY)[40:] != SEALED[40:]


# What is ignored


def test_an_entry_with_a_changed_bit_is_ignored() -> None:
    changed = [SEALED[:at] + bytes([SEALED[at] ^ 1 << at % 8]) + SEALED[at + 1 :] for at in range(len(SEALED))]

    assert [None] * len(SEALED) == [opened(one) for one in changed]


def test_an_entry_of_another_length_is_ignored() -> None:
    others = [SEALED[:length] for length in range(len(SEALED))] + [SEALED + b"\0", SEALED * 2, SEALED + bytes(1 << 20)]

    assert {None} == {opened(one) for one in others}


def test_an_entry_of_another_version_is_ignored() -> None:
    assert opened(SEALED.replace(b" 1\n", b" 2\n")) is None


def test_a_huge_entry_is_ignored_before_it_is_opened() -> None:
    assert opened(seal_text(SEAL, sealed_text(SEAL, SEALED) + b" " * (1 << 20))) is None


def check(entry: Entry | None) -> None:
    """An entry that was opened can be worked with, and delays nobody for long."""
    if entry is None:
        return
    token, step = entry.token, entry.next_step(NOW.wall, LEASE)
    if token is not None:
        assert is_token(token.value)
        assert token.scope is None or all(isinstance(scope, str) for scope in token.scope)
        assert not token.is_good(NOW.after(86_400))
    if isinstance(step, Failure):
        error = TokenError.of(step)
        assert isinstance(str(error), str) and isinstance(error.reason, str) and isinstance(error.retryable, bool)
        assert step.memory is not None and 0 < step.memory <= 10
        assert isinstance(error.description, str | None) and isinstance(error.status_code, int | None)
    else:
        assert 0 <= step <= 70
    charged = entry._replace(is_charged=False).charged(NOW.wall)
    assert charged is None or charged.full_at <= NOW.wall + 110
    assert 0 <= entry.seconds_needed(NOW.wall, LEASE) <= 86_400
    for after in (entry, entry._replace(token=TOKEN), entry.after_failure(FAILURE, NOW.wall, LEASE, 30.0, 0.0)):
        assert opened(SEAL.seal(after)) is not None


NONSENSE: list[Any] = [
    None,
    True,
    0,
    -1,
    10**9,
    10**400,
    1e300,
    -1e300,
    1e17,
    -1e17,
    1.5,
    math.nan,
    math.inf,
    "",
    "text",
    "1800",
    "a\nb",
]
NONSENSE += ["\ud800", [], [1, 2], [[]], ["a", 1], {}, {"a": 1}, ["x", "y"], ["m", "r", 1, 2, 3, 4, 5], ["m", "r"] * 4]
MEMBERS: list[tuple[str, ...]] = [("token",), ("is_charged",), ("full_at",), ("sequence",)]
MEMBERS += [("token", name) for name in ("value", "scope", "life", "asked_at")]
MEMBERS += [("sequence", name) for name in ("tries", "failed_at", "pause", "failure")]


@pytest.mark.parametrize("path", MEMBERS, ids=".".join)
def test_nonsense_that_was_sealed_rightly_is_ignored(path: tuple[str, ...]) -> None:
    for value in NONSENSE:
        check(opened(with_members(*path, value=value)))


def test_true_is_not_a_number() -> None:
    entry = opened(with_members("token", "life", value=True))

    assert entry is not None and entry.token is None
    assert opened(with_members("full_at", value=True)) is None


@pytest.mark.parametrize("position", range(7))
def test_nonsense_in_a_failure_is_ignored(position: int) -> None:
    """In the last place is how long it is remembered. Only the entry decides that."""
    for value in NONSENSE:
        failure = list(FAILURE)
        failure[position] = value
        entry = opened(with_members("sequence", "failure", value=failure))
        check(entry)
        check(entry and entry._replace(tries=4))


@pytest.mark.parametrize("text", [b"", b"\xff", b"[]", b"null", b"1" * 5000, b"[" * 100_000, b'{"token":' * 100_000])
def test_text_that_is_not_an_entry_is_ignored(text: bytes) -> None:
    assert opened(seal_text(SEAL, text)) is None


def test_the_last_try_of_a_sequence_delays_nobody_for_longer_than_a_failure_is_remembered() -> None:
    entry = opened(SEAL.seal(ENTRY._replace(tries=4, pause=60.0, failed_at=EPOCH)))

    assert entry is not None
    assert entry.next_step(EPOCH, LEASE) == FAILURE._replace(memory=10.0)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
documents = scalars | st.lists(scalars, max_size=8) | st.dictionaries(st.text(max_size=5), scalars, max_size=3)


@hypothesis.given(st.sampled_from(MEMBERS), documents)
@hypothesis.settings(max_examples=100, derandomize=True, database=None, deadline=None)
def test_any_json_in_any_place_is_opened_or_ignored(path: tuple[str, ...], value: Any) -> None:
    check(opened(with_members(*path, value=value)))


@pytest.mark.parametrize(
    "spoil", [dict.clear, lambda members: members.pop("token"), lambda members: members.pop("sequence")]
)
def test_an_entry_without_a_member_is_ignored(spoil: Callable[[Any], Any]) -> None:
    members = json.loads(sealed_text(SEAL, SEALED))
    spoil(members)

    assert opened(seal_text(SEAL, json.dumps(members).encode())) is None


# Clocks


def test_what_is_left_of_the_life_counts() -> None:
    later = Instant(5.0, EPOCH + 1000)
    entry = opened(SEALED, later)

    assert entry is not None and entry.token is not None
    assert [True, False] == [entry.token.is_good(later.after(seconds)) for seconds in (794, 796)]
    assert entry.token.asked_at == EPOCH


@pytest.mark.parametrize("seconds", [1, 3600, 10**9])
def test_a_token_from_the_future_lives_no_longer_than_it_was_granted(seconds: int) -> None:
    entry = opened(with_members("token", "asked_at", value=EPOCH + seconds))

    assert entry is not None and entry.token is not None
    assert [True, False] == [entry.token.is_good(NOW.after(after)) for after in (1794, 1796)]
