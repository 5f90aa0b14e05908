"""
How a request is sent, and what auth alone does for it, alike for all subjects. No subject is known here.

Nothing here imports an HTTP library before it is needed, see `subjects`.
"""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from .server import CONSTANT

# Seconds for connecting and for each read; the libraries' own defaults differ.
TIMEOUT = 30


@dataclass(frozen=True)
class Target:
    """
    Where to send to.

    Attributes:
        token_url: The token endpoint.
        connections: Size of a session's or client's connection pool.
        memory: Send nothing: every request is answered at once, with 200, and a token request with a token.
    """

    token_url: str
    connections: int = 100
    memory: bool = False


class Client(Protocol):
    """A session or client with its auth. All but `step` are coroutines where the subject `is_async`."""

    def warm(self) -> Any:
        """Have a fresh token: as the library offers it, or else by what its first request would do."""

    def send(self, method: str, url: str, *, content: Any = None, files: Any = None) -> Any:
        """
        One call, its answer read whole: (status, body). Whatever is raised passes.

        *content* is bytes, a file or a generator of bytes, for an async subject too: there the last two are
        wrapped into the async generator that its user would have to write.
        """

    def close(self) -> Any: ...

    def step(self, url: str) -> Callable[[], Any]:
        """
        What auth alone does for each request, to be called many times; nothing is sent while a token is fresh.

        An async subject's is called inside a running asyncio loop, where it runs its coroutine to the end by hand:
        authlib's lock asks for the current task. "token per call" knows no fresh token, so it does send: give it
        a target in memory, since input and output can't be waited for by hand.
        """


async def nothing() -> None:
    pass


@dataclass
class SyncClient:
    """
    A session or client.

    Attributes:
        sender: What has `request`: requests' session, httpx's client, or something made of them.
        obtain: What warms it; None: a step does.
        before: What its user does before each call; a dict it returns is the call's headers.
        body: What the library calls *content*.
    """

    target: Target
    sender: Any
    step: Callable[[str], Callable[[], Any]]
    obtain: Callable[[], Any] | None = None
    before: Callable[[], Any] = dict
    body: str = "content"

    def warm(self) -> Any:
        (self.obtain or self.step(self.target.token_url))()

    def send(self, method: str, url: str, *, content: Any = None, files: Any = None) -> Any:
        options = {self.body: content, "files": files, "headers": self.before(), "timeout": TIMEOUT}
        response = self.sender.request(method, url, **options)
        return response.status_code, response.content

    def close(self) -> Any:
        self.sender.close()


@dataclass
class AsyncClient(SyncClient):
    """The same with an async client; *obtain* and *before* are coroutine functions."""

    before: Callable[[], Any] = nothing

    async def warm(self) -> None:
        if self.obtain is None:
            self.step(self.target.token_url)()
        else:
            await self.obtain()

    async def send(self, method: str, url: str, *, content: Any = None, files: Any = None) -> Any:
        if not isinstance(content, bytes | AsyncIterable | None):
            content = _blocks(content)
        options = {self.body: content, "files": files, "headers": await self.before(), "timeout": TIMEOUT}
        response = await self.sender.request(method, url, **options)
        return response.status_code, response.content

    async def close(self) -> None:
        await self.sender.aclose()


async def _blocks(content: Any) -> AsyncIterator[bytes]:
    # Of a file as much at once as httpx itself reads.
    for block in iter(lambda: content.read(1 << 16), b"") if hasattr(content, "read") else content:
        yield block


def plain_sender(library: str, is_async: bool, target: Target) -> Any:
    """A plain session or client of the library's."""
    host = import_module(library)
    if library == "requests":
        return mounted(host.Session(), target)
    return (host.AsyncClient if is_async else host.Client)(**client_options(library, target))


def mounted(session: Any, target: Target) -> Any:
    """*session*, of requests, set up for the target."""
    from requests.adapters import HTTPAdapter

    for scheme in ("https://", "http://"):
        real = HTTPAdapter(pool_connections=4, pool_maxsize=target.connections)
        session.mount(scheme, _memory_adapter(target) if target.memory else real)
    return session


def client_options(library: str, target: Target) -> dict[str, Any]:
    """What sets up a client of httpx or httpx2 for the target."""
    host = import_module(library)
    limits = host.Limits(max_connections=target.connections, max_keepalive_connections=target.connections)

    def answer(request: Any) -> Any:
        headers = {"Content-Type": "application/json"}
        return host.Response(200, headers=headers, content=_answer(str(request.url), target))

    return {"limits": limits, "timeout": TIMEOUT, "transport": host.MockTransport(answer) if target.memory else None}


def lent(library: str, target: Target) -> dict[str, Any]:
    """The option with which an auth object's own requests stay in memory too; otherwise it has its default."""
    if not target.memory:
        return {}
    return {"session" if library == "requests" else "client": plain_sender(library, False, target)}


def _memory_adapter(target: Target) -> Any:
    import requests
    import urllib3

    class MemoryAdapter(requests.adapters.HTTPAdapter):
        def send(self, request: Any, **_: Any) -> Any:  # type: ignore[override] # all that `Session.send` needs
            body = io.BytesIO(_answer(request.url, target))
            headers = {"Content-Type": "application/json"}
            return self.build_response(request, urllib3.HTTPResponse(body, headers, 200, preload_content=False))

    return MemoryAdapter()


def _answer(url: str, target: Target) -> bytes:
    token = {"access_token": CONSTANT, "token_type": "Bearer", "expires_in": 1800}
    return json.dumps(token if url == target.token_url else {"ok": True}).encode()


def requests_step(auth: Callable[[Any], Any], url: str) -> Callable[[], None]:
    """What an auth object does when requests calls it, and later its response hook."""
    import requests

    prepared = requests.Request("GET", url).prepare()
    response = requests.Response()
    response.status_code = 200
    response.request = prepared
    kwargs: dict[str, Any] = {"stream": False, "timeout": TIMEOUT, "verify": True, "cert": None, "proxies": {}}

    def step() -> None:
        prepared.hooks = {"response": []}
        auth(prepared)
        for hook in prepared.hooks["response"]:
            hook(response, **kwargs)

    return step


def httpx_step(library: str, is_async: bool, auth: Any, url: str) -> Callable[[], None]:
    """What an auth object's flow does, with an answer that makes no more of it."""
    host = import_module(library)
    request = host.Request("GET", url)
    response = host.Response(200, request=request)

    def step() -> None:
        flow = auth.sync_auth_flow(request)
        next(flow)
        try:
            flow.send(response)
        except StopIteration:
            pass

    async def astep() -> None:
        flow = auth.async_auth_flow(request)
        await anext(flow)
        try:
            await flow.asend(response)
        except StopAsyncIteration:
            pass

    return (lambda: drive(astep())) if is_async else step


def drive(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Run it to its end in the middle of another task. Where it gives way to others, none gets a turn."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration:
        pass
