"""The cache in Redis: its contract, Redis in trouble, what it shows and how it travels."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.sentinel
import trustme

import dolby_auth_plugin
from dolby_auth_plugin.caches.contract import TokenCacheContract
from dolby_auth_plugin.caches.redis import RedisTokenCache

from ..fakes import FakeClock, eventually
from ..internals import REDIS_BUDGET, read_redis_budget_by, set_redis_budget
from ..servers import refusing
from .redis_servers import (
    NOTHING,
    PROGRAM,
    RealRedis,
    ScriptedRedis,
    fake_redis,
    free_ports,
    known_answer,
    real_cluster,
    real_redis,
    real_sentinel,
    scripted_redis,
)

KEY = "0123456789abcdef" * 4
ENTRY = bytes(range(256))
PASSWORD = "Hushabye"


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may stall any test for a second. Tests of the budget set their own."""
    set_redis_budget(20.0, monkeypatch)


@pytest.fixture(scope="session")
def needs_redis(request: pytest.FixtureRequest) -> None:
    if PROGRAM is None:
        (pytest.fail if request.config.getoption("--redis-server") else pytest.skip)("redis-server is not on the PATH")


@pytest.fixture(scope="module")
def redis_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server if there is one, else the one of fakeredis."""
    if PROGRAM is not None or request.config.getoption("--redis-server"):
        request.getfixturevalue("needs_redis")
        with real_redis(tmp_path_factory.mktemp("redis")) as server:
            yield server.url
    else:
        with fake_redis() as url:
            yield url


@pytest.fixture
def scripted() -> Iterator[ScriptedRedis]:
    with scripted_redis() as server:
        yield server


def load(cache: RedisTokenCache) -> None:
    cache.load(KEY)


def store(cache: RedisTokenCache) -> None:
    cache.store(KEY, ENTRY, 60)


def lock(cache: RedisTokenCache) -> None:
    with cache.lock(KEY, 60):
        pass


operations = pytest.mark.parametrize("operate", [load, store, lock])


def shown_by(error: BaseException) -> str:
    """The text of *error*, and what a rendering of the package's own frames shows."""
    package = str(Path(dolby_auth_plugin.__file__).parent)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = [repr(frame.f_locals) for frame in frames if frame.f_code.co_filename.startswith(package)]
    return f"{error!r} {error.__cause__!r} {error.__context__!r} {ours}"


class TestUrl(TokenCacheContract):
    @pytest.fixture(autouse=True)
    def _url(self, redis_url: str) -> None:
        self.url = redis_url

    def make_cache(self) -> RedisTokenCache:
        return RedisTokenCache(self.url)


def test_a_client_that_makes_text_of_answers_gets_entries_as_they_are(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        cache = RedisTokenCache(client)
        store(cache)
        with cache.lock(KEY, 60) as first, cache.lock(KEY, 60) as second:
            pass

        assert (cache.load(KEY), first, second) == (ENTRY, True, False)


# Commands


def test_a_fetch_sends_no_other_commands_than_its_operations(scripted: ScriptedRedis) -> None:
    """Each further command would cost an answer of a slow server."""
    url = scripted.url.replace("//", f"//user:{PASSWORD}@") + "/3?protocol=3"
    cache = RedisTokenCache(url, prefix="p:")
    load(cache)
    store(cache)
    lock(cache)

    name = f"p:{KEY}".encode()
    [auth, select, get, put, [*acquire, nx, px, life], [*release, holder]] = [[*command] for command in scripted.log]
    assert [auth, select] == [[b"AUTH", b"user", PASSWORD.encode()], [b"SELECT", b"3"]]
    assert [get, put] == [[b"GET", name], [b"SET", name, ENTRY, b"PX", b"60000"]]
    assert [*acquire, nx, px, life] == [b"SET", name + b":lock", holder, b"NX", b"PX", b"60000"]
    assert [release[0], *release[2:]] == [b"EVAL", b"1", name + b":lock"]


def test_the_shortest_life_is_a_millisecond(scripted: ScriptedRedis) -> None:
    RedisTokenCache(scripted.url).store(KEY, ENTRY, 0.0001)

    assert scripted.log[-1][-1] == b"1"


@pytest.mark.parametrize("answer", [b"-NOPERM this user has no permissions to run the 'eval' command\r\n", None])
def test_a_lock_that_cannot_be_released_ends_by_itself(scripted: ScriptedRedis, answer: bytes | None) -> None:
    def answer_eval(command: list[bytes]) -> Iterable[bytes] | None:
        if command[0] != b"EVAL":
            return known_answer(command)
        return None if answer is None else [answer]

    scripted.answer = answer_eval
    with pytest.raises(ZeroDivisionError):
        with RedisTokenCache(scripted.url).lock(KEY, 60) as is_held:
            raise ZeroDivisionError

    assert is_held


def test_a_caller_without_the_lock_does_not_release_it(scripted: ScriptedRedis) -> None:
    scripted.answer = lambda _: [NOTHING]
    lock(RedisTokenCache(scripted.url))

    assert [b"SET"] == [command[0] for command in scripted.log]


# Trouble


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(None, id="hangs up"),
        pytest.param(b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", id="out of memory"),
        pytest.param(b"-NOAUTH Authentication required.\r\n", id="demands a password"),
        pytest.param(b"-READONLY You can't write against a read only replica.\r\n", id="read only"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="another protocol"),
        pytest.param(b":1\r\n", id="a number"),
        pytest.param(b"*1\r\n$2\r\nOK\r\n", id="a list"),
        pytest.param(b"$2x\r\nOK\r\n", id="no length"),
    ],
)
@operations
def test_a_wrong_answer_is_an_exception_and_the_next_operation_works(
    operate: Callable[[RedisTokenCache], None], answer: bytes | None, scripted: ScriptedRedis
) -> None:
    cache = RedisTokenCache(scripted.url)
    scripted.answer = lambda _: None if answer is None else [answer]
    with pytest.raises(Exception):  # noqa: B017, PT011 - any will do
        operate(cache)

    scripted.answer = known_answer
    operate(cache)


@operations
def test_a_failed_operation_is_not_tried_again(
    operate: Callable[[RedisTokenCache], None], scripted: ScriptedRedis
) -> None:
    scripted.answer = lambda _: None
    with pytest.raises(redis.ConnectionError):
        operate(RedisTokenCache(f"{scripted.url}?retry_on_timeout=yes"))

    assert len(scripted.log) == 1


@pytest.mark.parametrize("operate", [store, lock])
def test_an_answer_to_set_other_than_ok_is_an_exception(
    operate: Callable[[RedisTokenCache], None], scripted: ScriptedRedis
) -> None:
    scripted.answer = lambda _: [b"+QUEUED\r\n"]

    with pytest.raises(ValueError, match="other than OK"):
        operate(RedisTokenCache(scripted.url))


@operations
def test_a_port_that_refuses_is_an_exception(operate: Callable[[RedisTokenCache], None]) -> None:
    with refusing() as host, pytest.raises(redis.ConnectionError):
        operate(RedisTokenCache(f"redis://{host}"))


@pytest.mark.parametrize("kind", ["silence", "drip"])
@operations
def test_an_answer_that_does_not_end_is_a_timeout(
    operate: Callable[[RedisTokenCache], None], kind: str, scripted: ScriptedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_redis_budget(0.05, monkeypatch)
    scripted.answer = getattr(scripted, kind)
    # The limit in the URL does not apply.
    cache = RedisTokenCache(f"{scripted.url}?socket_timeout=60")

    with pytest.raises((TimeoutError, redis.TimeoutError)):
        operate(cache)


def test_a_tls_handshake_without_an_answer_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    set_redis_budget(0.05, monkeypatch)
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises((TimeoutError, redis.TimeoutError)):
        load(RedisTokenCache(f"rediss://127.0.0.1:{silent.getsockname()[1]}?socket_timeout=20"))

    assert time.monotonic() - began < 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["silence", "drip"])
def test_a_redis_that_does_not_answer_costs_about_a_second(
    kind: str, scripted: ScriptedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_redis_budget(REDIS_BUDGET, monkeypatch)
    scripted.answer = getattr(scripted, kind)
    cache = RedisTokenCache(scripted.url)

    began = time.monotonic()
    for operate in (load, lock, store):
        with pytest.raises((TimeoutError, redis.TimeoutError)):
            operate(cache)

    assert 0.7 < time.monotonic() - began < 2


# Budget


def test_the_operations_of_a_fetch_share_a_budget_of_about_a_second(
    scripted: ScriptedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    began = clock.monotonic()
    set_redis_budget(REDIS_BUDGET, monkeypatch)
    read_redis_budget_by(clock, monkeypatch)
    scripted.answer = lambda command: clock.advance(0.3) or known_answer(command)
    cache = RedisTokenCache(scripted.url)

    with pytest.raises(TimeoutError, match="used up its time"):
        deque(map(load, [cache] * 100))
    asked = len(scripted.log)
    for operate in (load, store, lock):
        with pytest.raises(TimeoutError, match="used up its time"):
            operate(cache)

    assert asked == len(scripted.log)
    assert 0.9 < clock.monotonic() - began < 1.6


def test_an_operation_may_take_what_is_left(scripted: ScriptedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    read_redis_budget_by(clock, monkeypatch)
    cache = RedisTokenCache(scripted.url)
    scripted.answer = lambda command: clock.advance(20.0) or known_answer(command)
    load(cache)
    scripted.answer = scripted.silence

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        load(cache)
    assert time.monotonic() - began < 10


def test_many_fast_operations_do_not_use_up_the_budget(
    scripted: ScriptedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetch that waits for another process looks into the cache again and again."""
    clock = FakeClock()
    read_redis_budget_by(clock, monkeypatch)
    set_redis_budget(REDIS_BUDGET, monkeypatch)
    scripted.answer = lambda command: clock.advance(0.08) or known_answer(command)
    cache = RedisTokenCache(scripted.url)

    for _ in range(100):
        load(cache)


def test_the_next_fetch_has_a_new_budget(scripted: ScriptedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    read_redis_budget_by(clock, monkeypatch)
    cache = RedisTokenCache(scripted.url)
    scripted.answer = lambda command: clock.advance(60) or known_answer(command)
    load(cache)
    with pytest.raises(TimeoutError):
        load(cache)

    cache.fetch_ended()
    load(cache)


# Connections


def test_a_fetch_has_one_connection_and_closes_it(scripted: ScriptedRedis) -> None:
    cache = RedisTokenCache(scripted.url)
    load(cache)
    store(cache)
    assert (1, 1) == (scripted.connections, len(scripted.ports))

    cache.fetch_ended()
    cache.fetch_ended()
    eventually(lambda: scripted.connections == 0)


def test_the_end_of_a_thread_closes_its_connection(scripted: ScriptedRedis) -> None:
    cache = RedisTokenCache(scripted.url)
    thread = threading.Thread(target=load, args=(cache,))
    thread.start()
    thread.join()

    assert len(scripted.ports) == 1
    eventually(lambda: scripted.connections == 0)


def test_the_end_of_a_fetch_does_not_disturb_another_thread(scripted: ScriptedRedis) -> None:
    asked, ended = threading.Event(), threading.Event()
    cache = RedisTokenCache(scripted.url)
    load(cache)

    def answer(command: list[bytes]) -> Iterable[bytes]:
        asked.set()
        ended.wait(10)
        return known_answer(command)

    scripted.answer = answer
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(cache.load, KEY)
        assert asked.wait(10)
        cache.fetch_ended()
        ended.set()

        assert other.result() is None


def test_a_lent_client_keeps_its_connections(scripted: ScriptedRedis) -> None:
    with redis.Redis.from_url(scripted.url, protocol=2) as client:
        cache = RedisTokenCache(client)
        load(cache)
        cache.fetch_ended()
        load(cache)

        assert (1, 1) == (scripted.connections, len(scripted.ports))


FORK = f"""
import os, sys
from dolby_auth_plugin.caches.redis import RedisTokenCache

cache = RedisTokenCache(sys.argv[1])
cache.load({KEY!r})
child = os.fork()
if not child:
    try:
        cache.load({KEY!r})
    finally:
        os._exit(0 if sys.exception() is None else 1)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
cache.load({KEY!r})
sys.exit(code)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_a_connection_of_its_own(scripted: ScriptedRedis) -> None:
    subprocess.run([sys.executable, "-c", FORK, scripted.url], check=True)

    # The parent goes on with the first one.
    assert (2, 3) == (len(scripted.ports), [command[0] for command in scripted.log].count(b"GET"))


# Secrets


@pytest.mark.parametrize(
    "url",
    [
        f"redis//:{PASSWORD}@localhost",
        f"http://:{PASSWORD}@localhost",
        f"redis://:{PASSWORD}/x@localhost",
        f"redis://user:1/{PASSWORD}@localhost",
        f"redis://user:1?{PASSWORD}@localhost",
        f"redis://:1#{PASSWORD}@localhost",
        f"redis://:{PASSWORD}@localhost:port",
        f"redis://:{PASSWORD}@[::1",
        f"redis://localhost?db=x&password={PASSWORD}",
        f"redis://localhost?passwort={PASSWORD}",
        f"rediss://:{PASSWORD}@localhost?ssl_cert_reqs=never",
    ],
)
def test_a_bad_url_is_a_value_error_that_does_not_show_it(url: str) -> None:
    with pytest.raises(ValueError, match="percent-encoding") as caught:
        RedisTokenCache(url)

    assert PASSWORD not in shown_by(caught.value)


def test_a_bad_prefix_is_a_type_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="prefix must be a str, not bytes") as caught:
        RedisTokenCache(f"redis://:{PASSWORD}@localhost", prefix=b"p:")  # type: ignore[arg-type] # this is the test

    assert PASSWORD not in shown_by(caught.value)


@operations
def test_no_exception_shows_the_password(operate: Callable[[RedisTokenCache], None], scripted: ScriptedRedis) -> None:
    scripted.answer = lambda _: [b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"]
    with pytest.raises(redis.AuthenticationError) as caught:
        operate(RedisTokenCache(scripted.url.replace("//", f"//:{PASSWORD}@")))

    assert scripted.log[0][0] == b"AUTH"
    assert PASSWORD not in shown_by(caught.value)


def test_repr_shows_the_address_only() -> None:
    cache = RedisTokenCache(f"rediss://{PASSWORD}:{PASSWORD}@host:6380/1?ssl_password={PASSWORD}", prefix="p:")

    assert repr(cache) == "RedisTokenCache('rediss://host:6380/1', prefix='p:')"


def test_repr_shows_the_type_of_a_lent_client() -> None:
    cache = RedisTokenCache(redis.Redis(password=PASSWORD))

    assert repr(cache) == "RedisTokenCache(<Redis>, prefix='dolby-auth:')"


# Arguments


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        (redis.asyncio.Redis(), "async client: pass a sync one"),
        (redis.sentinel.Sentinel([]), r"Sentinel\(...\).master_for\(...\)"),  # type: ignore[no-untyped-call] # redis-py leaves it untyped
        (redis.ConnectionPool(), "not ConnectionPool"),
        (b"redis://localhost", "must be a URL or a client .* not bytes"),
        (None, "not NoneType"),
    ],
)
def test_another_argument_is_a_type_error_that_says_what_to_pass(given: Any, advice: str) -> None:
    with pytest.raises(TypeError, match=advice):
        RedisTokenCache(given)


def test_a_missing_redis_py_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)

    with pytest.raises(ImportError, match=r"pip install 'dolby-auth-plugin\[redis\]'") as caught:
        RedisTokenCache(f"redis://:{PASSWORD}@localhost")

    assert PASSWORD not in shown_by(caught.value)


def test_a_client_of_valkey_needs_no_redis_py(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    valkey = type("Valkey", (), {"__module__": "valkey.client", "execute_command": lambda *_, **__: ENTRY})

    assert RedisTokenCache(valkey()).load(KEY) == ENTRY


# Copies


def test_copies_share_the_client(scripted: ScriptedRedis) -> None:
    with redis.Redis.from_url(scripted.url, protocol=2) as client:
        for duplicate in (copy.copy, copy.deepcopy):
            load(duplicate(RedisTokenCache(client)))

    assert len(scripted.ports) == 1


def test_a_pickle_has_the_url_and_the_prefix(scripted: ScriptedRedis) -> None:
    cache = RedisTokenCache(scripted.url.replace("//", f"//:{PASSWORD}@"), prefix="p:")
    load(cache)
    load(pickle.loads(pickle.dumps(cache)))

    one, other = scripted.log[:2], scripted.log[2:]
    assert one == other == [[b"AUTH", PASSWORD.encode()], [b"GET", f"p:{KEY}".encode()]]


def test_a_lent_client_makes_pickling_a_type_error() -> None:
    with pytest.raises(TypeError, match="pass the URL of Redis instead"):
        pickle.dumps(RedisTokenCache(redis.Redis()))


# A real Redis


@pytest.fixture
def start(needs_redis: None, tmp_path: Path) -> Iterator[Callable[..., RealRedis]]:
    """Start a server with options of its own."""
    servers: list[RealRedis] = []

    def start(*options: str) -> RealRedis:
        servers.append(RealRedis(tmp_path, *options))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def test_a_restarted_redis_is_empty_and_works(start: Callable[..., RealRedis]) -> None:
    server = start()
    cache = RedisTokenCache(server.url)
    store(cache)
    server.stop()
    for operate in (load, store, lock):
        with pytest.raises(redis.ConnectionError):
            operate(cache)

    server.start()
    assert cache.load(KEY) is None
    store(cache)
    assert cache.load(KEY) == ENTRY


def test_redis_without_memory_refuses_to_store(start: Callable[..., RealRedis]) -> None:
    cache = RedisTokenCache(start("--maxmemory", "1", "--maxmemory-policy", "noeviction").url)

    assert cache.load(KEY) is None
    for operate in (store, lock):
        with pytest.raises(redis.ResponseError, match="maxmemory"):
            operate(cache)


def test_redis_demands_a_password(start: Callable[..., RealRedis]) -> None:
    url = start("--requirepass", PASSWORD).url
    for wrong in ("", ":wrong@"):
        with pytest.raises(redis.AuthenticationError):
            load(RedisTokenCache(url.replace("//", f"//{wrong}")))

    store(RedisTokenCache(url.replace("//", f"//:{PASSWORD}@")))


def test_a_user_without_scripts_has_locks_that_end_by_themselves(start: Callable[..., RealRedis]) -> None:
    cache = RedisTokenCache(start("--user", "default", "on", "nopass", "~*", "+@all", "-@scripting").url)
    with cache.lock(KEY, 60) as first:
        pass
    with cache.lock(KEY, 60) as second:
        pass

    assert (first, second) == (True, False)


def test_a_frozen_redis_is_a_timeout_and_works_again(
    start: Callable[..., RealRedis], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start()
    set_redis_budget(0.05, monkeypatch)
    cache = RedisTokenCache(server.url)
    server.send_signal(signal.SIGSTOP)
    with pytest.raises((TimeoutError, redis.TimeoutError)):
        load(cache)
    server.send_signal(signal.SIGCONT)
    cache.fetch_ended()

    set_redis_budget(20.0, monkeypatch)
    store(cache)
    assert cache.load(KEY) == ENTRY


@pytest.mark.slow
def test_rediss_checks_the_certificate(start: Callable[..., RealRedis], authority: trustme.CA, tmp_path: Path) -> None:
    files = {name: str(tmp_path / f"{name}.pem") for name in ("cert", "key", "ca")}
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(files["cert"])
    certificate.private_key_pem.write_to_path(files["key"])
    authority.cert_pem.write_to_path(files["ca"])
    [port] = free_ports(1)
    own = ("--tls-cert-file", files["cert"], "--tls-key-file", files["key"], "--tls-ca-cert-file", files["ca"])
    start("--tls-port", str(port), "--tls-auth-clients", "no", *own)

    with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        load(RedisTokenCache(f"rediss://127.0.0.1:{port}"))
    cache = RedisTokenCache(f"rediss://127.0.0.1:{port}?ssl_ca_certs={files['ca']}")
    store(cache)
    assert cache.load(KEY) == ENTRY


@pytest.fixture(scope="module")
def cluster_port(needs_redis: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with real_cluster(tmp_path_factory.mktemp("cluster")) as port:
        yield port


@pytest.fixture(scope="module")
def sentinel_port(needs_redis: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with real_sentinel(tmp_path_factory.mktemp("sentinel")) as port:
        yield port


@pytest.mark.slow
@pytest.mark.parametrize("decode", [False, True])
class TestCluster(TokenCacheContract):
    @pytest.fixture(autouse=True)
    def _client(self, cluster_port: int, decode: bool) -> Iterator[None]:
        with redis.RedisCluster("127.0.0.1", cluster_port, decode_responses=decode) as self.client:
            yield

    def make_cache(self) -> RedisTokenCache:
        return RedisTokenCache(self.client)


@pytest.mark.slow
class TestSentinel(TokenCacheContract):
    @pytest.fixture(autouse=True)
    def _client(self, sentinel_port: int) -> Iterator[None]:
        sentinel = redis.sentinel.Sentinel([("127.0.0.1", sentinel_port)])  # type: ignore[no-untyped-call] # as above
        with sentinel.master_for("main") as self.client:  # type: ignore[no-untyped-call] # as above
            yield
        for one in sentinel.sentinels:
            one.close()

    def make_cache(self) -> RedisTokenCache:
        return RedisTokenCache(self.client)
