"""
The storage behind the presigned URLs: a small part of Amazon S3.

The query of a URL grants access for a limited time, so the request must not carry a token. S3
rejects a request with both and repeats the token in its response.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from dolby_auth_plugin.sandbox._state import State

_DATE = "%Y%m%dT%H%M%SZ"


def presigned(state: State, method: str, path: str, *, lifetime: int = 3600) -> str:
    """A URL that allows *method* on *path* of the storage port for *lifetime* seconds."""
    date = datetime.fromtimestamp(state.clock(), UTC).strftime(_DATE)
    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Date": date,
        "X-Amz-Expires": str(lifetime),
        "X-Amz-SignedHeaders": "host",
        "X-Amz-Signature": _signature(state, method, path, date, str(lifetime)),
    }
    return f"{state.storage_url}{quote(path)}?{urlencode(query)}"


def storage_app(state: State) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await _answer(state, Request(scope, receive))
        await response(scope, receive, send)

    return app


async def _answer(state: State, request: Request) -> Response:
    method, path, query = request.method, request.scope["path"], request.query_params
    authorization = request.headers.get("authorization")
    state.count("storage_calls")
    if authorization is not None:
        state.count("storage_leaks")
    if authorization is not None and "X-Amz-Signature" in query:
        return _error(
            400,
            "InvalidArgument",
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature "
            "query string parameter or the Authorization header should be specified",
            f"<ArgumentName>Authorization</ArgumentName><ArgumentValue>{escape(authorization)}</ArgumentValue>",
        )

    date, lifetime = query.get("X-Amz-Date", ""), query.get("X-Amz-Expires", "")
    signature = _signature(state, method, path, date, lifetime)
    if not hmac.compare_digest(signature.encode(), query.get("X-Amz-Signature", "").encode()):
        return _error(403, "AccessDenied", "Access Denied")
    # The signature is valid, so this module wrote both values and they can be parsed.
    ends_at = datetime.strptime(date, _DATE).replace(tzinfo=UTC) + timedelta(seconds=int(lifetime))
    if state.clock() >= ends_at.timestamp():
        return _error(403, "AccessDenied", "Request has expired")

    if method == "PUT":
        data = await request.body()
        state.store(path, data)
        return Response(headers={"etag": f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'})
    stored = state.stored(path)
    if stored is None:
        return _error(404, "NoSuchKey", "The specified key does not exist.")
    return Response(stored, media_type="application/octet-stream")


def _signature(state: State, method: str, path: str, date: str, lifetime: str) -> str:
    signed = "\n".join((method, path, date, lifetime))
    return hmac.new(state.signing_key, signed.encode(), hashlib.sha256).hexdigest()


def _error(status: int, code: str, message: str, details: str = "") -> Response:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message>{details}</Error>"
    return Response(f'<?xml version="1.0" encoding="UTF-8"?>\n{body}', status, media_type="application/xml")
