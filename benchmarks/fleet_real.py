"""
A fleet in reality: processes with a real `DolbyAuth` each, that share one token through a real Redis.

The token endpoint and the API are a sandbox. The processes start once, and their imports are not measured. Then each gets the moments of
its calls: on Linux, all processes have the same monotonic clock.
"""

from __future__ import annotations

import logging
import multiprocessing
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import redis
import requests

from dolby_auth_plugin import RedisTokenCache, TokenCache, TokenError
from dolby_auth_plugin.requests import DolbyAuth
from dolby_auth_plugin.sandbox import Sandbox

from .fleet_scenarios import Conditions, Figures, Fleet, Scale

# Seconds that processes may take for their imports, or for the calls of a scenario, on a busy machine.
PATIENCE = 300

# Seconds from the plan of all calls to the first one: each process must know its moments by then.
LEAD = 0.5

# Seconds of a token request that gets no answer. Longer than any process waits.
SILENCE = 600.0


class SetUp(NamedTuple):
    """The scenario begins: use a new auth object for the sandbox at *url*."""

    url: str
    options: dict[str, Any]
    cache: TokenCache


@dataclass
class Report:
    """What one process saw since its last report, and the token that it has. See `Figures`."""

    operations: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    failed: int = 0
    token: str | None = None


class Counted:
    """A `TokenCache` that notes when each operation on another one began."""

    def __init__(self, cache: TokenCache) -> None:
        self._cache = cache
        self.operations: list[float] = []

    def load(self, key: str) -> bytes | None:
        self._note()
        return self._cache.load(key)

    def store(self, key: str, entry: bytes, seconds: float) -> None:
        self._note()
        self._cache.store(key, entry, seconds)

    @contextmanager
    def lock(self, key: str, seconds: float) -> Iterator[bool]:
        self._note()
        with self._cache.lock(key, seconds) as is_held:
            yield is_held
            if is_held:
                # The release.
                self._note()

    def fetch_ended(self) -> None:
        getattr(self._cache, "fetch_ended", lambda: None)()

    def _note(self) -> None:
        self.operations.append(time.monotonic())


class Member:
    """One process of the fleet, in one scenario."""

    def __init__(self, set_up: SetUp) -> None:
        self._url = f"{set_up.url}/media/jobs"
        self._cache = Counted(set_up.cache)
        self._session = requests.Session()
        # It connects now, and costs no token.
        self._session.get(self._url)
        self._auth = self._session.auth = DolbyAuth(**set_up.options, cache=self._cache)

    def call(self, moments: list[float]) -> Report:
        """Call at each of these moments."""
        report = Report()
        for moment in moments:
            time.sleep(max(0.0, moment - time.monotonic()))
            began = time.monotonic()
            try:
                self._session.get(self._url).raise_for_status()
            except TokenError:
                report.failed += 1
            report.waits.append(time.monotonic() - began)
        # A fetch whose caller has given up may still run.
        for thread in set(threading.enumerate()) - {threading.current_thread()}:
            thread.join()
        if not report.failed:
            report.token = self._auth.token().value
        report.operations, self._cache.operations = self._cache.operations, []
        return report

    def close(self) -> None:
        self._session.close()


def work(connection: Connection) -> None:
    """The life of one process: orders come, reports go."""
    # With the cache down, each process warns.
    logging.getLogger("dolby_auth_plugin").addHandler(logging.NullHandler())
    member: Member | None = None
    while True:
        order = connection.recv()
        if isinstance(order, SetUp):
            if member is not None:
                member.close()
            member = Member(order)
            connection.send(None)
        elif member is not None:
            connection.send(member.call(order))


class Processes:
    """The processes of all scenarios, and their Redis."""

    def __init__(self, count: int) -> None:
        self._ended = ExitStack()
        try:
            self.redis_url = self._ended.enter_context(running_redis())
            self._connections = [self._start() for _ in range(count)]
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._connections)

    def tell(self, orders: list[Any]) -> list[Any]:
        """Give each process its order. Returns their answers."""
        for connection, order in zip(self._connections, orders, strict=True):
            connection.send(order)
        for connection in self._connections:
            if not connection.poll(PATIENCE):
                raise TimeoutError("a process of the fleet does not answer")
        return [connection.recv() for connection in self._connections]

    def close(self) -> None:
        self._ended.close()

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        self._ended.callback(process.join)
        self._ended.callback(process.terminate)
        return ours


class RealFleet(Fleet):
    """
    *processes* in one scenario.

    Its sandbox runs until `close`.
    """

    def __init__(self, processes: Processes, scale: Scale, conditions: Conditions) -> None:
        assert len(processes) == scale.processes
        self.scale = scale
        self._processes = processes
        self._redis = redis.Redis.from_url(processes.redis_url)
        self._redis.flushall()
        self._sandbox = Sandbox().start()
        self._sandbox.latency = SILENCE if conditions.fails == "silence" else conditions.seconds
        if conditions.fails == "503":
            self._sandbox.fail_token_requests(status=503, times=1_000)
        self._cache_is_down = conditions.cache_is_down
        url = f"redis://127.0.0.1:{unused_port()}" if conditions.cache_is_down else processes.redis_url
        options = {**self._sandbox.options, "expires_in": scale.life}
        set_up = SetUp(self._sandbox.url, options, RedisTokenCache(url))
        processes.tell([set_up] * scale.processes)
        self._tokens: set[str] = set()
        self.begin_measuring()

    def start(self) -> None:
        self._call([[random.uniform(0, self.scale.start_seconds)] for _ in range(self.scale.processes)])

    def renew(self) -> None:
        # The token was obtained before. So it has been renewed a life from now.
        self._call([_about_each_second(self.scale.life) for _ in range(self.scale.processes)])

    def revoke(self, seconds: float) -> None:
        self._sandbox.revoke_all()
        self._call([[random.uniform(0, seconds)] for _ in range(self.scale.processes)])

    def begin_measuring(self) -> None:
        self._figures = Figures()
        self._redis.config_resetstat()
        self._sandbox.reset_counters()

    def figures(self) -> Figures:
        self._figures.requests = self._sandbox.token_requests
        if not self._cache_is_down:
            # Redis counts the commands of our script too: a release of a lock is an EVAL with a GET, and perhaps a DEL.
            statistics = self._redis.info("commandstats")
            counted = sum(statistics.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("get", "set"))
            assert counted == len(self._figures.operations), f"Redis has counted {counted} operations"
        return self._figures

    def tokens(self) -> set[str]:
        return self._tokens

    def close(self) -> None:
        self._sandbox.stop()
        self._redis.close()

    def _call(self, plan: list[list[float]]) -> None:
        """Each process calls at its own moments, in seconds from now."""
        begin = time.monotonic() + LEAD
        reports: list[Report] = self._processes.tell([[begin + moment for moment in moments] for moments in plan])
        for report in reports:
            self._figures.operations += report.operations
            self._figures.waits += report.waits
            self._figures.failed += report.failed
        self._tokens = {report.token for report in reports if report.token is not None}


def _about_each_second(seconds: float) -> list[float]:
    moments, moment = [], random.expovariate(1)
    while moment < seconds:
        moments.append(moment)
        moment += random.expovariate(1)
    # The last call comes after the renewal, so that each process has the next token.
    return [*moments, moment]


@contextmanager
def running_redis() -> Iterator[str]:
    """The URL of a new Redis or Valkey, which has nothing on a disk."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        raise FileNotFoundError("redis-server is not on the PATH")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "redis.sock"
        command = [program, "--save", "", "--port", "0", "--unixsocket", str(path), "--dir", folder]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            try:
                until = time.monotonic() + PATIENCE
                while not path.exists() and server.poll() is None and time.monotonic() < until:
                    time.sleep(0.01)
                yield f"unix://{path}"
            finally:
                server.kill()


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
