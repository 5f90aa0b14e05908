"""Runs the contracts with httpx2, sync and async, and tests what only httpx2 has."""

from __future__ import annotations

import httpx2
import pytest
from httpx2.websockets import WebSocketUpgradeError

from dolby_auth_plugin.httpx2 import DolbyAuth
from dolby_auth_plugin.sandbox import Sandbox

from ..drivers import AsyncHttpxDriver, HttpxDriver
from ..family import AsyncFamilyContract, FamilyContract
from ..servers import Reply, serving


# By default, threads and asyncio are tested with httpx, and trio with httpx2. Their code is the same.
@pytest.mark.slow
class TestHttpx2(FamilyContract):
    driver = HttpxDriver("httpx2")


@pytest.mark.slow
class TestHttpx2Asyncio(AsyncFamilyContract):
    driver = AsyncHttpxDriver("httpx2", "asyncio")


class TestHttpx2Trio(AsyncFamilyContract):
    driver = AsyncHttpxDriver("httpx2", "trio")


def test_server_sent_events_are_authenticated() -> None:
    with Sandbox() as sandbox, serving() as api:
        api.answer = lambda received: (
            Reply(200, {"Content-Type": "text/event-stream"}, b"data: hello\n\n") if received.token else Reply(401)
        )
        auth = DolbyAuth(**{**sandbox.options, "allowed_hosts": [api.host]})

        with httpx2.Client(auth=auth) as client, client.sse(api.url) as events:
            assert ["hello"] == [event.data for event in events]


def test_a_websocket_is_authenticated() -> None:
    """It uses the same auth flow, with the scheme ws."""
    with Sandbox() as sandbox, serving() as api:
        api.answer = lambda _: Reply(403)
        auth = DolbyAuth(**{**sandbox.options, "allowed_hosts": [api.host]})

        with (
            httpx2.Client(auth=auth) as client,
            pytest.raises(WebSocketUpgradeError),
            client.websocket(api.url.replace("http", "ws")),
        ):
            raise AssertionError

        [received] = api.log
        assert received.headers["Upgrade"] == "websocket"
        assert received.token is not None
