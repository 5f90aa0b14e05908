"""The public API as a type checker sees it. Checked by mypy, never run."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, assert_type

import httpx
import httpx2
import requests

import dolby_auth_plugin
import dolby_auth_plugin.httpx
import dolby_auth_plugin.httpx2
import dolby_auth_plugin.requests
from dolby_auth_plugin import (
    DOLBY_HOSTS,
    AccessToken,
    AppCredentials,
    CredentialsError,
    CredentialsWarning,
    FileTokenCache,
    RedisTokenCache,
    Scope,
    TokenCache,
    TokenError,
)
from dolby_auth_plugin.sandbox import Sandbox


def for_requests() -> None:
    auth = dolby_auth_plugin.requests.DolbyAuth("key", "secret", scope=[Scope.MONITOR_READ], session=requests.Session())
    assert_type(auth.token(), AccessToken)
    assert_type(auth.invalidate(), None)
    session = requests.Session()
    session.auth = auth
    requests.get("https://api.dolby.com/media/jobs", auth=auth, timeout=5)
    assert_type(dolby_auth_plugin.DolbyAuth(), dolby_auth_plugin.requests.DolbyAuth)


async def for_httpx() -> None:
    auth = dolby_auth_plugin.httpx.DolbyAuth(expires_in=timedelta(hours=1), allowed_hosts=(*DOLBY_HOSTS, "localhost"))
    assert_type(await auth.atoken(), AccessToken)
    httpx.Client(auth=auth)
    httpx.AsyncClient(auth=auth)


async def for_httpx2() -> None:
    auth = dolby_auth_plugin.httpx2.DolbyAuth(credentials=lambda: AppCredentials("key", "secret"), timeout=10)
    assert_type(auth.token(), AccessToken)
    httpx2.Client(auth=auth)
    httpx2.AsyncClient(auth=auth)


def for_credentials() -> None:
    warnings.simplefilter("ignore", CredentialsWarning)
    try:
        assert_type(AppCredentials.from_file(Path("key"), "secret"), AppCredentials)
    except CredentialsError as error:
        assert_type(error.args, tuple[Any, ...])
    dolby_auth_plugin.requests.DolbyAuth(credentials=AppCredentials.from_file(".env"))
    dolby_auth_plugin.httpx.DolbyAuth(credentials=AppCredentials.from_keyring)
    dolby_auth_plugin.httpx2.DolbyAuth(credentials=AppCredentials.from_env)
    assert_type(FileTokenCache().clear(), int)


class OwnCache:
    def load(self, key: str) -> bytes | None:
        return None

    def store(self, key: str, entry: bytes, seconds: float) -> None:
        pass

    @contextmanager
    def lock(self, key: str, seconds: float) -> Generator[bool, None, None]:
        yield True


def caches() -> list[TokenCache]:
    dolby_auth_plugin.requests.DolbyAuth(cache=FileTokenCache("folder"))
    dolby_auth_plugin.httpx.DolbyAuth(cache=RedisTokenCache("redis://localhost", prefix="mine:"))
    dolby_auth_plugin.httpx2.DolbyAuth(cache=OwnCache())
    return [FileTokenCache(), RedisTokenCache("redis://localhost"), OwnCache()]


def fixtures(dolby_sandbox: Sandbox, dolby_auth_env: Sandbox) -> None:
    assert_type(dolby_sandbox.url, str)
    assert_type(dolby_auth_env.reset(), None)
    Sandbox(port=8080)


def tokens(token: AccessToken) -> None:
    assert_type(token.value, str)
    assert_type(token.scope, frozenset[str] | None)
    assert_type(token.expires_at, datetime)
    assert_type(token.token_type, str)


def errors(error: TokenError) -> None:
    assert_type(error.status_code, int | None)
    assert_type(error.reason, str)
    assert_type(error.description, str | None)
    assert_type(error.retry_after, float | None)
    assert_type(error.retryable, bool)


def errors_are_the_hosts_own(
    one: dolby_auth_plugin.requests.TokenError,
    two: dolby_auth_plugin.httpx.TokenError,
    three: dolby_auth_plugin.httpx2.TokenError,
) -> tuple[requests.RequestException, httpx.RequestError, httpx2.RequestError]:
    return one, two, three
