"""
Compare the library with its alternatives: `python -m benchmarks`, from the root of the project.

A full run prints tables and writes the results into `docs/`: JSON, plots, and the tables of `docs/performance.md`.
A partial run only prints: `python -m benchmarks rollover herd`. With `--again`, nothing is measured: the plots and the tables are
written again from the results of the last full run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

import dolby_auth_plugin

from . import plots, report, scaling
from .scenarios import SCENARIOS, Result, Scenario, Way
from .server import Server
from .subjects import OURS, SUBJECTS, subjects

DOCS = Path(__file__).parent.parent / "docs"
RESULTS = DOCS / "performance.json"

# A measurement that takes more seconds than this counts as hung.
PATIENCE = 240


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("scenario", nargs="*", help="run only these: " + " ".join(each.measure for each in SCENARIOS))
    parser.add_argument("--library", action="append", help="run only these: requests, httpx, httpx2")
    parser.add_argument(
        "--again", action="store_true", help="write the plots and the page again, from the last full run"
    )
    chosen = parser.parse_args()
    console = Console()
    if chosen.again:
        write(json.loads(RESULTS.read_text()))
        return
    run: dict[str, Any] = {"environment": environment(), "results": {}}
    for scenario in SCENARIOS:
        if chosen.scenario and scenario.measure not in chosen.scenario:
            continue
        console.rule(scenario.title)
        for way in scenario.ways:
            if chosen.library and way[0] not in chosen.library:
                continue
            with console.status(report.way_name(way)):
                results = measured(scenario, way)
            run["results"].setdefault(scenario.measure, {})[report.way_name(way)] = results
            console.print(report.table(scenario, way, results))
    if not chosen.scenario and not chosen.library:
        console.rule("How it grows")
        run["growth"] = scaling.measured()
        scaling.show(run["growth"], console)
        DOCS.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(run) + "\n")
        write(run)
        console.print(f"written: {DOCS}/performance.*")


def write(run: dict[str, Any]) -> None:
    """Write the plots, the summary and the tables of a full run."""
    plots.draw(run, DOCS)
    report.write(report.summary(run), DOCS / "performance.md", "python -m benchmarks: the summary")
    report.write(report.of_run(run), DOCS / "performance.md", "python -m benchmarks")
    scaling.write(run["growth"], DOCS)


def measured(scenario: Scenario, way: Way) -> dict[str, Result]:
    """The results of a scenario for one HTTP library, by subject."""
    names = [each.name for each in subjects(*way) if each.name not in scenario.without]
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        if scenario.together:
            runs = [in_a_process(scenario, way, None, server, Path(folder)) for _ in range(scenario.repeat)]
            return report.typical(names, runs)
        return {name: _middle(scenario, way, name, server, Path(folder)) for name in names}


def _middle(scenario: Scenario, way: Way, name: str, server: Server, folder: Path) -> Result:
    results = [in_a_process(scenario, way, name, server, folder) for _ in range(scenario.repeat)]
    broken = [result for result in results if "error" in result]
    if broken:
        return broken[0]
    values = statistics.median_low(result["value"] for result in results)
    return next(result for result in results if result["value"] == values)


def in_a_process(scenario: Scenario, way: Way, subject: str | None, server: Server, folder: Path) -> dict[str, Any]:
    """The result of a measurement in a separate process. If it failed or hung: `{"error": reason}`."""
    job = {
        "measure": scenario.measure,
        "library": way[0],
        "is_async": way[1],
        "subject": subject,
        "url": server.url,
        # With TLS, because creating a TLS context can also block an event loop.
        "token_url": server.https_token_url if scenario.measure == "lag" else server.token_url,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.measures", json.dumps(job)],
            cwd=DOCS.parent,
            env=os.environ | {"SSL_CERT_FILE": str(folder / "ca.pem"), "REQUESTS_CA_BUNDLE": str(folder / "ca.pem")},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"hung for {PATIENCE} s"}
    except subprocess.CalledProcessError as error:
        sys.stderr.write(error.stderr)
        return {"error": error.stderr.strip().rpartition("\n")[2][:200] or f"exit {error.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def environment() -> dict[str, Any]:
    """The date, machine and versions, on which the results depend."""
    of_peers = {each.distribution.lower() for each in SUBJECTS if each.distribution and each.name != OURS}
    return {
        "date": time.strftime("%Y-%m-%d"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "dolby-auth-plugin": dolby_auth_plugin.__version__,
            **{name: version(name) for name in sorted(of_peers | {"requests", "urllib3", "httpx", "httpx2"})},
        },
    }


if __name__ == "__main__":
    main()
