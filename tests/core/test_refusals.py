"""The allowance for replacing refused tokens."""

from __future__ import annotations

import pytest

from dolby_auth_plugin._core.refusals import Allowance


def spend(subject: Allowance, now: float, times: int) -> list[bool]:
    return [subject.spend(now) for _ in range(times)]


def test_four_replacements_in_a_row_and_no_more() -> None:
    assert [True] * 4 + [False] * 3 == spend(Allowance(), 0.0, 7)


def test_one_more_every_twenty_seconds() -> None:
    subject = Allowance()
    spend(subject, 0.0, 4)

    assert [False] == spend(subject, 19.9, 1)
    assert [True, False] == spend(subject, 20.0, 2)
    assert [False] == spend(subject, 39.9, 1)
    assert [True, False] == spend(subject, 40.0, 2)


def test_a_long_pause_allows_no_more_than_four() -> None:
    subject = Allowance()
    spend(subject, 0.0, 4)

    assert [True] * 4 + [False] == spend(subject, 86_400.0, 5)


def test_an_unused_part_of_the_allowance_stays() -> None:
    subject = Allowance()
    spend(subject, 0.0, 2)

    assert [True, True, True, False] == spend(subject, 20.0, 4)


@pytest.mark.parametrize("interval", [0.05, 1, 7, 19, 21])
def test_any_pattern_costs_at_most_seven_in_the_first_minute_and_three_more_for_each_later_one(interval: float) -> None:
    subject = Allowance()
    spent = [number * interval for number in range(int(600 / interval)) if subject.spend(number * interval)]

    after = [sum(when < minute * 60 for when in spent) for minute in range(1, 11)]

    assert all(count <= 7 + 3 * minutes for minutes, count in enumerate(after))
