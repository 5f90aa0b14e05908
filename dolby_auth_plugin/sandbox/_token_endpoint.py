"""
The token endpoint: the client credentials grant (RFC 6749 §4.4) as Dolby.io implements it.

The request is documented. The error responses are not, so their statuses and bodies are unconfirmed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import secrets
import socket
import struct
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dolby_auth_plugin.sandbox._answers import TOKEN_PATH, communications_body, media_body
from dolby_auth_plugin.sandbox._state import State, TokenRequestRecord

_KNOWN_SCOPES = frozenset(
    {
        "comms:*",
        "comms:client_access_token:create",
        "comms:conf:admin",
        "comms:conf:create",
        "comms:conf:destroy",
        "comms:monitor:delete",
        "comms:monitor:download",
        "comms:monitor:read",
        "comms:record:write",
        "comms:remix:read",
        "comms:remix:write",
        "comms:stream:write",
    }
)

# Seconds: the lifetime if the request has none, and the maximum.
_DEFAULT_LIFETIME = 1800
_LONGEST_LIFETIME = 86_400

_FORM = "application/x-www-form-urlencoded"
# The limit keeps `int` fast and still accepts every lifetime that a user may send by mistake.
_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")


class TokenEndpoint:
    """Answers token requests with a token, an error, or a queued fault."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def answer(self, request: Request) -> Response:
        state = self._state
        arrived_at = datetime.fromtimestamp(state.clock(), UTC)
        state.count("token_requests")
        # A fault applies to later requests only, not to requests that are already waiting.
        fault, latency = state.next_fault(), state.latency
        form = parse_qs((await request.body()).decode(errors="replace"))
        await asyncio.sleep(latency)

        credentials = _basic_credentials(request.headers.get("authorization"))
        early = dropped = False
        if fault is not None:
            response = Response(fault.body, fault.status or 200, fault.headers)
            dropped = fault.status is None
        elif (refused := self._refusal(request, credentials, form)) is not None:
            response = refused
        else:
            response, early = self._grant(form)
        state.record(
            TokenRequestRecord(
                at=arrived_at,
                status=None if dropped else response.status_code,
                app_key=credentials[0] if credentials is not None else None,
                scope=form.get("scope", [None])[0],
                expires_in=_lifetime_asked_for(form),
                user_agent=request.headers.get("user-agent"),
                early=early,
            )
        )
        if dropped:
            _reset_connection(request)
        return response

    def _refusal(
        self, request: Request, credentials: tuple[str, str] | None, form: dict[str, list[str]]
    ) -> Response | None:
        if credentials is None or not self._is_ours(*credentials):
            return JSONResponse(
                communications_body(401, "Wrong app key or app secret", reason="Invalid_client"),
                401,
            )
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != _FORM:
            return _bad_request(f"The body must be {_FORM}")
        if any(len(values) > 1 for values in form.values()):
            return _bad_request("A parameter was sent more than once")
        if form.get("grant_type") != ["client_credentials"]:
            return _bad_request("grant_type must be client_credentials")
        # Unconfirmed: the service may reduce a long lifetime instead. Its minimum is not documented.
        if "expires_in" in form and not 1 <= (_lifetime_asked_for(form) or 0) <= _LONGEST_LIFETIME:
            return _bad_request(f"expires_in must be whole seconds from 1 to {_LONGEST_LIFETIME}")
        return None

    def _is_ours(self, app_key: str, app_secret: str) -> bool:
        return secrets.compare_digest(
            f"{app_key}:{app_secret}".encode(),
            f"{self._state.app_key}:{self._state.app_secret}".encode(),
        )

    def _grant(self, form: dict[str, list[str]]) -> tuple[Response, bool]:
        lifetime = _lifetime_asked_for(form) or _DEFAULT_LIFETIME
        scopes: tuple[str, ...] | None = None
        if "scope" in form:
            # Unknown scopes are dropped silently. The result is unconfirmed if all are unknown:
            # here, the token then has no rights in Communications.
            scopes = tuple(dict.fromkeys(scope for scope in form["scope"][0].split(" ") if scope in _KNOWN_SCOPES))
        token, early = self._state.grant(lifetime, scopes)
        body: dict[str, Any] = {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": lifetime,
        }
        if scopes is not None:
            body["scope"] = " ".join(scopes)
        return JSONResponse(body), early


def _basic_credentials(header: str | None) -> tuple[str, str] | None:
    """Key and secret from a Basic header (RFC 7617): UTF-8, not percent-encoded as in RFC 6749 §2.3.1."""
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        app_key, colon, app_secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        return None
    return (app_key, app_secret) if colon else None


def _lifetime_asked_for(form: dict[str, list[str]]) -> int | None:
    text = form.get("expires_in", [""])[0]
    return int(text) if _WHOLE_NUMBER.fullmatch(text) else None


def _bad_request(detail: str) -> Response:
    return JSONResponse(media_body(400, detail, path=TOKEN_PATH), 400)


def _reset_connection(request: Request) -> None:
    """Reset the connection without a response. Anything sent later is discarded."""
    transport: asyncio.Transport = request.scope["state"]["transport"]
    connection: socket.socket = transport.get_extra_info("socket")
    # The client may have closed the connection.
    with contextlib.suppress(OSError):
        # A linger time of zero makes the close send a reset (RST) instead of a normal end (FIN).
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
