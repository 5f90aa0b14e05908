"""
How a request is sent, and how its auth step runs alone. This module is the same for all subjects and knows none.

It imports an HTTP library only when it is needed; `subjects` explains why.
"""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from .server import CONSTANT

# Seconds for connecting and for each read. The defaults of the libraries differ.
TIMEOUT = 30


@dataclass(frozen=True)
class Target:
    """
    The server that receives the requests.

    Attributes:
        token_url: The token endpoint.
        connections: The size of the connection pool of a session or client.
        memory: Send nothing. Every request immediately gets a 200 from memory, and a token request gets a token.
    """

    token_url: str
    connections: int = 100
    memory: bool = False


class Client(Protocol):
    """A session or client with its auth. For an async subject, all methods except `step` are coroutines."""

    def warm(self) -> Any:
        """Obtain a fresh token, with the library's own method or else like its first request."""

    def send(self, method: str, url: str, *, content: Any = None, files: Any = None) -> Any:
        """
        Send one call. Returns the status and the complete body, and lets exceptions pass.

        *content* is bytes, a file or a generator of bytes. For an async subject, files and generators are wrapped into
        an async generator, as its user would have to do.
        """

    def close(self) -> Any: ...

    def step(self, url: str) -> Callable[[], Any]:
        """
        A function that runs only the auth step of a request. It sends nothing while the token is fresh.

        For an async subject, call it in a running asyncio task, because authlib's lock needs the current task. The
        function drives the coroutine itself, so no real I/O may happen. "token per call" always sends a token request,
        so it needs a target in memory.
        """


async def nothing() -> None:
    pass


@dataclass
class SyncClient:
    """
    A session or client.

    Attributes:
        sender: An object with a `request` method: a session of requests, a client of httpx, or a wrapper.
        obtain: Obtains the first token. None: an auth step does.
        before: The code that a user runs before each call. If it returns a dict, these are the headers of the call.
        body: The library's name for *content*.
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
    """The same for an async client. *obtain* and *before* are coroutine functions."""

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
    # Read blocks of a file of the same size as httpx does.
    for block in iter(lambda: content.read(1 << 16), b"") if hasattr(content, "read") else content:
        yield block


def plain_sender(library: str, is_async: bool, target: Target) -> Any:
    """A plain session or client of the library."""
    host = import_module(library)
    if library == "requests":
        return mounted(host.Session(), target)
    return (host.AsyncClient if is_async else host.Client)(**client_options(library, target))


def mounted(session: Any, target: Target) -> Any:
    """Configure *session* (of requests) for the target."""
    from requests.adapters import HTTPAdapter

    for scheme in ("https://", "http://"):
        real = HTTPAdapter(pool_connections=4, pool_maxsize=target.connections)
        session.mount(scheme, _memory_adapter(target) if target.memory else real)
    return session


def client_options(library: str, target: Target) -> dict[str, Any]:
    """The options of an httpx or httpx2 client for the target."""
    host = import_module(library)
    limits = host.Limits(max_connections=target.connections, max_keepalive_connections=target.connections)

    def answer(request: Any) -> Any:
        headers = {"Content-Type": "application/json"}
        return host.Response(200, headers=headers, content=_answer(str(request.url), target))

    return {"limits": limits, "timeout": TIMEOUT, "transport": host.MockTransport(answer) if target.memory else None}


def lent(library: str, target: Target) -> dict[str, Any]:
    """The option that keeps token requests in memory as well. Empty for a real target."""
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
    """The auth step with requests: the call of the auth object, and later of its response hook."""
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
    """The auth step with httpx: one pass through the auth flow, with a response that needs no retry."""
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
    """Run a coroutine to its end inside another task. No other task runs in between."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration:
        pass
