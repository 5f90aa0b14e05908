"""Tools for httpx, each set up as its users do."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import anyio.from_thread
import fastapi
import fastapi.testclient
import hishel
import hishel.httpx
import httpx
import respx
import vcr
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

from dolby_auth_plugin.httpx import DolbyAuth
from dolby_auth_plugin.sandbox import Sandbox

from .exercises import Send, Toolbox, asked, asking
from .observers import sentry

HTTPX = Toolbox("httpx")


def through(client: httpx.Client, sandbox: Sandbox) -> Send:
    client.auth = DolbyAuth(**sandbox.options)
    client.follow_redirects = True

    def send(method: str, url: str, body: bytes | None) -> tuple[int, bytes]:
        response = client.request(method, url, content=body, timeout=20)
        return response.status_code, response.content

    return send


@HTTPX.add("respx")
def _respx(sandbox: Sandbox, stack: ExitStack) -> Send:
    stack.enter_context(respx.mock()).route(host="127.0.0.1").pass_through()
    return through(stack.enter_context(httpx.Client()), sandbox)


@HTTPX.add("vcrpy")
def _vcrpy(sandbox: Sandbox, stack: ExitStack) -> Send:
    folder = stack.enter_context(TemporaryDirectory())
    stack.enter_context(vcr.use_cassette(f"{folder}/calls.yaml", record_mode="all"))
    return through(stack.enter_context(httpx.Client()), sandbox)


@HTTPX.add("hishel", trick="Protect its cache file: hishel stores the request headers, and so the token.")
def _hishel(sandbox: Sandbox, stack: ExitStack) -> Send:
    storage = hishel.SqliteStorage(database_path=":memory:")
    return through(stack.enter_context(hishel.httpx.CacheClient(storage=storage)), sandbox)


@HTTPX.add("`http2=True`", "h2", trick="The simulated Dolby.io speaks HTTP/1.1 only.")
def _http2(sandbox: Sandbox, stack: ExitStack) -> Send:
    return through(stack.enter_context(httpx.Client(http2=True)), sandbox)


@HTTPX.add("OpenTelemetry", "opentelemetry-instrumentation-httpx")
def _opentelemetry(sandbox: Sandbox, stack: ExitStack) -> Send:
    HTTPXClientInstrumentor().instrument()
    stack.callback(HTTPXClientInstrumentor().uninstrument)
    return through(stack.enter_context(httpx.Client()), sandbox)


@HTTPX.add("Sentry", "sentry-sdk")
def _sentry(sandbox: Sandbox, stack: ExitStack) -> Send:
    stack.enter_context(sentry([]))
    return through(stack.enter_context(httpx.Client()), sandbox)


@HTTPX.add("FastAPI")
def _fastapi(sandbox: Sandbox, stack: ExitStack) -> Send:
    """Each call is a request to an app, whose handler calls the sandbox."""

    @asynccontextmanager
    async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with httpx.AsyncClient(auth=DolbyAuth(**sandbox.options), follow_redirects=True, timeout=20) as client:
            yield {"client": client}

    async def handler(request: fastapi.Request) -> fastapi.Response:
        method, url, body = asked(await request.body())
        response = await request.state.client.request(method, url, content=body)
        return fastapi.Response(response.content, response.status_code)

    app = fastapi.FastAPI(lifespan=lifespan)
    app.add_api_route("/", handler, methods=["POST"])
    browser = stack.enter_context(fastapi.testclient.TestClient(app))

    def send(method: str, url: str, body: bytes | None) -> tuple[int, bytes]:
        response = browser.post("/", content=asking(method, url, body))
        return response.status_code, response.content

    return send


@HTTPX.add(
    "aiohttp", trick="`await auth.atoken()` for each request; after a 401 `auth.invalidate()`, and send it again"
)
def _aiohttp(sandbox: Sandbox, stack: ExitStack) -> Send:
    auth = DolbyAuth(**sandbox.options)

    async def once(method: str, url: str, body: bytes | None) -> tuple[int, bytes]:
        headers = {"Authorization": (await auth.atoken()).authorization} if url.startswith(sandbox.url) else {}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, data=body, headers=headers) as response,
        ):
            return response.status, await response.read()

    async def call(method: str, url: str, body: bytes | None) -> tuple[int, bytes]:
        answer = await once(method, url, body)
        if answer[0] != 401:
            return answer
        auth.invalidate()
        return await once(method, url, body)

    portal = stack.enter_context(anyio.from_thread.start_blocking_portal())
    return functools.partial(portal.call, call)
