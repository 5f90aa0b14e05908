"""
The life of a process: forks, spawned workers, signals, missing threads, clocks that jump, and the end of the
interpreter.

Code that forks or ends a process runs in separate processes. They use a sandbox in this process, which counts their
token requests.
"""

from __future__ import annotations

import copy
import json
import os
import pickle
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import requests
import trustme

import dolby_auth_plugin
from dolby_auth_plugin import AccessToken, TokenError
from dolby_auth_plugin import requests as requests_adapter
from dolby_auth_plugin._core.source import TokenSource
from dolby_auth_plugin.sandbox import Sandbox

from ..caches.redis_servers import PROGRAM, fake_redis, real_redis
from ..contract import CLASSIC, on_clock, server_context
from ..drivers import Driver
from ..fakes import FakeClock, ScriptedSender, answer, eventually, in_threads, make_source, wait_for_fetches
from ..internals import begin_fetch, is_forkable, lock_of, refuse, set_sandbox_clock, source_of
from ..matrix import ASYNC, HTTPX, REQUESTS, SYNC, each
from ..servers import Received, Reply, serving

PACKAGE = Path(dolby_auth_plugin.__file__).parent

# The import path of the scripts. They run in another folder, where a relative PYTHONPATH would not work.
IMPORTABLE = [str(PACKAGE.parent), str(Path(__file__).parents[2]), *(str(Path(path).resolve()) for path in sys.path)]

# Seconds. A process that takes longer is stuck.
BOUND = 20

# Seconds of a token request for which no process may wait. Longer than BOUND, so that a process that waits is detected.
SILENCE = 100.0

DAY, HOUR = 86_400.0, 3_600.0

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
needs_posix_signals = pytest.mark.skipif(
    not hasattr(signal, "pthread_kill"), reason="no way to send a signal to one thread on this system"
)

every_driver = each([REQUESTS, HTTPX, *ASYNC])


def kinds(*often: str, seldom: Iterable[str] = ()) -> pytest.MarkDecorator:
    """
    The libraries and event loops, as `tests.child` reads them, for which a script runs.

    A process takes a quarter of a second. So the suite runs a script for those *often* whose code it needs, and `nox -s slow`
    runs the ones of *seldom*.
    """
    return pytest.mark.parametrize("kind", [*often, *(pytest.param(kind, marks=pytest.mark.slow) for kind in seldom)])


class Child:
    """A Python process that runs a script. It has its own session, so that its children can be ended with it."""

    def __init__(
        self,
        command: list[str],
        sandbox: Sandbox,
        folder: Path,
        *,
        kind: str = "requests",
        environment: dict[str, str] | None = None,
        inherit: tuple[int, ...] = (),
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            start_new_session=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(IMPORTABLE),
                "CHILD_KIND": kind,
                "CHILD_URL": sandbox.url,
                "DOLBYIO_APP_KEY": sandbox.app_key,
                "DOLBYIO_APP_SECRET": sandbox.app_secret,
                **(environment or {}),
            },
            pass_fds=inherit,
        )

    def outcome(self) -> tuple[int, str, str]:
        """Its exit code, its standard output and its standard error."""
        try:
            out, err = self._process.communicate(timeout=BOUND)
        except subprocess.TimeoutExpired:
            # In development mode, this signal makes it print the stacks of its threads.
            self._process.send_signal(signal.SIGABRT)
            self._process.wait()
            self.kill()
            pytest.fail(f"a process is stuck:\n{self._process.communicate()[1]}")
        return self._process.returncode, out, err

    def facts(self) -> dict[str, Any]:
        """The facts that it reported. It must have ended with code 0, and written nothing to standard error."""
        code, out, err = self.outcome()
        assert (0, "") == (code, err)
        facts: dict[str, Any] = json.loads(out)
        return facts

    def terminate(self) -> None:
        self._process.terminate()

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it and all its children that are left."""
        with suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()

    def clean_up(self) -> None:
        self.kill()
        self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()


Start = Callable[..., Child]


@pytest.fixture
def start(sandbox: Sandbox, tmp_path: Path) -> Iterator[Start]:
    """Start a script with arguments. *kind* is the library and the event loop, as `tests.child` reads it."""
    children: list[Child] = []

    def start(script: str, *arguments: str, kind: str = "requests") -> Child:
        path = tmp_path / f"script_{len(children)}.py"
        path.write_text(script)
        children.append(Child([str(path), *arguments], sandbox, tmp_path, kind=kind))
        return children[-1]

    yield start
    for child in children:
        child.clean_up()


# Fork

FORK = """
import sys, threading
from tests.child import auth_with_a_fetch_in_flight, exit_code, fork, make_auth, status, tell
from tests.internals import lock_of, source_of

held, done = threading.Event(), threading.Event()

def hold_the_lock():
    with lock_of(source_of(auth)):
        held.set()
        assert done.wait(10)

state = sys.argv[1]
auth = auth_with_a_fetch_in_flight() if state == "a fetch in flight" else make_auth()
if state == "a token":
    auth.token()
if state == "the lock held":
    threading.Thread(target=hold_the_lock).start()
    assert held.wait(10)

child = fork(lambda: [status(auth), status(auth)] == [200, 200])
done.set()

tell(parent=[status(auth), status(auth)], child=exit_code(child))
"""


@needs_fork
@pytest.mark.parametrize(
    ("state", "token_requests"),
    [
        pytest.param("no token", 2, marks=pytest.mark.slow),
        # The child inherits the token of the parent.
        ("a token", 1),
        ("a fetch in flight", 2),
        ("the lock held", 2),
    ],
)
@kinds("requests", seldom=["httpx", "httpx2-trio"])
def test_a_fork_leaves_parent_and_child_working(
    state: str, token_requests: int, kind: str, sandbox: Sandbox, start: Start
) -> None:
    sandbox.latency = 0.2

    child = start(FORK, state, kind=kind)

    assert child.facts() == {"parent": [200, 200], "child": 0}
    assert token_requests == sandbox.token_requests


FORK_IN_A_SHARED_FETCH = """
import sys, threading
import requests
from requests.adapters import HTTPAdapter
from tests.child import exit_code, fork, make_auth, status, tell
from dolby_auth_plugin import FileTokenCache, RedisTokenCache

class Adapter(HTTPAdapter):
    def send(self, *arguments, **options):
        asking.set()
        return super().send(*arguments, **options)

asking = threading.Event()
session = requests.Session()
session.mount("http://", Adapter())
kind, where = sys.argv[1:]
auth = make_auth(cache=FileTokenCache(where) if kind == "file" else RedisTokenCache(where), session=session)
fetch = threading.Thread(target=auth.token)
fetch.start()
# The fetch has the lock of the cache, and waits for the token.
assert asking.wait(10)
children = [fork(lambda: [status(auth), status(auth)] == [200, 200]) for _ in range(3)]
is_running = fetch.is_alive()
fetch.join()
session.close()

tell(running=is_running, parent=status(auth), children=[exit_code(child) for child in children])
"""


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "redis"])
def test_children_that_are_forked_in_a_shared_fetch_take_its_token(
    kind: str, sandbox: Sandbox, start: Start, tmp_path: Path
) -> None:
    """They inherit the files and the connection of the fetch, and use neither: its lock stays, and nobody warns of the cache."""
    sandbox.latency = 1.0
    with ExitStack() as servers:
        where = str(tmp_path / "cache") if kind == "file" else redis_url(servers, tmp_path)

        facts = start(FORK_IN_A_SHARED_FETCH, kind, where).facts()

    assert facts == {"running": True, "parent": 200, "children": [0] * 3}
    assert sandbox.token_requests == 1


def redis_url(servers: ExitStack, folder: Path) -> str:
    """The URL of a new server, which is real if one is installed."""
    return servers.enter_context(fake_redis()) if PROGRAM is None else servers.enter_context(real_redis(folder)).url


FORK_STORM = """
import threading
from dolby_auth_plugin import AppCredentials, TokenError
from dolby_auth_plugin._core.endpoint import TokenEndpoint, TokenResponse
from dolby_auth_plugin._core.fetch import Fetcher
from dolby_auth_plugin._core.source import TokenSource
from tests.child import exit_code, fork, tell

# No network, because the locks of C libraries are not tested here.
endpoint = TokenEndpoint("https://api.dolby.io/v1/auth/token", None, 1800, "host/1.0")
send = lambda request, seconds: TokenResponse(200, None, b'{"access_token": "abc"}')
source = TokenSource(Fetcher(endpoint, AppCredentials("key", "secret"), send), TokenError)
ended = threading.Event()

def call():
    while not ended.is_set():
        source.invalidate()
        source.token()

def in_child():
    source.invalidate()
    return source.token().value == "abc"

threads = [threading.Thread(target=call) for _ in range(3)]
for thread in threads:
    thread.start()
codes = [exit_code(fork(in_child)) for _ in range(25)]
ended.set()
for thread in threads:
    thread.join()
tell(codes=codes)
"""


@needs_fork
def test_a_fork_at_any_moment_of_calls_in_other_threads_leaves_the_child_working(start: Start) -> None:
    assert start(FORK_STORM).facts() == {"codes": [0] * 25}


FORK_DURING_UNFORKABLE_WORK = """
import threading, time
from dolby_auth_plugin._core.forks import unforkable
from tests.child import exit_code, fork, tell

begun, done = threading.Event(), []

def work():
    with unforkable:
        begun.set()
        time.sleep(0.2)
        done.append(True)

threading.Thread(target=work).start()
assert begun.wait(10)
child = fork(lambda: done == [True])
tell(parent=done, child=exit_code(child))
"""


@needs_fork
def test_a_fork_waits_for_the_end_of_work_that_it_must_not_interrupt(start: Start) -> None:
    assert start(FORK_DURING_UNFORKABLE_WORK).facts() == {"parent": [True], "child": 0}


@pytest.mark.usefixtures("trust")
@pytest.mark.parametrize("scheme", ["http", "https"])
@each(SYNC)
def test_all_auth_objects_share_one_tls_context_and_no_fork_interrupts_its_making(
    scheme: str, driver: Driver, authority: trustme.CA
) -> None:
    """Making one blocks all threads. A fork in the middle would leave OpenSSL's own locks locked in the child."""
    forkable: list[bool] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code is ssl.SSLContext.__new__.__code__:
            forkable.append(is_forkable())

    with serving(server_context(authority) if scheme == "https" else None) as server:
        server.answer = lambda _: Reply(body=b'{"access_token":"abc"}')
        threading.setprofile(note)
        try:
            for _ in range(2):
                auth = driver.adapter.DolbyAuth(**CLASSIC, token_url=f"{server.url}/token")
                assert auth.token().value == "abc"
        finally:
            threading.setprofile(None)

    # A client of httpx has one without TLS too.
    assert forkable == ([] if (driver.name, scheme) == ("requests", "http") else [False])


IMPORTS = """
import sys
from tests.child import make_auth, tell

auth = make_auth()
before = set(sys.modules)
auth.token()
tell(imported=sorted(set(sys.modules) - before))
"""


@kinds("requests", "httpx", seldom=["httpx2"])
def test_a_fetch_imports_nothing(kind: str, start: Start) -> None:
    """If a process forks while a thread imports a module, the child waits for ever to import the same module."""
    assert start(IMPORTS, kind=kind).facts() == {"imported": []}


# multiprocessing

POOL = """
import multiprocessing, sys
from tests.child import library, make_auth, session_status, status_and_token, tell

def main():
    auth = make_auth()
    mine = auth.token().value
    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
        seen, theirs = pool.apply(status_and_token, [auth])
        with library.Session() as session:
            session.auth = auth
            of_session = pool.apply(session_status, [session])
        pool.close()
        pool.join()
    tell(statuses=[seen, of_session], own=mine != theirs, kept=mine == auth.token().value)

if __name__ == "__main__":
    main()
"""


@needs_fork
@pytest.mark.parametrize("methods", [["forkserver"], pytest.param(["fork", "spawn"], marks=pytest.mark.slow)])
def test_an_auth_object_that_is_passed_to_another_process_obtains_its_own_token(
    methods: list[str], sandbox: Sandbox, start: Start
) -> None:
    """The process may be started in any way. A session with an auth object works too."""
    children = [start(POOL, method) for method in methods]

    expected = {"statuses": [200, 200], "own": True, "kept": True}
    assert [expected] * len(methods) == [child.facts() for child in children]
    # Each time one for the parent, and one for each object that was pickled.
    assert len(methods) * (1 + 2) == sandbox.token_requests


# gunicorn

APPLICATION = """
import os
from tests.child import auth_with_a_fetch_in_flight, make_auth, status

state = os.environ["AUTH_STATE"]
auth = auth_with_a_fetch_in_flight() if state == "a fetch in flight" else make_auth()
if state == "a token":
    auth.token()
loaded_by = os.getpid()

def application(environ, start_response):
    assert os.getpid() != loaded_by, "not preloaded"
    body = str(os.getpid()).encode()
    start_response(f"{status(auth)} from the API", [("Content-Length", str(len(body)))])
    return [body]
"""


class Gunicorn:
    """gunicorn with an application that it preloads for two workers."""

    def __init__(self, state: str, worker: str, folder: Path) -> None:
        folder.mkdir()
        (folder / "app.py").write_text(APPLICATION)
        self.sandbox = Sandbox().start()
        self.sandbox.latency = 0.3
        # Long enough that one worker can't serve all calls.
        self.sandbox.api_latency = 0.05
        # It listens from now on. Calls wait in the kernel until the workers accept them.
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        number = self._socket.fileno()
        self.child = Child(
            [
                # This test forks while a fetch runs. Python 3.12 and later warn of that.
                *("-W", "ignore:This process:DeprecationWarning"),
                # gunicorn leaves its duplicate of an inherited socket to the garbage collector.
                *("-W", "ignore:unclosed <socket:ResourceWarning"),
                *("-m", "gunicorn", "--preload", "--workers", "2", "--worker-class", worker, "--threads", "2"),
                *("--bind", f"fd://{number}", "--no-control-socket", "--log-level", "warning", "app:application"),
            ],
            self.sandbox,
            folder,
            environment={"AUTH_STATE": state},
            inherit=(number,),
        )

    def ask(self, count: int) -> list[tuple[int, str]]:
        """Send *count* calls that start together. Return the status and the worker of each."""
        url = "http://127.0.0.1:{1}/".format(*self._socket.getsockname())

        def call(_: int) -> tuple[int, str]:
            response = requests.get(url, timeout=BOUND)
            return response.status_code, response.text

        return in_threads(count, call)

    def close(self) -> None:
        self.child.clean_up()
        self._socket.close()
        self.sandbox.stop()


# Token requests: those of the master before it forks, and one for each worker that inherits no token.
PREFORK = {"no token": ("sync", 0 + 2), "a token": ("sync", 1 + 0), "a fetch in flight": ("gthread", 1 + 2)}


@pytest.fixture(scope="module")
def gunicorns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Gunicorn]]:
    """One server for each state of the auth object at the fork. They start together to save time."""
    folder = tmp_path_factory.mktemp("gunicorn")
    servers = {
        state: Gunicorn(state, worker, folder / str(index))
        for index, (state, (worker, _)) in enumerate(PREFORK.items())
    }
    yield servers
    for server in servers.values():
        server.close()


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize("state", PREFORK)
def test_gunicorn_workers_work_with_an_auth_object_of_their_master(state: str, gunicorns: dict[str, Gunicorn]) -> None:
    server = gunicorns[state]
    workers: set[str] = set()

    for _ in range(50):
        seen = server.ask(4)
        assert [200] * 4 == [status for status, _ in seen]
        workers |= {worker for _, worker in seen}
        if len(workers) == 2:
            break
    server.child.terminate()

    assert (0, "", "") == server.child.outcome()
    assert (2, PREFORK[state][1]) == (len(workers), server.sandbox.token_requests)


# Copies


def pickled(auth: Any) -> Any:
    return pickle.loads(pickle.dumps(auth))


def a_token_held(auth: Any, sandbox: Sandbox) -> None:
    auth.token()


def a_fetch_in_flight(auth: Any, sandbox: Sandbox) -> None:
    sandbox.latency = 0.05
    begin_fetch(auth)


def a_failure_remembered(auth: Any, sandbox: Sandbox) -> None:
    sandbox.fail_token_requests(status=401)
    with pytest.raises(TokenError):
        auth.token()


@each(SYNC)
@pytest.mark.parametrize("state", [a_token_held, a_fetch_in_flight, a_failure_remembered])
def test_duplicates_obtain_their_own_token_in_any_state_of_the_original(
    driver: Driver, state: Callable[[Any, Sandbox], None], sandbox: Sandbox
) -> None:
    auth = driver.adapter.DolbyAuth(**sandbox.options)
    state(auth, sandbox)

    duplicates = [make(auth) for make in (copy.copy, copy.deepcopy, pickled)]

    assert 3 == len({duplicate.token().value for duplicate in duplicates})
    wait_for_fetches()
    assert 1 + 3 == sandbox.token_requests


def test_duplicates_can_be_made_while_the_lock_is_held(sandbox: Sandbox) -> None:
    auth = requests_adapter.DolbyAuth(**sandbox.options)
    with lock_of(source_of(auth)):
        # In another thread, so that the wait for it has a limit.
        [duplicates] = in_threads(1, lambda _: [make(auth) for make in (copy.copy, copy.deepcopy, pickled)])

        assert 3 == len({duplicate.token().value for duplicate in duplicates})


# Without threads


@contextmanager
def no_threads_for_fetches() -> Iterator[None]:
    """Inside the block, no thread for a fetch can be started. Clients and servers of the test can start theirs."""

    def limited(thread: threading.Thread) -> None:
        if thread.name == "dolby-auth-token":
            raise RuntimeError("can't start new thread")
        start(thread)

    start = threading.Thread.start
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", limited)
        yield


@every_driver
def test_without_threads_many_callers_cost_one_token_request(driver: Driver, sandbox: Sandbox) -> None:
    sandbox.latency = 0.1
    with driver.open(driver.adapter.DolbyAuth(**sandbox.options)) as client, no_threads_for_fetches():
        seen = client.crowd(16, "GET", f"{sandbox.url}/media/jobs")

    assert [200] * 16 == [getattr(one, "status", one) for one in seen]
    assert sandbox.token_requests == 1


@every_driver
def test_without_threads_a_failure_reaches_all_callers_for_one_token_request(driver: Driver, sandbox: Sandbox) -> None:
    sandbox.latency = 0.1
    sandbox.fail_token_requests(status=403)
    with driver.open(driver.adapter.DolbyAuth(**sandbox.options)) as client, no_threads_for_fetches():
        seen = client.crowd(16, "GET", f"{sandbox.url}/media/jobs")

    assert [403] * 16 == [getattr(one, "status_code", one) for one in seen]
    assert sandbox.token_requests == 1


@every_driver
def test_without_threads_a_refused_request_is_sent_again(driver: Driver, sandbox: Sandbox) -> None:
    with driver.open(driver.adapter.DolbyAuth(**sandbox.options)) as client, no_threads_for_fetches():
        client.get(f"{sandbox.url}/media/jobs")
        sandbox.revoke_all()
        seen = client.get(f"{sandbox.url}/media/jobs")

    assert (200, [401], 2) == (seen.status, seen.history, sandbox.token_requests)


@every_driver
def test_without_threads_a_token_is_used_until_it_expires(driver: Driver, sandbox: Sandbox) -> None:
    clock = FakeClock()
    set_sandbox_clock(sandbox, clock.time)
    auth = on_clock(driver.adapter.DolbyAuth(**sandbox.options), clock)
    counts: list[int] = []
    with driver.open(auth) as client, no_threads_for_fetches():
        for _ in range(7):
            assert client.get(f"{sandbox.url}/media/jobs").history == []
            counts.append(sandbox.token_requests)
            clock.advance(300)

    # Its renewal opens at 1,500 s, and it expires at 1,795 s.
    assert [1, 1, 1, 1, 1, 1, 1 + 1] == counts


LIMITED = """
import threading
from tests.child import make_auth, status, tell

auth = make_auth()
statuses, barrier = [], threading.Barrier(5)

def call():
    barrier.wait(10)
    statuses.append(status(auth))

threads = [threading.Thread(target=call) for _ in range(4)]
for thread in threads:
    thread.start()
threading.stack_size(1 << 44)  # more than there is memory for, so that no thread can be started
try:
    threading.Thread(target=call).start()
except RuntimeError:
    barrier.wait(10)
for thread in threads:
    thread.join()
tell(statuses=[*statuses, status(auth)])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other limits for the stack of a thread")
@kinds("httpx-asyncio", seldom=["requests"])
def test_a_process_that_cannot_start_threads_gets_its_token(kind: str, sandbox: Sandbox, start: Start) -> None:
    assert start(LIMITED, kind=kind).facts() == {"statuses": [200] * 5}
    assert sandbox.token_requests == 1


# The end of the interpreter

ATEXIT = """
import atexit, sys
from tests.child import auth_with_a_fetch_in_flight, make_auth, status, tell

state = sys.argv[1]
auth = auth_with_a_fetch_in_flight() if state == "a fetch in flight" else make_auth()
if state == "a token":
    auth.token()
atexit.register(lambda: tell(status=status(auth)))
"""


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("no token", "httpx2-asyncio"),
        pytest.param("no token", "requests", marks=pytest.mark.slow),
        pytest.param("no token", "httpx", marks=pytest.mark.slow),
        pytest.param("no token", "httpx-trio", marks=pytest.mark.slow),
        pytest.param("a token", "requests", marks=pytest.mark.slow),
        ("a fetch in flight", "requests"),
    ],
)
def test_a_call_in_atexit_still_works(state: str, kind: str, sandbox: Sandbox, start: Start) -> None:
    sandbox.latency = 0.2

    assert start(ATEXIT, state, kind=kind).facts() == {"status": 200}
    assert sandbox.token_requests == 1


DAEMON = """
import sys, threading
from tests.child import make_auth, status, tell

auth = make_auth()
began = [threading.Event() for _ in range(3)]

def call(event):
    while True:
        assert status(auth) == 200
        event.set()
        auth.invalidate()

for event in began:
    threading.Thread(target=call, args=[event], daemon=True).start()
assert all(event.wait(20) for event in began)
tell(calling=True)
"""


@pytest.mark.skipif(
    sys.version_info < (3, 11, 6),
    reason="Python itself crashes there if daemon threads start threads at its end, also without the library: python/cpython#108987",
)
@kinds("requests", seldom=["httpx2-asyncio"])
def test_daemon_threads_that_call_while_the_interpreter_ends_cause_no_output(kind: str, start: Start) -> None:
    """No crash, no hang, no traceback."""
    assert start(DAEMON, kind=kind).facts() == {"calling": True}


RUNNING_FETCH = """
from tests.child import auth_with_a_fetch_in_flight, tell

auth = auth_with_a_fetch_in_flight()
tell(ended=True)
"""


@kinds("requests", seldom=["httpx2"])
def test_a_running_fetch_does_not_delay_the_end_of_the_process(kind: str, sandbox: Sandbox, start: Start) -> None:
    sandbox.latency = SILENCE

    assert start(RUNNING_FETCH, kind=kind).facts() == {"ended": True}


# Interrupts

INTERRUPT = """
import atexit, sys
from tests.child import BACKEND, make_auth, run

auth = make_auth()

def wait():
    run(auth.atoken) if BACKEND else auth.token()

if sys.argv[1] == "in atexit":
    atexit.register(wait)
else:
    wait()
"""


@needs_posix_signals
@pytest.mark.parametrize(
    ("where", "kind", "code"),
    [
        ("in main", "requests", -signal.SIGINT),
        ("in main", "httpx-asyncio", -signal.SIGINT),
        pytest.param("in main", "httpx2-trio", -signal.SIGINT, marks=pytest.mark.slow),
        # Python only prints an exception that is raised there. From 3.12 on, no thread can be started there, and an
        # event loop whose own thread fetches gets an interrupt only after the fetch.
        ("in atexit", "requests", 0),
        pytest.param("in atexit", "httpx", 0, marks=pytest.mark.slow),
    ],
)
def test_an_interrupt_ends_the_wait_and_the_process(
    where: str, kind: str, code: int, sandbox: Sandbox, start: Start
) -> None:
    sandbox.latency = SILENCE
    child = start(INTERRUPT, where, kind=kind)
    # Now its thread waits for an answer. Python 3.11 may crash if it ends while a thread is busy.
    eventually(lambda: sandbox.token_requests == 1)

    child.interrupt()

    ended, _, complaint = child.outcome()
    assert (code, "KeyboardInterrupt") == (ended, complaint.split()[-1].rstrip(":."))
    assert "Fatal" not in complaint


AFTER_AN_INTERRUPT = """
import signal
from tests.child import credentials, interrupt_main_thread, make_auth, run, status, tell

asked = []

def ask():
    asked.append(True)
    if len(asked) == 1:
        interrupt_main_thread(signal.SIGINT)
    return credentials()

auth = make_auth(credentials=ask)
try:
    status(auth)
except KeyboardInterrupt:
    tell(statuses=[status(auth), status(auth)])
"""


@needs_posix_signals
@kinds("httpx-asyncio", seldom=["requests"])
def test_after_an_interrupt_the_auth_still_works(kind: str, sandbox: Sandbox, start: Start) -> None:
    """The fetch that the interrupted caller began serves the next one."""
    sandbox.latency = 0.3

    assert start(AFTER_AN_INTERRUPT, kind=kind).facts() == {"statuses": [200, 200]}


# Signal handlers

HANDLER = """
import signal
from tests.child import adapter, credentials, interrupt_main_thread, make_auth, status, tell

values, asked = [], []

def ask():
    asked.append(True)
    if len(asked) == 1:
        interrupt_main_thread(signal.SIGUSR1)
    return credentials()

auth = make_auth(credentials=ask)
signal.signal(signal.SIGUSR1, lambda *_: values.append(auth.token().value))
answer = status(auth)
tell(status=answer, handled=len(values))
"""


@needs_posix_signals
@kinds("requests", seldom=["httpx-asyncio"])
def test_a_signal_handler_may_ask_for_a_token_while_the_main_thread_waits_for_one(
    kind: str, sandbox: Sandbox, start: Start
) -> None:
    sandbox.latency = 0.1

    assert start(HANDLER, kind=kind).facts() == {"status": 200, "handled": 1}


def is_ours(frame: FrameType | None) -> bool:
    """Whether *frame* runs code of this package, or code of `threading` that the package called."""
    while frame is not None and frame.f_code.co_filename == threading.__file__:
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(str(PACKAGE))


def run_interrupted(step: int, work: Callable[[], object], handler: Callable[[], object]) -> bool:
    """
    Run *work*, and call *handler* at step number *step*, as a signal would.

    A step is a line, a call or a return in this package, or in code of `threading` that it called. Return whether the
    step was reached.
    """
    steps_left = step

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal steps_left
        if not is_ours(frame):
            return None
        steps_left -= 1
        if steps_left == 0:
            # The handler is not traced: tracing is off inside a trace function.
            handler()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return steps_left <= 0


def obtain() -> tuple[TokenSource, Callable[[], object]]:
    subject = make_source(ScriptedSender())
    return subject, subject.token


def obtain_without_threads() -> tuple[TokenSource, Callable[[], object]]:
    subject = make_source(ScriptedSender())

    def work() -> None:
        with no_threads_for_fetches():
            subject.token()

    return subject, work


def renew() -> tuple[TokenSource, Callable[[], object]]:
    clock = FakeClock()
    subject = make_source(ScriptedSender(), clock)
    subject.token()
    clock.advance(1500)
    return subject, subject.token


def replace_a_refused_token() -> tuple[TokenSource, Callable[[], object]]:
    subject = make_source(ScriptedSender())
    token = subject.token()

    def work() -> None:
        refuse(subject, token, "host:443")
        subject.token("host:443")

    return subject, work


def invalidate() -> tuple[TokenSource, Callable[[], object]]:
    subject = make_source(ScriptedSender())
    subject.token()
    return subject, subject.invalidate


@pytest.mark.parametrize(
    ("prepare", "handled"),
    [
        (obtain, "token"),
        (obtain_without_threads, "token"),
        (renew, "token"),
        pytest.param(replace_a_refused_token, "token", marks=pytest.mark.slow),
        (invalidate, "token"),
        pytest.param(obtain, "invalidate", marks=pytest.mark.slow),
        (replace_a_refused_token, "invalidate"),
    ],
)
def test_a_signal_handler_may_use_the_auth_wherever_it_interrupts(
    prepare: Callable[[], tuple[TokenSource, Callable[[], object]]], handled: str
) -> None:
    """The thread must not wait for itself, and the auth object must stay usable."""
    position = 0

    def interrupt_everywhere() -> None:
        nonlocal position
        found = True
        while found:
            position += 1
            subject, work = prepare()
            forgotten: list[AccessToken | None] = []

            def invalidate(subject: TokenSource = subject, forgotten: list[AccessToken | None] = forgotten) -> None:
                forgotten.append(subject.ready())
                subject.invalidate()

            def token(subject: TokenSource = subject) -> None:
                """The handler gets a token, or an error at once if it would wait for itself."""
                try:
                    subject.token()
                except TokenError as error:
                    if error.reason != "would wait for itself":
                        raise

            found = run_interrupted(position, work, token if handled == "token" else invalidate)
            assert forgotten in ([], [None]) or subject.ready() not in forgotten
            subject.invalidate()
            assert subject.token().value

    # In a thread that is left behind if it is stuck.
    errors: list[BaseException] = []

    def run() -> None:
        try:
            interrupt_everywhere()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    last = 0
    while thread.is_alive() and (last != position or not position):
        last = position
        thread.join(8)

    assert not thread.is_alive(), f"stuck when interrupted at step {position}"
    assert not errors, errors
    assert position > 10


# Clocks


SUSPENDED, FORWARD, BACK = HOUR, DAY, -DAY


def test_a_token_renewed_while_the_wall_clock_was_set_back_is_replaced_once_after_the_correction() -> None:
    sender, clock = ScriptedSender(), FakeClock()
    subject = make_source(sender, clock)
    subject.token()
    clock.step_wall(BACK)
    clock.advance(1795)

    renewed = subject.token()

    assert ("token-2", clock.time() + 1800) == (renewed.value, renewed.expires_at.timestamp())
    assert ["token-2"] * 50 == [subject.token().value for _ in range(50)]
    clock.step_wall(-BACK)
    assert ["token-3"] * 50 == [subject.token().value for _ in range(50)]
    wait_for_fetches()
    assert sender.count == 3


@pytest.mark.parametrize("step", [SUSPENDED, FORWARD, BACK])
def test_a_jump_of_the_wall_clock_does_not_change_the_memory_of_a_failure(step: float) -> None:
    """So a caller on a machine that wakes up gets a token at most three seconds later."""
    sender, clock = ScriptedSender(answer(401)), FakeClock()
    subject = make_source(sender, clock)
    with pytest.raises(TokenError):
        subject.token()

    clock.step_wall(step)

    with pytest.raises(TokenError):
        subject.token()
    assert sender.count == 1
    clock.advance(3)
    assert subject.token().value == "token-2"


@pytest.mark.parametrize("step", [SUSPENDED, FORWARD, BACK])
def test_a_jump_of_the_wall_clock_does_not_change_the_allowance(step: float) -> None:
    """The allowance uses the monotonic clock, which runs only while requests can be sent."""
    sender, clock = ScriptedSender(), FakeClock()
    subject = make_source(sender, clock)

    def replacements() -> int:
        """The number of refused tokens that are replaced before callers get the host's 401s."""
        count = 0
        while refuse(subject, subject.token("host:443"), "host:443"):
            count += 1
        return count

    assert replacements() == 4
    clock.step_wall(step)
    assert replacements() == 0
    clock.advance(20)
    assert replacements() == 1


def test_after_a_suspension_a_host_gets_a_new_token_even_if_the_allowance_is_used_up() -> None:
    """The refused token has expired by then."""
    sender, clock = ScriptedSender(), FakeClock()
    subject = make_source(sender, clock)
    while refuse(subject, subject.token("host:443"), "host:443"):
        pass
    refused = subject.token("host:443")

    clock.step_wall(SUSPENDED)

    assert subject.token("host:443").value != refused.value
    assert sender.count == 6


def test_after_a_suspension_failed_renewals_do_not_cause_a_token_request_per_call() -> None:
    """The token has expired by the wall clock, and the endpoint still fails. Callers get the remembered failure."""
    sender, clock = ScriptedSender(), FakeClock()
    subject = make_source(sender, clock)
    subject.token()
    sender.script = [answer(403)] * 9
    clock.advance(1500)
    subject.token()
    wait_for_fetches()

    clock.step_wall(SUSPENDED)

    for _ in range(20):
        with pytest.raises(TokenError):
            subject.token()
    assert sender.count == 2


@every_driver
@pytest.mark.parametrize(
    ("step", "token_requests"), [(SUSPENDED, 2), (FORWARD, 2), (BACK, 1)], ids=["suspended", "forward", "back"]
)
def test_calls_after_a_jump_of_the_wall_clock_see_no_401(
    driver: Driver, step: float, token_requests: int, sandbox: Sandbox
) -> None:
    clock = FakeClock()
    # The clock of the service is always right: it includes the time that the suspended machine missed.
    served = {"late": 0.0}
    set_sandbox_clock(sandbox, lambda: clock.monotonic() + served["late"])
    with driver.open(on_clock(driver.adapter.DolbyAuth(**sandbox.options), clock)) as client:
        client.get(f"{sandbox.url}/media/jobs")

        clock.step_wall(step)
        if step == SUSPENDED:
            served["late"] = step

        assert [(200, [])] * 5 == [
            (seen.status, seen.history) for seen in (client.get(f"{sandbox.url}/media/jobs") for _ in range(5))
        ]
        assert token_requests == sandbox.token_requests
        # The life of the token follows the monotonic clock, which was not set.
        clock.advance(1796)
        assert [(200, [])] * 2 == [
            (seen.status, seen.history) for seen in (client.get(f"{sandbox.url}/media/jobs") for _ in range(2))
        ]
    assert token_requests + 1 == sandbox.token_requests


@every_driver
@pytest.mark.parametrize("step", [SUSPENDED, FORWARD, BACK], ids=["suspended", "forward", "back"])
def test_a_call_whose_token_arrived_while_the_clock_jumped_is_answered(
    driver: Driver, step: float, sandbox: Sandbox
) -> None:
    """The later calls do not cost a token request each."""
    clock = FakeClock()
    with serving() as api:
        issued: list[str] = []

        def reply(received: Received) -> Reply:
            if received.path != "/token":
                return Reply(200 if received.token == f"Bearer {issued[-1]}" else 401)
            if not issued:
                clock.step_wall(step)
            issued.append(f"token-{len(issued)}")
            return Reply(body=json.dumps({"access_token": issued[-1], "expires_in": 1800}).encode())

        api.answer = reply
        auth = driver.adapter.DolbyAuth("key", "secret", token_url=f"{api.url}/token", allowed_hosts=[api.host])
        with driver.open(on_clock(auth, clock)) as client:
            seen = [client.get(api.url) for _ in range(6)]

    assert [(200, [])] * 6 == [(one.status, one.history) for one in seen]
    assert (1 if step == BACK else 2) == len(issued)
