"""
A service that gets client access tokens for browsers, so that the app secret stays on the server.

It shows one `httpx.AsyncClient` with one auth object for the life of the service. All requests share its API token, which has the
only scope that the service needs.

    export DOLBYIO_APP_KEY=... DOLBYIO_APP_SECRET=...
    uvicorn token_broker:app
    curl -X POST -H "X-Forwarded-User: alice" http://127.0.0.1:8000/client-access-token
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response

from dolby_auth_plugin import Scope
from dolby_auth_plugin.httpx import DolbyAuth, TokenError

API_URL = os.environ.get("API_URL", "https://comms.api.dolby.io")

# Seconds. The SDK in the browser asks for another token before this one expires.
LIFETIME = 900

logger = logging.getLogger("token_broker")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    auth = DolbyAuth(scope=Scope.CLIENT_ACCESS_TOKEN_CREATE, timeout=10)
    async with httpx.AsyncClient(auth=auth, base_url=API_URL, timeout=10) as client:
        yield {"client": client}


app = FastAPI(lifespan=lifespan)


async def signed_in_user(x_forwarded_user: Annotated[str | None, Header()] = None) -> str:
    """The user's name, from a proxy that signs users in. Replace it with your own sign-in: no stranger may get a token."""
    if not x_forwarded_user:
        raise HTTPException(401, "sign in first")
    return x_forwarded_user


@app.post("/client-access-token")
async def client_access_token(
    request: Request, response: Response, user: Annotated[str, Depends(signed_in_user)]
) -> dict[str, Any]:
    client: httpx.AsyncClient = request.state.client
    wanted = {"sessionScope": "conf:create notifications:set", "externalId": user, "expiresIn": LIFETIME}
    try:
        answer = await client.post("/v2/client-access-token", json=wanted)
        answer.raise_for_status()
        granted = answer.json()
        token = {name: granted[name] for name in ("access_token", "expires_in")}
    except TokenError as error:
        # The text helps the operator, and is free of secrets. Browsers do not need it.
        logger.error("no API token: %s", error)  # noqa: TRY400 - a traceback adds nothing
        headers = {"Retry-After": str(int(error.retry_after or 5))} if error.retryable else None
        raise HTTPException(503, "try again later", headers) from None
    except httpx.HTTPStatusError as error:
        logger.error("Dolby.io answered %s", error.response.status_code)  # noqa: TRY400 - as above
        raise HTTPException(502, "no token was granted") from None
    except (httpx.HTTPError, ValueError, KeyError) as error:
        # No answer, or not the one that is documented.
        logger.error("no answer of use: %s", type(error).__name__)  # noqa: TRY400 - as above
        raise HTTPException(502, "no token was granted") from None
    # No cache may keep the token.
    response.headers["Cache-Control"] = "no-store"
    return token
