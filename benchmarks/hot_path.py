"""
The hot path, for valgrind to watch: one way's step of a request with a fresh token, over and over.

    python -m benchmarks.hot_path "httpx async"
    python -m benchmarks.hot_path "httpx async" constant    # the same with an auth that sets a constant header

A process imports one library and steps one way, as the interpreter specialises code for what it has met.
"""

from __future__ import annotations

import gc
import importlib
import io
import itertools
import json
import os
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial
from typing import Any

# Steps for the interpreter to specialise what it will, and steps counted: so many that what surrounds them is nothing.
WARM_UP, COUNTED = 1_000, 1_000

URL = "https://api.dolby.com/media/jobs"
TOKEN = "x" * 900
ANSWER = json.dumps({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 86_400})

Step = Callable[[], None]


def step_of_requests(*, constant: bool) -> Step:
    import requests
    from requests.adapters import BaseAdapter
    from requests.auth import AuthBase

    from dolby_auth_plugin.requests import DolbyAuth

    class Endpoint(BaseAdapter):
        def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
            answer = requests.Response()
            answer.status_code, answer.raw, answer.request = 200, io.BytesIO(ANSWER.encode()), request
            return answer

        def close(self) -> None: ...

    class ConstantHeader(AuthBase):
        def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
            r.headers["Authorization"] = "Bearer " + TOKEN
            return r

    auth: AuthBase = ConstantHeader()
    if not constant:
        session = requests.Session()
        session.mount("https://", Endpoint())
        auth = ours = DolbyAuth("key", "secret", session=session)
        ours.token()
    request = requests.Request("GET", URL).prepare()
    response = requests.Response()
    response.status_code, response.request = 200, request
    sent_with: Any = {"timeout": None, "verify": True, "proxies": {}, "stream": False, "cert": None}

    def step() -> None:
        request.hooks = {"response": []}
        auth(request)
        for hook in request.hooks["response"]:
            hook(response, **sent_with)

    return step


def sync_step(library: str, *, constant: bool) -> Step:
    auth, request, response = _of_the_httpx_family(library, constant=constant)

    def step() -> None:
        flow: Generator[Any, Any] = auth.sync_auth_flow(request)
        next(flow)
        try:
            flow.send(response)
        except StopIteration:
            flow.close()

    return step


def async_step(library: str, *, constant: bool) -> Step:
    auth, request, response = _of_the_httpx_family(library, constant=constant)

    async def steps() -> None:
        flow: AsyncGenerator[Any, Any] = auth.async_auth_flow(request)
        await anext(flow)
        try:
            await flow.asend(response)
        except StopAsyncIteration:
            await flow.aclose()

    def step() -> None:
        # Nothing waits, so no event loop is needed.
        try:
            steps().send(None)
        except StopIteration:
            return
        raise AssertionError("the flow waited for something")

    return step


def _of_the_httpx_family(library: str, *, constant: bool) -> tuple[Any, Any, Any]:
    """An auth with a fresh token, a request and the response to it."""
    host = importlib.import_module(library)

    class ConstantHeader(host.Auth):  # type: ignore[misc, name-defined] # a base of either library
        def auth_flow(self, request: Any) -> Generator[Any, Any]:
            request.headers["Authorization"] = "Bearer " + TOKEN
            yield request

    auth: Any = ConstantHeader()
    if not constant:
        client = host.Client(transport=host.MockTransport(lambda request: host.Response(200, text=ANSWER)))
        auth = importlib.import_module(f"dolby_auth_plugin.{library}").DolbyAuth("key", "secret", client=client)
        auth.token()
    request = host.Request("GET", URL)
    return auth, request, host.Response(200, request=request)


STEPS: dict[str, Callable[..., Step]] = {
    "requests": step_of_requests,
    "httpx": partial(sync_step, "httpx"),
    "httpx async": partial(async_step, "httpx"),
    "httpx2": partial(sync_step, "httpx2"),
    "httpx2 async": partial(async_step, "httpx2"),
}


def run(step: Step, times: int) -> None:
    for _ in itertools.repeat(None, times):
        step()


def main(way: str, auth: str = "ours") -> None:
    gc.disable()
    step = STEPS[way](constant=auth == "constant")
    # The token's fetch had a thread.
    for thread in set(threading.enumerate()) - {threading.current_thread()}:
        thread.join()
    run(step, WARM_UP)
    # Marks, of no effect: at each of them callgrind begins a new count.
    os.getppid()
    run(step, COUNTED)
    os.getppid()


if __name__ == "__main__":
    main(*sys.argv[1:])
