"""
Many callers at once: which callers wait, and how many token requests are made.

Requests use real sockets. If time matters, the test uses a fake clock. A gate blocks token requests until all expected
callers wait.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from dolby_auth_plugin.sandbox import RequestRecord, Sandbox

from ..contract import on_clock
from ..drivers import AsyncHttpxDriver, Driver, HttpxDriver, Seen
from ..fakes import FakeClock, Gate, HastyClock, eventually, wait_for_fetches
from ..internals import is_fetching, set_sandbox_clock, source_of, waiting
from ..matrix import HTTPX, REQUESTS, each
from ..servers import Received, Reply, Server

Observer = Callable[[RequestRecord], object]

THREADS: list[Driver] = [REQUESTS, HTTPX]
TASKS = [AsyncHttpxDriver(library, loop) for library in ("httpx", "httpx2") for loop in ("asyncio", "trio")]
# The pool of httpx takes several times longer than that of httpx2 with many tasks.
SOME_TASKS = [driver for driver in TASKS if driver.name == "httpx2"]


def drivers(threads: int, tasks: int, of: list[AsyncHttpxDriver]) -> pytest.MarkDecorator:
    """
    All drivers, with the given numbers of callers. Tasks are spread over several clients.

    The full numbers are slow. 16 threads and a tenth of the tasks run every time.
    """

    def in_threads(driver: Driver, threads: int, *marks: pytest.MarkDecorator) -> Any:
        return pytest.param(driver, threads, 1, id=f"{driver.name}-{threads}-threads", marks=marks)

    def in_tasks(driver: AsyncHttpxDriver, tasks: int, clients: int, *marks: pytest.MarkDecorator) -> Any:
        return pytest.param(driver, tasks, clients, id=f"{driver.name}-{driver.backend}-{tasks}-tasks", marks=marks)

    return pytest.mark.parametrize(
        ("driver", "callers", "clients"),
        [
            *(in_threads(driver, 16) for driver in THREADS),
            *(in_threads(driver, threads, pytest.mark.slow) for driver in THREADS if threads > 16),
            *(in_tasks(driver, tasks // 10, 4) for driver in SOME_TASKS if driver in of),
            *(in_tasks(driver, tasks, 20, pytest.mark.slow) for driver in of),
        ],
    )


@pytest.fixture
def observers() -> list[Observer]:
    """What a test adds is called at the end of each request to the sandbox, in the sandbox's thread."""
    return []


@pytest.fixture
def sandbox(observers: list[Observer]) -> Iterator[Sandbox]:
    def observe(record: RequestRecord) -> None:
        for observer in observers:
            observer(record)

    with Sandbox(on_request=observe) as sandbox:
        yield sandbox


@pytest.fixture
def gate(sandbox: Sandbox) -> Iterator[Gate]:
    """A gate that is open at first."""
    gate = Gate(sandbox.app_key, sandbox.app_secret)
    gate.open()
    yield gate
    gate.open()
    wait_for_fetches()


@pytest.fixture
def make(sandbox: Sandbox, gate: Gate) -> Callable[..., Any]:
    def make(driver: Driver, *allowed: Server, clock: FakeClock | HastyClock | None = None, **options: Any) -> Any:
        """An auth object for the sandbox. The gate controls its token requests."""
        hosts = (*sandbox.allowed_hosts, *(server.host for server in allowed))
        auth = driver.adapter.DolbyAuth(credentials=gate, token_url=sandbox.token_url, allowed_hosts=hosts, **options)
        return on_clock(auth, clock) if clock is not None else auth

    return make


def waiting_for(auth: Any) -> int:
    """The number of callers that wait for the fetch."""
    return waiting(source_of(auth))


def statuses(seen: list[Seen | Exception]) -> Counter[Any]:
    return Counter(getattr(one, "status", one) for one in seen)


# A common start


@drivers(threads=64, tasks=1000, of=TASKS)
def test_many_callers_without_a_token_cost_one_token_request(
    sandbox: Sandbox, gate: Gate, make: Callable[..., Any], driver: Driver, callers: int, clients: int
) -> None:
    gate.close()
    auth = make(driver)

    with driver.open(auth, clients) as client, ThreadPoolExecutor(1) as pool:
        crowd = pool.submit(client.crowd, callers, "GET", f"{sandbox.url}/media/jobs")
        eventually(lambda: waiting_for(auth) == callers)
        gate.open()
        seen = crowd.result(60)

    assert {200: callers} == statuses(seen)
    assert sandbox.token_requests == 1


@drivers(threads=64, tasks=1000, of=TASKS)
def test_many_callers_of_a_failed_fetch_get_equal_errors_from_one_series_of_tries(
    sandbox: Sandbox, gate: Gate, make: Callable[..., Any], driver: Driver, callers: int, clients: int
) -> None:
    gate.close()
    clock = HastyClock()
    auth = make(driver, clock=clock)
    sandbox.fail_token_requests(status=503, times=10 * callers)

    with driver.open(auth, clients) as client, ThreadPoolExecutor(1) as pool:
        crowd = pool.submit(client.crowd, callers, "GET", f"{sandbox.url}/media/jobs")
        eventually(lambda: waiting_for(auth) == callers)
        gate.open()
        seen = crowd.result(60)

    assert all(type(one) is driver.adapter.TokenError for one in seen)
    assert callers == len({id(one) for one in seen})
    assert len({(str(one), *error_fields(one)) for one in seen}) == 1
    assert (sandbox.token_requests, len(clock.slept), sandbox.api_calls) == (4, 3, 0)


def error_fields(error: Any) -> tuple[object, ...]:
    return (error.status_code, error.reason, error.description, error.retry_after, error.retryable)


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_threads_and_two_event_loops_wait_for_the_same_fetch(
    sandbox: Sandbox, gate: Gate, make: Callable[..., Any], library: str
) -> None:
    gate.close()
    kinds: list[tuple[Driver, int, int]] = [
        (HttpxDriver(library), 32, 1),
        (AsyncHttpxDriver(library, "asyncio"), 50, 2),
        (AsyncHttpxDriver(library, "trio"), 50, 2),
    ]
    auth = make(kinds[0][0])

    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(3))
        crowds = []
        for driver, callers, clients in kinds:
            client = stack.enter_context(driver.open(auth, clients))
            crowds.append(pool.submit(client.crowd, callers, "GET", f"{sandbox.url}/media/jobs"))
        eventually(lambda: waiting_for(auth) == 132)
        gate.open()
        seen = [one for crowd in crowds for one in crowd.result(60)]

    assert {200: 132} == statuses(seen)
    assert sandbox.token_requests == 1


# Renewals


@drivers(threads=16, tasks=200, of=SOME_TASKS)
def test_nobody_waits_for_a_renewal(
    sandbox: Sandbox, gate: Gate, make: Callable[..., Any], driver: Driver, callers: int, clients: int
) -> None:
    """All callers continue while a renewal is blocked. Each renewal costs one token request."""
    clock = FakeClock()
    set_sandbox_clock(sandbox, clock.time)
    auth = make(driver, clock=clock, expires_in=4)

    with driver.open(auth, clients) as client:
        seen = client.crowd(callers, "GET", f"{sandbox.url}/media/jobs")
        for earlier in (1, 2):
            gate.close()
            clock.advance(3.2)
            for _ in range(2):
                seen += client.crowd(callers, "GET", f"{sandbox.url}/media/jobs")
            assert (sandbox.token_requests, not is_fetching(source_of(auth))) == (earlier, False)
            gate.open()
            wait_for_fetches()
            seen += client.crowd(callers, "GET", f"{sandbox.url}/media/jobs")

    assert {200: 7 * callers} == statuses(seen)
    assert (sandbox.token_requests, sandbox.unauthorized) == (3, 0)
    assert [False, True, True] == [record.early for record in sandbox.token_log]


# Revocations


@drivers(threads=64, tasks=500, of=SOME_TASKS)
def test_a_revocation_costs_one_token_request_and_no_call_fails(
    sandbox: Sandbox,
    observers: list[Observer],
    make: Callable[..., Any],
    driver: Driver,
    callers: int,
    clients: int,
) -> None:
    """Two revocations a few seconds apart, each in the middle of a crowd, cost two token requests."""
    clock = FakeClock()
    auth = make(driver, clock=clock)
    until_revocation = 0

    def revoke(record: RequestRecord) -> None:
        nonlocal until_revocation
        if record.path == "/media/jobs":
            until_revocation -= 1
            if until_revocation == 0:
                sandbox.revoke_all()

    with driver.open(auth, clients) as client:
        seen = client.crowd(1, "GET", f"{sandbox.url}/media/jobs")
        observers.append(revoke)
        for revocations in (1, 2):
            until_revocation = callers // 4
            seen += client.crowd(callers, "GET", f"{sandbox.url}/media/jobs")
            assert sandbox.token_requests == 1 + revocations
            clock.advance(2)

    assert {200: 2 * callers + 1} == statuses(seen)
    assert sandbox.unauthorized >= 2


@each([*THREADS, *SOME_TASKS])
def test_a_late_401_is_retried_with_the_current_token_and_does_not_replace_it(
    sandbox: Sandbox, api: Server, make: Callable[..., Any], driver: Driver
) -> None:
    late, arrived = threading.Event(), threading.Event()
    first: list[str | None] = []

    def answer(received: Received) -> Reply:
        if received.path == "/late" and not first:
            first.append(received.token)
            arrived.set()
            assert late.wait(30)
            return Reply(401)
        return Reply()

    api.answer = answer
    auth = make(driver, api)

    with driver.open(auth) as client, driver.open(auth) as other, ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.get, f"{api.url}/late")
        assert arrived.wait(30)
        sandbox.revoke_all()
        assert other.get(f"{sandbox.url}/media/jobs").status == 200
        late.set()

        assert call.result(30).status == 200
        assert other.get(f"{sandbox.url}/media/jobs").status == 200
    assert sandbox.token_requests == 2
    assert api.log[-1].token not in first


# Refusals


@drivers(threads=20, tasks=200, of=SOME_TASKS[:1])
def test_an_api_that_refuses_every_token_costs_few_token_requests(
    sandbox: Sandbox, api: Server, make: Callable[..., Any], driver: Driver, callers: int, clients: int
) -> None:
    """Each request gets its own 401. Another API that accepts the token never waits and costs no more tokens."""
    sandbox.refuse_tokens = True
    # The allowance grows with the time, and a busy machine takes long for so many calls.
    auth = make(driver, api, clock=FakeClock())

    with driver.open(auth, clients) as client, driver.open(auth) as other, ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(lambda: [other.get(api.url) for _ in range(50)])
        refused = [one for _ in range(5) for one in client.crowd(callers, "GET", f"{sandbox.url}/media/jobs")]

        assert {200: 50} == statuses(list(accepted.result(60)))
    assert {401: 5 * callers} == statuses(refused)
    assert 2 <= sandbox.token_requests <= 5


@each([*THREADS, *SOME_TASKS])
def test_other_hosts_use_a_refused_token_while_it_is_replaced(
    sandbox: Sandbox, api: Server, gate: Gate, make: Callable[..., Any], driver: Driver
) -> None:
    auth = make(driver, api)

    with driver.open(auth) as client, driver.open(auth) as other, ThreadPoolExecutor(1) as pool:
        client.get(f"{sandbox.url}/media/jobs")
        sandbox.revoke_all()
        gate.asked = threading.Semaphore(0)
        gate.close()
        retried = pool.submit(partial(client.get, f"{sandbox.url}/media/jobs"))
        assert gate.asked.acquire(timeout=30)

        assert [200] * 3 == [other.get(api.url).status for _ in range(3)]
        assert not retried.done()
        gate.open()
        assert retried.result(30).status == 200
    assert sandbox.token_requests == 2


@each([*THREADS, *SOME_TASKS])
@pytest.mark.parametrize("begun_by", ["a renewal", "another host"])
def test_a_call_that_is_refused_during_a_fetch_waits_for_that_fetch(
    sandbox: Sandbox, api: Server, gate: Gate, make: Callable[..., Any], driver: Driver, begun_by: str
) -> None:
    """Not for a second one: the running renewal, or the replacement that another host has caused, is for it too."""
    clock = FakeClock()
    auth = make(driver, api, clock=clock)

    with driver.open(auth) as client, driver.open(auth) as other, ThreadPoolExecutor(2) as pool:
        client.get(api.url)
        gate.close()
        if begun_by == "a renewal":
            clock.advance(1600)
            assert other.get(api.url).status == 200
            calls = []
        else:
            sandbox.revoke_all()
            calls = [pool.submit(other.get, f"{sandbox.url}/media/jobs")]
            eventually(lambda: waiting_for(auth) == 1)
        refused = api.log[0].token
        api.answer = lambda received: Reply(401 if received.token == refused else 200)
        calls.append(pool.submit(client.get, api.url))
        eventually(lambda: waiting_for(auth) == len(calls))
        gate.open()

        assert {(200, 401)} == {(call.result(30).status, *call.result().history) for call in calls}
    assert sandbox.token_requests == 2


# Clocks that jump


@each([*THREADS, *SOME_TASKS])
@pytest.mark.parametrize("jumps", [2, pytest.param(100, marks=pytest.mark.slow)])
def test_each_forward_jump_of_the_wall_clock_during_calls_costs_one_token_request(
    sandbox: Sandbox, api: Server, make: Callable[..., Any], driver: Driver, jumps: int
) -> None:
    """It jumps forward by a day, and back by an hour. Each day, the token has expired by the wall clock."""
    clock, stopped = FakeClock(), threading.Event()
    auth = make(driver, api, clock=clock)
    seen: list[Seen | Exception] = []

    def call() -> None:
        while not stopped.is_set():
            seen.extend(client.crowd(16, "GET", api.url))

    def wait_for_calls() -> None:
        """Wait for 16 calls that began after this moment. As many may be under way."""
        enough = len(api.log) + 32
        eventually(lambda: len(api.log) >= enough)

    with driver.open(auth) as client, ThreadPoolExecutor(1) as pool:
        calls = pool.submit(call)
        for _ in range(jumps):
            for step in (86_400.0, -3_600.0):
                wait_for_calls()
                clock.step_wall(step)
        wait_for_calls()
        stopped.set()
        calls.result(60)

    assert {200} == set(statuses(seen))
    assert 1 + jumps == sandbox.token_requests == len({received.token for received in api.log})
