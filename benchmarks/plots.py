"""Results as plots, one SVG file each. The title explains the plot, and this library is the coloured one."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from .fleet_scenarios import Figures
from .report import noticed, number
from .scenarios import Result
from .subjects import CONSTANT_HEADER, OURS

COLOUR, GREY, RED = "#0b6bcb", "#9aa0a6", "#c62828"

mpl.rcParams.update(
    {
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 10,
        "figure.constrained_layout.use": True,
        "svg.fonttype": "none",
        # A fixed salt makes the files reproducible.
        "svg.hashsalt": "dolby-auth-plugin",
    }
)


def draw(run: dict[str, Any], folder: Path) -> None:
    """Draw all plots of a full run."""
    results = run["results"]
    _noticed(noticed(run), folder / "performance.svg")
    _bars(
        results["added"],
        lambda result, all_of_way: result["value"] / all_of_way[CONSTANT_HEADER]["value"],
        "Time that an auth object adds to a request with a fresh token, as a multiple of a constant header",
        folder / "performance-added.svg",
    )
    _rollover(results["rollover"], folder / "performance-rollover.svg")
    _bars(
        results["herd"],
        lambda result, _: result["value"],
        "Token requests when 64 threads or 1,000 tasks start together without a token (log scale; best: 1)",
        folder / "performance-herd.svg",
        log=True,
        without=CONSTANT_HEADER,
    )
    _bars(
        results["revocation"],
        lambda result, _: 100 * result["failed"] / result["calls"],
        "Calls that failed after a revocation, in % (best: 0)",
        folder / "performance-revocation.svg",
    )
    _bars(
        results["outage"],
        lambda result, _: 100 * result["failed"] / result["calls"],
        "Calls that failed with a valid token while the token endpoint was down, in % (best: 0)",
        folder / "performance-outage.svg",
    )


def scaling(found: dict[str, list[dict[str, float]]], file: Path) -> None:
    """Plot each column of each table against the number of threads, tasks or objects."""
    most = max(len(rows[0]) - 1 for rows in found.values())
    figure, plots = plt.subplots(len(found), most, figsize=(2.4 * most, 2.2 * len(found)), squeeze=False)
    for row, rows in zip(plots, found.values(), strict=True):
        for plot in row:
            plot.set_axis_off()
        how_many, *columns = rows[0]
        for plot, column in zip(row, columns, strict=False):
            plot.set_axis_on()
            plot.plot([each[how_many] for each in rows], [each[column] for each in rows], color=COLOUR, marker=".")
            plot.set_xscale("log")
            plot.minorticks_off()
            plot.set_ylim(0, max(each[column] for each in rows) * 1.3)
            plot.set_xlabel(how_many)
            plot.set_title(column, fontsize=8)
    _save(figure, "Growth with the number of threads, tasks and auth objects (flat: each one costs the same)", file)


def _noticed(found: list[tuple[str, dict[str, float]]], file: Path) -> None:
    """One plot under the other, and narrow: a phone shows it too."""
    figure, plots = plt.subplots(len(found), 1, figsize=(4.8, 1.9 * len(found)))
    for plot, (title, values) in zip(plots, found, strict=True):
        drawn = plot.barh(
            list(values), list(values.values()), color=[COLOUR if name == OURS else GREY for name in values]
        )
        plot.bar_label(drawn, labels=[number(value) for value in values.values()], padding=2)
        # A few milliseconds beside a few seconds.
        if max(values.values()) > 1000:
            plot.set_xscale("log")
        plot.margins(x=0.2)
        plot.xaxis.set_visible(False)
        plot.spines["bottom"].set_visible(False)
        plot.invert_yaxis()
        plot.set_title(title)
    _save(figure, "Each library with requests (less is better)", file)


def fleet(found: dict[str, Figures], processes: int, limit: int, file: Path) -> None:
    """
    Plot the cache operations of each scenario over time.

    Args:
        found: The figures of each scenario, by its title.
        processes: How many processes share the cache.
        limit: How many operations are allowed in a second.
        file: The SVG file.
    """
    figure, plots = plt.subplots(2, -(-len(found) // 2), figsize=(12, 4.8), sharey=True, squeeze=False)
    for plot, (title, figures) in zip(plots.flat, found.items(), strict=False):
        seconds, counts = _operations_per_second(sorted(figures.operations))
        plot.fill_between(seconds, counts, color=COLOUR, linewidth=0)
        plot.axhline(limit, color=RED, linewidth=0.8, linestyle="dashed")
        plot.set_yscale("log")
        plot.minorticks_off()
        plot.yaxis.set_major_formatter("{x:,.0f}")
        plot.set_ylim(1, limit * 3)
        plot.set_xlim(0, seconds[-1])
        plot.set_title(f"{title}\n{len(figures.operations):,} in all, busiest second {figures.busiest:,}", fontsize=8)
    for row in plots:
        row[0].set_ylabel("operations per second")
    for plot in plots[-1]:
        plot.set_xlabel("seconds")
    title = f"Operations on a cache that {processes:,} processes share (log scale; dashed: the limit of {limit:,} in a second)"
    _save(figure, title, file)


def _operations_per_second(moments: list[float], points: int = 250) -> tuple[list[float], list[int]]:
    """Points of time, in seconds from the first operation, and the operations in the second before each of them."""
    # A second after the last operation there are none.
    span = moments[-1] + 1.001 - moments[0]
    ends = [moments[0] + span * point / points for point in range(1, points + 1)]
    return [end - moments[0] for end in ends], [
        bisect_right(moments, end) - bisect_left(moments, end - 1) for end in ends
    ]


def _bars(
    ways: dict[str, dict[str, Result]],
    height: Any,
    title: str,
    file: Path,
    *,
    log: bool = False,
    without: str | None = None,
) -> None:
    figure, plots = plt.subplots(1, len(ways), figsize=(12, 2.8), squeeze=False)
    for plot, (way, results) in zip(plots[0], ways.items(), strict=True):
        known = {name: result for name, result in results.items() if name != without and "error" not in result}
        values = [height(result, results) for result in known.values()]
        drawn = plot.barh(list(known), values, color=[COLOUR if name == OURS else GREY for name in known])
        plot.bar_label(drawn, labels=[f"{value:,.2f}".rstrip("0").rstrip(".") for value in values], padding=2)
        if log:
            plot.set_xscale("log")
            plot.minorticks_off()
            plot.set_xlim(0.8, max([10.0, *values]) * 4)
        else:
            plot.set_xlim(0, max([1.0, *values]) * 1.3)
        plot.invert_yaxis()
        plot.set_title(way)
    _save(figure, title, file)


def _rollover(ways: dict[str, dict[str, Result]], file: Path) -> None:
    shown = {way: results for way, results in ways.items() if not way.startswith("httpx2")}
    columns = max(len(results) for results in shown.values())
    figure, plots = plt.subplots(len(shown), columns, figsize=(14, 5), sharex=True, sharey=True, squeeze=False)
    for row, (way, results) in zip(plots, shown.items(), strict=True):
        for plot in row:
            plot.set_axis_off()
        for plot, (name, result) in zip(row, results.items(), strict=False):
            _longest_calls(plot, name, result)
        row[0].set_ylabel(f"{way}\nlongest call, ms")
    title = "Token renewal under load, the endpoint takes 300 ms: the longest call in each 25 ms (log scale; time in s)"
    _save(figure, title, file)


def _longest_calls(plot: Axes, name: str, result: Result) -> None:
    plot.set_axis_on()
    plot.set_title(name)
    plot.axvline(0, color=GREY, linewidth=0.5)
    if "error" in result:
        plot.text(0, 10, result["error"], fontsize=6)
        return
    times, longest = zip(*result["series"], strict=True)
    plot.plot(times, longest, linewidth=0.9, color=COLOUR if name == OURS else RED if result["stalled"] else GREY)
    plot.set_yscale("log")
    plot.minorticks_off()


def _save(figure: Any, title: str, file: Path) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
