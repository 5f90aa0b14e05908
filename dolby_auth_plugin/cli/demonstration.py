"""
The demonstration's work: what a user of Media and Communications does all day, against a sandbox. No terminal here.

The round trip is written once, as a generator that yields calls and is sent their answers; each host library makes
the calls in its own way, on one client for everything, storage included.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import httpx2
import requests

from .. import httpx as httpx_adapter
from .. import httpx2 as httpx2_adapter
from .. import requests as requests_adapter
from ..sandbox import Sandbox

# Seconds that a token lives here: short, so that several end while somebody watches.
TOKEN_LIFE = 3

# Seconds between two calls.
_PACE = 0.02

_TIMEOUT = 10

SOUND = b"a few seconds of sound " * 512


@dataclass(frozen=True, slots=True)
class Call:
    method: str
    url: str
    json: Any = None
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


Send = Callable[[Call], Answer]


@dataclass
class Trial:
    """One client library at work on a sandbox of its own."""

    name: str
    work: Callable[[Trial], None]
    seconds: float
    sandbox: Sandbox = field(default_factory=Sandbox)
    calls: int = 0
    refusals_seen: int = 0
    failures: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Work for so many seconds, with all tokens revoked half way."""
        try:
            with self.sandbox:
                self.work(self)
        except Exception as error:  # noqa: BLE001 - told with the others in the end
            self.failures.append(f"{type(error).__name__}: {error}")

    def calls_to_make(self) -> Generator[Call, Answer | Exception, None]:
        """Round trips until the time is up, with the revocation; whatever goes wrong ends its round and is counted."""
        # Both from the first answer on: the first token is that old, and its renewal must not meet the revocation.
        half = until = math.inf
        number = 0
        while time.monotonic() < until and not self.stopped.is_set():
            number += 1
            round_trip = _round_trip(self.sandbox.url, f"{number}.wav")
            call: Call | None = next(round_trip)
            while call is not None:
                answer = yield call
                self.calls += 1
                now = time.monotonic()
                if self.calls == 1:
                    half, until = now + self.seconds / 2, now + self.seconds
                elif now >= half:
                    half = math.inf
                    self.sandbox.revoke_all()
                problem = self._problem(call, answer)
                if isinstance(answer, Exception) or problem:
                    self.failures.append(problem)
                    break
                try:
                    call = round_trip.send(answer)
                except StopIteration as ended:
                    call = None
                    if ended.value:
                        self.failures.append(ended.value)

    def _problem(self, call: Call, answer: Answer | Exception) -> str:
        if isinstance(answer, Exception):
            # The libraries quote the URL, and a presigned one is a secret from its query on.
            told = re.sub(r"\?\S+", "", str(answer))
            return f"{call.method} {call.url.partition('?')[0]}: {type(answer).__name__}: {told}"
        if answer.status >= 400:
            self.refusals_seen += answer.status == 401
            return f"{call.method} {call.url.partition('?')[0]}: HTTP {answer.status}"
        return ""

    @property
    def token_requests(self) -> int:
        return self.sandbox.token_requests

    @property
    def renewed_ahead(self) -> int:
        return sum(record.early for record in self.sandbox.token_log)

    @property
    def healed(self) -> int:
        # Counted by the server: requests writes its redirects over the 401 in `history`.
        return self.sandbox.unauthorized - self.refusals_seen

    @property
    def storage_leaks(self) -> int:
        return self.sandbox.storage_leaks


def trials(seconds: float) -> list[Trial]:
    """A trial of each host library, *seconds* long."""
    return [
        Trial("requests", with_requests, seconds),
        Trial("httpx", _with_httpx, seconds),
        Trial("httpx async", _with_httpx_async, seconds),
        Trial("httpx2", _with_httpx2, seconds),
    ]


def _round_trip(url: str, name: str) -> Generator[Call, Answer, str]:
    """Upload, a job, download, and a look at Monitor. Returns what was wrong with the answers, if anything."""
    source, target = f"dlb://in/{name}", f"dlb://out/{name}"
    presigned = yield Call("POST", f"{url}/media/input", json={"url": source})
    yield Call("PUT", presigned.json()["url"], content=SOUND)
    job = yield Call("POST", f"{url}/media/enhance", json={"input": source, "output": target})
    status = "Pending"
    while status in ("Pending", "Running"):
        polled = yield Call("GET", f"{url}/media/enhance?job_id={job.json()['job_id']}")
        status = polled.json()["status"]
    download = yield Call("GET", f"{url}/media/output?url={target}")
    yield Call("GET", f"{url}/v1/monitor/conferences")
    if status != "Success":
        return f"the job ended as {status}"
    return "" if download.body == SOUND else "the download differs from the upload"


def make(trial: Trial, send: Send) -> None:
    """Make the trial's calls one after another."""
    calls = trial.calls_to_make()
    answer: Answer | Exception | None = None
    with suppress(StopIteration):
        while True:
            call = next(calls) if answer is None else calls.send(answer)
            try:
                answer = send(call)
            except Exception as error:  # noqa: BLE001 - counted as a failure
                answer = error
            time.sleep(_PACE)


def with_requests(trial: Trial) -> None:
    with requests.Session() as session:
        session.auth = requests_adapter.DolbyAuth(**trial.sandbox.options, expires_in=TOKEN_LIFE)

        def send(call: Call) -> Answer:
            response = session.request(call.method, call.url, json=call.json, data=call.content, timeout=_TIMEOUT)
            return Answer(response.status_code, response.content)

        make(trial, send)


def _with_httpx(trial: Trial) -> None:
    auth = httpx_adapter.DolbyAuth(**trial.sandbox.options, expires_in=TOKEN_LIFE)
    with httpx.Client(auth=auth, follow_redirects=True, timeout=_TIMEOUT) as client:
        make(trial, lambda call: _answer(client.request(**_arguments(call))))


def _with_httpx2(trial: Trial) -> None:
    auth = httpx2_adapter.DolbyAuth(**trial.sandbox.options, expires_in=TOKEN_LIFE)
    with httpx2.Client(auth=auth, follow_redirects=True, timeout=_TIMEOUT) as client:
        make(trial, lambda call: _answer(client.request(**_arguments(call))))


def _with_httpx_async(trial: Trial) -> None:
    auth = httpx_adapter.DolbyAuth(**trial.sandbox.options, expires_in=TOKEN_LIFE)
    # Its client lives on one loop, and the round trip is driven from here: each call is a task there.
    with asyncio.Runner() as runner, ExitStack() as last:
        client = httpx.AsyncClient(auth=auth, follow_redirects=True, timeout=_TIMEOUT)
        last.callback(lambda: runner.run(client.aclose()))
        make(trial, lambda call: _answer(runner.run(client.request(**_arguments(call)))))


def _arguments(call: Call) -> dict[str, Any]:
    return {"method": call.method, "url": call.url, "json": call.json, "content": call.content}


def _answer(response: httpx.Response | httpx2.Response) -> Answer:
    return Answer(response.status_code, response.content)
