"""What the benchmarks make of results, without measuring."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import report
from benchmarks.scenarios import ALL_WAYS, SCENARIOS, Scenario
from benchmarks.subjects import CONSTANT_HEADER, OURS, subjects

BY_MEASURE = {scenario.measure: scenario for scenario in SCENARIOS}

CALLS: dict[str, Any] = {"calls": 100, "failed": 0, "failures": {}}


def table(measure: str, results: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    return {line[0]: line[1:] for line in report.rows(BY_MEASURE[measure], results)}


def test_a_figure_is_shown_over_the_limit_and_ours_over_it() -> None:
    lines = table("added", {CONSTANT_HEADER: {"value": 500.0}, OURS: {"value": 1250.0}, "peer": {"value": 5000.0}})

    assert lines[OURS][:3] == ["1,250", "2.50", "1.00"]
    assert lines["peer"][:3] == ["5,000", "10.00", "0.25"]


def test_a_ratio_near_one_is_shown_in_thousandths() -> None:
    lines = table("call", {CONSTANT_HEADER: {"value": 100.0}, OURS: {"value": 100.6}, "peer": {"value": 106.0}})

    assert [lines[name][1] for name in (CONSTANT_HEADER, OURS, "peer")] == ["1.00", "1.006", "1.06"]


def test_of_what_is_measured_in_turn_the_median_ratio_to_the_limit_counts() -> None:
    def run(limit: float, ours: float) -> dict[str, Any]:
        return {CONSTANT_HEADER: {"value": limit}, OURS: {"value": ours}}

    # The last one met a busy machine.
    found = report.typical(
        [CONSTANT_HEADER, OURS, "left out"], [run(100.0, 101.0), run(102.0, 105.06), run(200.0, 300.0)]
    )

    assert {name: round(result["value"], 6) for name, result in found.items()} == {CONSTANT_HEADER: 102, OURS: 105.06}


def test_a_run_that_broke_is_told_of_all_that_were_in_it() -> None:
    whole = {CONSTANT_HEADER: {"value": 1.0}, OURS: {"value": 1.0}}

    assert report.typical([OURS], [whole, {"error": "hung"}]) == {OURS: {"error": "hung"}}


def test_a_number_is_shown_over_the_least_there_can_be() -> None:
    lines = table(
        "refusal",
        {OURS: {"value": 4, **CALLS}, "peer": {"value": 2000, **CALLS}, "broken": {"error": "hung for 240 s"}},
    )

    assert lines[OURS] == ["4", "4.00", "1.00", "yes"]
    assert lines["peer"] == ["2,000", "2,000", "0.002", "2,000 token requests"]
    assert lines["broken"] == ["–", "–", "–", "hung for 240 s"]


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("herd", {"value": 64}, "64 token requests"),
    ("rollover", {"value": 3.0, "stalled": 1, "token_requests": 1}, "1 call waited"),
    ("rollover", {"value": 3.0, "stalled": 0, "token_requests": 16}, "16 token requests"),
    (
        "outage",
        {"value": 2, "stalled": 2, "failed": 2, "failures": {"401": 2}},
        "2 of 100 failed (401); 2 calls waited",
    ),
    ("revocation", {"value": 0, "token_requests": 64}, "64 token requests"),
    ("refusal", {"value": 6}, "6 token requests"),
    ("bodies", {"value": 1, "kinds": {"bytes": "sent again", "file": "corrupted"}}, "file corrupted"),
    ("lag", {"value": 20.0}, "the loop stood still"),
    ("elsewhere", {"value": 1}, "the token went to another host"),
    ("memory", {"value": 1.0, "threads": 1}, "1 threads"),
]


@pytest.mark.parametrize(("measure", "result", "told"), WRONG, ids=[f"{row[0]}-{row[2]}" for row in WRONG])
def test_what_is_wrong_is_told(measure: str, result: dict[str, Any], told: str) -> None:
    assert told == BY_MEASURE[measure].wrong({**CALLS, **result})


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.measure)
def test_what_is_right_is_told(scenario: Scenario) -> None:
    right = {"value": 0, "stalled": 0, "token_requests": 1, "kinds": {"bytes": "sent again"}, "threads": 0, **CALLS}

    assert scenario.wrong(right) == ""


def test_every_way_has_the_limit_and_ours() -> None:
    for way in ALL_WAYS:
        assert [CONSTANT_HEADER, OURS] == [subject.name for subject in subjects(*way)][:2]
