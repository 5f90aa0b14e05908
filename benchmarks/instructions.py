"""
Checks the instruction counts of the hot path. Unlike times, they do not depend on the load of the machine.

    python -m benchmarks.instructions             # fails if a count differs by more than 3 % from the record
    python -m benchmarks.instructions --record    # stores the new counts as the record

callgrind (valgrind) counts the instructions. The counts are compared only if the Python build and the HTTP libraries
(benchmarks/hosts.txt) are those of the record.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from .hot_path import COUNTED, WAYS
from .subjects import CONSTANT_HEADER, OURS

ROOT = Path(__file__).parent.parent
RECORD = Path(__file__).with_suffix(".json")

# The allowed difference from the record. The counts of unchanged code differed by at most 0.3 %.
TOLERANCE = 0.03

# The allowed difference of the constant header, which runs no code of this library and differed by at most 0.4 %. A
# larger difference means another build of the same Python version: compiler options change every count by far more
# than 3 %.
SAME_BUILD = 0.01


@dataclass(frozen=True)
class Counts:
    """Instructions per step for each library, with this library's auth and with a constant header."""

    made_with: dict[str, str]
    ours: dict[str, int]
    constant: dict[str, int]


def made_with() -> dict[str, str]:
    """The versions on which the counts depend, besides the code."""
    python = (platform.python_implementation(), platform.python_version(), platform.python_compiler())
    return {
        "python": " ".join((*python, platform.machine())),
        **{library: version(library) for library in ("requests", "httpx", "httpx2")},
    }


def count(way: str, name: str) -> int:
    """Instructions per step, counted by callgrind in a separate process."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        callgrind = ("valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}", "--dump-before=getppid")
        # Only pass on what Python needs to start. Other environment variables would change the memory layout.
        needed = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH") if name in os.environ}
        child = subprocess.run(
            [*callgrind, sys.executable, "-m", "benchmarks.hot_path", way, name],
            cwd=ROOT,
            env={**needed, "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        # The first dump is written before the steps, the second after them.
        steps = out.with_name("out.2")
        if child.returncode or not steps.exists():
            raise SystemExit(f"{way}, {name}: exit status {child.returncode}, and no result\n{child.stderr}")
        [total] = re.findall(r"^totals: (\d+)$", steps.read_text(), re.MULTILINE)
        return round(int(total) / COUNTED)


def count_all() -> Counts:
    tasks = [(way, name) for way in WAYS for name in (OURS, CONSTANT_HEADER)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counted = dict(zip(tasks, pool.map(count, *zip(*tasks, strict=True)), strict=True))
    ours, constant = ({way: counted[way, name] for way in WAYS} for name in (OURS, CONSTANT_HEADER))
    return Counts(made_with(), ours, constant)


def why_incomparable(record: Counts, now: Counts) -> str | None:
    """The reason why the counts cannot be compared, or None."""
    for name, here in now.made_with.items():
        if here != record.made_with[name]:
            return f"the record is for {name} {record.made_with[name]}, this is {here}"
    for way, counted in now.constant.items():
        if abs(counted / record.constant[way] - 1) > SAME_BUILD:
            return (
                f"the record is for another build of {record.made_with['python']}, or for other steps: with {way}, a"
                f" constant header takes {record.constant[way]:,} instructions in the record, {counted:,} here"
            )
    return None


def failures(record: Counts, now: Counts) -> list[str]:
    """A message for each count that differs by more than 3 % from the record."""
    found = []
    for way, counted in now.ours.items():
        recorded = record.ours[way]
        change = counted / recorded - 1
        if abs(change) > TOLERANCE:
            found.append(
                f"{way}: {counted:,} instructions, {abs(change):.1%} {'more' if change > 0 else 'fewer'}"
                f" than the recorded {recorded:,}"
            )
            if change < 0:
                # Otherwise a later loss of the same size would pass the check.
                found[-1] += "; record the gain: python -m benchmarks.instructions --record"
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--record", action="store_true", help="store the new counts as the record")
    recording = parser.parse_args(arguments).record
    if shutil.which("valgrind") is None:
        print("instructions not counted: valgrind is not installed")
        return 0
    now = count_all()
    print("instructions per request   ours  constant header  ratio")
    for way, ours in now.ours.items():
        constant = now.constant[way]
        print(f"{way:<22} {ours:>8,} {constant:>16,} {ours / constant:>6.2f}")
    if recording:
        RECORD.write_text(json.dumps(asdict(now), indent=2) + "\n")
        return 0
    record = Counts(**json.loads(RECORD.read_text()))
    reason = why_incomparable(record, now)
    if reason is not None:
        print(f"not compared: {reason}")
        return 0
    found = failures(record, now)
    print(*found or ["all within 3 % of the record"], sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
