"""The allowance of hosts that refuse tokens."""

from __future__ import annotations

import itertools

from dolby_auth_plugin._core.refusals import Refusals

TOKENS = itertools.count()


def token() -> int:
    """Another one each time."""
    return next(TOKENS)


def spend(subject: Refusals, host: str, now: float, times: int) -> list[bool]:
    return [subject.spend(host, token(), now) for _ in range(times)]


def test_three_replacements_at_once_and_no_more() -> None:
    assert [True, True, True, False, False] == spend(Refusals(), "a:443", 0.0, 5)


def test_one_more_each_minute() -> None:
    subject = Refusals()
    spend(subject, "a:443", 0.0, 3)

    assert [False] == spend(subject, "a:443", 59.9, 1)
    assert [True, False] == spend(subject, "a:443", 60.1, 2)


def test_a_long_rest_does_not_save_up_more_than_three() -> None:
    subject = Refusals()
    spend(subject, "a:443", 0.0, 3)

    assert [True, True, True, False] == spend(subject, "a:443", 86_400.0, 4)


def test_hosts_have_an_allowance_each() -> None:
    subject = Refusals()
    spend(subject, "a:443", 0.0, 3)

    assert [True] == spend(subject, "b:443", 0.0, 1)


def test_an_accepted_retry_gives_back_what_was_spent_on_it_once() -> None:
    subject = Refusals()
    first = token()
    subject.spend("a:443", first, 0.0)

    for _ in range(3):
        subject.give_back("a:443", first)

    assert [True, True, True, False] == spend(subject, "a:443", 0.0, 4)


def test_what_was_spent_on_another_token_is_not_given_back() -> None:
    subject = Refusals()
    spend(subject, "a:443", 0.0, 3)

    subject.give_back("a:443", token())
    subject.give_back("b:443", token())

    assert [False] == spend(subject, "a:443", 0.0, 1)


def test_the_memory_is_bounded_and_forgets_the_least_recently_used() -> None:
    subject = Refusals()
    spend(subject, "kept:443", 0.0, 3)
    spend(subject, "forgotten:443", 0.0, 3)
    for number in range(Refusals.LIMIT - 1):
        spend(subject, f"h{number}:443", 0.0, 1)
        spend(subject, "kept:443", 0.0, 1)

    assert [False] == spend(subject, "kept:443", 0.0, 1)
    assert [True] == spend(subject, "forgotten:443", 0.0, 1)
