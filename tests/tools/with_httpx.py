"""Tools for httpx, each set up as its users do."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import aiohttp
import anyio.from_thread
import fastapi
import fastapi.testclient
import hishel
import hishel.httpx
import httpx
import respx
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

from dolby_auth_plugin.httpx import DolbyAuth
from dolby_auth_plugin.sandbox import Sandbox

from . import exercises
from .exercises import Send, Tool, asked, asking
from .observers import instrumented, recorded, sentry

usual = functools.partial(exercises.usual, library=httpx, auth=DolbyAuth, client=httpx.Client)


def passing() -> Any:
    router = respx.mock()
    router.route(host="127.0.0.1").pass_through()
    return router


def with_cache() -> Any:
    return hishel.httpx.CacheClient(storage=hishel.SqliteStorage(database_path=":memory:"))


def with_fastapi(sandbox: Sandbox, stack: ExitStack) -> Send:
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


def with_aiohttp(sandbox: Sandbox, stack: ExitStack) -> Send:
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


TOOLS = [
    usual("respx", around=passing),
    usual("vcrpy", around=recorded),
    usual(
        "hishel",
        client=with_cache,
        trick="Protect its cache file: hishel stores the request headers, and so the token.",
    ),
    usual(
        "`http2=True`",
        "h2",
        client=lambda: httpx.Client(http2=True),
        trick="The simulated Dolby.io speaks HTTP/1.1 only.",
    ),
    usual(
        "OpenTelemetry", "opentelemetry-instrumentation-httpx", around=lambda: instrumented(HTTPXClientInstrumentor())
    ),
    usual("Sentry", "sentry-sdk", around=lambda: sentry([])),
    Tool("httpx", "FastAPI", "fastapi", with_fastapi),
    Tool(
        "httpx",
        "aiohttp",
        "aiohttp",
        with_aiohttp,
        "`await auth.atoken()` for each request; after a 401 `auth.invalidate()`, and send it again once.",
    ),
]
