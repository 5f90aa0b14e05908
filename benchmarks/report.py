"""Results as tables: in the terminal, and in `docs/performance.md`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from .scenarios import SCENARIOS, Result, Scenario, Way
from .subjects import CONSTANT_HEADER, OURS

BEGIN, END = "<!-- what follows is written by `{}` -->", "<!-- up to here -->"


def way_name(way: Way) -> str:
    library, is_async = way
    return library if library == "requests" else f"{library}, {'async' if is_async else 'sync'}"


def typical(names: Sequence[str], runs: Sequence[Result]) -> dict[str, Result]:
    """
    The results, by subject, of what was measured in turn, in several runs, each in a process of its own.

    A process has its objects where chance puts them, and keeps them there: alone it favours one subject or another.
    So of each ratio to the limit the median counts; the limit is what it was in the middle run.
    """
    for run in runs:
        if "error" in run:
            return dict.fromkeys(names, run)
    limits = [run[CONSTANT_HEADER]["value"] for run in runs]
    return {
        name: {
            "value": median(limits)
            * median(run[name]["value"] / limit for run, limit in zip(runs, limits, strict=True))
        }
        for name in names
        if name in runs[0]
    }


def rows(scenario: Scenario, results: dict[str, Result]) -> list[list[str]]:
    """A header and a row for each subject: the number, its ratio to the limit, ours to it, more, and what was wrong."""
    limit = scenario.least
    if limit is None:
        limit = results.get(CONSTANT_HEADER, {}).get("value")
    ours = results.get(OURS, {}).get("value")
    header = ["", scenario.unit, "÷ limit", "ours ÷ it", *scenario.more, "right?"]
    lines = [header]
    for name, result in results.items():
        if "error" in result:
            lines.append([name, "–", "–", "–", *("–" for _ in scenario.more), result["error"]])
            continue
        value = result["value"]
        more = [number(_at(result, where)) for where in scenario.more.values()]
        right = scenario.wrong(result) or "yes"
        lines.append([name, number(value), _ratio(value, limit), _ratio(ours, value), *more, right])
    return lines


def table(scenario: Scenario, way: Way, results: dict[str, Result]) -> Table:
    """For the terminal."""
    header, *lines = rows(scenario, results)
    drawn = Table(title=way_name(way), title_justify="left")
    for number, name in enumerate(header):
        drawn.add_column(name, justify="left" if number in (0, len(header) - 1) else "right")
    for line in lines:
        drawn.add_row(*line, style="bold" if line[0] == OURS else None)
    return drawn


def markdown(scenario: Scenario, ways: dict[str, dict[str, Result]]) -> str:
    """For the documentation: all ways of a scenario in one table."""
    lines: list[list[str]] = []
    for way, results in ways.items():
        header, *more = rows(scenario, results)
        lines += [[f"**{way}**", *("" for _ in header[1:])], *more]
    return f"### {scenario.title}\n\n{markdown_table(header, lines, last_is_text=True)}"


def markdown_table(header: list[str], lines: list[list[str]], *, last_is_text: bool = False) -> str:
    """A table whose first column is text, and the others are numbers."""
    sides = ["---", *("---:" for _ in header[1:])]
    if last_is_text:
        sides[-1] = "---"
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, sides, *lines)) + "\n"


def write(text: str, page: Path, command: str) -> None:
    """Put what a command found in its place on the page."""
    begin = BEGIN.format(command)
    before, _, rest = page.read_text().partition(begin)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{begin}\n\n{text}\n{END}{after}")


def of_run(run: dict[str, Any]) -> str:
    """All tables of a run, and what they were measured with."""
    environment = run["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    tables = [
        f"Measured on {environment['date']} with {environment['python']} on {environment['machine']}: {versions}.\n",
        *(markdown(each, run["results"][each.measure]) for each in SCENARIOS if each.measure in run["results"]),
    ]
    return "\n".join(tables)


def _at(result: Result, where: str) -> Any:
    for key in where.split("."):
        result = result[key]
    return result


def number(value: Any) -> str:
    """Three digits, or all before the point."""
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _ratio(value: float | None, to: float | None) -> str:
    if value is None or to is None:
        return "–"
    if to == 0:
        return "1" if value == 0 else "–"
    ratio = value / to
    if 0 < abs(ratio - 1) < 0.05:
        # The bar of a whole call is at a hundredth.
        return f"{ratio:.3f}"
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.2f}" if ratio >= 0.095 else f"{ratio:.2g}"
