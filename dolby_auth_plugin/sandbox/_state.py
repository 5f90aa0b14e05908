"""
The state of a sandbox: tokens, faults, jobs, stored objects, counters.

Nothing here does I/O. The server thread and the user's threads share one `State`. Its methods take
the lock. Its plain attributes are settings that are read and written atomically.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import repeat
from typing import Literal

import jwt

from dolby_auth_plugin.sandbox._fault import Fault

Count = Literal["token_requests", "api_calls", "unauthorized", "storage_calls", "storage_leaks"]

# A new sandbox contains one recording. It belongs to this conference.
RECORDED_CONFERENCE = "6f1c2a9e-0d4b-4c58-9a37-51e08b7d2c14"


@dataclass(frozen=True, slots=True)
class TokenRequestRecord:
    """
    A token request and its result.

    Attributes:
        at: The time of arrival, in UTC.
        status: The HTTP status of the response, or None if the connection was dropped.
        app_key: The app key that was sent, or None without a valid Basic header.
        scope: The scope that was sent, or None.
        expires_in: The requested lifetime in seconds, or None if it was not a whole number.
        user_agent: The `User-Agent` header, or None.
        early: Whether this request renewed the token early: the previous token was neither expired
            nor revoked.
    """

    at: datetime
    status: int | None
    app_key: str | None
    scope: str | None
    expires_in: int | None
    user_agent: str | None
    early: bool


@dataclass(frozen=True, slots=True)
class Grant:
    """The rights of a valid token. If *scopes* is None, everything is allowed."""

    expires_at: float
    scopes: tuple[str, ...] | None

    def allows(self, scope: str) -> bool:
        return self.scopes is None or scope in self.scopes or "comms:*" in self.scopes


@dataclass(frozen=True, slots=True)
class Job:
    """A Media job. Each poll moves it one step forward."""

    job_id: str
    path: str
    input: str
    output: str
    polls: int = 0
    status: Literal["Pending", "Running", "Success", "Failed"] = "Pending"


class State:
    """The data of one sandbox. It is kept when the sandbox stops and starts again."""

    def __init__(self, app_key: str, app_secret: str) -> None:
        self.app_key = app_key
        self.app_secret = app_secret
        # Epoch seconds. Tests replace it with their own clock. The lambda looks `time.time` up at
        # each call, because libraries that freeze or shift time replace that function.
        self.clock: Callable[[], float] = lambda: time.time()  # noqa: PLW0108 - see above
        # Signs tokens and storage URLs. HS256 requires 32 bytes (RFC 7518 §3.2).
        self.signing_key = secrets.token_bytes(32)
        self.storage_url = ""
        self._lock = threading.Lock()
        # Valid tokens by their text. The claims inside are not used: `exp` has whole seconds only,
        # and a revoked token still contains valid claims.
        self._grants: dict[str, Grant] = {}
        self.reset()

    def reset(self) -> None:
        """Make this the state of a new sandbox, except for credentials, clock, addresses and valid tokens."""
        with self._lock:
            self.latency = 0.0
            self.api_latency = 0.0
            self.refuse_tokens = False

            self._counts: Counter[Count] = Counter()
            self._log: list[TokenRequestRecord] = []
            self._faults: deque[Iterator[Fault]] = deque()
            self._latest: Grant | None = None
            self._jobs: dict[str, Job] = {}
            self._objects = {f"/recordings/{RECORDED_CONFERENCE}.mp4": b"a recorded conference"}

    # Counts

    def count(self, what: Count) -> None:
        with self._lock:
            self._counts[what] += 1

    def counted(self, what: Count) -> int:
        with self._lock:
            return self._counts[what]

    def record(self, record: TokenRequestRecord) -> None:
        with self._lock:
            self._log.append(record)

    def log(self) -> tuple[TokenRequestRecord, ...]:
        with self._lock:
            return tuple(self._log)

    def reset_counters(self) -> None:
        with self._lock:
            self._counts.clear()
            self._log.clear()

    # Faults

    def queue_fault(self, fault: Fault, times: int) -> None:
        with self._lock:
            self._faults.append(repeat(fault, times))

    def next_fault(self) -> Fault | None:
        with self._lock:
            while self._faults:
                fault = next(self._faults[0], None)
                if fault is not None:
                    return fault
                self._faults.popleft()
            return None

    def clear_faults(self) -> None:
        with self._lock:
            self._faults.clear()

    # Tokens

    def grant(self, lifetime: int, scopes: tuple[str, ...] | None) -> tuple[str, bool]:
        """A new API token for *lifetime* seconds, and whether the previous one is still valid."""
        token = self.mint(lifetime, scopes)
        with self._lock:
            now = self.clock()
            early = self._latest is not None and now < self._latest.expires_at
            self._grants[token] = self._latest = Grant(now + lifetime, scopes)
            return token, early

    def mint(self, lifetime: int, scopes: tuple[str, ...] | None) -> str:
        """The text of a token: a JWT, like real tokens. Their claims are not documented."""
        now = self.clock()
        claims = {
            "sub": self.app_key,
            "iat": math.floor(now),
            "exp": math.ceil(now + lifetime),
            "jti": secrets.token_hex(16),
        }
        if scopes is not None:
            claims["scope"] = " ".join(scopes)
        return jwt.encode(claims, self.signing_key, algorithm="HS256")

    def grant_of(self, token: str) -> Grant | None:
        """The rights of *token*, or None if it is not valid."""
        with self._lock:
            grant = self._grants.get(token)
            return grant if grant is not None and self.clock() < grant.expires_at else None

    def revoke_all(self) -> None:
        with self._lock:
            self._grants.clear()
            self._latest = None

    # Stored objects, by their path on the storage port

    def store(self, path: str, data: bytes) -> None:
        with self._lock:
            self._objects[path] = data

    def stored(self, path: str) -> bytes | None:
        with self._lock:
            return self._objects.get(path)

    def delete(self, path: str) -> None:
        with self._lock:
            self._objects.pop(path, None)

    def objects(self) -> dict[str, bytes]:
        with self._lock:
            return dict(self._objects)

    # Jobs

    def submit(self, path: str, source: str, target: str) -> Job:
        job = Job(secrets.token_hex(16), path, source, target)
        with self._lock:
            self._jobs[job.job_id] = job
        return job

    def poll(self, job_id: str) -> Job | None:
        """Poll a job: the first poll finds it pending, the second running, the third finished."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None:
                return None
            job = replace(job, polls=job.polls + 1)
            if job.polls == 2:
                job = replace(job, status="Running")
            elif job.polls == 3 and job.input in self._objects:
                self._objects[job.output] = self._objects[job.input]
                job = replace(job, status="Success")
            elif job.polls == 3:
                job = replace(job, status="Failed")
            self._jobs[job_id] = job
            return job

    def jobs(self) -> tuple[Job, ...]:
        with self._lock:
            return tuple(self._jobs.values())
