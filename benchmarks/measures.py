"""
The measurements. Each runs in a separate process: `python -m benchmarks.measures` takes a `Job` in JSON and prints the
result.

Short times are measured for all subjects in turn, in many rounds, so that other load on the machine affects them
equally. Measurements with many callers use one subject only.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

if __name__ == "__main__" and json.loads(sys.argv[1])["library"] == "httpx":
    # authlib uses httpx only if it cannot import httpx2.
    sys.modules["httpx2"] = None  # type: ignore[assignment] # an import of it fails then

from .crowd import Call, Tasks, crowd_of
from .server import control
from .subjects import CONSTANT_HEADER, OURS, Subject, Target, subjects

Result = dict[str, Any]

# Seconds that the token endpoint takes in some measurements, as it may over the internet.
TOKEN_DELAY = 0.3

# A call that takes more seconds counts as stalled. Only waiting for a token takes that long.
STALLED = TOKEN_DELAY / 2


@dataclass(frozen=True)
class Job:
    """One measurement: the name of a function below, and a subject. None means all subjects."""

    measure: str
    library: str
    is_async: bool
    subject: str | None
    url: str
    token_url: str

    @property
    def api_url(self) -> str:
        return f"{self.url}/media/jobs"

    def target(self, **options: Any) -> Target:
        return Target(self.token_url, **options)


# In turn, in one process


def added(job: Job) -> dict[str, Result]:
    """Nanoseconds that an auth object takes for one request with a fresh token, including its check of the response."""
    steps = {}
    for subject in subjects(job.library, job.is_async):
        if subject.name != "token per call":
            step = _warm(subject, job.target(memory=True)).step(job.api_url)
            steps[subject.name] = _repeated(step)
    return _in_turn(steps, calls=2_000, rounds=100, unit=1e9)


def call(job: Job) -> dict[str, Result]:
    """Microseconds of a complete call whose response comes from memory."""
    sends = {}
    for subject in subjects(job.library, job.is_async):
        client = _warm(subject, job.target(memory=True))
        sends[subject.name] = _sends(subject, client, job.api_url)
    return _in_turn(sends, calls=50, rounds=60, unit=1e6)


def throughput(job: Job) -> dict[str, Result]:
    """Requests per second on loopback, one after another on a reused connection."""
    sends = {}
    for subject in subjects(job.library, job.is_async):
        client = _warm(subject, job.target())
        sends[subject.name] = _sends(subject, client, job.api_url)
    timed = _in_turn(sends, calls=50, rounds=25, unit=1)
    return {name: {"value": 1 / result["value"]} for name, result in timed.items()}


def _in_turn(works: dict[str, Callable[[int], object]], *, calls: int, rounds: int, unit: float) -> dict[str, Result]:
    """The median time of each, over rounds in which all take turns. *unit* is the number of units in a second."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work(calls)
    gc.collect()
    gc.disable()
    order = list(works.items())
    for _ in range(rounds):
        # Rotate: the first one in a round finds cold caches, so each must be first equally often.
        order.append(order.pop(0))
        for name, work in order:
            began = time.perf_counter()
            work(calls)
            times[name].append((time.perf_counter() - began) / calls * unit)
        gc.collect()
    gc.enable()
    return {name: {"value": statistics.median(all_times)} for name, all_times in times.items()}


_loop = asyncio.new_event_loop()


def _warm(subject: Subject, target: Target) -> Any:
    async def made() -> Any:
        client: Any = subject.make(target)
        await client.warm()
        return client

    if subject.is_async:
        return _loop.run_until_complete(made())
    client = subject.make(target)
    client.warm()
    return client


def _repeated(once: Callable[[], Any]) -> Callable[[int], object]:
    """A function that runs *once* many times, in a task: some steps of async subjects need a running task."""

    async def many(times: int) -> None:
        for _ in range(times):
            once()

    return lambda times: _loop.run_until_complete(many(times))


def _sends(subject: Subject, client: Any, url: str) -> Callable[[int], object]:
    """A function that sends many calls. A wrong response ends the process."""

    def check(answer: tuple[int, bytes]) -> None:
        if answer[0] != 200:
            raise SystemExit(f"{subject.name} was answered {answer[0]}")

    async def many(times: int) -> None:
        for _ in range(times):
            check(await client.send("GET", url))

    if subject.is_async:
        return lambda times: _loop.run_until_complete(many(times))
    return _repeated(lambda: check(client.send("GET", url)))


def imports(job: Job) -> dict[str, Result]:
    """Milliseconds for importing an HTTP library and the subject, in a new interpreter."""
    hide = "import sys; sys.modules['httpx2'] = None; " if job.library == "httpx" else ""
    lines = {subject.name: subject.import_line for subject in subjects(job.library, job.is_async)}
    # Installed packages have bytecode files, so allow Python to write them.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    times: dict[str, list[float]] = {name: [] for name in lines}
    for _ in range(31):
        for name, line in lines.items():
            code = f"{hide}import time; began = time.perf_counter(); import {job.library}; {line}; "
            code += "print(time.perf_counter() - began)"
            command = [sys.executable, "-c", code]
            done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            times[name].append(float(done.stdout) * 1e3)
    return {name: {"value": statistics.median(all_times)} for name, all_times in times.items()}


# Many callers, one subject


def elsewhere(job: Job) -> Result:
    """Whether the token is sent to a host that is not allowed: the same server, under another name."""
    control(job.url, reset=True)
    with _crowd(job, connections=10) as crowd:
        crowd.warm()
        _, answer = crowd.send("GET", f"{job.url}/elsewhere".replace("127.0.0.1", "localhost"))
    return {"value": int(json.loads(answer)["carried"])}


def herd(job: Job) -> Result:
    """All callers start together without a token."""
    callers = 1_000 if job.is_async else 64
    control(job.url, reset=True, token_delay=TOKEN_DELAY)
    with _crowd(job, connections=callers) as crowd:
        began = time.perf_counter()
        calls = crowd.herd(job.api_url, callers)
        took = time.perf_counter() - began
    return {
        "value": control(job.url)["token_requests"],
        "seconds": took,
        **_outcomes(calls),
    }


def rollover(job: Job) -> Result:
    """A token is renewed under load. Covers the calls from 1.5 s before the renewal to 2.5 s after it."""
    with _near_renewal(job) as (crowd, at):
        _sleep_until(at + 2.5)
        calls = [call for call in crowd.stop() if call.began > at - 1.5]
    counts = control(job.url)
    return {
        "value": _percentile([call.took for call in calls], 99) * 1e3,
        "token_requests": max(0, counts["token_requests"] - 1),
        "refused": counts["refused"],
        **_outcomes(calls),
        **_times(calls),
        "series": _longest(calls, at),
    }


def outage(job: Job) -> Result:
    """The token endpoint answers 503 when a valid token is due for renewal."""
    with _near_renewal(job) as (crowd, at):
        control(job.url, token_status=503)
        _sleep_until(at + 1.0)
        calls = [call for call in crowd.stop() if call.began > at - 0.5]
    outcomes = _outcomes(calls)
    return {
        "value": outcomes["failed"],
        "token_requests": control(job.url)["token_requests"] - 1,
        **outcomes,
        **_times(calls),
    }


def revocation(job: Job) -> Result:
    """The token is revoked under load. Covers the calls active at that moment and in the two seconds after it."""
    callers = 500 if job.is_async else 64
    control(job.url, reset=True)
    with _crowd(job, connections=callers) as crowd:
        crowd.warm()
        crowd.start(job.api_url, callers, pause=1.0 if job.is_async else 0.15)
        time.sleep(2)
        at = time.perf_counter()
        before = control(job.url, revoke=True, token_delay=TOKEN_DELAY)["token_requests"]
        time.sleep(2)
        # Include the calls that were active at the revocation: the first one that fails is among them.
        calls = [call for call in crowd.stop() if call.began + call.took > at]
    outcomes = _outcomes(calls)
    return {"value": outcomes["failed"], "token_requests": control(job.url)["token_requests"] - before, **outcomes}


def refusal(job: Job) -> Result:
    """A thousand requests to an API that rejects every token."""
    control(job.url, reset=True, refuse_all=True)
    with _crowd(job, connections=10) as crowd:
        crowd.warm()
        calls = crowd.share(job.api_url, callers=10, calls=1_000)
    return {"value": control(job.url)["token_requests"], **_outcomes(calls, good=401)}


def bodies(job: Job) -> Result:
    """How a request with a body ends after its token was revoked."""
    payload = bytes(range(256)) * 400

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(payload), 10_000):
            yield payload[start : start + 10_000]

    stored = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process ends
    stored.write(payload)

    def file() -> Any:
        stored.seek(0)
        return stored

    kinds: dict[str, Callable[[], dict[str, Any]]] = {
        "bytes": lambda: {"content": payload},
        "multipart": lambda: {"files": {"file": ("a.bin", io.BytesIO(payload))}},
        "file": lambda: {"content": file()},
        "generator": lambda: {"content": pieces()},
    }
    result: Result = {}
    for kind, make in kinds.items():
        control(job.url, reset=True)
        with _crowd(job, connections=10) as crowd:
            crowd.warm()
            crowd.send("GET", job.api_url)
            control(job.url, revoke=True)
            try:
                status, echo = crowd.send("POST", f"{job.url}/upload", **make())
            except Exception as error:  # an exception of a peer is a result
                result[kind] = f"raised {type(error).__name__}"
                continue
        if status == 200:
            result[kind] = "sent again" if payload in echo else "corrupted"
        else:
            result[kind] = "refused" if status == 401 else f"answered {status}"
    return {"value": sum(outcome == "corrupted" for outcome in result.values()), "kinds": result}


def lag(job: Job) -> Result:
    """The longest time, in ms, that an event loop was blocked while a token was fetched over TLS."""
    control(job.url, reset=True, token_delay=TOKEN_DELAY)
    ticks: list[float] = []

    async def with_ticker(crowd: Tasks) -> None:
        over = False

        async def tick() -> None:
            while not over:
                began = time.perf_counter()
                await asyncio.sleep(0.001)
                ticks.append(time.perf_counter() - began - 0.001)

        ticker = asyncio.create_task(tick())
        await asyncio.sleep(0.2)
        ticks.clear()
        await crowd.asend("GET", job.api_url)
        over = True
        await ticker

    # The first call imports many modules of its library. Do that now, so that it is not counted for the token.
    with _crowd(replace(job, subject=CONSTANT_HEADER), connections=10) as crowd:
        crowd.send("GET", job.api_url)
    with _crowd(job, connections=10) as crowd:
        assert isinstance(crowd, Tasks)
        crowd.run(lambda: with_ticker(crowd))
    return {"value": max(ticks) * 1e3, "token_requests": control(job.url)["token_requests"]}


def memory(job: Job) -> Result:
    """KiB per auth object (or session, if the peer is one) without a token, averaged over many objects."""
    subject = _subject(job)
    target = job.target()
    # Fewer sessions: each may create a TLS context, which is slow.
    many = 1_000 if subject.kind == "auth" else 100
    keep = [subject.new(target) for _ in range(10)]
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    keep += [subject.new(target) for _ in range(many)]
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    return {"value": (after - before) / many / 1024, "threads": threading.active_count() - 1}


def _subject(job: Job) -> Subject:
    [subject] = [each for each in subjects(job.library, job.is_async) if each.name == job.subject]
    return subject


@contextmanager
def _crowd(job: Job, connections: int) -> Iterator[Any]:
    crowd = crowd_of(_subject(job), job.target(connections=connections))
    try:
        yield crowd
    finally:
        crowd.close()


@contextmanager
def _near_renewal(job: Job) -> Iterator[tuple[Any, float]]:
    """A crowd that starts two seconds before its token is due for renewal, and the time of that renewal."""
    callers, pause = (30, 0.2) if job.is_async else (16, 0.1)
    subject = _subject(job)
    # This library renews in the last fifth of a token's life, at a random point: 0.7 to 1.0 fifths before the end.
    # Peers renew a fixed time before the end.
    life, ahead = (12, 12 / 5) if subject.name == OURS else (int(subject.margin) + 4, subject.margin)
    control(job.url, reset=True, first_life=life, life=3600)
    with _crowd(job, connections=callers) as crowd:
        asked = time.perf_counter()
        crowd.warm()
        control(job.url, token_delay=TOKEN_DELAY)
        at = asked + life - ahead
        _sleep_until(at - 2)
        crowd.start(job.api_url, callers, pause)
        yield crowd, at


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.perf_counter()))


def _outcomes(calls: list[Call], good: int = 200) -> Result:
    failed = [call.outcome for call in calls if call.outcome != good]
    kinds = {str(outcome): failed.count(outcome) for outcome in dict.fromkeys(failed)}
    return {"calls": len(calls), "failed": len(failed), "failures": kinds}


def _times(calls: list[Call]) -> Result:
    took = [call.took for call in calls]
    return {
        "p50": _percentile(took, 50) * 1e3,
        "p99": _percentile(took, 99) * 1e3,
        "max": max(took) * 1e3,
        "stalled": sum(seconds > STALLED for seconds in took),
    }


def _longest(calls: list[Call], at: float) -> list[list[float]]:
    """The longest call, in ms, for each interval of 25 ms in which a call began. Times are in seconds after *at*."""
    longest: dict[int, float] = {}
    for call in calls:
        slot = int((call.began - at) // 0.025)
        longest[slot] = max(longest.get(slot, 0.0), call.took)
    return [[round(slot * 0.025, 3), round(took * 1e3, 2)] for slot, took in sorted(longest.items())]


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


if __name__ == "__main__":
    wanted = Job(**json.loads(sys.argv[1]))
    print(json.dumps(globals()[wanted.measure](wanted)))
