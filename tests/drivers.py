"""One interface for all HTTP libraries, so that a test is written only once."""

from __future__ import annotations

import abc
import functools
import importlib
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import anyio.from_thread


@dataclass
class Seen:
    """A response as the caller sees it."""

    status: int
    body: bytes
    history: list[int]
    response: Any


class Client(abc.ABC):
    """An open client of an HTTP library."""

    @abc.abstractmethod
    def send(self, method: str, url: str, **options: Any) -> Seen:
        """Send a request and follow redirects. *options* are `content`, `json`, `files`, `headers`, `auth`."""

    @abc.abstractmethod
    def crowd(self, count: int, method: str, url: str) -> list[Seen | Exception]:
        """Send a request from each of *count* callers that start together. Returns their results."""

    def get(self, url: str, **options: Any) -> Seen:
        return self.send("GET", url, **options)


class Driver(abc.ABC):
    """An HTTP library and how to use it."""

    def __init__(self, library: str) -> None:
        self.name = library
        self.library: ModuleType = importlib.import_module(library)
        self.adapter: ModuleType = importlib.import_module(f"dolby_auth_plugin.{library}")

    @property
    @abc.abstractmethod
    def host_error(self) -> type[Exception]:
        """The exception that users of the library catch."""

    @abc.abstractmethod
    def open(self, auth: Any, clients: int = 1, **options: Any) -> Any:
        """
        A context manager of a `Client` with *auth*. *options* are options of the library, see `through`.

        A crowd is spread over *clients* clients, because the pool of one `AsyncClient` is slow with a thousand waiting
        tasks.
        """

    @abc.abstractmethod
    def through(self, proxy: str, bundle: Path) -> dict[str, Any]:
        """The options of a client that uses *proxy* for everything and trusts the CA in *bundle*."""

    @abc.abstractmethod
    def token(self, auth: Any) -> Any:
        """Call `token()` or `atoken()` of the auth object."""

    @abc.abstractmethod
    def authorization(self, auth: Any, url: str) -> str | None:
        """The `Authorization` header that the auth object sets on a request to *url*. Nothing is sent to that URL."""

    @abc.abstractmethod
    def lend(self, answer: Callable[[], tuple[int, bytes]], log: list[Any]) -> dict[str, Any]:
        """The `session=` or `client=` argument with a client that answers token requests with *answer*."""


class ThreadedClient(Client):
    def crowd(self, count: int, method: str, url: str) -> list[Seen | Exception]:
        return _in_threads(count, lambda: self.send(method, url))


class RequestsClient(ThreadedClient):
    def __init__(self, session: Any) -> None:
        self.session = session

    def send(self, method: str, url: str, **options: Any) -> Seen:
        if "content" in options:
            options["data"] = options.pop("content")
        response = self.session.request(method, url, **{"timeout": 20, **options})
        return Seen(response.status_code, response.content, [r.status_code for r in response.history], response)


class RequestsDriver(Driver):
    @property
    def host_error(self) -> type[Exception]:
        return self.library.RequestException  # type: ignore[no-any-return] # the module is only known at run time

    @contextmanager
    def open(self, auth: Any, clients: int = 1, **options: Any) -> Iterator[Client]:
        with self.library.Session() as session:
            session.mount("http://", self.library.adapters.HTTPAdapter(pool_maxsize=64))
            session.auth = auth
            vars(session).update(options)
            yield RequestsClient(session)

    def through(self, proxy: str, bundle: Path) -> dict[str, Any]:
        return {"proxies": {"http": proxy, "https": proxy}, "verify": str(bundle)}

    def token(self, auth: Any) -> Any:
        return auth.token()

    def authorization(self, auth: Any, url: str) -> str | None:
        header: str | None = auth(self.library.Request("GET", url).prepare()).headers.get("Authorization")
        return header

    def lend(self, answer: Callable[[], tuple[int, bytes]], log: list[Any]) -> dict[str, Any]:
        import requests_mock

        def respond(request: Any, context: Any) -> bytes:
            log.append(request)
            context.status_code, body = answer()
            return body

        session = self.library.Session()
        adapter = requests_mock.Adapter()
        adapter.register_uri("POST", requests_mock.ANY, content=respond)
        session.mount("https://", adapter)
        return {"session": session}


class HttpxClient(ThreadedClient):
    def __init__(self, client: Any) -> None:
        self.client = client

    def send(self, method: str, url: str, **options: Any) -> Seen:
        response = self.client.request(method, url, **options)
        return Seen(response.status_code, response.content, [r.status_code for r in response.history], response)


class HttpxDriver(Driver):
    @property
    def host_error(self) -> type[Exception]:
        return self.library.RequestError  # type: ignore[no-any-return] # the module is only known at run time

    @contextmanager
    def open(self, auth: Any, clients: int = 1, **options: Any) -> Iterator[Client]:
        # Keep all connections. httpx may close a connection over the limit just before a call uses it.
        limits = self.library.Limits(max_connections=64, max_keepalive_connections=64)
        options = {"follow_redirects": True, "timeout": 20, "limits": limits, "verify": _tls_context(), **options}
        with self.library.Client(auth=auth, **options) as client:
            yield HttpxClient(client)

    def through(self, proxy: str, bundle: Path) -> dict[str, Any]:
        return {"proxy": proxy, "verify": ssl.create_default_context(cafile=bundle)}

    def token(self, auth: Any) -> Any:
        return auth.token()

    def authorization(self, auth: Any, url: str) -> str | None:
        with closing(auth.sync_auth_flow(self.library.Request("GET", url))) as flow:
            header: str | None = next(flow).headers.get("Authorization")
        return header

    def lend(self, answer: Callable[[], tuple[int, bytes]], log: list[Any]) -> dict[str, Any]:
        def respond(request: Any) -> Any:
            log.append(request)
            status, body = answer()
            return self.library.Response(status, content=body)

        return {"client": self.library.Client(transport=self.library.MockTransport(respond))}


class AsyncHttpxClient(Client):
    def __init__(self, clients: list[Any], portal: anyio.from_thread.BlockingPortal) -> None:
        self.clients = clients
        self.client = clients[0]
        self.portal = portal

    def send(self, method: str, url: str, **options: Any) -> Seen:
        seen: Seen = self.portal.call(self._send, method, url, options)
        return seen

    async def _send(self, method: str, url: str, options: dict[str, Any], which: int = 0) -> Seen:
        response = await self.clients[which % len(self.clients)].request(method, url, **options)
        return Seen(response.status_code, response.content, [r.status_code for r in response.history], response)

    def crowd(self, count: int, method: str, url: str) -> list[Seen | Exception]:
        return self.portal.call(self._crowd, count, method, url)

    async def _crowd(self, count: int, method: str, url: str) -> list[Seen | Exception]:
        results: list[Seen | Exception] = []

        async def one(which: int) -> None:
            try:
                results.append(await self._send(method, url, {}, which))
            except Exception as error:
                results.append(error)

        await _all(one, count)
        return results


class AsyncHttpxDriver(HttpxDriver):
    def __init__(self, library: str, backend: str) -> None:
        super().__init__(library)
        self.backend = backend

    @contextmanager
    def open(self, auth: Any, clients: int = 1, **options: Any) -> Iterator[Client]:
        options = {"auth": auth, "follow_redirects": True, "timeout": 20, "verify": _tls_context(), **options}
        if clients > 1:
            # Enough for 500 callers on 20 clients. Later callers may overtake one that waits in httpx's pool.
            limits = self.library.Limits(max_connections=25, max_keepalive_connections=25)
            options["limits"] = limits

        @asynccontextmanager
        async def opened() -> AsyncIterator[list[Any]]:
            async with AsyncExitStack() as stack:
                yield [await stack.enter_async_context(self.library.AsyncClient(**options)) for _ in range(clients)]

        with (
            anyio.from_thread.start_blocking_portal(self.backend) as portal,
            portal.wrap_async_context_manager(opened()) as several,
        ):
            yield AsyncHttpxClient(several, portal)

    def token(self, auth: Any) -> Any:
        return anyio.run(auth.atoken, backend=self.backend)

    def authorization(self, auth: Any, url: str) -> str | None:
        async def main() -> str | None:
            async with aclosing(auth.async_auth_flow(self.library.Request("GET", url))) as flow:
                header: str | None = (await anext(flow)).headers.get("Authorization")
            return header

        return anyio.run(main, backend=self.backend)


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """A context that all clients share. None of them uses TLS, and creating a context takes longer than most tests."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


async def _all(work: Callable[[int], Coroutine[Any, Any, None]], count: int) -> None:
    async with anyio.create_task_group() as group:
        for index in range(count):
            group.start_soon(work, index)


def _in_threads(count: int, work: Callable[[], Seen]) -> list[Seen | Exception]:
    def one(_: int) -> Seen | Exception:
        try:
            return work()
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))
