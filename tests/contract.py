"""
Every behaviour that a user of any library sees, written once.

A subclass supplies the driver. Servers are real: the sandbox, and small servers whose answers a test decides.
"""

from __future__ import annotations

import base64
import copy
import gzip
import itertools
import logging
import pickle
import ssl
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import httpx
import httpx2
import pytest
import requests
import trustme

import dolby_auth_plugin
from dolby_auth_plugin import AccessToken, AppCredentials, DolbyAuthError, ScopeWarning, TokenError
from dolby_auth_plugin.sandbox import Sandbox

from .drivers import Client, Driver
from .fakes import FakeClock, HastyClock, MemoryCache, ScriptedSender, wait_for_fetches
from .internals import (
    fresh_tls_contexts,
    keep_token,
    present_token,
    read_refusals_for,
    rebuild,
    refuse,
    set_sandbox_clock,
    source_of,
    store_file,
)
from .servers import Received, Reply, Server, serving

CLASSIC: dict[str, Any] = {"app_key": "an-app-key", "app_secret": "canary-secret"}


def on_clock(auth: Any, clock: FakeClock | HastyClock) -> Any:
    """*auth*, with *clock* as its clock."""
    return rebuild(auth, clock=clock)


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("127.0.0.1",))).configure_cert(context)
    return context


def rendered(error: BaseException) -> str:
    """The frames of the package in the traceback of *error*, with their local variables."""
    whole = traceback.TracebackException.from_exception(error, capture_locals=True)
    package = str(Path(dolby_auth_plugin.__file__).parent)
    whole.stack = traceback.StackSummary.from_list(
        [frame for frame in whole.stack if frame.filename.startswith(package)]
    )
    return "".join(whole.format())


class TwoOrigins(Sandbox):
    """A sandbox whose token endpoint has an origin of its own, as at Dolby.io. Adapters remember only origins without it."""

    @property
    def token_url(self) -> str:
        return super().token_url.replace("127.0.0.1", "localhost")

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        [host] = super().allowed_hosts
        return host, host.replace("127.0.0.1", "localhost")


class AuthContract:
    driver: ClassVar[Driver]

    @pytest.fixture
    def sandbox(self) -> Iterator[Sandbox]:
        with TwoOrigins() as sandbox:
            yield sandbox

    def auth(self, sandbox: Sandbox, *allowed: Server, **options: Any) -> Any:
        """An auth object for *sandbox* that also allows the servers *allowed*."""
        hosts = (*sandbox.allowed_hosts, *(server.host for server in allowed))
        return self.driver.adapter.DolbyAuth(**{**sandbox.options, "allowed_hosts": hosts, **options})

    @pytest.fixture
    def auth_of_sandbox(self, sandbox: Sandbox, api: Server) -> Any:
        """An auth object for both *sandbox* and *api*."""
        return self.auth(sandbox, api)

    @pytest.fixture
    def client(self, auth_of_sandbox: Any) -> Iterator[Client]:
        with self.driver.open(auth_of_sandbox) as client:
            yield client

    def at(self, server: Server, **options: Any) -> Any:
        """An auth object whose token requests *server* answers."""
        return self.driver.adapter.DolbyAuth(**CLASSIC, token_url=f"{server.url}/token", **options)

    def failure(self, auth: Any) -> Any:
        """The error of the token method."""
        with pytest.raises(self.driver.adapter.TokenError) as caught:
            self.driver.token(auth)
        return caught.value

    def as_told(self, history: list[int]) -> list[int]:
        """The part of *history* that the library reports."""
        return history

    # Obtaining a token

    def test_a_client_with_the_auth_is_authenticated(self, sandbox: Sandbox, client: Client) -> None:
        assert client.get(f"{sandbox.url}/media/jobs").status == 200

    def test_the_auth_works_for_a_single_call(self, sandbox: Sandbox, auth_of_sandbox: Any) -> None:
        with self.driver.open(None) as client:
            assert client.get(f"{sandbox.url}/media/jobs", auth=auth_of_sandbox).status == 200

    def test_the_token_is_obtained_once_and_kept(self, sandbox: Sandbox, client: Client) -> None:
        assert [200] * 5 == [client.get(f"{sandbox.url}/media/jobs").status for _ in range(5)]
        assert sandbox.token_requests == 1

    def test_callers_that_start_together_cost_one_token_request(self, sandbox: Sandbox, client: Client) -> None:
        sandbox.latency = 0.1

        seen = client.crowd(24, "GET", f"{sandbox.url}/media/jobs")

        assert [200] * 24 == [getattr(one, "status", one) for one in seen]
        assert sandbox.token_requests == 1

    def test_credentials_come_from_the_environment(self, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DOLBYIO_APP_KEY", sandbox.app_key)
        monkeypatch.setenv("DOLBYIO_APP_SECRET", sandbox.app_secret)
        auth = self.driver.adapter.DolbyAuth(token_url=sandbox.token_url, allowed_hosts=sandbox.allowed_hosts)

        with self.driver.open(auth) as client:
            assert client.get(f"{sandbox.url}/media/jobs").status == 200

    def test_credentials_come_from_a_callable(self, sandbox: Sandbox) -> None:
        auth = self.driver.adapter.DolbyAuth(
            credentials=lambda: AppCredentials(sandbox.app_key, sandbox.app_secret),
            token_url=sandbox.token_url,
            allowed_hosts=sandbox.allowed_hosts,
        )

        with self.driver.open(auth) as client:
            assert client.get(f"{sandbox.url}/media/jobs").status == 200

    def test_credentials_outside_latin_1_are_sent_as_utf_8(self) -> None:
        with Sandbox(app_key="schlüssel", app_secret="gehe%m:ß-€") as sandbox:
            assert self.driver.token(self.auth(sandbox)).value

    def test_the_token_request_has_the_scope_and_lifetime_that_were_asked_for(self, sandbox: Sandbox) -> None:
        auth = self.auth(sandbox, scope=["comms:monitor:read", "comms:monitor:delete"], expires_in=timedelta(minutes=1))

        token = self.driver.token(auth)

        assert token.scope == {"comms:monitor:read", "comms:monitor:delete"}
        [record] = sandbox.token_log
        assert ("comms:monitor:read comms:monitor:delete", 60) == (record.scope, record.expires_in)
        assert f" {self.driver.name}/{self.driver.library.__version__}" in (record.user_agent or "")

    def test_the_token_method_returns_the_token_that_requests_use(self, sandbox: Sandbox, auth_of_sandbox: Any) -> None:
        token = self.driver.token(auth_of_sandbox)

        assert isinstance(token, AccessToken)
        with self.driver.open(auth_of_sandbox) as client:
            client.get(f"{sandbox.url}/media/jobs")
        assert sandbox.token_requests == 1

    def test_a_token_is_renewed_before_it_expires(self, sandbox: Sandbox, auth_of_sandbox: Any) -> None:
        """So no request is refused."""
        clock = FakeClock()
        set_sandbox_clock(sandbox, clock.time)
        with self.driver.open(on_clock(auth_of_sandbox, clock)) as client:
            for _ in range(20):
                assert client.get(f"{sandbox.url}/media/jobs").history == []
                wait_for_fetches()
                clock.advance(200)

        assert (sandbox.unauthorized, sandbox.token_requests) == (0, 3)
        assert [False, True, True] == [record.early for record in sandbox.token_log]

    # An adapter remembers an origin that it allowed, unless the token endpoint has the same one

    MEDIA: ClassVar[str] = "https://api.dolby.com"

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda auth, clock: clock.step_wall(1800),
            lambda auth, clock: clock.stall_wall(1800),
            lambda auth, clock: refuse(source_of(auth), present_token(source_of(auth)), "api.dolby.com:443"),
            lambda auth, clock: auth.invalidate(),
        ],
        ids=["expired by the wall clock", "expired by the monotonic clock", "refused", "invalidated"],
    )
    def test_a_remembered_origin_gets_no_token_that_is_used_up(self, spoil: Any) -> None:
        """A suspended machine stops the monotonic clock, and a wall clock can be set back."""
        clock = FakeClock()
        auth = rebuild(self.driver.adapter.DolbyAuth(**CLASSIC), send=ScriptedSender(), clock=clock)
        assert ["Bearer token-1"] * 3 == [self.driver.authorization(auth, self.MEDIA) for _ in range(3)]

        spoil(auth, clock)

        assert self.driver.authorization(auth, self.MEDIA) == "Bearer token-2"

    @pytest.mark.parametrize(
        "url",
        [
            "http://api.dolby.com/",
            "https://api.dolby.com:8443/",
            "https://api.dolby.com.evil.test/",
            "https://evil.test/",
        ],
    )
    def test_after_a_remembered_origin_another_scheme_port_or_host_gets_no_token(self, url: str) -> None:
        auth = rebuild(self.driver.adapter.DolbyAuth(**CLASSIC), send=ScriptedSender())

        given = [self.driver.authorization(auth, one) for one in (self.MEDIA, self.MEDIA, url, self.MEDIA)]

        assert given == ["Bearer token-1", "Bearer token-1", None, "Bearer token-1"]

    def test_unknown_and_missing_scopes_cause_warnings(self, sandbox: Sandbox) -> None:
        with pytest.warns(ScopeWarning, match="unknown scope 'comms:monitor:raed'") as caught:
            auth = self.auth(sandbox, scope="comms:monitor:raed")
        assert [__file__] == [warning.filename for warning in caught]

        with pytest.warns(ScopeWarning, match="did not grant 'comms:monitor:raed'"):
            self.driver.token(auth)

    def test_a_warning_turned_into_an_error_costs_one_call(self, sandbox: Sandbox) -> None:
        with pytest.warns(ScopeWarning):
            auth = self.auth(sandbox, scope="comms:x")

        with self.driver.open(auth) as client, warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ScopeWarning):
                client.get(f"{sandbox.url}/media/jobs")
            assert client.get(f"{sandbox.url}/media/jobs").status == 200
        assert sandbox.token_requests == 1

    # The hosts that get the token

    def test_a_foreign_host_gets_no_token_and_costs_no_token_request(
        self, sandbox: Sandbox, client: Client, other: Server
    ) -> None:
        assert client.get(other.url).status == 200

        assert [None] == [received.token for received in other.log]
        assert sandbox.token_requests == 0

    def test_a_request_to_a_foreign_host_keeps_its_own_authorization(self, client: Client, other: Server) -> None:
        client.get(other.url, headers={"Authorization": "Custom own"})

        assert ["Custom own"] == [received.token for received in other.log]

    def test_the_token_replaces_the_callers_authorization_on_an_allowed_host(
        self, sandbox: Sandbox, client: Client
    ) -> None:
        assert client.get(f"{sandbox.url}/media/jobs", headers={"Authorization": "Custom own"}).status == 200

    def test_the_token_endpoint_gets_no_token(self, sandbox: Sandbox, client: Client) -> None:
        client.get(f"{sandbox.url}/media/jobs")

        seen = client.send("POST", f"{sandbox.token_url}?x=1", headers={"Authorization": "Bearer own"})

        assert (seen.status, seen.history) == (401, [])
        assert sandbox.token_requests == 2

    def test_the_callers_headers_are_not_changed(self, sandbox: Sandbox, client: Client) -> None:
        headers = {"X-Mine": "1"}

        client.get(f"{sandbox.url}/media/jobs", headers=headers)

        assert headers == {"X-Mine": "1"}

    # 401

    def test_a_refused_request_is_sent_again_with_a_new_token(self, sandbox: Sandbox, client: Client) -> None:
        client.get(f"{sandbox.url}/media/jobs")
        sandbox.revoke_all()

        seen = client.get(f"{sandbox.url}/media/jobs")

        assert (seen.status, seen.history) == (200, [401])
        assert sandbox.token_requests == 2

    def test_a_second_401_is_returned_to_the_caller(self, sandbox: Sandbox, client: Client) -> None:
        sandbox.refuse_tokens = True

        seen = client.get(f"{sandbox.url}/media/jobs")

        assert (seen.status, seen.history) == (401, [401])
        assert (sandbox.api_calls, sandbox.token_requests) == (2, 2)

    def test_history_shows_each_request_with_the_token_it_had(self, sandbox: Sandbox, client: Client) -> None:
        client.get(f"{sandbox.url}/media/jobs")
        sandbox.revoke_all()

        response = client.get(f"{sandbox.url}/media/jobs").response

        [refused] = response.history
        assert refused.request.headers["Authorization"] != response.request.headers["Authorization"]
        assert b"Expired or invalid token" in refused.content

    def test_many_refusals_of_one_token_cost_one_token_request(self, sandbox: Sandbox, client: Client) -> None:
        client.get(f"{sandbox.url}/media/jobs")
        sandbox.revoke_all()
        sandbox.latency = 0.1

        seen = client.crowd(24, "GET", f"{sandbox.url}/media/jobs")

        assert [200] * 24 == [getattr(one, "status", one) for one in seen]
        assert sandbox.token_requests == 2

    def test_an_api_that_refuses_every_token_costs_few_token_requests(self, sandbox: Sandbox, client: Client) -> None:
        sandbox.refuse_tokens = True

        statuses = {client.get(f"{sandbox.url}/media/jobs").status for _ in range(50)}

        assert statuses == {401}
        assert sandbox.token_requests == 5

    @pytest.mark.parametrize(
        "statuses",
        [(401, 200), (401, 403), (401, 404), (401, 302), (401, 503), (401, 200, 200)],
        ids=lambda statuses: "-".join(map(str, statuses)),
    )
    def test_refusals_in_any_pattern_cost_few_token_requests(
        self, sandbox: Sandbox, api: Server, auth_of_sandbox: Any, statuses: tuple[int, ...]
    ) -> None:
        """One bad node of two or three, for example. The clock stands still: the first token and four replacements."""
        turn = itertools.cycle(statuses)
        api.answer = lambda _: Reply(next(turn), {"Location": "/elsewhere"})

        with self.driver.open(on_clock(auth_of_sandbox, FakeClock())) as client:
            for _ in range(20):
                with suppress(self.driver.host_error):  # too many redirects
                    client.get(api.url)

        assert sandbox.token_requests == 5

    def test_many_refusing_hosts_cost_few_token_requests(self, sandbox: Sandbox) -> None:
        with ExitStack() as stack:
            servers = [stack.enter_context(serving()) for _ in range(10)]
            for server in servers:
                server.answer = lambda _: Reply(401)
            auth = on_clock(self.auth(sandbox, *servers), FakeClock())

            with self.driver.open(auth) as client:
                assert {401} == {client.get(server.url).status for _ in range(3) for server in servers}

        assert sandbox.token_requests == 5

    def test_auth_objects_with_a_cache_share_a_token_and_its_replacement(self, sandbox: Sandbox) -> None:
        cache = MemoryCache(time)
        with ExitStack() as stack:
            clients = [stack.enter_context(self.driver.open(self.auth(sandbox, cache=cache))) for _ in range(2)]

            assert [[], []] == [client.get(f"{sandbox.url}/media/jobs").history for client in clients]
            sandbox.revoke_all()
            assert [[401], [401]] == [client.get(f"{sandbox.url}/media/jobs").history for client in clients]

        assert sandbox.token_requests == 2

    def test_beyond_the_shared_allowance_all_callers_get_their_401(self, sandbox: Sandbox, api: Server) -> None:
        api.answer = lambda _: Reply(401, body=b"refused")
        clock, cache = FakeClock(), MemoryCache(time)
        with ExitStack() as stack:
            auths = [on_clock(self.auth(sandbox, api, cache=cache), clock) for _ in range(3)]
            clients = [stack.enter_context(self.driver.open(auth)) for auth in auths]

            seen = [client.get(api.url) for _ in range(4) for client in clients]

        assert {(401, b"refused")} == {(one.status, one.body) for one in seen}
        assert sandbox.token_requests == 5

    def test_a_revoked_token_is_replaced_twenty_seconds_after_many_refusals(
        self, sandbox: Sandbox, api: Server, auth_of_sandbox: Any
    ) -> None:
        """A path that always answers 401 has used up the allowance. After twenty seconds, one more token is replaced."""
        clock = FakeClock()
        api.answer = lambda _: Reply(401)

        with self.driver.open(on_clock(auth_of_sandbox, clock)) as client:
            for _ in range(20):
                client.get(api.url)
            sandbox.revoke_all()
            assert client.get(f"{sandbox.url}/media/jobs").status == 401
            clock.advance(20)

            assert client.get(f"{sandbox.url}/media/jobs").status == 200

    def test_if_the_token_is_not_replaced_the_caller_gets_the_401(
        self, api: Server, auth_of_sandbox: Any, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The 401 has its body, and no second request is sent."""
        api.answer = lambda _: Reply(401, body=b"refused")
        self.driver.token(auth_of_sandbox)
        keep_token(auth_of_sandbox, monkeypatch)

        seen = client.get(api.url)

        assert (seen.status, seen.history, seen.body, len(api.log)) == (401, [], b"refused", 1)

    def test_tokens_that_are_revoked_one_after_another_are_replaced(self, sandbox: Sandbox) -> None:
        """Four in a row, and then one every twenty seconds."""
        clock = FakeClock()
        with self.driver.open(on_clock(self.auth(sandbox), clock)) as client:
            for number in range(8):
                assert client.get(f"{sandbox.url}/media/jobs").status == 200
                sandbox.revoke_all()
                clock.advance(20 if number >= 4 else 0)

        assert sandbox.token_requests == 8

    def test_a_request_refused_with_an_earlier_token_is_sent_again_however_old_it_is(
        self, sandbox: Sandbox, auth_of_sandbox: Any, client: Client, api: Server
    ) -> None:
        """The answer comes after the token was replaced many times. It costs no token request."""

        def answer(received: Received) -> Reply:
            if len(api.log) > 1:
                return Reply()
            for _ in range(10):
                auth_of_sandbox.invalidate()
                wait_for_fetches()
                source_of(auth_of_sandbox).token()
            return Reply(401)

        api.answer = answer

        seen = client.get(api.url)

        assert (seen.status, sandbox.token_requests) == (200, 11)

    def test_a_redirect_after_a_retry_is_followed(self, sandbox: Sandbox, client: Client) -> None:
        """The next hop uses the new token, so no third one is obtained."""
        client.get(f"{sandbox.url}/media/jobs")
        store_file(sandbox, "/dlb/out", b"sound")
        sandbox.revoke_all()

        seen = client.get(f"{sandbox.url}/media/output?url=dlb://out")

        assert (seen.body, seen.history) == (b"sound", self.as_told([401, 302]))
        assert (sandbox.token_requests, sandbox.storage_leaks) == (2, 0)

    def test_a_redirect_to_the_same_host_after_a_retry_carries_the_new_token(
        self, sandbox: Sandbox, api: Server, client: Client
    ) -> None:
        redirect = Reply(302, {"Location": "/there"})
        api.refuse_old_tokens(then=lambda received: Reply() if received.path == "/there" else redirect)

        seen = client.get(api.url)

        assert (seen.status, seen.history) == (200, self.as_told([401, 302]))
        assert sandbox.token_requests == 2

    def stream(self) -> Any:
        """A body that can be read once."""
        return (chunk for chunk in (b"one", b"two"))

    def test_refused_uploads_that_cannot_be_sent_again_cost_few_token_requests(
        self, sandbox: Sandbox, client: Client
    ) -> None:
        sandbox.refuse_tokens = True
        url = f"{sandbox.url}/media/input"

        statuses = {client.send("POST", url, content=self.stream()).status for _ in range(50)}

        assert statuses == {401}
        assert sandbox.token_requests == 5

    def test_cookies_that_come_with_a_refusal_are_sent_with_the_retry(self, api: Server, client: Any) -> None:
        """The client keeps them, like those of any response."""
        api.refuse_old_tokens(Reply(401, {"Set-Cookie": "a=new; Path=/"}))
        jar = client.session.cookies if hasattr(client, "session") else client.client.cookies
        for name, value in {"a": "old", "b": "kept"}.items():
            jar.set(name, value, domain="127.0.0.1", path="/")

        client.get(api.url)
        client.get(api.url)

        sent = [set((received.headers["Cookie"] or "").split("; ")) for received in api.log]
        assert [{"a=old", "b=kept"}, {"a=new", "b=kept"}] == sent[:2]
        assert "a=new" in sent[2]

    @pytest.mark.parametrize(
        "raw",
        [
            b"HTTP/1.1 401 X\r\nConnection: close\r\nContent-Encoding: gzip\r\nContent-Length: 6\r\n\r\nnogzip",
            b"HTTP/1.1 401 X\r\nContent-Length: 100\r\n\r\ntruncated",
            b"HTTP/1.1 401 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nbroken",
            b"HTTP/1.1 401 X\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 300_000,
        ],
        ids=["bad gzip", "truncated", "bad chunk", "too long"],
    )
    def test_a_refused_request_is_retried_even_if_the_body_of_the_401_is_broken(
        self, api: Server, client: Client, raw: bytes
    ) -> None:
        api.refuse_old_tokens(Reply(raw=raw))

        seen = client.get(api.url)

        assert seen.status == 200
        assert len(seen.response.history[0].content) < 200_000

    @pytest.mark.parametrize(
        ("framing", "timeout"),
        [
            (b"Content-Length: 1\r\n\r\n", None),
            (b"Transfer-Encoding: chunked\r\n\r\n1\r\n", None),
            (b"Connection: close\r\n\r\n", None),
            (b"Content-Length: 1\r\n\r\n", 0.5),
        ],
        ids=["length", "chunked", "close", "own timeout"],
    )
    def test_the_retry_does_not_wait_for_a_401_body_that_never_comes(
        self, api: Server, client: Client, framing: bytes, timeout: float | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With or without a timeout of the call. If the retry waited, `history` would show the body, which comes later."""
        if timeout is None:
            read_refusals_for(0.05, monkeypatch)
        api.refuse_old_tokens(Reply(prompt=b"HTTP/1.1 401 X\r\n" + framing, raw=b"x", drip=1))

        seen = client.get(api.url, timeout=timeout)

        assert (200, [401], b"") == (seen.status, seen.history, seen.response.history[0].content)

    def test_the_short_wait_for_a_401_body_is_not_that_of_the_retry(
        self, api: Server, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The retry uses the same connection, and its answer takes longer."""
        read_refusals_for(0.05, monkeypatch)
        api.refuse_old_tokens(then=lambda _: time.sleep(0.2) or Reply())  # type: ignore[func-returns-value] # it is None

        seen = client.get(api.url, timeout=None)

        assert (200, [401]) == (seen.status, seen.history)
        assert len({received.port for received in api.log}) == 1

    def test_a_refusal_with_a_gzip_body_can_be_read_in_history(self, api: Server, client: Client) -> None:
        api.refuse_old_tokens(Reply(401, {"Content-Encoding": "gzip"}, gzip.compress(b"refused")))

        seen = client.get(api.url)

        assert seen.response.history[0].content == b"refused"

    def test_responses_have_their_elapsed_time(self, sandbox: Sandbox, client: Client) -> None:
        client.get(f"{sandbox.url}/media/jobs")
        sandbox.revoke_all()

        response = client.get(f"{sandbox.url}/media/jobs").response

        assert all(one.elapsed > timedelta(0) for one in (response, *response.history))

    def test_if_no_token_can_be_obtained_after_a_401_the_caller_gets_a_token_error(
        self, sandbox: Sandbox, client: Client
    ) -> None:
        client.get(f"{sandbox.url}/media/jobs")
        sandbox.revoke_all()
        sandbox.fail_token_requests(status=400)

        with pytest.raises(TokenError) as caught:
            client.get(f"{sandbox.url}/media/jobs")

        assert caught.value.status_code == 400
        assert str(caught.value.request.url) == f"{sandbox.url}/media/jobs"
        assert "Authorization" not in caught.value.request.headers

    # Errors

    def test_a_token_error_is_also_an_error_of_the_library(self, sandbox: Sandbox) -> None:
        with (
            self.driver.open(self.auth(sandbox, app_secret="wrong")) as client,
            pytest.raises(self.driver.host_error) as caught,
        ):
            client.get(f"{sandbox.url}/media/jobs")

        error: Any = caught.value
        assert isinstance(error, self.driver.adapter.TokenError)
        assert isinstance(error, TokenError)
        assert isinstance(error, DolbyAuthError)
        fields = (error.status_code, error.reason, error.retryable, error.retry_after)
        assert (401, "Invalid_client", False, None) == fields
        assert f"{sandbox.app_key[:4]}…" in str(error)
        assert (error.__cause__, error.__context__) == (None, None)

    def test_the_request_of_an_error_is_a_copy_without_credentials_and_body(self, sandbox: Sandbox) -> None:
        url, headers = f"{sandbox.url}/media/input?q=1", {"X-Mine": "1", "Authorization": "own"}
        with self.driver.open(self.auth(sandbox, app_secret="wrong")) as client, pytest.raises(TokenError) as caught:
            client.send("POST", url, content=b"canary", headers=headers)

        request = caught.value.request
        assert ("POST", url) == (request.method, str(request.url))
        assert (request.headers["X-Mine"], "Authorization" in request.headers) == ("1", False)
        assert b"canary" not in pickle.dumps(request)

    def test_the_request_of_an_error_of_the_token_method_is_a_token_request_without_credentials(
        self, sandbox: Sandbox
    ) -> None:
        request = self.failure(self.auth(sandbox, app_secret="wrong")).request

        assert ("POST", sandbox.token_url) == (request.method, str(request.url))
        assert "Authorization" not in request.headers

    def test_errors_can_be_pickled(self, sandbox: Sandbox) -> None:
        error = self.failure(self.auth(sandbox, app_secret="wrong"))

        copied = pickle.loads(pickle.dumps(error))

        assert type(copied) is self.driver.adapter.TokenError
        assert (str(error), 401) == (str(copied), copied.status_code)
        assert str(copied.request.url) == sandbox.token_url

    def test_callers_that_fail_together_cost_one_token_request_and_get_an_error_each(self, sandbox: Sandbox) -> None:
        sandbox.latency = 0.1

        with self.driver.open(self.auth(sandbox, app_secret="wrong")) as client:
            errors = client.crowd(24, "GET", f"{sandbox.url}/media/jobs")

        assert len({id(error) for error in errors}) == 24
        assert len({str(error) for error in errors}) == 1
        assert (sandbox.token_requests, sandbox.api_calls) == (1, 0)

    def test_a_call_waits_for_a_silent_server_no_longer_than_the_timeout(self, sandbox: Sandbox) -> None:
        sandbox.latency = 30

        error = self.failure(self.auth(sandbox, timeout=0.2))

        assert (error.status_code, error.retryable) == (None, True)

    # Renewals that fail

    def test_while_renewals_fail_the_token_is_used_until_it_expires(
        self, sandbox: Sandbox, api: Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A token of 1,800 s can be renewed from 1,500 s on, and expires at 1,795 s."""
        clock = FakeClock()
        auth = on_clock(self.auth(sandbox, api), clock)
        began = clock.monotonic()
        statuses, attempts = [], []

        with self.driver.open(auth) as client:
            client.get(api.url)
            # Stopping the sandbox would free its port for a server of another test.
            sandbox.fail_token_requests(drop=True, times=1000)
            clock.advance(1500)
            while clock.monotonic() < began + 1790:
                before = clock.monotonic()
                statuses.append(client.get(api.url).status)
                wait_for_fetches()
                if clock.monotonic() > before:
                    # The pauses between the tries of a fetch moved the clock.
                    attempts.append(before)
                clock.advance(2)
            clock.advance(began + 1794.9 - clock.monotonic())
            statuses.append(client.get(api.url).status)
            wait_for_fetches()
            clock.advance(5)
            with pytest.raises(TokenError):
                client.get(api.url)

        assert {200} == set(statuses)
        pauses = [later - earlier for earlier, later in itertools.pairwise(attempts)]
        assert 5 <= len(pauses)
        assert pauses == sorted(pauses)
        assert min(pauses) >= 3
        warned = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert len(attempts) <= len(warned) <= len(attempts) + 1

    def test_a_renewal_that_succeeds_after_failures_replaces_the_token(self, sandbox: Sandbox, api: Server) -> None:
        clock = FakeClock()
        set_sandbox_clock(sandbox, clock.time)
        auth = on_clock(self.auth(sandbox, api), clock)

        with self.driver.open(auth) as client:
            client.get(api.url)
            sandbox.fail_token_requests(times=16)
            for _ in range(4):
                clock.advance(60 if clock.monotonic() > 1500 else 1500)
                assert client.get(api.url).status == 200
                wait_for_fetches()
            clock.advance(60)
            client.get(api.url)
            wait_for_fetches()
            client.get(api.url)

        assert sandbox.token_requests == 18
        assert sandbox.token_log[-1].early
        assert len({received.token for received in api.log}) == 2

    # TLS

    def test_the_token_request_uses_the_ca_bundle_of_the_environment(
        self, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        bundle = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(bundle))
        self.trust(bundle, monkeypatch)

        with serving(server_context(authority)) as server:
            server.answer = lambda _: Reply(body=b'{"access_token":"abc"}')

            assert self.driver.token(self.at(server)).value == "abc"

    def test_a_ca_bundle_that_the_environment_names_later_is_used(
        self, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A notebook goes on after its user has followed the advice of the error."""
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
            monkeypatch.delenv(name, raising=False)
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

        with serving(server_context(authority)) as server:
            server.answer = lambda _: Reply(body=b'{"access_token":"abc"}')
            auth = self.at(server)
            assert "certificate not accepted" in self.failure(auth).reason
            for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
                monkeypatch.setenv(name, str(tmp_path / "ca.pem"))
            auth.invalidate()

            assert self.driver.token(auth).value == "abc"

    def test_a_ca_bundle_that_is_missing_is_an_error_that_names_the_variables(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        if self.driver.name == "httpx" and httpx.__version__ < "0.28":
            pytest.skip("httpx before 0.28 ignores a bundle that is missing")

        error = self.failure_with_bundle(tmp_path / "missing.pem", monkeypatch)

        assert error.reason == "CA bundle not loaded: No such file or directory"
        assert f"{error}" == (
            f"The CA bundle can't be loaded: No such file or directory. Check {self.ca_variables()} in the environment."
        )

    def test_a_ca_bundle_without_a_certificate_is_an_error_that_names_the_variables(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        bundle = tmp_path / "empty.pem"
        bundle.write_text("no certificate\n")

        error = self.failure_with_bundle(bundle, monkeypatch)

        assert error.reason.startswith("CA bundle not loaded: [X509")
        assert f" Check {self.ca_variables()} in the environment." in f"{error}"

    def failure_with_bundle(self, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.setenv(name, str(bundle))
        return self.failure(self.driver.adapter.DolbyAuth(**CLASSIC))

    def ca_variables(self) -> str:
        if self.driver.name == "requests":
            return "REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE"
        return "SSL_CERT_FILE and SSL_CERT_DIR"

    def trust(self, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make the library trust the CA in *bundle*, with the library's own environment variable."""
        monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
        fresh_tls_contexts(monkeypatch)

    # Arguments

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"app_key": ""}, ValueError),
            ({"app_key": "a:b"}, ValueError),
            ({"app_secret": "canary\n"}, ValueError),
            ({"expires_in": 0}, ValueError),
            ({"expires_in": "1800"}, TypeError),
            ({"scope": ""}, ValueError),
            ({"token_url": "http://api.dolby.io/v1/auth/token"}, ValueError),
            ({"allowed_hosts": "api.dolby.com"}, TypeError),
            ({"allowed_hosts": ["*"]}, ValueError),
            ({"timeout": 0}, ValueError),
            ({"timeout": float("inf")}, ValueError),
            ({"timeout": float("nan")}, ValueError),
            ({"timeout": "30"}, TypeError),
            ({"timeout": True}, TypeError),
            ({"credentials": lambda: AppCredentials("k", "s")}, TypeError),
            ({"cache": "redis://canary@localhost"}, TypeError),
            ({"cache": MemoryCache}, TypeError),
            ({"cache": {}}, TypeError),
            ({"unknown": 1}, TypeError),
        ],
    )
    def test_bad_arguments_raise_when_the_auth_object_is_made(
        self, options: dict[str, Any], error: type[Exception]
    ) -> None:
        with pytest.raises(error) as caught:
            self.driver.adapter.DolbyAuth(**{**CLASSIC, **options})

        assert "canary" not in str(caught.value)

    def test_without_credentials_the_error_names_the_environment_variables(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("DOLBYIO_APP_KEY", "DOLBYIO_APP_SECRET", "APP_KEY", "APP_SECRET"):
            monkeypatch.delenv(name, raising=False)

        with pytest.raises(ValueError, match="DOLBYIO_APP_KEY and DOLBYIO_APP_SECRET or APP_KEY and APP_SECRET"):
            self.driver.adapter.DolbyAuth()

    def test_options_are_keyword_only(self) -> None:
        with pytest.raises(TypeError):
            self.driver.adapter.DolbyAuth("k", "s", None)

    # Life of the object

    def test_invalidate_forgets_the_token(self, sandbox: Sandbox, auth_of_sandbox: Any) -> None:
        first = self.driver.token(auth_of_sandbox)

        auth_of_sandbox.invalidate()

        assert first.value != self.driver.token(auth_of_sandbox).value

    @pytest.mark.parametrize(
        "duplicate",
        [copy.copy, copy.deepcopy, lambda auth: pickle.loads(pickle.dumps(auth))],
        ids=["copy", "deepcopy", "pickle"],
    )
    def test_a_copy_has_the_configuration_and_no_token(
        self, sandbox: Sandbox, auth_of_sandbox: Any, duplicate: Any
    ) -> None:
        first = self.driver.token(auth_of_sandbox)

        other = duplicate(auth_of_sandbox)

        assert type(other) is type(auth_of_sandbox)
        with self.driver.open(other) as client:
            assert client.get(f"{sandbox.url}/media/jobs").status == 200
            sandbox.revoke_all()
            assert client.get(f"{sandbox.url}/media/jobs").history == [401]
        assert sandbox.token_requests == 3
        assert self.driver.token(auth_of_sandbox).value == first.value

    def test_a_pickle_contains_no_token(self, auth_of_sandbox: Any) -> None:
        token = self.driver.token(auth_of_sandbox)

        assert token.value.encode() not in pickle.dumps(auth_of_sandbox)

    def test_a_subclass_survives_copies(self, sandbox: Sandbox) -> None:
        subclass = type("Subclass", (self.driver.adapter.DolbyAuth,), {})
        auth = subclass(**sandbox.options)
        auth.extra = 1

        assert (copy.copy(auth).extra, type(copy.deepcopy(auth))) == (1, subclass)

    def test_a_lent_client_sends_the_token_request(self, api: Server) -> None:
        """Copies of the auth object share the lent client."""
        log: list[Any] = []
        lent = self.driver.lend(lambda: (200, b'{"access_token":"abc"}'), log)
        auth = self.driver.adapter.DolbyAuth(**CLASSIC, allowed_hosts=[api.host], **lent)

        with self.driver.open(auth) as client:
            client.get(api.url)
        with self.driver.open(copy.deepcopy(auth)) as client:
            client.get(api.url)

        assert ["Bearer abc"] * 2 == [received.token for received in api.log]
        assert ["https://api.dolby.io/v1/auth/token"] * 2 == [str(request.url) for request in log]
        assert log[0].headers["Authorization"].startswith("Basic ")

    def test_a_lent_clients_own_auth_does_not_replace_the_basic_credentials(self) -> None:
        log: list[Any] = []
        lent = self.driver.lend(lambda: (200, b'{"access_token":"abc"}'), log)
        [client] = lent.values()
        client.auth = ("user", "pass")

        self.driver.token(self.driver.adapter.DolbyAuth(**CLASSIC, **lent))

        encoded = log[0].headers["Authorization"].partition(" ")[2]
        assert base64.b64decode(encoded) == b"an-app-key:canary-secret"

    def test_an_error_in_the_code_of_a_lent_client_is_reported_with_its_place_and_not_as_a_network_problem(
        self,
    ) -> None:
        def broken() -> tuple[int, bytes]:
            raise TypeError("canary")

        error = self.failure(self.driver.adapter.DolbyAuth(**CLASSIC, **self.driver.lend(broken, [])))

        line = broken.__code__.co_firstlineno + 1
        assert f"sends the token request raised TypeError (contract.py, line {line})" in str(error)
        assert "Check the network" not in str(error)
        assert "canary" not in str(error)
        assert not error.retryable

    def test_an_exception_class_of_a_mock_is_not_a_network_problem(self) -> None:
        """It may derive from a connection error of the library. A retry would meet the same mock."""
        library, asked = self.driver.library, []
        base = library.ConnectionError if self.driver.name == "requests" else library.ConnectError
        mocks = type("NoAnswerRegistered", (base,), {"__module__": "a_mock"})

        def unregistered() -> tuple[int, bytes]:
            asked.append(1)
            raise mocks("canary")

        with pytest.raises(TokenError, match=r"raised NoAnswerRegistered \(contract.py, line") as caught:
            self.driver.token(self.driver.adapter.DolbyAuth(**CLASSIC, **self.driver.lend(unregistered, [])))

        assert "Check the network" not in str(caught.value)
        assert len(asked) == 1

    def test_a_broken_connection_in_a_lent_client_is_a_network_problem(self) -> None:
        """The exception is Python's own, as a transport of the user's may raise it."""

        def broken() -> tuple[int, bytes]:
            raise ConnectionResetError(104, "Connection reset by peer")

        auth = on_clock(self.driver.adapter.DolbyAuth(**CLASSIC, **self.driver.lend(broken, [])), FakeClock())
        with pytest.raises(TokenError, match="No answer from the token endpoint: Connection reset by peer"):
            self.driver.token(auth)

    def test_a_connection_that_breaks_once_in_a_lent_client_is_tried_again(self) -> None:
        tried: list[int] = []

        def broken_once() -> tuple[int, bytes]:
            if not tried:
                tried.append(1)
                raise ConnectionResetError(104, "Connection reset by peer")
            return 200, b'{"access_token":"abc"}'

        auth = on_clock(self.driver.adapter.DolbyAuth(**CLASSIC, **self.driver.lend(broken_once, [])), FakeClock())

        assert self.driver.token(auth).value == "abc"

    def test_an_error_in_a_credentials_callable_is_reported_with_its_place(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """If it fails a renewal, the log has the place too."""
        clock, vault = FakeClock(), [AppCredentials("k", "s")]
        lent = self.driver.lend(lambda: (200, b'{"access_token":"abc"}'), [])
        auth = on_clock(self.driver.adapter.DolbyAuth(credentials=vault.pop, **lent), clock)
        self.driver.token(auth)
        clock.advance(1500)

        self.driver.token(auth)
        wait_for_fetches()
        clock.advance(1000)
        with pytest.raises(TokenError, match=r"credentials\(\) raised IndexError \(fetch.py, line \d+\)") as caught:
            self.driver.token(auth)

        [warned] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert str(caught.value) in warned
        assert "Check the network" not in warned

    def test_pickling_an_auth_object_with_a_lent_client_is_a_type_error(self) -> None:
        lent = self.driver.lend(lambda: (200, b"{}"), [])

        with pytest.raises(TypeError, match="can't be pickled"):
            pickle.dumps(self.driver.adapter.DolbyAuth(**CLASSIC, **lent))

    def test_a_lent_client_of_the_wrong_type_is_a_type_error(self) -> None:
        [name] = self.driver.lend(lambda: (200, b"{}"), [])

        with pytest.raises(TypeError, match=f"{name} must be"):
            self.driver.adapter.DolbyAuth(**CLASSIC, **{name: object()})

    # The wrong library

    def test_a_request_of_another_library_is_a_type_error_that_names_the_right_import(self) -> None:
        """httpx and httpx2 accept any callable as auth, and requests calls any object."""
        auth = self.driver.adapter.DolbyAuth(**CLASSIC)
        requests_of = {
            "requests": requests.Request("GET", "https://api.dolby.com/").prepare(),
            "httpx": httpx.Request("GET", "https://api.dolby.com/"),
            "httpx2": httpx2.Request("GET", "https://api.dolby.com/"),
        }
        del requests_of[self.driver.name]

        for library, request in requests_of.items():
            with pytest.raises(TypeError, match=f"from dolby_auth_plugin.{library} import DolbyAuth"):
                auth(request)

    def test_calling_the_auth_object_with_anything_else_is_a_type_error(self) -> None:
        with pytest.raises(TypeError, match="can't be called with str"):
            self.driver.adapter.DolbyAuth(**CLASSIC)("https://api.dolby.com/")
