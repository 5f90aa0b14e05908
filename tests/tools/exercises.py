"""What a tool must let through: four exercises against the sandbox, over real sockets."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

from dolby_auth_plugin.sandbox import Sandbox

# Sends a request through a tool, follows redirects, and returns the status and the body of the response.
# The arguments: method, URL, body.
Send = Callable[[str, str, bytes | None], tuple[int, bytes]]
Exercise = Callable[[Sandbox, Send], None]


@dataclass(frozen=True)
class Tool:
    """
    A tool that users combine with an auth object.

    Args:
        library: The HTTP library that sends the requests.
        distribution: Its name in a package registry.
        open: Sets the tool up, with an auth object for a sandbox. The stack takes it down.
        trick: What the user must do for it. Empty: nothing.
    """

    library: str
    name: str
    distribution: str
    open: Callable[[Sandbox, ExitStack], Send]
    trick: str = ""


def usual(
    name: str,
    distribution: str = "",
    *,
    library: Any,
    auth: Any,
    client: Callable[[], Any],
    around: Callable[[], AbstractContextManager[Any]] = nullcontext,
    trick: str = "",
) -> Tool:
    """A tool that is a *client*, or is set up *around* one."""

    def opened(sandbox: Sandbox, stack: ExitStack) -> Send:
        stack.enter_context(around())
        return through(stack.enter_context(client()), auth(**sandbox.options))

    return Tool(library.__name__, name, distribution or name, opened, trick)


def through(client: Any, auth: Any) -> Send:
    """Send with a session of requests or niquests, or with a client of httpx."""
    client.auth = auth
    is_httpx = hasattr(client, "follow_redirects")
    if is_httpx:
        client.follow_redirects = True

    def send(method: str, url: str, body: bytes | None) -> tuple[int, bytes]:
        response = client.request(method, url, timeout=20, **{"content" if is_httpx else "data": body})
        if isinstance(response, Future):
            response = response.result()
        return response.status_code, response.content

    return send


def normal_call(sandbox: Sandbox, send: Send) -> None:
    assert send("GET", f"{sandbox.url}/media/jobs?call=1", None) == (200, b'{"jobs":[]}')
    assert (sandbox.token_requests, sandbox.unauthorized) == (1, 0)


def healed_revocation(sandbox: Sandbox, send: Send) -> None:
    """Each call has a URL of its own, since a cache may answer a repeated one."""
    send("GET", f"{sandbox.url}/media/jobs?call=1", None)
    sandbox.revoke_all()

    assert send("GET", f"{sandbox.url}/media/jobs?call=2", None) == (200, b'{"jobs":[]}')
    assert (sandbox.token_requests, sandbox.api_calls, sandbox.unauthorized) == (2, 3, 1)


def whole_body_after_a_401(sandbox: Sandbox, send: Send) -> None:
    """The sandbox reads JSON. A body that lacks its end gets a 400."""
    send("GET", f"{sandbox.url}/media/jobs?call=1", None)
    sandbox.revoke_all()
    body = json.dumps({"url": "dlb://whole", "padding": "x" * 100_000}).encode()

    status, answer = send("POST", f"{sandbox.url}/media/input", body)

    assert (status, sandbox.unauthorized) == (200, 1)
    assert "/dlb/whole?" in json.loads(answer)["url"]


def no_token_to_storage(sandbox: Sandbox, send: Send) -> None:
    """An upload to a presigned URL, and a redirect from the API to another one."""
    _, answer = send("POST", f"{sandbox.url}/media/input", b'{"url": "dlb://song"}')
    assert send("PUT", json.loads(answer)["url"], b"la la la")[0] == 200

    assert send("GET", f"{sandbox.url}/media/output?url=dlb://song", None) == (200, b"la la la")
    assert (sandbox.storage_calls, sandbox.storage_leaks) == (2, 0)


EXERCISES: dict[str, Exercise] = {
    exercise.__name__.replace("_", " "): exercise
    for exercise in (normal_call, healed_revocation, whole_body_after_a_401, no_token_to_storage)
}


def asking(method: str, url: str, body: bytes | None) -> bytes:
    """A call as a line of text, for a tool that runs in an app or in a process of its own."""
    return json.dumps([method, url, body and body.decode()]).encode()


def asked(line: bytes) -> tuple[str, str, bytes | None]:
    method, url, body = json.loads(line)
    return method, url, body and body.encode()
