"""What processes share about one token: the sequence of tries, and the allowance."""

from __future__ import annotations

from typing import Any

import pytest

from dolby_auth_plugin._core.entry import Entry
from dolby_auth_plugin._core.errors import Failure
from dolby_auth_plugin._core.token import AccessToken, Instant

from ..fakes import EPOCH

NOW = Instant(1000.0, EPOCH)
TOKEN = AccessToken.issued("abc", None, 1800, NOW, 0.0)
DOWN = Failure("down", reason="down", retryable=True)
FINAL = Failure("final", reason="final")

# Seconds that a try may take.
LEASE = 12.0


def failed(
    entry: Entry, now: float, failure: Failure = DOWN, *, seconds_left: float = 30.0, chance: float = 0.0
) -> Entry:
    return entry.after_failure(failure, now, LEASE, seconds_left, chance)


def failed_often(times: int, now: float = EPOCH) -> Entry:
    """The entry after so many tries at once, the last one at *now*."""
    entry = Entry(TOKEN)
    for _ in range(times):
        entry = failed(entry, now)
    return entry


def step(entry: Entry, now: float = EPOCH) -> Failure | float:
    return entry.next_step(now, LEASE)


# The sequence of tries


def test_the_first_try_starts_at_once() -> None:
    assert step(Entry()) == 0


@pytest.mark.parametrize(("chance", "pauses"), [(0.0, [0.5, 1.0, 2.0]), (1.0, [0.25, 0.5, 1.0])])
def test_pauses_between_tries_double_and_chance_halves_them(chance: float, pauses: list[float]) -> None:
    entry, seen = Entry(), []
    for _ in pauses:
        entry = failed(entry, EPOCH, chance=chance)
        seen.append(step(entry))

    assert pauses == seen


def test_after_the_fourth_try_everyone_gets_the_failure_for_the_rest_of_three_seconds() -> None:
    entry = failed_often(4)

    assert step(entry, EPOCH + 2) == DOWN._replace(memory=1.0)
    assert step(entry, EPOCH + 3) == 0


def test_a_forgotten_failure_is_followed_by_a_new_sequence() -> None:
    entry = failed(failed_often(4), EPOCH + 3)

    assert (entry.tries, step(entry, EPOCH + 3)) == (1, 0.5)


@pytest.mark.parametrize(("retry_after", "pause"), [(0.1, 0.5), (7.0, 7.0), (29.9, 29.9)])
def test_retry_after_lengthens_the_pause_and_never_shortens_it(retry_after: float, pause: float) -> None:
    entry = failed(Entry(), EPOCH, DOWN._replace(retry_after=retry_after))

    assert step(entry) == pytest.approx(pause, abs=1e-6)


@pytest.mark.parametrize(
    ("failure", "memory"),
    [(FINAL, 3.0), (DOWN._replace(retry_after=7.0), 7.0), (DOWN._replace(retry_after=99.0), 10.0)],
)
def test_a_final_failure_or_a_pause_that_does_not_fit_ends_the_sequence(failure: Failure, memory: float) -> None:
    entry = failed(Entry(), EPOCH, failure, seconds_left=7.0)

    assert step(entry) == failure._replace(memory=memory)
    assert step(entry, EPOCH + memory) == 0


@pytest.mark.parametrize(("seconds", "tries"), [(LEASE + 10.4, 4), (LEASE + 10.6, 1)])
def test_a_sequence_that_nobody_continued_is_stale_a_lease_and_ten_seconds_after_its_next_try(
    seconds: float, tries: int
) -> None:
    entry = failed_often(3, EPOCH - 1.5)

    assert failed(entry, EPOCH + seconds).tries == tries


def test_a_stale_sequence_does_not_delay_the_next_try() -> None:
    assert step(failed_often(1), EPOCH + 60) == 0


def test_a_rounding_error_is_not_a_pause() -> None:
    assert step(failed_often(1), EPOCH + 0.5 - 1e-6) == 0


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize(("ahead", "counts"), [(9.0, True), (11.0, False), (86_400.0, False)])
def test_a_failure_counts_if_the_clock_was_at_most_ten_seconds_ahead(times: int, ahead: float, counts: bool) -> None:
    assert (step(failed_often(times, EPOCH + ahead)) != 0) is counts


def test_the_clock_of_another_machine_makes_no_failure_last_longer_than_ten_seconds() -> None:
    failure = FINAL._replace(retry_after=99.0)

    assert step(failed(Entry(), EPOCH + 9, failure)) == failure._replace(memory=10.0)


def test_a_failure_leaves_the_token_in_the_entry() -> None:
    assert failed_often(4).token is TOKEN


def test_a_token_ends_the_sequence() -> None:
    entry = failed_often(3).after_token(TOKEN)

    assert (step(entry), entry.tries) == (0, 0)


# The allowance


def replaced(entry: Entry | None, now: float, times: int = 1) -> Entry | None:
    """The entry after so many replacements of its token. None: the allowance is used up."""
    for _ in range(times):
        charged = entry and entry.charged(now)
        entry = charged and charged.after_token(TOKEN)
    return entry


def test_the_allowance_pays_for_four_replacements_in_a_row_and_one_more_every_twenty_seconds() -> None:
    entry = replaced(Entry(TOKEN), EPOCH, 4)

    assert entry is not None
    assert replaced(entry, EPOCH + 19.9) is None
    assert replaced(entry, EPOCH + 20.0) is not None
    assert replaced(entry, EPOCH + 20.0, 2) is None


def test_each_token_is_charged_once_also_when_its_replacement_failed() -> None:
    entry = Entry(TOKEN)
    for _ in range(9):
        charged = entry.charged(EPOCH)
        assert charged is not None
        entry = failed(charged, EPOCH)

    assert replaced(entry, EPOCH, 4) is not None
    assert replaced(entry, EPOCH, 5) is None


def test_the_allowance_of_a_clock_that_is_hours_ahead_is_ignored() -> None:
    entry = replaced(Entry(TOKEN), EPOCH + 7200, 4)

    assert replaced(entry, EPOCH, 4) is not None
    assert replaced(entry, EPOCH, 5) is None


# Invalidation, and how long an entry is needed


@pytest.mark.parametrize("times", [1, 4])
def test_invalidate_ignores_an_earlier_failure_and_no_later_one(times: int) -> None:
    entry = failed_often(times)

    assert step(entry.since(EPOCH + 0.1)) == 0
    assert step(entry.since(EPOCH)) != 0


def test_invalidate_leaves_the_token_to_the_other_processes() -> None:
    assert failed(failed_often(1).since(EPOCH + 1), EPOCH + 1).token is TOKEN


@pytest.mark.parametrize(
    ("entry", "seconds"),
    [
        (Entry(TOKEN), 1800.0),
        (replaced(Entry(), EPOCH, 3)._replace(token=None), 60.0),  # type: ignore[union-attr] # it is not used up
        (failed(Entry(), EPOCH), 0.5 + LEASE + 10),
        (Entry(full_at=1e300), 86_400.0),
    ],
    ids=["token", "allowance", "sequence", "nonsense"],
)
def test_an_entry_is_needed_as_long_as_its_token_its_allowance_or_its_sequence(entry: Entry, seconds: Any) -> None:
    assert entry.seconds_needed(EPOCH, LEASE) == pytest.approx(seconds)
