"""
How time and memory grow with threads, tasks and auth objects: `python -m benchmarks.scaling`, from the root of the
project.

It prints tables. A full run of `python -m benchmarks` writes them into `docs/performance.md`, with a plot.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import threading
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dolby_auth_plugin import AppCredentials

from . import plots, report
from .report import Rows
from .senders import Target, plain_sender
from .subjects import CONSTANT_HEADER, KEY, OURS, SECRET, subjects

IN_MEMORY = Target("https://api.dolby.io/v1/auth/token", memory=True)
API_URL = "https://api.dolby.com/media/jobs"

THREADS = (1, 2, 4, 8, 16, 32, 64)
TASKS = (1, 10, 100, 1_000, 10_000)
OBJECTS = (1, 10, 100, 1_000, 10_000)


def threads() -> Rows:
    """One auth object, shared by a growing number of threads."""
    rows: Rows = []
    for many in THREADS:
        ours, baseline = (statistics.median(_stepped(name, many) for _ in range(5)) for name in (OURS, CONSTANT_HEADER))
        waiting = _waiting(*_threads_that_wait(many), many)
        rows.append({"threads": many, "µs per request": ours * 1e6, "÷ baseline": ours / baseline, **waiting})
    return rows


def tasks() -> Rows:
    """One auth object without a token, with a growing number of waiting tasks."""
    return [{"tasks": many, **_waiting(*asyncio.run(_tasks_that_wait(many)), many)} for many in TASKS]


def objects() -> Rows:
    """A growing number of auth objects."""
    _made(1)
    rows: Rows = []
    for many in OBJECTS:
        gc.collect()
        began = time.perf_counter()
        keep = _made(many)
        seconds = time.perf_counter() - began
        del keep
        memory = _allocated(partial(_made, many))
        rows.append({"objects": many, "µs each": seconds / many * 1e6, "bytes each": memory / many})
    return rows


def _made(many: int) -> list[object]:
    from dolby_auth_plugin.requests import DolbyAuth

    return [DolbyAuth(KEY, SECRET) for _ in range(many)]


def _waiting(memory: float, seconds: float, plain: float, many: int) -> dict[str, float]:
    return {
        "bytes each while waiting": memory / many,
        "ms until the last has the token": seconds * 1e3,
        "÷ plain event": seconds / plain,
    }


def _stepped(name: str, many: int) -> float:
    """Seconds for the auth step of one request. *many* threads share 64,000 steps."""
    [subject] = [each for each in subjects("requests", is_async=False) if each.name == name]
    client = subject.make(IN_MEMORY)
    client.warm()
    gate = threading.Barrier(many + 1)

    def part() -> None:
        step = client.step(API_URL)
        gate.wait()
        for _ in range(64_000 // many):
            step()

    crowd = [threading.Thread(target=part) for _ in range(many)]
    for thread in crowd:
        thread.start()
    gate.wait()
    began = time.perf_counter()
    for thread in crowd:
        thread.join()
    return (time.perf_counter() - began) / 64_000


class _Held:
    """A credentials callable that blocks until `gate` opens, so that all callers wait."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def __call__(self) -> AppCredentials:
        self.gate.wait()
        return AppCredentials(KEY, SECRET)


def _threads_that_wait(many: int) -> tuple[float, float, float]:
    """
    Three values for *many* threads that wait for a token.

    The bytes allocated while they wait, the seconds from the release until the last thread has the token, and for
    comparison the seconds until as many threads wake from a plain event.
    """
    from dolby_auth_plugin.requests import DolbyAuth

    def waiting(wait: Callable[[], object], release: Callable[[], object]) -> tuple[float, float]:
        crowd = [threading.Thread(target=wait) for _ in range(many)]

        def start() -> None:
            for thread in crowd:
                thread.start()
            time.sleep(0.3)

        memory = _allocated(start)
        began = time.perf_counter()
        release()
        for thread in crowd:
            thread.join()
        return memory, time.perf_counter() - began

    held, event = _Held(), threading.Event()
    auth = DolbyAuth(credentials=held, session=plain_sender("requests", False, IN_MEMORY))
    waiting_for_us = waiting(auth.token, held.gate.set)
    # Subtract the memory of the threads themselves.
    plain = waiting(event.wait, event.set)
    return max(0.0, waiting_for_us[0] - plain[0]), waiting_for_us[1], plain[1]


async def _tasks_that_wait(many: int) -> tuple[float, float, float]:
    from dolby_auth_plugin.httpx import DolbyAuth

    async def waiting(wait: Callable[[], Any], release: Callable[[], object]) -> tuple[float, float]:
        gc.collect()
        tracemalloc.start()
        crowd = [asyncio.ensure_future(wait()) for _ in range(many)]
        await asyncio.sleep(0.3)
        memory, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        began = time.perf_counter()
        release()
        await asyncio.gather(*crowd)
        return memory, time.perf_counter() - began

    held, event = _Held(), asyncio.Event()
    auth = DolbyAuth(credentials=held, client=plain_sender("httpx", False, IN_MEMORY))
    waiting_for_us = await waiting(auth.atoken, held.gate.set)
    plain = await waiting(event.wait, event.set)
    return max(0.0, waiting_for_us[0] - plain[0]), waiting_for_us[1], plain[1]


def _allocated(work: Callable[[], object]) -> float:
    """The bytes that the result of *work* occupies."""
    gc.collect()
    tracemalloc.start()
    result = work()
    gc.collect()
    memory, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del result
    return memory


def measured() -> dict[str, Rows]:
    """How all of it grows."""
    return {"threads": threads(), "tasks": tasks(), "objects": objects()}


def show(found: dict[str, Rows], console: Console) -> None:
    for columns, lines in report.growth(found):
        table = Table(*columns)
        for line in lines:
            table.add_row(*line)
        console.print(table)


def write(found: dict[str, Rows], folder: Path) -> None:
    """Write the tables and the plot into the documentation."""
    text = "\n".join(report.markdown_table(*table) for table in report.growth(found))
    plots.scaling(found, folder / "performance-scaling.svg")
    report.write(text, folder / "performance.md", "python -m benchmarks: the growth")


if __name__ == "__main__":
    show(measured(), Console())
