"""Caches: a lasting 401 ends, a cached response costs no token, and what a cache file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cachecontrol
import hishel
import hishel.httpx
import pytest
import requests
import requests_cache

import dolby_auth_plugin.httpx
import dolby_auth_plugin.requests
from dolby_auth_plugin.sandbox import Sandbox

from ..servers import Reply, serving


def statuses(response: Any) -> list[int]:
    return [each.status_code for each in (*response.history, response)]


def requests_cache_in(folder: Path) -> Any:
    return requests_cache.CachedSession(folder / "cache", backend="sqlite")


def cache_control_in(folder: Path) -> Any:
    return cachecontrol.CacheControl(requests.Session())


@pytest.fixture(params=[requests_cache_in, cache_control_in])
def session(request: pytest.FixtureRequest, tmp_path: Path, sandbox: Sandbox) -> Any:
    with request.param(tmp_path) as session:
        session.auth = dolby_auth_plugin.requests.DolbyAuth(**sandbox.options)
        yield session


def test_a_lasting_401_is_sent_twice_and_costs_two_token_requests(session: Any, sandbox: Sandbox) -> None:
    """requests-cache calls the response hooks twice for each response."""
    sandbox.refuse_tokens = True

    assert statuses(session.get(f"{sandbox.url}/media/jobs", timeout=20)) == [401, 401]
    assert (sandbox.api_calls, sandbox.token_requests) == (2, 2)


def test_a_lasting_401_of_a_prepared_request_is_sent_twice(session: Any, sandbox: Sandbox) -> None:
    sandbox.refuse_tokens = True
    prepared = session.prepare_request(requests.Request("GET", f"{sandbox.url}/media/jobs"))

    assert statuses(session.send(prepared)) == [401, 401]
    assert (sandbox.api_calls, sandbox.token_requests) == (2, 2)


def test_a_lasting_401_after_a_redirect_is_sent_twice(session: Any, sandbox: Sandbox) -> None:
    """requests takes the first 401 out of the history, so the history does not tell the second call of the hooks."""
    with serving() as api:
        api.answer = lambda got: Reply(302, {"Location": "/jobs"}) if got.path == "/" else Reply(401)
        session.auth = dolby_auth_plugin.requests.DolbyAuth(**{**sandbox.options, "allowed_hosts": [api.host]})

        session.get(api.url, timeout=20)

    assert ["/", "/jobs", "/jobs"] == [received.path for received in api.log]
    assert sandbox.token_requests == 2


def test_a_cached_response_is_valid_with_a_revoked_token(tmp_path: Path, sandbox: Sandbox) -> None:
    with requests_cache_in(tmp_path) as session:
        session.auth = dolby_auth_plugin.requests.DolbyAuth(**sandbox.options)
        session.get(f"{sandbox.url}/media/jobs", timeout=20)
        sandbox.revoke_all()

        assert session.get(f"{sandbox.url}/media/jobs", timeout=20).from_cache

    assert (sandbox.api_calls, sandbox.token_requests) == (1, 1)


def test_the_file_of_requests_cache_has_no_token(tmp_path: Path, sandbox: Sandbox) -> None:
    auth = dolby_auth_plugin.requests.DolbyAuth(**sandbox.options)
    with requests_cache_in(tmp_path) as session:
        session.get(f"{sandbox.url}/media/jobs", auth=auth, timeout=20)

    assert not holds_token(tmp_path, auth.token().value)


def test_the_file_of_hishel_has_the_token(tmp_path: Path, sandbox: Sandbox) -> None:
    """hishel stores the headers of requests. If this fails, its row in docs/compatibility.md needs no trick any more."""
    auth = dolby_auth_plugin.httpx.DolbyAuth(**sandbox.options)
    storage = hishel.SqliteStorage(database_path=tmp_path / "cache.db")
    with hishel.httpx.CacheClient(storage=storage, auth=auth) as client:
        client.get(f"{sandbox.url}/media/jobs")

    assert holds_token(tmp_path, auth.token().value)


def holds_token(folder: Path, token: str) -> bool:
    return any(token.encode() in file.read_bytes() for file in folder.rglob("*") if file.is_file())
