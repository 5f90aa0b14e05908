"""
A caller that waits for a token may be cancelled, interrupted or killed at any moment. That affects no other caller, and
leaves nothing behind.

Tasks are cancelled at each point where a call can wait. Threads are interrupted between any two instructions.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dis
import functools
import gc
import io
import itertools
import random
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import requests
import trio
import urllib3

import dolby_auth_plugin
from dolby_auth_plugin import httpx as httpx_adapter
from dolby_auth_plugin import httpx2 as httpx2_adapter
from dolby_auth_plugin import requests as requests_adapter
from dolby_auth_plugin._core.endpoint import TokenRequest, TokenResponse
from dolby_auth_plugin._core.errors import Failure
from dolby_auth_plugin._core.source import TokenSource
from dolby_auth_plugin._core.wait import Wait

from ..contract import CLASSIC
from ..fakes import FakeClock, ScriptedSender, make_source, wait_for_fetches
from ..internals import give_source, holds_lock, is_fetching, library_of, rebuild, refuse, source_of, waiting
from ..servers import Received, Reply, Server

HOST = "api.dolby.com:443"
ADAPTERS: dict[str, Any] = {"httpx": httpx_adapter, "httpx2": httpx2_adapter}
FAMILY = pytest.mark.parametrize("library", ADAPTERS)
# Loading a CA bundle for each client would take half of the time of these tests.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture(autouse=True)
def nothing_is_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that no fetch is left, and that asyncio has logged nothing. pytest reports errors of finalizers."""
    yield
    wait_for_fetches()
    gc.collect()
    assert [] == [record.getMessage() for record in caplog.get_records("call") if record.name == "asyncio"]


class OneAtATime(ScriptedSender):
    """Counts how many token requests run at once."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._under_way = 0
        self._lock = threading.Lock()

    def __call__(self, request: TokenRequest, seconds: float) -> TokenResponse | Failure:
        with self._lock:
            self._under_way += 1
            self.most = max(self.most, self._under_way)
        try:
            return super().__call__(request, seconds)
        finally:
            with self._lock:
                self._under_way -= 1


def auth_with(adapter: Any, sender: ScriptedSender, *hosts: str) -> Any:
    """An auth object for *hosts* whose token requests *sender* answers."""
    auth = adapter.DolbyAuth(**CLASSIC, allowed_hosts=hosts)
    return rebuild(auth, send=sender)


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - threads change it
            await anyio.sleep(0.001)


def spin_until(condition: Callable[[], bool]) -> None:
    """Wait in a thread for a condition that no Event reports."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0)


# Tasks


class Stage:
    """An httpx client with a pool of one connection, an API, a token endpoint that can be held, and other callers."""

    def __init__(self, library: str, api: Server) -> None:
        adapter = ADAPTERS[library]
        self.api = api
        self.sender = OneAtATime()
        self.auth = auth_with(adapter, self.sender, api.host)
        host = library_of(adapter.DolbyAuth)
        self.client = host.AsyncClient(auth=self.auth, limits=host.Limits(max_connections=1), timeout=10, verify=NO_TLS)
        self.gate = threading.Event()
        self.traced: list[str] = []
        # The results of the calls that are not cancelled.
        self.got: list[Any] = []

    @property
    def source(self) -> TokenSource:
        source: TokenSource = source_of(self.auth)
        return source

    async def get(self, path: str = "/") -> int:
        response = await self.client.get(self.api.url + path, extensions={"trace": self._trace})
        status: int = response.status_code
        return status

    async def _trace(self, name: str, info: object) -> None:
        self.traced.append(name)

    async def other(self, call: Callable[[], Awaitable[Any]]) -> None:
        self.got.append(await call())

    def refuse_the_first_token(self, refusal: Reply | None = None, *, held: bool = False) -> None:
        """Refuse the first token. If *held*, the answers to other tokens wait for the gate."""

        def answer(received: Received) -> Reply:
            if received.token == "Bearer token-1":
                return refusal or Reply(401, body=b"refused")
            if held:
                assert self.gate.wait(10)
            return Reply()

        self.api.answer = answer


class Moment:
    """The moment at which the victim is cancelled, and the expected results."""

    # All token requests. Two: there is a token at first, which the API refuses.
    token_requests = 1
    # The other callers that wait for the token at that moment. If there are any, the fetch is held.
    waiters = 0
    # The results of the other callers.
    expected: tuple[Any, ...] = ()

    async def prepare(self, stage: Stage, group: Any) -> None:
        """Do everything that comes before the victim's call."""

    async def reached(self, stage: Stage, group: Any) -> None:
        """Wait until the victim has reached the moment."""
        raise NotImplementedError


class Waits(Moment):
    """While it waits for a fetch that another caller started."""

    waiters = 1
    expected = (200,)

    async def prepare(self, stage: Stage, group: Any) -> None:
        group.start_soon(stage.other, stage.get)
        await until(lambda: waiting(stage.source) == 1)

    async def reached(self, stage: Stage, group: Any) -> None:
        await until(lambda: waiting(stage.source) == 2)


class Leads(Moment):
    """While it waits, with others, for the fetch that it started."""

    waiters = 1
    expected = (200,)

    async def reached(self, stage: Stage, group: Any) -> None:
        await until(lambda: waiting(stage.source) == 1)
        group.start_soon(stage.other, stage.get)
        await until(lambda: waiting(stage.source) == 2)


class WaitsForAReplacement(Moment):
    """After a 401, whose unread body holds the pool's only connection."""

    token_requests = 2
    waiters = 1
    expected = ("token-2",)

    async def prepare(self, stage: Stage, group: Any) -> None:
        stage.refuse_the_first_token()

    async def reached(self, stage: Stage, group: Any) -> None:
        await until(lambda: waiting(stage.source) == 1)
        group.start_soon(stage.other, functools.partial(_value, stage))
        await until(lambda: waiting(stage.source) == 2)


class ReadsTheRefusal(Moment):
    """While it reads the body of the 401, which never ends."""

    token_requests = 2

    async def prepare(self, stage: Stage, group: Any) -> None:
        stage.refuse_the_first_token(Reply(401, {"Content-Length": "1000"}, b"refu"))

    async def reached(self, stage: Stage, group: Any) -> None:
        await until(lambda: "http11.receive_response_body.started" in stage.traced)


class Retries(Moment):
    """While the request is sent the second time."""

    token_requests = 2

    async def prepare(self, stage: Stage, group: Any) -> None:
        stage.refuse_the_first_token(held=True)

    async def reached(self, stage: Stage, group: Any) -> None:
        await until(lambda: len(stage.api.log) == 2)


class WaitsForAConnection(Moment):
    """While another call has the pool's only connection."""

    expected = (200,)

    async def prepare(self, stage: Stage, group: Any) -> None:
        stage.api.answer = lambda _: Reply() if stage.gate.wait(10) else Reply(500)
        group.start_soon(stage.other, stage.get)
        await until(lambda: len(stage.api.log) == 1)

    async def reached(self, stage: Stage, group: Any) -> None:
        await anyio.wait_all_tasks_blocked()


async def _value(stage: Stage) -> str:
    value: str = (await stage.auth.atoken()).value
    return value


Call = Callable[[], Coroutine[Any, Any, Any]]


# Ways to cancel a task. Each runs *call*, and cancels it when *reached* has returned.


async def by_task_cancel(call: Call, reached: Call) -> None:
    task = asyncio.create_task(call())
    await reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_asyncio_timeout(call: Call, reached: Call) -> None:
    async def end(scope: asyncio.Timeout) -> None:
        await reached()
        scope.reschedule(asyncio.get_running_loop().time())

    async def within() -> None:
        async with asyncio.timeout(None) as scope:
            endings.append(asyncio.create_task(end(scope)))
            await call()

    endings: list[asyncio.Task[None]] = []
    with pytest.raises(TimeoutError):
        await within()
    await endings[0]


async def by_anyio_scope(call: Call, reached: Call) -> None:
    """On asyncio, anyio cancels again and again until the scope is left."""
    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await reached()
        group.cancel_scope.cancel()


async def by_trio_scope(call: Call, reached: Call) -> None:
    async def cancel(scope: trio.CancelScope) -> None:
        await reached()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel, scope)
            await call()
        assert scope.cancelled_caught


WAYS: dict[str, list[Callable[[Call, Call], Coroutine[Any, Any, None]]]] = {
    "asyncio": [by_anyio_scope, by_task_cancel, by_asyncio_timeout],
    "trio": [by_trio_scope],
}


@pytest.mark.parametrize(
    ("library", "backend", "way"),
    [
        pytest.param(library, backend, way, id=f"{library}-{backend}-{way.__name__}")
        # Both share their flows. One way on each backend shows whether they work with httpx2's connections.
        for library, count in (("httpx", 3), ("httpx2", 1))
        for backend, ways in WAYS.items()
        for way in ways[:count]
    ],
)
@pytest.mark.parametrize(
    "moment",
    [Waits, Leads, WaitsForAReplacement, ReadsTheRefusal, Retries, WaitsForAConnection],
    ids=lambda m: m.__name__,
)
def test_a_cancelled_call_ends_at_once_and_affects_no_other_caller(
    moment: type[Moment],
    backend: str,
    way: Callable[[Call, Call], Coroutine[Any, Any, None]],
    library: str,
    api: Server,
) -> None:
    """The fetch or answer that it waits for is held until it has ended. Its client, with one connection, still works."""
    complaints: list[Any] = []
    afterwards: list[int] = []
    stage, scene = Stage(library, api), moment()

    async def main() -> None:
        if backend == "asyncio":
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with stage.client, anyio.create_task_group() as group:
            if scene.token_requests == 2:
                await stage.auth.atoken()
            with stage.sender.held() if scene.waiters else contextlib.nullcontext():
                await scene.prepare(stage, group)
                with anyio.fail_after(10):
                    await way(stage.get, functools.partial(scene.reached, stage, group))
                assert scene.waiters == waiting(stage.source)
            stage.gate.set()
            await until(lambda: len(stage.got) == len(scene.expected))
            afterwards.append(await stage.get())

    anyio.run(main, backend=backend)

    assert afterwards == [200]
    assert scene.expected == tuple(stage.got)
    assert (scene.token_requests, 1) == (stage.sender.count, stage.sender.most)
    assert complaints == []


@FAMILY
@pytest.mark.parametrize(
    ("backend", "way"),
    [("asyncio", by_task_cancel), ("asyncio", by_anyio_scope), ("trio", by_trio_scope)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_task_may_be_cancelled_in_the_iteration_of_the_loop_that_wakes_it(
    library: str, backend: str, way: Callable[[Call, Call], Coroutine[Any, Any, None]]
) -> None:
    sender, complaints = ScriptedSender(), list[Any]()
    auth = auth_with(ADAPTERS[library], sender, HOST)

    async def woken() -> None:
        await until(lambda: waiting(source_of(auth)) == 1)
        sender.open()
        # Without another iteration of the loop.
        wait_for_fetches()

    async def main() -> None:
        if backend == "asyncio":
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        sender.close()
        await way(auth.atoken, woken)

    anyio.run(main, backend=backend)

    assert complaints == []
    assert (auth.token().value, sender.count) == ("token-1", 1)


@FAMILY
@BACKENDS
@pytest.mark.parametrize("refused", [False, True], ids=["no token", "refused"])
def test_tasks_that_are_not_cancelled_get_their_answer(library: str, backend: str, refused: bool) -> None:
    """Half of 200 tasks are cancelled, at different moments, while the fetch is held."""
    chance = random.Random(20261124)
    victims = {index: chance.randrange(40) for index in chance.sample(range(200), 100)}
    sender, statuses = OneAtATime(), dict[int, int]()
    auth = auth_with(ADAPTERS[library], sender, HOST.removesuffix(":443"))
    host = library_of(auth)
    bad = "Bearer token-1" if refused else None

    def answer(request: Any) -> Any:
        return host.Response(401 if request.headers["Authorization"] == bad else 200)

    async def main() -> None:
        if refused:
            await auth.atoken()
        async with host.AsyncClient(auth=auth, transport=host.MockTransport(answer), verify=NO_TLS) as client:
            with anyio.fail_after(10):
                async with anyio.create_task_group() as group:
                    cancelled = 0

                    async def call(index: int) -> None:
                        response = await client.get(f"https://{HOST}/")
                        statuses[index] = response.status_code

                    async def victim(index: int, turns: int) -> None:
                        nonlocal cancelled
                        async with anyio.create_task_group() as own:
                            own.start_soon(call, index)
                            for _ in range(turns):
                                await anyio.lowlevel.checkpoint()
                            own.cancel_scope.cancel()
                        cancelled += 1

                    with sender.held():
                        for index in range(200):
                            if index in victims:
                                group.start_soon(victim, index, victims[index])
                            else:
                                group.start_soon(call, index)
                        await until(lambda: cancelled == 100)
                        await until(lambda: waiting(source_of(auth)) == 100)

    anyio.run(main, backend=backend)

    assert {index: 200 for index in range(200) if index not in victims} == statuses
    assert (1 + refused, 1) == (sender.count, sender.most)


@FAMILY
def test_a_loop_that_is_closed_while_tasks_wait_affects_no_other_caller(library: str) -> None:
    sender = ScriptedSender()
    auth = auth_with(ADAPTERS[library], sender, HOST)
    values: list[str] = []
    thread = threading.Thread(target=lambda: values.append(auth.token().value))
    loop = asyncio.new_event_loop()

    with sender.held():
        tasks = [loop.create_task(auth.atoken()) for _ in range(3)]
        loop.run_until_complete(until(lambda: waiting(source_of(auth)) == 3))
        loop.close()
        # This thread is woken after the tasks.
        thread.start()
        spin_until(lambda: waiting(source_of(auth)) == 4)
    thread.join(10)

    assert values == ["token-1"]
    for task in tasks:
        assert not task.done()
        # This test leaves them pending on purpose.
        task._log_destroy_pending = False  # type: ignore[attr-defined] # noqa: SLF001 - as asyncio itself does in `gather`


# Flows


@FAMILY
@pytest.mark.parametrize("place", ["a foreign request", "the request", "the retry"])
def test_a_sync_flow_can_be_closed_at_each_of_its_yields(library: str, place: str) -> None:
    sender = ScriptedSender()
    auth = auth_with(ADAPTERS[library], sender, HOST.removesuffix(":443"))
    host = library_of(auth)
    request = host.Request("GET", "https://example.com/" if place == "a foreign request" else f"https://{HOST}/")
    flow = auth.sync_auth_flow(request)
    next(flow)
    if place == "the retry":
        flow.send(host.Response(401, request=request))

    flow.close()

    assert auth.token().value == f"token-{sender.count}"
    assert sender.count == 1 + (place == "the retry")


# Streams


def stalled(_: Received) -> Reply:
    """A refusal whose body never ends."""
    return Reply(401, {"Content-Length": "1000"}, b"refu")


@FAMILY
def test_a_stream_of_a_401_that_is_closed_early_releases_its_connection(library: str, api: Server) -> None:
    """The caller gets the second 401 unread. The pool has one connection."""
    auth = auth_with(ADAPTERS[library], ScriptedSender(), api.host)
    host = library_of(auth)
    api.answer = lambda received: Reply(401) if received.token == "Bearer token-1" else stalled(received)

    with host.Client(auth=auth, limits=host.Limits(max_connections=1), timeout=10, verify=NO_TLS) as client:
        with client.stream("GET", api.url) as response:
            assert response.status_code == 401
        api.answer = lambda _: Reply()

        assert client.get(api.url).status_code == 200


@FAMILY
@BACKENDS
def test_an_async_stream_of_a_401_that_is_closed_early_releases_its_connection(
    library: str, backend: str, api: Server
) -> None:
    auth = auth_with(ADAPTERS[library], ScriptedSender(), api.host)
    host = library_of(auth)
    api.answer = lambda received: Reply(401) if received.token == "Bearer token-1" else stalled(received)

    async def main() -> int:
        async with host.AsyncClient(
            auth=auth, limits=host.Limits(max_connections=1), timeout=10, verify=NO_TLS
        ) as client:
            async with client.stream("GET", api.url) as response:
                assert response.status_code == 401
            api.answer = lambda _: Reply()
            status: int = (await client.get(api.url)).status_code
            return status

    assert anyio.run(main, backend=backend) == 200


@pytest.mark.parametrize("refusals", [1, 2])
def test_a_streamed_401_releases_the_only_connection_of_a_session(api: Server, refusals: int) -> None:
    """The first 401 is closed unread. The caller closes the second one."""
    refused = [f"Bearer token-{serial}" for serial in range(1, refusals + 1)]
    api.answer = lambda received: stalled(received) if received.token in refused else Reply()
    auth = auth_with(requests_adapter, ScriptedSender(), api.host)

    statuses: list[int] = []

    def calls() -> None:
        with session.get(api.url, stream=True, timeout=10) as response:
            statuses.append(response.status_code)
        api.answer = lambda _: Reply()
        statuses.append(session.get(api.url, timeout=10).status_code)

    with requests.Session() as session:
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=1, pool_block=True))
        session.auth = auth
        # In a thread that may be left behind: requests waits for a connection without a limit.
        thread = threading.Thread(target=calls, daemon=True)
        thread.start()
        thread.join(10)

    assert [200 if refusals == 1 else 401, 200] == statuses


# Threads


ROOT = Path(__file__).parents[2]


# In the background, tests may ignore interrupts, and their children inherit that. No script may hang.
AT_RANDOM_MOMENTS = """
import faulthandler, os, random, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
faulthandler.dump_traceback_later(30, exit=True)
from tests.fakes import ScriptedSender, make_source

chance, main, interrupted = random.Random(20261124), threading.get_ident(), 0
sys.setswitchinterval(1e-5)
failures = []
threading.excepthook = lambda failed: failures.append(failed.exc_value)

def interrupt(delay):
    with go:
        pass
    end = time.perf_counter() + delay
    while time.perf_counter() < end:
        pass
    signal.pthread_kill(main, signal.SIGINT)

def call():
    with go:
        pass
    values.append(subject.token().value)

for _ in range(300):
    # A bare lock, because an interrupt can break an Event that the main thread uses.
    sender, values, go = ScriptedSender(), [], threading.Lock()
    go.acquire()
    subject = make_source(sender)
    threads = [threading.Thread(target=call, daemon=True) for _ in range(3)]
    threads.append(threading.Thread(target=interrupt, args=[chance.random() * 1e-3]))
    for thread in threads:
        thread.start()
    try:
        go.release()
        subject.token()
        # Python itself sometimes loses an interrupt.
        until = time.monotonic() + 1
        while time.monotonic() < until:
            # Short sleeps, because a signal that comes just before a sleep does not end it.
            time.sleep(0.001)
    except KeyboardInterrupt:
        interrupted += 1
    for thread in threads:
        thread.join(10)
    values.append(subject.token().value)
    assert (values, sender.count, failures) == (["token-1"] * 4, 1, []), (values, sender.count, failures)
print(interrupted, flush=True)
# Python 3.11 sometimes crashes if it ends while a daemon thread does. Its end is not the subject.
os._exit(0)
"""


def test_interrupts_at_random_moments_affect_no_other_caller_and_cost_no_token_request() -> None:
    """Three other threads call at the same time. Neither they nor the fetch's thread fail."""
    script = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", AT_RANDOM_MOMENTS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert script.returncode == 0, script.stderr
    # Python itself sometimes loses an interrupt.
    assert int(script.stdout) > 200


@pytest.mark.parametrize("released", ["before", "after"])
def test_if_the_thread_that_started_the_fetch_dies_the_others_get_their_token(released: str) -> None:
    """Another thread kills it just before or after it is woken."""
    if sys.gettrace() is not None:
        pytest.skip("in Python 3.11, a pending exception for another thread makes a traced thread spin")
    for _ in range(30):
        sender = OneAtATime()
        values = _kill_the_first_of_four(make_source(sender), sender, released)

        assert ["token-1"] * 3 == values[-3:]
        assert sender.count == 1


def _kill_the_first_of_four(subject: TokenSource, sender: ScriptedSender, released: str) -> list[str]:
    """The tokens of four callers in threads."""
    values: list[str] = []

    def call() -> None:
        with contextlib.suppress(SystemExit):
            values.append(subject.token().value)

    threads = [threading.Thread(target=call) for _ in range(4)]
    with sender.held():
        for count, thread in enumerate(threads, 1):
            thread.start()
            spin_until(functools.partial(lambda number: waiting(subject) == number, count))
        if released == "before":
            sender.open()
        # Only after the fetch's thread runs: before that, Python 3.11 confuses the two threads.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(threads[0].ident or 0), ctypes.py_object(SystemExit))
    for thread in threads:
        thread.join(10)
    return values


# Interrupts at every point


class Interrupter:
    """
    Interrupts the main thread at a chosen point of its way through the package.

    The interpreter checks for signals after calls and before jumps back, not at each call of a trace function. An
    exception of a trace function could leave a lock held where no signal can. So the trace function only counts. At the
    chosen point, two C functions of the interpreter replace it: the first simulates a SIGINT, the second does nothing.
    The interpreter then decides where it raises the interrupt.

    Args:
        point: The number of the call or jump back, counted from 1.
        at_each: Called before each instruction with the frame and the event.
    """

    _watched = (str(Path(dolby_auth_plugin.__file__).parent), contextlib.__file__)

    def __init__(self, point: int, at_each: Callable[[FrameType, str], None]) -> None:
        self.passed = 0
        self.place = ""
        self._point = point
        self._at_each = at_each

    def run(self, work: Callable[[], object]) -> object:
        """Run *work*. Return its result, or the exception that it raised."""
        before = sys.gettrace()
        try:
            try:
                sys.settrace(self._entered)
                return work()
            finally:
                sys.settrace(before)
        except (Exception, KeyboardInterrupt) as error:
            return error

    def _entered(self, frame: FrameType, event: str, argument: object) -> Any:
        if not (frame.f_code.co_filename.startswith(self._watched) or self._is_a_call_of_threading(frame)):
            return None
        frame.f_trace_opcodes = True
        self._at_each(frame, event)
        return self._step

    def _is_a_call_of_threading(self, frame: FrameType) -> bool:
        """
        Whether *frame* runs code of `threading` that the package called.

        Code that `Thread.start` called is excluded: it waits until the thread runs, and an interrupt there breaks the
        thread object.
        """
        caller = frame.f_back
        return (
            frame.f_code.co_filename == threading.__file__
            and caller is not None
            and caller.f_trace is not None
            and caller.f_code is not threading.Thread.start.__code__
        )

    def _step(self, frame: FrameType, event: str, argument: object) -> Any:
        self._at_each(frame, event)
        if event == "opcode" and frame.f_lasti in _before_a_check(frame.f_code):
            self.passed += 1
            if self.passed == self._point:
                self.place = f"{frame.f_code.co_qualname}, line {frame.f_lineno}"
                sys.settrace(_nothing)
                return _interrupt
        return self._step


@functools.cache
def _before_a_check(code: CodeType) -> frozenset[int]:
    """The instructions before those at which the interpreter checks for signals."""
    instructions = list(dis.get_instructions(code))
    return frozenset(
        one.offset
        for one, following in itertools.pairwise(instructions)
        if following.opname.startswith(("CALL", "JUMP_BACKWARD"))
    )


def _in_c(name: str, *arguments: Any) -> Any:
    """A C function with these arguments. It ignores the three arguments of a trace function that follow."""
    return ctypes.PYFUNCTYPE(ctypes.c_int, *arguments, *[ctypes.py_object] * 3)((name, ctypes.pythonapi))


_nothing, _signal = _in_c("Py_IsInitialized"), _in_c("PyErr_SetInterruptEx", ctypes.c_int)
_nothing.restype = None
# The returned object becomes the trace function. So this function is called once.
_signal.restype = {0: _nothing}.get
_interrupt = functools.partial(_signal, signal.SIGINT)


class Attack:
    """A caller that is interrupted, and others that need the token at the same time and afterwards."""

    # All token requests, including the first one of a source that has a token.
    token_requests: tuple[int, ...] = (1,)

    def __init__(self) -> None:
        self.sender = OneAtATime()
        self.clock = FakeClock()
        self.source = make_source(self.sender, self.clock)
        self.got: list[object] = []
        self._others: list[threading.Thread] = []
        self.prepare()

    def prepare(self) -> None:
        """Do everything that comes before the call."""

    def call(self) -> object:
        """The call that is interrupted."""
        return self.source.token(HOST)

    def at_each(self, frame: FrameType, event: str) -> None:
        """Make another caller join the fetch as soon as possible, and let the fetch end when the first caller waits for it."""
        if not self._others and is_fetching(self.source) and not holds_lock(self.source):
            self.join_another()
        if event == "call" and frame.f_code is Wait.in_thread.__code__:
            self.sender.open()

    def join_another(self) -> None:
        def call() -> None:
            try:
                self.got.append(self.source.token(HOST).value)
            except BaseException as error:
                self.got.append(error)

        before = waiting(self.source)
        thread = threading.Thread(target=call, daemon=True)
        self._others.append(thread)
        thread.start()
        spin_until(lambda: waiting(self.source) > before or not thread.is_alive())

    def after(self) -> None:
        """Check the state after the call has ended, interrupted or not."""
        self.join_another()
        self.sender.open()
        for thread in self._others:
            thread.join(10)
            assert not thread.is_alive(), "a caller is stuck"
        assert [] == [value for value in self.got if not isinstance(value, str)]
        for _ in range(2):
            value = self.source.token(HOST).value
            spin_until(lambda: not is_fetching(self.source))
        assert (f"token-{self.sender.count}", 1) == (value, self.sender.most)
        assert self.sender.count in self.token_requests


class Cold(Attack):
    """The first call, which finds no token."""

    def prepare(self) -> None:
        self.sender.close()


class Joined(Attack):
    """A call that joins the fetch of another caller."""

    def prepare(self) -> None:
        self.sender.close()
        self.join_another()


class Renewal(Attack):
    """A call that gets the present token, and starts a renewal in the background."""

    token_requests = (2,)

    def prepare(self) -> None:
        self.source.token()
        self.clock.advance(1500)
        self.sender.close()


class Replacement(Attack):
    """A call that waits for the replacement of a refused token."""

    token_requests = (2,)

    def prepare(self) -> None:
        refuse(self.source, self.source.token(), HOST)
        self.sender.close()


class Invalidation(Attack):
    """If it is interrupted, the token may be forgotten or not."""

    token_requests = (1, 2)

    def prepare(self) -> None:
        self.source.token()

    def call(self) -> None:
        self.source.invalidate()


class Overdue(Attack):
    """A call that ends the overdue fetch of another caller."""

    token_requests = (1, 2)

    def prepare(self) -> None:
        self.sender.close()
        next(self.source.steps(None, None))
        assert self.sender.arrived.acquire(timeout=10)
        self.clock.advance(30)

    def at_each(self, frame: FrameType, event: str) -> None:
        pass

    def after(self) -> None:
        # The late token is kept only if the fetch was not ended before. A failure is forgotten by then.
        self.sender.open()
        wait_for_fetches()
        self.clock.advance(10)
        super().after()


class InALibrary(Attack):
    """A whole call of requests or httpx."""

    auth: Any
    url = f"https://{HOST}/"
    # Whether the source has a token at first, and the API refuses it.
    refused = False

    def prepare(self) -> None:
        give_source(self.auth, self.source)
        if self.refused:
            self.source.token()
        self.sender.close()

    def status(self, authorization: object) -> int:
        return 401 if self.refused and authorization == "Bearer token-1" else 200

    def after(self) -> None:
        if self.refused and self.sender.count == 1:
            # The interrupt may have come before the refusal was noted. The next call is not interrupted.
            self.sender.open()
            assert self.call() == 200
        super().after()
        assert self.call() == 200


class InRequests(InALibrary):
    def prepare(self) -> None:
        class InMemory(requests.adapters.HTTPAdapter):
            def send(adapter, request: Any, *arguments: Any, **options: Any) -> requests.Response:  # noqa: N805 - `self` is the test
                raw = urllib3.HTTPResponse(
                    io.BytesIO(b"body"), status=self.status(request.headers.get("Authorization")), preload_content=False
                )
                return adapter.build_response(request, raw)

        self.auth = requests_adapter.DolbyAuth(**CLASSIC)
        self.session = requests.Session()
        self.session.mount("https://", InMemory())
        self.session.auth = self.auth
        super().prepare()

    def call(self) -> int:
        return self.session.get(self.url).status_code


class InHttpx(InALibrary):
    def prepare(self) -> None:
        self.auth = httpx_adapter.DolbyAuth(**CLASSIC)
        host = library_of(self.auth)
        transport = host.MockTransport(
            lambda request: host.Response(self.status(request.headers.get("Authorization")), content=b"body")
        )
        self.client = host.Client(auth=self.auth, transport=transport, verify=NO_TLS)
        super().prepare()

    def call(self) -> int:
        status: int = self.client.get(self.url).status_code
        return status


class RefusedInRequests(InRequests):
    token_requests = (2,)
    refused = True


class RefusedInHttpx(InHttpx):
    token_requests = (2,)
    refused = True


EVERYWHERE = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="later Pythons trace by rewriting code: some miss instructions, some crash"
)


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Make SIGINT raise a KeyboardInterrupt, even if tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt_everywhere(attack: type[Attack]) -> None:
    interrupted = 0
    for point in itertools.count(1):
        scene = attack()
        interrupter = Interrupter(point, scene.at_each)

        outcome = interrupter.run(scene.call)

        try:
            assert not isinstance(outcome, RuntimeError), outcome
            scene.after()
        except BaseException as error:
            error.add_note(f"after an interrupt at point {point}: {interrupter.place}")
            raise
        interrupted += isinstance(outcome, KeyboardInterrupt)
        if interrupter.passed < point:
            break
    assert interrupted > point / 2


@EVERYWHERE
@pytest.mark.parametrize(
    "attack",
    [
        *(Cold, Joined, Renewal, Replacement, Invalidation, Overdue, InRequests, InHttpx),
        *(pytest.param(attack, marks=pytest.mark.slow) for attack in (RefusedInRequests, RefusedInHttpx)),
    ],
    ids=lambda attack: attack.__name__,
)
@pytest.mark.usefixtures("interrupts")
def test_wherever_a_caller_is_interrupted_the_others_get_their_token(attack: type[Attack]) -> None:
    interrupt_everywhere(attack)


class ThreadlessCold(Attack):
    """The caller fetches. If it is interrupted after its token request was sent, another one may follow."""

    token_requests = (1, 2)


@EVERYWHERE
@pytest.mark.usefixtures("interrupts")
def test_wherever_a_caller_that_fetches_is_interrupted_the_others_get_their_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No thread can be started, so the caller fetches."""
    start = threading.Thread.start

    def start_others(self: threading.Thread) -> None:
        if self.name == "dolby-auth-token":
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", start_others)

    interrupt_everywhere(ThreadlessCold)


def test_an_interrupt_that_python_turns_into_another_error_is_not_a_lack_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python does that if the interrupt ends the wait of `Thread.start` for the thread. The thread runs nevertheless."""
    start = threading.Thread.start

    def interrupted(self: threading.Thread) -> None:
        start(self)
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("release unlocked lock")

    sender = OneAtATime()
    subject = make_source(sender)
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with sender.held():
        with pytest.raises(KeyboardInterrupt):
            subject.token()
        monkeypatch.undo()
        assert sender.count <= 1

    assert subject.token().value == "token-1"
    assert sender.most == 1
