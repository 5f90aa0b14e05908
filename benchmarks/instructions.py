"""
Guards the hot path by its instruction counts, which a busy machine does not change as it does times.

    python -m benchmarks.instructions             # fails where a count is 3 % off the recorded one
    python -m benchmarks.instructions --record    # what is counted here is the record from now on

valgrind's callgrind counts. Each count is compared only where it means the same: with the build of Python and the
host libraries (benchmarks/hosts.txt) of the record.
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

# Of the recorded count. The same code's counts have stayed within 0.3 % of each other.
TOLERANCE = 0.03

# Of a constant header's recorded count, in which nothing is ours and which has stayed within 0.4 %. Further off, it is
# that of another build of Python, of the same name: another compiler's options change every count by much more than 3 %.
SAME_BUILD = 0.01


@dataclass(frozen=True)
class Counts:
    """Instructions per step of each way, with our auth and with one that sets a constant header."""

    made_with: dict[str, str]
    ours: dict[str, int]
    constant: dict[str, int]


def made_with() -> dict[str, str]:
    """What the counts depend on besides the code."""
    python = (platform.python_implementation(), platform.python_version(), platform.python_compiler())
    return {
        "python": " ".join((*python, platform.machine())),
        **{library: version(library) for library in ("requests", "httpx", "httpx2")},
    }


def count(way: str, name: str) -> int:
    """Instructions per step, counted by callgrind in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        callgrind = ("valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}", "--dump-before=getppid")
        # Nothing of the caller's environment but what Python may need to start: it would move things about in memory.
        needed = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH") if name in os.environ}
        child = subprocess.run(
            [*callgrind, sys.executable, "-m", "benchmarks.hot_path", way, name],
            cwd=ROOT,
            env={**needed, "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        # The first count ends where the steps begin, the second where they end.
        steps = out.with_name("out.2")
        if child.returncode or not steps.exists():
            raise SystemExit(f"{way}, {name}: exit status {child.returncode}, and no count\n{child.stderr}")
        [total] = re.findall(r"^totals: (\d+)$", steps.read_text(), re.MULTILINE)
        return round(int(total) / COUNTED)


def count_all() -> Counts:
    tasks = [(way, name) for way in WAYS for name in (OURS, CONSTANT_HEADER)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counted = dict(zip(tasks, pool.map(count, *zip(*tasks, strict=True)), strict=True))
    ours, constant = ({way: counted[way, name] for way in WAYS} for name in (OURS, CONSTANT_HEADER))
    return Counts(made_with(), ours, constant)


def why_incomparable(record: Counts, now: Counts) -> str | None:
    """The reason why counts can't be compared, or None."""
    for name, here in now.made_with.items():
        if here != record.made_with[name]:
            return f"the record is of {name} {record.made_with[name]}, this is {here}"
    for way, counted in now.constant.items():
        if abs(counted / record.constant[way] - 1) > SAME_BUILD:
            return (
                f"the record is of another build of {record.made_with['python']}, or of other steps: a constant header"
                f" with {way} takes {record.constant[way]:,} instructions there, {counted:,} here"
            )
    return None


def failures(record: Counts, now: Counts) -> list[str]:
    """What is more than 3 % off the record, in words."""
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
                # Else a later loss of as much would pass.
                found[-1] += "; record the gain: python -m benchmarks.instructions --record"
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--record", action="store_true", help="make these counts the record")
    recording = parser.parse_args(arguments).record
    if shutil.which("valgrind") is None:
        print("instructions not counted: there is no valgrind here")
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
