"""
The hot path, for counting with valgrind: repeats the auth step of a request with a fresh token.

    python -m benchmarks.hot_path "httpx async" ours
    python -m benchmarks.hot_path "httpx async" "constant header"

Each process imports one library and runs one kind of step. The interpreter specialises code for what it runs, so
several kinds in one process would change the counts.
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

# The warm-up lets the interpreter specialise the code. The counted steps are many, so that the code around them does
# not matter.
WARM_UP, COUNTED = 1_000, 1_000

# The library, and whether it is used asynchronously.
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
    # Wait for the thread that fetched the token.
    for thread in set(threading.enumerate()) - {threading.current_thread()}:
        thread.join()
    run(step, WARM_UP)
    # These calls have no effect, but callgrind starts a new count at each of them (see `--dump-before`).
    os.getppid()
    run(step, COUNTED)
    os.getppid()


if __name__ == "__main__":
    main(*sys.argv[1:])
