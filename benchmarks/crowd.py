"""Many callers of one subject: threads for a sync subject, tasks of one event loop for an async one."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from .subjects import Subject, Target


@dataclass(slots=True)
class Call:
    """The result of one call."""

    # The start by `time.perf_counter`, and the duration. Both in seconds.
    began: float
    took: float
    # The status, or the name of the exception.
    outcome: int | str


def crowd_of(subject: Subject, target: Target) -> Threads | Tasks:
    """Threads or tasks, depending on the subject."""
    return Tasks(subject, target) if subject.is_async else Threads(subject, target)


class Threads:
    def __init__(self, subject: Subject, target: Target) -> None:
        self._client = subject.make(target)
        self._over = threading.Event()
        self._running: list[Future[list[Call]]] = []

    def warm(self) -> None:
        """Obtain a token."""
        self._client.warm()

    def send(self, method: str, url: str, **body: Any) -> tuple[int, bytes]:
        """Send one call, with or without a body."""
        answer: tuple[int, bytes] = self._client.send(method, url, **body)
        return answer

    def herd(self, url: str, callers: int) -> list[Call]:
        """Send one call from each of *callers*. All start together."""
        gate = threading.Barrier(callers)

        def one() -> Call:
            gate.wait()
            return self._call(url)

        with ThreadPoolExecutor(callers) as pool:
            return [future.result() for future in [pool.submit(one) for _ in range(callers)]]

    def share(self, url: str, callers: int, calls: int) -> list[Call]:
        """Send *calls* calls without pauses, spread evenly over *callers*."""

        def part() -> list[Call]:
            return [self._call(url) for _ in range(calls // callers)]

        with ThreadPoolExecutor(callers) as pool:
            return [call for future in [pool.submit(part) for _ in range(callers)] for call in future.result()]

    def start(self, url: str, callers: int, pause: float) -> None:
        """Start *callers* that call until `stop`, with pauses of *pause* seconds on average."""
        chances = [random.Random(number) for number in range(callers)]

        def again_and_again(chance: random.Random) -> list[Call]:
            calls = []
            while not self._over.wait(chance.uniform(0, 2 * pause)):
                calls.append(self._call(url))
            return calls

        pool = ThreadPoolExecutor(callers)
        self._running = [pool.submit(again_and_again, chance) for chance in chances]
        pool.shutdown(wait=False)

    def stop(self) -> list[Call]:
        """Stop the callers. Returns their calls, sorted by start."""
        self._over.set()
        return _in_order(future.result() for future in self._running)

    def close(self) -> None:
        self._client.close()

    def _call(self, url: str) -> Call:
        began = time.perf_counter()
        try:
            outcome: int | str = self._client.send("GET", url)[0]
        except Exception as error:  # an exception of a peer is a result
            outcome = type(error).__name__
        return Call(began, time.perf_counter() - began, outcome)


class Tasks:
    def __init__(self, subject: Subject, target: Target) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._over = False
        self._running: Future[list[list[Call]]] | None = None
        self._client: Any = self._wait_for(self._made(subject, target))

    def warm(self) -> None:
        """Obtain a token."""
        self._wait_for(self._client.warm())

    def send(self, method: str, url: str, **body: Any) -> tuple[int, bytes]:
        """Send one call, with or without a body."""
        answer: tuple[int, bytes] = self._wait_for(self._client.send(method, url, **body))
        return answer

    def herd(self, url: str, callers: int) -> list[Call]:
        """Send one call from each of *callers*. All start together."""
        return self.share(url, callers, callers)

    def share(self, url: str, callers: int, calls: int) -> list[Call]:
        """Send *calls* calls without pauses, spread evenly over *callers*."""

        async def part() -> list[Call]:
            return [await self._call(url) for _ in range(calls // callers)]

        async def all_parts() -> list[list[Call]]:
            return await asyncio.gather(*(part() for _ in range(callers)))

        return [call for part in self._wait_for(all_parts()) for call in part]

    def start(self, url: str, callers: int, pause: float) -> None:
        """Start *callers* that call until `stop`, with pauses of *pause* seconds on average."""

        async def again_and_again(chance: random.Random) -> list[Call]:
            calls = []
            await asyncio.sleep(chance.uniform(0, 2 * pause))
            while not self._over:
                calls.append(await self._call(url))
                await asyncio.sleep(chance.uniform(0, 2 * pause))
            return calls

        async def all_of_them() -> list[list[Call]]:
            return await asyncio.gather(*(again_and_again(random.Random(number)) for number in range(callers)))

        self._running = asyncio.run_coroutine_threadsafe(all_of_them(), self._loop)

    def stop(self) -> list[Call]:
        """Stop the callers. Returns their calls, sorted by start."""
        assert self._running is not None
        self._over = True
        return _in_order(self._running.result())

    async def asend(self, method: str, url: str) -> tuple[int, bytes]:
        """Send one call. Must run in a task of this event loop."""
        answer: tuple[int, bytes] = await self._client.send(method, url)
        return answer

    def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Run *work* on the event loop."""
        return self._wait_for(work())

    def close(self) -> None:
        self._wait_for(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait_for(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _made(self, subject: Subject, target: Target) -> Any:
        return subject.make(target)

    async def _call(self, url: str) -> Call:
        began = time.perf_counter()
        try:
            outcome: int | str = (await self._client.send("GET", url))[0]
        except Exception as error:  # an exception of a peer is a result
            outcome = type(error).__name__
        return Call(began, time.perf_counter() - began, outcome)


def _in_order(parts: Any) -> list[Call]:
    return sorted((call for part in parts for call in part), key=lambda call: call.began)
