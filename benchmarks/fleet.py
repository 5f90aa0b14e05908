"""
Processes that share one token through a cache: 10,000 in simulation, or 50 in reality.

    python -m benchmarks.fleet                    10,000 simulated processes, some minutes
    python -m benchmarks.fleet --processes 500    a smaller fleet, some seconds
    python -m benchmarks.fleet revocation         one scenario
    python -m benchmarks.fleet --plot             the plot of docs/sharing.md too
    python -m benchmarks.fleet --real             50 real processes with a real Redis, beside 50 simulated ones

The tables show token requests, cache operations, and the longest wait. The command fails if a bar does not hold, or if reality and
simulation differ by more than a factor of two.
"""

from __future__ import annotations

import argparse
import logging
import random
import statistics
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .fleet_scenarios import MAX_BUSIEST, Figures, Scale, Scenario, scenarios
from .fleet_simulated import SimulatedFleet

PLOT = Path(__file__).parent.parent / "docs" / "sharing-fleet.svg"

# Seconds that are added to both waits before they are compared. A real call waits some milliseconds for the API, and some more for one
# of few processors, also where no simulated process waits at all.
NOISE = 0.2

# What is compared: the figure, what is added to both sides, and the format. Counts are compared as they are.
COMPARED: dict[str, tuple[Callable[[Figures], float], float, str]] = {
    "token requests": (lambda figures: figures.requests, 0.0, ",.0f"),
    "cache operations": (lambda figures: len(figures.operations), 0.0, ",.0f"),
    "busiest second": (lambda figures: figures.busiest, 0.0, ",.0f"),
    "longest wait, s": (lambda figures: max(figures.waits), NOISE, ".2f"),
}

# Real processes: a life short enough to wait for a renewal, and a start within two seconds, which keeps Redis busy.
REAL = Scale(processes=50, life=30, start_seconds=2.0)

# Simulations of each scenario with few processes. Chance differs, so the median is compared.
SIMULATIONS = 15


def simulated(name: str, scenario: Scenario, scale: Scale, run: int = 0) -> Figures:
    random.seed(f"{name} {run}")
    fleet = SimulatedFleet(scale, scenario.conditions)
    scenario.act(fleet)
    return fleet.figures()


def row(scenario: Scenario, figures: Figures) -> list[str]:
    return [
        scenario.title,
        f"{figures.requests:,}",
        f"{len(figures.operations):,}",
        f"{figures.busiest:,}",
        f"{statistics.median(figures.waits):.2f}",
        f"{max(figures.waits):.2f}",
        f"{figures.failed:,}",
        "yes" if scenario.holds(figures) else "NO",
    ]


def simulate(chosen: dict[str, Scenario], scale: Scale, *, plots: bool) -> bool:
    """Run the simulation. Returns whether all bars hold."""
    table = Table(title=f"{scale.processes:,} processes with a shared cache, simulated")
    columns = "", "token requests", "cache operations", "busiest second", "median wait, s", "longest wait, s", "failed"
    for column in (*columns, "bars hold"):
        table.add_column(column, justify="left" if not column else "right")
    found = {name: simulated(name, scenario, scale) for name, scenario in chosen.items()}
    for name, figures in found.items():
        table.add_row(*row(chosen[name], figures))
    Console(width=160).print(table)
    if plots:
        from . import plots as drawing

        drawing.fleet({chosen[name].title: found[name] for name in found}, scale.processes, MAX_BUSIEST, PLOT)
    return all(chosen[name].holds(figures) for name, figures in found.items())


def compare(chosen: dict[str, Scenario], scale: Scale) -> bool:
    """Run reality and simulation. Returns whether each pair of figures agrees within a factor of two."""
    # Redis, the sandbox and the adapter: the simulation needs none of them.
    from .fleet_real import Processes, RealFleet

    table = Table(title=f"{scale.processes} processes with a shared Redis: real, simulated, and the ratio")
    for column in ("", *COMPARED, "agree"):
        table.add_column(column, justify="left" if not column else "right")
    agreed = []
    with closing(Processes(scale.processes)) as processes:
        for name, scenario in chosen.items():
            with closing(RealFleet(processes, scale, scenario.conditions)) as fleet:
                scenario.act(fleet)
                real = fleet.figures()
            runs = [simulated(name, scenario, scale, run) for run in range(SIMULATIONS)]
            cells, ratios = [], []
            for figure, added, shown in COMPARED.values():
                one, other = figure(real), statistics.median(map(figure, runs))
                ratios.append((one + added) / (other + added))
                cells.append(f"{one:{shown}}, {other:{shown}}: {ratios[-1]:.2f}")
            agreed.append(all(0.5 <= ratio <= 2 for ratio in ratios))
            table.add_row(scenario.title, *cells, "yes" if agreed[-1] else "NO")
    Console(width=160).print(table)
    return all(agreed)


def main() -> None:
    known = scenarios(Scale())
    parser = argparse.ArgumentParser(description="Measure a fleet of processes that share one token.")
    parser.add_argument("scenarios", nargs="*", help=f"all by default: {', '.join(known)}")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--plot", action="store_true", help="draw the cache operations over time")
    parser.add_argument("--real", action="store_true", help="compare real processes with the simulation")
    options = parser.parse_args()
    # With the cache down, each process warns.
    logging.getLogger("dolby_auth_plugin").addHandler(logging.NullHandler())
    scale = REAL if options.real else Scale()
    if options.processes is not None:
        scale = scale._replace(processes=options.processes)
    known = scenarios(scale)
    chosen = {name: known[name] for name in options.scenarios or known}
    passed = compare(chosen, scale) if options.real else simulate(chosen, scale, plots=options.plot)
    if not passed:
        sys.exit(1)


if __name__ == "__main__":
    main()
