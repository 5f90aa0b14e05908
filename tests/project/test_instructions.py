"""The check of the instruction counts: how it compares counts. Nothing is counted here."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks import instructions
from benchmarks.hot_path import WAYS

RECORD = instructions.Counts(
    made_with={"python": "CPython 3.11.7", "httpx": "0.28.1"},
    ours={"httpx": 10_000, "httpx async": 20_000},
    constant={"httpx": 8_000, "httpx async": 16_000},
)


@pytest.mark.parametrize("counted", [9_710, 10_000, 10_290])
def test_a_count_within_three_percent_passes(counted: int) -> None:
    now = replace(RECORD, ours={**RECORD.ours, "httpx": counted})

    assert [] == instructions.failures(RECORD, now)


def test_a_count_that_rose_by_more_fails_and_is_reported() -> None:
    now = replace(RECORD, ours={**RECORD.ours, "httpx": 10_310})

    assert ["httpx: 10,310 instructions, 3.1% more than the recorded 10,000"] == instructions.failures(RECORD, now)


def test_a_count_that_fell_by_more_fails_until_it_is_recorded() -> None:
    now = replace(RECORD, ours={**RECORD.ours, "httpx async": 19_380})

    [failure] = instructions.failures(RECORD, now)

    assert "httpx async: 19,380 instructions, 3.1% fewer" in failure
    assert "--record" in failure


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (
            replace(RECORD, made_with={**RECORD.made_with, "httpx": "0.29"}),
            "the record is for httpx 0.28.1, this is 0.29",
        ),
        (replace(RECORD, constant={**RECORD.constant, "httpx": 8_090}), "another build of CPython 3.11.7"),
    ],
    ids=["another-version", "another-build"],
)
def test_counts_of_another_version_or_build_are_not_compared(now: instructions.Counts, reason: str) -> None:
    assert reason in str(instructions.why_incomparable(RECORD, now))


def test_a_constant_header_may_vary_a_little() -> None:
    now = replace(RECORD, constant={**RECORD.constant, "httpx": 8_070})

    assert instructions.why_incomparable(RECORD, now) is None


def test_every_way_is_recorded() -> None:
    record = instructions.Counts(**json.loads(instructions.RECORD.read_text()))

    assert list(WAYS) == list(record.ours) == list(record.constant)


def test_without_valgrind_it_reports_so_and_passes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")

    assert 0 == instructions.main([])

    assert "instructions not counted: valgrind is not installed\n" == capsys.readouterr().out
