"""
Media and Communications, on one port.

The token check runs before routing: without a valid token even an unknown path gets a 401.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from dolby_auth_plugin.sandbox._answers import TOKEN_PATH, on_http_exception, refusal
from dolby_auth_plugin.sandbox._state import RECORDED_CONFERENCE, Grant, Job, State
from dolby_auth_plugin.sandbox._storage import presigned
from dolby_auth_plugin.sandbox._token_endpoint import TokenEndpoint

Endpoint = Callable[[Request], Awaitable[Response]]

_WEBHOOK_KEYS_PATH = "/v1/public/keys/webhooks"
_OPEN_PATHS = (TOKEN_PATH, _WEBHOOK_KEYS_PATH)

_LOCATION = re.compile("dlb://(.+)")

_SESSION_SCOPES = ("*", "conf:create", "file:convert", "notifications:set", "session:update")


def dolby_app(state: State) -> ASGIApp:
    media, communications = Media(state), Communications(state)
    app = Starlette(
        routes=[
            Route(TOKEN_PATH, TokenEndpoint(state).answer, methods=["POST"]),
            Route("/media/input", media.input, methods=["POST"]),
            Route("/media/output", media.download, methods=["GET"]),
            Route("/media/output", media.output, methods=["POST"]),
            Route("/media/enhance", media.submit, methods=["POST"]),
            Route("/media/enhance", media.poll, methods=["GET"]),
            Route("/media/jobs", media.jobs, methods=["GET"]),
            *communications.routes(),
        ],
        middleware=[Middleware(Guard, state)],
        exception_handlers={HTTPException: on_http_exception},
    )
    app.router.redirect_slashes = False
    return app


class Guard:
    """Passes on requests that have a valid token or need none. Answers 401 to the others."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in _OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        self._state.count("api_calls")
        await asyncio.sleep(self._state.api_latency)
        grant = self._grant(Request(scope))
        if grant is None:
            self._state.count("unauthorized")
            # The Communications body is from a recorded response; the Media body is unconfirmed.
            # No public source mentions a `WWW-Authenticate` header.
            await refusal(scope["path"], 401, "Expired or invalid token")(scope, receive, send)
            return
        scope["state"]["grant"] = grant
        await self._app(scope, receive, send)

    def _grant(self, request: Request) -> Grant | None:
        headers = request.headers.getlist("authorization")
        if len(headers) != 1 or self._state.refuse_tokens:
            return None
        scheme, _, token = headers[0].partition(" ")
        return self._state.grant_of(token) if scheme.lower() == "bearer" else None


class Media:
    """Upload, process and download files. Media has no scopes, so any valid token is accepted."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def input(self, request: Request) -> Response:
        path = _path_of((await _json_object(request)).get("url"))
        return JSONResponse({"url": presigned(self._state, "PUT", path)})

    async def output(self, request: Request) -> Response:
        path = _path_of((await _json_object(request)).get("url"))
        return JSONResponse({"url": presigned(self._state, "GET", path)})

    async def download(self, request: Request) -> Response:
        path = _path_of(request.query_params.get("url"))
        # The redirect is documented; its exact 3xx code is unconfirmed.
        return RedirectResponse(presigned(self._state, "GET", path), 302)

    async def submit(self, request: Request) -> Response:
        body = await _json_object(request)
        source, target = _path_of(body.get("input")), _path_of(body.get("output"))
        return JSONResponse({"job_id": self._state.submit(request.url.path, source, target).job_id})

    async def poll(self, request: Request) -> Response:
        job = self._state.poll(request.query_params.get("job_id", ""))
        if job is None:
            raise HTTPException(404, "The job does not exist")
        return JSONResponse({**_job(job), "result": {}})

    async def jobs(self, request: Request) -> Response:
        return JSONResponse({"jobs": [{"job_id": job.job_id, **_job(job)} for job in self._state.jobs()]})


class Communications:
    """A few REST calls. Each one requires its scope."""

    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self) -> list[Route]:
        read = _behind("comms:monitor:read", self.conferences)
        download = _behind("comms:monitor:download", self.recordings)
        delete = _behind("comms:monitor:delete", self.delete_recordings)
        create = _behind("comms:client_access_token:create", self.client_access_token)
        return [
            Route("/v1/monitor/conferences", read, methods=["GET"]),
            Route("/v1/monitor/conferences/{conference_id}/recordings", delete, methods=["DELETE"]),
            Route("/v2/monitor/conferences/{conference_id}/recordings", delete, methods=["DELETE"]),
            Route("/v2/monitor/recordings", download, methods=["GET"]),
            Route("/v2/client-access-token", create, methods=["POST"]),
            Route(_WEBHOOK_KEYS_PATH, self.webhook_keys, methods=["GET"]),
        ]

    async def conferences(self, request: Request) -> Response:
        return JSONResponse({"conferences": [], "next": ""})

    async def recordings(self, request: Request) -> Response:
        # According to the documentation, the URLs of recordings expire after ten minutes.
        recordings = [
            {
                "confId": RECORDED_CONFERENCE,
                "url": presigned(self._state, "GET", path, lifetime=600),
            }
            for path in self._state.objects()
            if path.startswith("/recordings/")
        ]
        return JSONResponse({"recordings": recordings, "next": ""})

    async def delete_recordings(self, request: Request) -> Response:
        self._state.delete(f"/recordings/{request.path_params['conference_id']}.mp4")
        return Response(status_code=204)

    async def client_access_token(self, request: Request) -> Response:
        body = await _json_object(request)
        # Dolby's own SDKs use different spellings, so both are accepted.
        lifetime = body.get("expiresIn", body.get("expires_in", 3600))
        if type(lifetime) is not int or not 1 <= lifetime <= 86_400:
            raise HTTPException(400, "expiresIn must be whole seconds from 1 to 86400")
        scopes: tuple[str, ...] | None = None
        if "sessionScope" in body:
            scopes = tuple(scope for scope in str(body["sessionScope"]).split(" ") if scope in _SESSION_SCOPES)
        # Not stored as a grant: this token is for browsers, and the REST routes reject it.
        token = self._state.mint(lifetime, scopes)
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": lifetime}
        return JSONResponse(answer if scopes is None else {**answer, "scope": " ".join(scopes)})

    async def webhook_keys(self, request: Request) -> Response:
        return JSONResponse({"keys": []})


def _behind(scope: str, endpoint: Endpoint) -> Endpoint:
    """Limit *endpoint* to tokens that have *scope*. Others get a 403, which is unconfirmed."""

    async def guarded(request: Request) -> Response:
        grant: Grant = request.scope["state"]["grant"]
        if not grant.allows(scope):
            raise HTTPException(403, f"The token lacks the scope {scope}")
        return await endpoint(request)

    return guarded


async def _json_object(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise HTTPException(400, "Request body contains invalid json")
    return body


def _path_of(location: object) -> str:
    """The path of a `dlb://` name on the storage port. The sandbox has no other storage."""
    name = _LOCATION.fullmatch(location) if isinstance(location, str) else None
    if name is None:
        raise HTTPException(400, "A location must be given as dlb://name")
    return f"/dlb/{name[1]}"


def _job(job: Job) -> dict[str, Any]:
    progress = {"Pending": 0, "Running": 50, "Success": 100, "Failed": 100}[job.status]
    return {"path": job.path, "status": job.status, "progress": progress}
