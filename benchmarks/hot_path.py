"""
The hot path, for valgrind to watch: what auth costs one request with a fresh token, over and over.

    python -m benchmarks.hot_path "httpx async" ours
    python -m benchmarks.hot_path "httpx async" "constant header"

A process imports one library and steps one way, as the interpreter specialises code for what it has met.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import sys
import threading
from collections.abc import Callable

from .senders import Target
from .subjects import subjects

# Steps for the interpreter to specialise what it will, and steps counted: so many that what surrounds them is nothing.
WARM_UP, COUNTED = 1_000, 1_000

# A library, and whether its async side.
WAYS = {
    "requests": ("requests", False),
    "httpx": ("httpx", False),
    "httpx async": ("httpx", True),
    "httpx2": ("httpx2", False),
    "httpx2 async": ("httpx2", True),
}


def run(step: Callable[[], object], times: int) -> None:
    for _ in itertools.repeat(None, times):
        step()


def main(way: str, name: str) -> None:
    gc.disable()
    library, is_async = WAYS[way]
    [subject] = [each for each in subjects(library, is_async) if each.name == name]
    client = subject.make(Target("https://api.dolby.io/v1/auth/token", memory=True))
    warmed = client.warm()
    if is_async:
        asyncio.run(warmed)
    step = client.step("https://api.dolby.com/media/jobs")
    # The token's fetch had a thread.
    for thread in set(threading.enumerate()) - {threading.current_thread()}:
        thread.join()
    run(step, WARM_UP)
    # Marks, of no effect: at each of them callgrind begins a new count.
    os.getppid()
    run(step, COUNTED)
    os.getppid()


if __name__ == "__main__":
    main(*sys.argv[1:])
