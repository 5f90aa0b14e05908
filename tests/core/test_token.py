"""The arithmetic of a token's life, at its boundaries."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime

import pytest

from dolby_auth_plugin import AccessToken
from dolby_auth_plugin._core.token import Instant

ASKED = Instant(100.0, 1_700_000_000.0)
TICK = 1e-4


def token(life: int = 1800, chance: float = 0.0) -> AccessToken:
    return AccessToken.issued("abc", None, life, ASKED, chance)


@pytest.mark.parametrize(
    ("life", "chance", "opens"),
    [
        (1800, 0.0, 1500.0),  # 300 s, which is less than a fifth
        (1800, 1.0, 1590.0),  # 0.7 of that
        (86_400, 0.0, 86_100.0),
        (60, 0.0, 48.0),  # a fifth
        (60, 1.0, 51.6),
        (10, 0.0, 8.0),
        (2, 0.0, 1.6),
        (1, 0.0, 0.8),
    ],
)
def test_renewal_opens_at_a_share_of_the_life_before_the_end(life: int, chance: float, opens: float) -> None:
    """Renewal opens at end - u * min(life/5, 300 s), u from 0.7 to 1."""
    subject = token(life, chance)

    assert subject.is_fresh(ASKED.after(opens - TICK))
    assert not subject.is_fresh(ASKED.after(opens))


@pytest.mark.parametrize(("life", "expired"), [(1800, 1795.0), (86_400, 86_395.0), (60, 57.0), (10, 9.5), (1, 0.95)])
def test_a_token_expires_early_to_leave_time_for_the_request(life: int, expired: float) -> None:
    """A twentieth of the life, at most 5 s, before the end."""
    subject = token(life)

    assert subject.is_good(ASKED.after(expired - TICK))
    assert not subject.is_good(ASKED.after(expired))


@pytest.mark.parametrize("life", [1, 2, 10, 60, 1800, 86_400])
def test_a_token_is_fresh_for_most_of_its_life(life: int) -> None:
    """A margin larger than the life would fetch a token for every call."""
    assert token(life).is_fresh(ASKED.after(life * 0.79))


def test_a_token_expires_by_the_wall_clock() -> None:
    """A suspended machine's monotonic clock stands still."""
    suspended = Instant(ASKED.monotonic, ASKED.wall + 1795)

    assert not token().is_good(suspended)
    assert not token().is_fresh(suspended)


def test_a_token_expires_by_the_monotonic_clock() -> None:
    """A wall clock set back would make a token live for ever."""
    set_back = Instant(ASKED.monotonic + 1795, ASKED.wall - 86_400)

    assert not token().is_good(set_back)
    assert not token().is_fresh(set_back)


def test_expires_at_is_the_end_as_an_aware_utc_datetime() -> None:
    """It is the end that the service gave, without the margins."""
    assert datetime(2023, 11, 14, 22, 43, 20, tzinfo=UTC) == token().expires_at


def test_repr_and_str_do_not_show_the_value() -> None:
    """The header contains the value too."""
    subject = AccessToken.issued("canary", frozenset({"comms:*"}), 1800, ASKED, 0.5)

    assert "canary" not in repr(subject) + str(subject) + f"{subject}"
    assert "comms:*" in repr(subject)


def test_a_token_cannot_be_pickled() -> None:
    """A token in a cache or a job queue is a leak."""
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(token())


def test_a_token_cannot_be_copied() -> None:
    """`copy` uses the pickle protocol. A token can't be changed, so nobody needs a copy."""
    with pytest.raises(TypeError, match="can't be pickled"):
        copy.copy(token())


def test_a_token_cannot_be_changed() -> None:
    """All threads share it."""
    subject = token()

    with pytest.raises(AttributeError, match="can't be changed"):
        subject.value = "other"
    with pytest.raises(AttributeError, match="can't be changed"):
        del subject.value


def test_tokens_are_equal_if_value_scope_and_end_are() -> None:
    def issued(value: str = "abc", scope: str = "a", life: int = 1800) -> AccessToken:
        return AccessToken.issued(value, frozenset({scope}), life, ASKED, 0.5)

    assert issued() == issued()
    assert hash(issued()) == hash(issued())
    assert issued() != issued(value="other")
    assert issued() != issued(scope="other")
    assert issued() != issued(life=60)
    assert issued() != "abc"
