"""Reports each request to a function of the user's. A report has no query, header or body, and so no secret."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """
    A request to the sandbox, and its result.

    Attributes:
        at: The time of arrival, in UTC.
        method: The HTTP method.
        path: The path as it was sent, without the query, which may contain the signature of a presigned URL. `-` if the request
            line has a whole URL, which may contain a password.
        status: The HTTP status of the response, or None if the connection was closed before.
    """

    at: datetime
    method: str
    path: str
    status: int | None


Observer = Callable[[RequestRecord], object]


def observed(app: ASGIApp, observer: Observer | None) -> ASGIApp:
    """*app*, with *observer* called at the end of each request."""
    if observer is None:
        return app

    async def observing(scope: Scope, receive: Receive, send: Send) -> None:
        at = datetime.now(UTC)
        transport: asyncio.Transport = scope["state"]["transport"]
        status: int | None = None

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start" and not transport.is_closing():
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, noting)
        finally:
            # uvicorn accepts visible ASCII only, so no path can change what a terminal shows.
            path: str = scope["raw_path"].decode("ascii")
            observer(RequestRecord(at, scope["method"], path if path.startswith("/") else "-", status))

    return observing
