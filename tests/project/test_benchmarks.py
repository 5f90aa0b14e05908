"""How the benchmarks report results. Nothing is measured here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.scenarios import ALL_WAYS, SCENARIOS, Scenario
from benchmarks.subjects import CONSTANT_HEADER, OURS, subjects

DOCS = Path(report.__file__).parent.parent / "docs"
BY_MEASURE = {scenario.measure: scenario for scenario in SCENARIOS}

CALLS: dict[str, Any] = {"calls": 100, "failed": 0, "failures": {}}


def table(measure: str, results: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    return {line[0]: line[1:] for line in report.rows(BY_MEASURE[measure], results)}


def test_a_row_shows_its_ratio_to_the_baseline_and_ours_to_this_row() -> None:
    lines = table("added", {CONSTANT_HEADER: {"value": 500.0}, OURS: {"value": 1250.0}, "peer": {"value": 5000.0}})

    assert lines[OURS][:3] == ["1,250", "2.50", "1.00"]
    assert lines["peer"][:3] == ["5,000", "10.00", "0.25"]


def test_a_ratio_near_one_is_shown_in_thousandths() -> None:
    lines = table("call", {CONSTANT_HEADER: {"value": 100.0}, OURS: {"value": 100.6}, "peer": {"value": 106.0}})

    assert [lines[name][1] for name in (CONSTANT_HEADER, OURS, "peer")] == ["1.00", "1.006", "1.06"]


def test_the_typical_result_is_the_median_ratio_to_the_baseline() -> None:
    def run(baseline: float, ours: float) -> dict[str, Any]:
        return {CONSTANT_HEADER: {"value": baseline}, OURS: {"value": ours}}

    # The machine is busy during the last run.
    found = report.typical(
        [CONSTANT_HEADER, OURS, "left out"], [run(100.0, 101.0), run(102.0, 105.06), run(200.0, 300.0)]
    )

    assert {name: round(result["value"], 6) for name, result in found.items()} == {CONSTANT_HEADER: 102, OURS: 105.06}


def test_a_failed_run_is_an_error_for_all_its_subjects() -> None:
    whole = {CONSTANT_HEADER: {"value": 1.0}, OURS: {"value": 1.0}}

    assert report.typical([OURS], [whole, {"error": "hung"}]) == {OURS: {"error": "hung"}}


def test_a_count_is_compared_with_the_least_possible_count() -> None:
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
    ("lag", {"value": 20.0}, "the event loop was blocked"),
    ("elsewhere", {"value": 1}, "the token went to another host"),
    ("memory", {"value": 1.0, "threads": 1}, "1 threads"),
]


@pytest.mark.parametrize(("measure", "result", "message"), WRONG, ids=[f"{row[0]}-{row[2]}" for row in WRONG])
def test_a_wrong_result_has_a_message(measure: str, result: dict[str, Any], message: str) -> None:
    assert message == BY_MEASURE[measure].wrong({**CALLS, **result})


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.measure)
def test_a_correct_result_has_no_message(scenario: Scenario) -> None:
    right = {"value": 0, "stalled": 0, "token_requests": 1, "kinds": {"bytes": "sent again"}, "threads": 0, **CALLS}

    assert scenario.wrong(right) == ""


def test_all_figures_of_the_page_are_those_of_the_last_full_run() -> None:
    """If they differ after a change of the report: `python -m benchmarks --again`."""
    run, page = json.loads((DOCS / "performance.json").read_text()), (DOCS / "performance.md").read_text()

    assert report.summary(run) in page
    assert report.of_run(run) in page
    assert all(report.markdown_table(*table) in page for table in report.growth(run["growth"]))


def test_every_library_has_the_baseline_and_ours() -> None:
    for way in ALL_WAYS:
        assert [CONSTANT_HEADER, OURS] == [subject.name for subject in subjects(*way)][:2]
