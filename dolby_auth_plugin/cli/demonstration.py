"""
The workflow of the demonstration: typical calls to Media and Communications, against a sandbox.

The workflow is written once, as a generator. It yields calls and receives their responses. Each HTTP library sends
the calls in its own way, with one client for everything, including storage. This module prints nothing.
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

# The lifetime of a token in seconds: short, so that several tokens expire during the demonstration.
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
    """One HTTP library that runs the workflow against its own sandbox."""

    name: str
    work: Callable[[Trial], None]
    seconds: float
    sandbox: Sandbox = field(default_factory=Sandbox)
    calls: int = 0
    refusals_seen: int = 0
    failures: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Run the workflow for `seconds`. All tokens are revoked halfway."""
        try:
            with self.sandbox:
                self.work(self)
        except Exception as error:  # noqa: BLE001 - reported with the other failures
            self.failures.append(f"{type(error).__name__}: {error}")

    def calls_to_make(self) -> Generator[Call, Answer | Exception, None]:
        """The calls of all round trips, until the time is up. A failure is recorded and ends its round trip."""
        # Both times count from the first response, when the token is new. Otherwise the revocation could happen
        # during a renewal.
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
            # The libraries repeat the URL in their errors. The query of a presigned URL is secret, so remove it.
            text = re.sub(r"\?\S+", "", str(answer))
            return f"{call.method} {call.url.partition('?')[0]}: {type(answer).__name__}: {text}"
        if answer.status >= 400:
            self.refusals_seen += answer.status == 401
            return f"{call.method} {call.url.partition('?')[0]}: HTTP {answer.status}"
        return ""

    @property
    def token_requests(self) -> int:
        return self.sandbox.token_requests

    @property
    def early_renewals(self) -> int:
        return sum(record.early for record in self.sandbox.token_log)

    @property
    def retried(self) -> int:
        # The server counts these: after a redirect, requests drops the 401 from `history`.
        return self.sandbox.unauthorized - self.refusals_seen

    @property
    def storage_leaks(self) -> int:
        return self.sandbox.storage_leaks


def trials(seconds: float) -> list[Trial]:
    """One trial of *seconds* for each HTTP library."""
    return [
        Trial("requests", with_requests, seconds),
        Trial("httpx", _with_httpx, seconds),
        Trial("httpx async", _with_httpx_async, seconds),
        Trial("httpx2", _with_httpx2, seconds),
    ]


def _round_trip(url: str, name: str) -> Generator[Call, Answer, str]:
    """Upload, run a job, download, read Monitor data. Returns what was wrong, or an empty string."""
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
    """Send the trial's calls one after another."""
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
    # The client needs one event loop for its whole life. This thread runs each call as a task on that loop.
    with asyncio.Runner() as runner, ExitStack() as last:
        client = httpx.AsyncClient(auth=auth, follow_redirects=True, timeout=_TIMEOUT)
        last.callback(lambda: runner.run(client.aclose()))
        make(trial, lambda call: _answer(runner.run(client.request(**_arguments(call)))))


def _arguments(call: Call) -> dict[str, Any]:
    return {"method": call.method, "url": call.url, "json": call.json, "content": call.content}


def _answer(response: httpx.Response | httpx2.Response) -> Answer:
    return Answer(response.status_code, response.content)
