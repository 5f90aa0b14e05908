"""Runs cases with several drivers, each with its own caller, API and token endpoint."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from .contract import CLASSIC, on_clock
from .drivers import AsyncHttpxDriver, Client, Driver, HttpxDriver, RequestsDriver, Seen
from .fakes import FakeClock
from .internals import fetcher_of, source_of
from .servers import Received, Reply, Server, serving

# Each library, sync and async, and each event loop once. The contract has the other combinations.
REQUESTS, HTTPX, HTTPX2 = RequestsDriver("requests"), HttpxDriver("httpx"), HttpxDriver("httpx2")
ASYNCIO, TRIO = AsyncHttpxDriver("httpx", "asyncio"), AsyncHttpxDriver("httpx2", "trio")
SYNC: list[Driver] = [REQUESTS, HTTPX, HTTPX2]
ASYNC: list[Driver] = [ASYNCIO, TRIO]
FAMILY: list[Driver] = [HTTPX, HTTPX2, *ASYNC]
ALL: list[Driver] = [*SYNC, *ASYNC]


def label(driver: Driver) -> str:
    return driver.backend if isinstance(driver, AsyncHttpxDriver) else driver.name


def each(drivers: Iterable[Driver]) -> pytest.MarkDecorator:
    """Run a test for each of *drivers*. Its `scene` has that driver."""
    return pytest.mark.parametrize("driver", drivers, ids=label)


def matrix(argument: str, *rows: tuple[Iterable[Driver], Iterable[tuple[str, Any]]]) -> pytest.MarkDecorator:
    """
    Run a test for all pairs of drivers and named cases in *rows*. *argument* gets the case.

    The drivers of httpx and httpx2 share their code. So the suite runs each case with one of them, in turn, and `nox -s slow`
    runs the others.
    """
    params = []
    for drivers, cases in rows:
        family = [driver for driver in drivers if driver is not REQUESTS]
        for number, (name, case) in enumerate(list(cases)):
            for driver in drivers:
                often = driver is REQUESTS or driver is family[number % len(family)]
                marks = () if often else pytest.mark.slow
                params.append(pytest.param(driver, case, id=f"{label(driver)}-{name}", marks=marks))
    return pytest.mark.parametrize(("driver", argument), params)


def names_settings(driver: Driver, error: Exception, *, lent: bool) -> bool:
    """Whether *error* says where the proxy and the CA bundle of a token request come from."""
    theirs, bundle = ("session", "REQUESTS_CA_BUNDLE") if driver is REQUESTS else ("client", "SSL_CERT_FILE")
    own = ("does not use your", f"give a {theirs} with {theirs}=", "HTTPS_PROXY", "NO_PROXY", bundle)
    return all(words in str(error) for words in ([f"gave with {theirs}="] if lent else own))


def serial_tokens() -> Callable[[Received], Reply]:
    """An endpoint that grants `token.0`, `token.1` and so on."""
    serial = itertools.count()
    return lambda _: Reply(body=b'{"access_token":"token.%d","expires_in":1800}' % next(serial))


@dataclass
class Scene:
    """
    A caller of the API, the servers that it calls, and a clock that only tests and pauses move.

    The auth object is made when it is first used: change *options*, *token_url* and *in_real_time* before that.
    """

    driver: Driver
    client: Client
    api: Server
    endpoint: Server
    token_url: str
    options: dict[str, Any]
    in_real_time: bool = False
    clock: FakeClock = field(default_factory=FakeClock)
    stack: ExitStack = field(default_factory=ExitStack)

    @functools.cached_property
    def auth(self) -> Any:
        auth = self.driver.adapter.DolbyAuth(**{**CLASSIC, "token_url": self.token_url, **self.options})
        return auth if self.in_real_time else on_clock(auth, self.clock)

    def send(self, method: str = "GET", **options: Any) -> Seen:
        """Send a request with the auth to the API."""
        return self.client.send(method, self.api.url, **{"auth": self.auth, **options})

    def fail(self) -> Any:
        """The error of a call. No request reaches the API."""
        with pytest.raises(self.driver.adapter.TokenError) as caught:
            self.send()
        return caught.value

    def lend(self, *, verify: bool = False) -> dict[str, Any]:
        """
        The constructor's argument that lends a real session or client, which follows redirects.

        A client of httpx verifies certificates only if *verify* is true: its TLS context takes longer to make than most tests.
        """
        library = self.driver.library
        if self.driver.name == "requests":
            return {"session": self.stack.enter_context(library.Session())}
        return {"client": self.stack.enter_context(library.Client(verify=verify, follow_redirects=True))}

    def hurry(self, seconds_a_try: float) -> None:
        """Allow each try *seconds_a_try*, instead of the 10 s of the source."""
        fetcher = fetcher_of(source_of(self.auth))
        send = fetcher.send
        fetcher.send = lambda request, seconds: send(request, seconds / 10 * seconds_a_try)

    def as_told(self, *history: int) -> list[int]:
        """*history* as the library reports it. After a redirect, requests leaves the 401 out."""
        return [status for status in history if self.driver is not REQUESTS or status != 401]

    def tokens_sent(self) -> list[str | None]:
        return [received.token for received in self.api.log]


class Stage:
    """One open client for each driver, which serves all scenes."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._clients: dict[Driver, Client] = {}

    def client(self, driver: Driver) -> Client:
        if driver not in self._clients:
            self._clients[driver] = self._stack.enter_context(driver.open(None))
        return self._clients[driver]

    @contextmanager
    def scene(self, driver: Driver) -> Iterator[Scene]:
        with serving() as api, serving() as endpoint, ExitStack() as stack:
            endpoint.answer = serial_tokens()
            options = {"allowed_hosts": [api.host]}
            yield Scene(driver, self.client(driver), api, endpoint, f"{endpoint.url}/token", options, stack=stack)


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(stack)


@pytest.fixture
def driver() -> Driver:
    """The driver of tests for which any driver will do."""
    return REQUESTS


@pytest.fixture
def scene(stage: Stage, driver: Driver) -> Iterator[Scene]:
    with stage.scene(driver) as scene:
        yield scene
