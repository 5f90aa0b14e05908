"""
Mistakes that a type checker must find in a user's program. Checked by mypy and pyright, both strict, never run.

Each line has one mistake. Both checkers report a comment that suppresses nothing, so a mistake that is no longer found fails.
"""

from __future__ import annotations

import httpx
import httpx2
import requests

import dolby_auth_plugin
from dolby_auth_plugin import AccessToken, AppCredentials, FileTokenCache, TokenError
from dolby_auth_plugin import httpx as for_httpx
from dolby_auth_plugin import httpx2 as for_httpx2
from dolby_auth_plugin import requests as for_requests


def auth_objects_of_another_library() -> None:
    session = requests.Session()
    session.auth = for_httpx.DolbyAuth()  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    session.auth = for_httpx2.DolbyAuth()  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    requests.get("", auth=for_httpx.DolbyAuth())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    httpx.Client(auth=for_requests.DolbyAuth())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    httpx.Client(auth=for_httpx2.DolbyAuth())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    httpx.AsyncClient(auth=for_requests.DolbyAuth())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    httpx.AsyncClient(auth=for_httpx2.DolbyAuth())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    httpx2.Client(auth=dolby_auth_plugin.DolbyAuth())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    httpx2.Client(auth=for_httpx.DolbyAuth())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    httpx2.AsyncClient(auth=for_requests.DolbyAuth())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    httpx2.AsyncClient(auth=for_httpx.DolbyAuth())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def classes_instead_of_objects() -> None:
    session = requests.Session()
    session.auth = for_requests.DolbyAuth  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    httpx.Client(auth=for_httpx.DolbyAuth)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    httpx2.Client(auth=for_httpx2.DolbyAuth)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def clients_that_cannot_send_token_requests() -> None:
    for_requests.DolbyAuth(session="x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for_requests.DolbyAuth(session=httpx.Client())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for_requests.DolbyAuth(client=httpx.Client())  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    for_httpx.DolbyAuth(client="x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for_httpx.DolbyAuth(client=httpx.AsyncClient())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for_httpx.DolbyAuth(client=httpx2.Client())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for_httpx2.DolbyAuth(client="x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for_httpx2.DolbyAuth(client=httpx2.AsyncClient())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for_httpx2.DolbyAuth(client=httpx.Client())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def options_of_the_wrong_type() -> None:
    for_requests.DolbyAuth(b"key", "secret")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for_requests.DolbyAuth("key", "secret", "comms:*")  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]
    for_requests.DolbyAuth(scopes="comms:*")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    for_requests.DolbyAuth(scope=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for_requests.DolbyAuth(expires_in="1800")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for_httpx.DolbyAuth(token_url=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for_httpx.DolbyAuth(allowed_hosts=[1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    for_httpx2.DolbyAuth(timeout=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def caches_of_the_wrong_type() -> None:
    for_requests.DolbyAuth(cache="redis://localhost")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for_httpx.DolbyAuth(cache=FileTokenCache)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for_httpx2.DolbyAuth(cache={})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    FileTokenCache(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def credentials_of_the_wrong_type() -> None:
    def pair() -> tuple[str, str]:
        return "key", "secret"

    async def later() -> AppCredentials:
        return AppCredentials("key", "secret")

    for_requests.DolbyAuth(credentials=pair)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for_httpx.DolbyAuth(credentials=later)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for_httpx2.DolbyAuth(credentials=("key", "secret"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def tokens(token: AccessToken) -> None:
    for_requests.DolbyAuth().token().text  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # noqa: B018
    await for_requests.DolbyAuth().atoken()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    await for_httpx.DolbyAuth().token()  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]


def errors(error: TokenError) -> None:
    error.retry_after.hex()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    error.status  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # noqa: B018
    dolby_auth_plugin.TokenErrors  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # noqa: B018
