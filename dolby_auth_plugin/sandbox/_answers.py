"""
Dolby.io's two error bodies.

Communications has its own format. The format of Media resembles RFC 9457. It is unconfirmed which
one the token endpoint uses. The sandbox uses both there, so a client must be able to read both.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

TOKEN_PATH = "/v1/auth/token"  # noqa: S105 - a path

# These values come from recorded real responses. Those of other statuses are unconfirmed.
_COMMUNICATIONS = {400: (90, "Illegal argument"), 401: (89, "Invalid_token")}
_MEDIA = {400: ("/problems/validation-error", "Your request parameters didn't validate")}


def communications_body(status: int, description: str, *, reason: str | None = None) -> dict[str, Any]:
    code, usual_reason = _COMMUNICATIONS.get(status, (status, _phrase(status)))
    return {
        "type": "ErrorResponse",
        "error_code": code,
        "error_reason": reason or usual_reason,
        "error_description": description,
    }


def media_body(status: int, detail: str, *, path: str) -> dict[str, Any]:
    phrase = _phrase(status)
    kind, title = _MEDIA.get(status, (f"/problems/{phrase.lower().replace(' ', '-')}", phrase))
    return {"type": kind, "title": title, "status": status, "instance": path, "detail": detail}


def refusal(path: str, status: int, description: str) -> Response:
    """The error response of the API that *path* belongs to."""
    if path.startswith("/media/"):
        return JSONResponse(media_body(status, description, path=path), status)
    return JSONResponse(communications_body(status, description), status)


async def on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refusal(request.url.path, error.status_code, error.detail)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
