"""
The sandbox as an HTTP client sees it, without the auth objects of this package.

The expected responses of Dolby.io come from its documentation or from recorded responses.
"""

from __future__ import annotations

import ast
import asyncio
import base64
import errno
import http.client
import importlib
import json
import logging
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlencode, urlsplit

import jwt
import pytest

from dolby_auth_plugin import sandbox as package
from dolby_auth_plugin.sandbox import RequestRecord, Sandbox, TokenRequestRecord

from ..fakes import FakeClock, eventually
from ..internals import set_sandbox_clock

# Seconds. This timeout turns a hang into a failure.
PATIENCE = 5.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(
    method: str, url: str, *, token: str | None = None, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Answer:
    """Send one request on a new connection, without following redirects."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE)
    headers = dict(headers or {})
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body, headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def basic(app_key: str, app_secret: str) -> str:
    return "Basic " + base64.b64encode(f"{app_key}:{app_secret}".encode()).decode()


def request_token(sandbox: Sandbox, **form: object) -> Answer:
    return send_token_request(sandbox, urlencode({"grant_type": "client_credentials", **form}).encode())


def send_token_request(sandbox: Sandbox, body: bytes, **headers: str) -> Answer:
    usual = {
        "Authorization": basic(sandbox.app_key, sandbox.app_secret),
        "Content-Type": "application/x-www-form-urlencoded",
    }
    return call("POST", sandbox.token_url, body=body, headers={**usual, **headers})


def token_of(sandbox: Sandbox, **form: object) -> str:
    token = request_token(sandbox, **form).json["access_token"]
    assert isinstance(token, str)
    return token


def post_json(sandbox: Sandbox, path: str, body: object, token: str | None = None) -> Answer:
    token = token_of(sandbox) if token is None else token
    return call("POST", sandbox.url + path, token=token, body=json.dumps(body).encode())


def get(sandbox: Sandbox, path: str, token: str | None = None) -> Answer:
    return call("GET", sandbox.url + path, token=token_of(sandbox) if token is None else token)


def upload_url(sandbox: Sandbox) -> str:
    return str(post_json(sandbox, "/media/input", {"url": "dlb://x"}).json["url"])


def start_job(sandbox: Sandbox, token: str, **job: str) -> str:
    return str(post_json(sandbox, "/media/enhance", job, token).json["job_id"])


def start_token_request(sandbox: Sandbox) -> socket.socket:
    """Start a token request and wait until it arrives. Returns its connection without reading the response."""
    already = sandbox.token_requests
    host, _, port = sandbox.allowed_hosts[0].partition(":")
    connection = socket.create_connection((host, int(port)), timeout=PATIENCE)
    connection.sendall(b"POST /v1/auth/token HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    eventually(lambda: sandbox.token_requests > already)
    return connection


@pytest.fixture
def clock(sandbox: Sandbox) -> FakeClock:
    clock = FakeClock()
    clock.advance(0.25)
    set_sandbox_clock(sandbox, clock.time)
    return clock


class TestLife:
    def test_accepts_connections_on_both_ports_after_start(self, sandbox: Sandbox) -> None:
        assert 401 == call("GET", f"{sandbox.url}/media/jobs").status
        assert 403 == call("GET", f"{sandbox.storage_url}/x").status

    def test_stop_ends_its_thread_and_closes_its_ports(self) -> None:
        threads = set(threading.enumerate())
        sandbox = Sandbox().start()

        sandbox.stop()

        assert threads >= set(threading.enumerate())
        with pytest.raises(ConnectionRefusedError):
            call("GET", sandbox.url)
        with pytest.raises(ConnectionRefusedError):
            call("GET", sandbox.storage_url)

    def test_stop_does_not_wait_for_open_connections(self) -> None:
        """It closes an idle pooled connection and the connection of an active request."""
        with Sandbox() as sandbox:
            idle = http.client.HTTPConnection(sandbox.allowed_hosts[0], timeout=PATIENCE)
            idle.request("GET", "/media/jobs")
            idle.getresponse().read()
            sandbox.latency = 3600
            waiting = start_token_request(sandbox)

            began_at = time.monotonic()
            sandbox.stop()

            assert time.monotonic() - began_at < 1
            assert b"" == waiting.recv(1)
            waiting.close()
            idle.close()

    def test_a_restart_keeps_ports_and_tokens(self, sandbox: Sandbox) -> None:
        """A stop and a start simulate an outage, not a new service."""
        url, token = sandbox.url, token_of(sandbox)

        sandbox.stop()
        sandbox.start()

        assert url == sandbox.url
        assert 200 == get(sandbox, "/media/jobs", token).status

    def test_start_fails_if_its_port_is_in_use(self, sandbox: Sandbox) -> None:
        """A failed start leaves no open port and can be repeated."""
        storage_port = urlsplit(sandbox.storage_url).port
        sandbox.stop()
        with socket.create_server(("127.0.0.1", storage_port or 0)):
            with pytest.raises(OSError, match="in use"):
                sandbox.start()
            with pytest.raises(ConnectionRefusedError):
                call("GET", sandbox.url)

        sandbox.start()

        assert 401 == call("GET", f"{sandbox.url}/media/jobs").status

    def test_listens_on_the_port_that_is_given(self) -> None:
        """Its address is known before it starts."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        sandbox = Sandbox(port=port)

        assert f"http://127.0.0.1:{port}" == sandbox.url
        with sandbox:
            assert 401 == call("GET", f"{sandbox.url}/media/jobs").status

    def test_a_port_in_use_is_an_error_of_one_line_that_names_it(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(OSError) as caught:  # noqa: PT011 - the whole text is compared
                Sandbox(port=port).start()

        assert errno.EADDRINUSE == caught.value.errno
        assert f"the sandbox can't use port {port} of 127.0.0.1: Address already in use" == caught.value.strerror

    @pytest.mark.parametrize("port", [-1, 65_536])
    def test_a_port_out_of_range_is_a_value_error(self, port: int) -> None:
        with pytest.raises(ValueError, match=f"port must be 0 to 65,535, got {port}"):
            Sandbox(port=port)

    def test_starting_and_stopping_twice_changes_nothing(self, sandbox: Sandbox) -> None:
        url = sandbox.url

        assert sandbox is sandbox.start()
        assert url == sandbox.url
        sandbox.stop()
        sandbox.stop()

    def test_starts_inside_a_running_event_loop(self) -> None:
        """The sandbox has its own event loop, independent of the caller's."""

        async def main() -> int:
            with Sandbox() as sandbox:
                return call("GET", f"{sandbox.url}/media/jobs").status

        assert 401 == asyncio.run(main())

    def test_serves_many_clients_at_once(self, sandbox: Sandbox) -> None:
        """64 threads request tokens at the same time and get 64 different ones."""
        with ThreadPoolExecutor(64) as threads:
            tokens = set(threads.map(lambda _: token_of(sandbox), range(64)))

        assert 64 == len(tokens)
        assert 64 == sandbox.token_requests == len(sandbox.token_log)

    def test_answers_without_delay_on_a_reused_connection(self, sandbox: Sandbox) -> None:
        """The second half of a response does not wait for the delayed acknowledgement of the first."""
        connection = http.client.HTTPConnection(sandbox.allowed_hosts[0], timeout=PATIENCE)
        began_at = time.monotonic()
        for _ in range(25):
            connection.request("GET", "/media/jobs")
            connection.getresponse().read()

        assert time.monotonic() - began_at < 0.5
        connection.close()

    def test_tokens_of_one_sandbox_are_not_valid_in_another(self, sandbox: Sandbox) -> None:
        with Sandbox() as other:
            assert sandbox.url != other.url
            assert 401 == get(other, "/media/jobs", token_of(sandbox)).status

    def test_has_no_address_before_its_first_start(self) -> None:
        """The port is unknown until the socket is bound."""
        with pytest.raises(RuntimeError, match="before its first start"):
            _ = Sandbox().url

    @pytest.mark.parametrize("name", ["jwt", "starlette", "uvicorn"])
    def test_missing_dependency_names_the_extra(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, package.__name__)
        monkeypatch.setitem(sys.modules, name, None)

        with pytest.raises(ImportError, match=r"dolby-auth-plugin\[sandbox\]") as raised:
            importlib.import_module(package.__name__)

        assert f"needs {name}:" in str(raised.value)

    def test_imports_nothing_of_the_rest_of_the_package(self) -> None:
        """The sandbox tests the library, so it must not repeat its mistakes."""
        names = set()
        for source in Path(package.__file__).parent.glob("*.py"):
            for node in ast.walk(ast.parse(source.read_text("utf-8"))):
                if isinstance(node, ast.ImportFrom):
                    assert node.level == 0
                    names.add(node.module or "")
                elif isinstance(node, ast.Import):
                    names.update(alias.name for alias in node.names)

        ours = {name for name in names if name.startswith("dolby_auth_plugin")}

        assert ours
        assert all(name.startswith(package.__name__) for name in ours)


class TestControl:
    def test_random_credentials_have_the_documented_shape(self) -> None:
        """The key has 24 URL-safe characters and ends in `==`. The secret has 43 characters."""
        sandbox = Sandbox()

        assert re.fullmatch(r"[\w-]{22}==", sandbox.app_key, re.ASCII)
        assert re.fullmatch(r"[\w-]{43}", sandbox.app_secret, re.ASCII)
        assert sandbox.app_key != Sandbox().app_key

    def test_options_point_an_auth_object_at_it(self) -> None:
        """They are exactly the arguments that `DolbyAuth` needs. The storage is not an allowed host."""
        with Sandbox(app_key="key", app_secret="secret") as sandbox:
            host = sandbox.url.removeprefix("http://")

            assert {
                "app_key": "key",
                "app_secret": "secret",
                "token_url": f"http://{host}/v1/auth/token",
                "allowed_hosts": (host,),
            } == sandbox.options
            assert sandbox.storage_url != sandbox.url

    def test_repr_shows_the_address_but_no_secret(self, sandbox: Sandbox) -> None:
        """Failing assertions show the sandbox, so its `repr` must not contain the secret."""
        assert f"<Sandbox at {sandbox.url}, app_key={sandbox.app_key!r}>" == repr(sandbox)

        sandbox.stop()

        assert f"<Sandbox stopped, app_key={sandbox.app_key!r}>" == repr(sandbox)

    @pytest.mark.parametrize("seconds", [-0.1, float("nan"), float("inf")])
    def test_a_latency_must_be_finite_and_not_negative(self, seconds: float) -> None:
        sandbox = Sandbox()

        with pytest.raises(ValueError, match=r"^latency must be a number of seconds, 0 or more"):
            sandbox.latency = seconds
        with pytest.raises(ValueError, match=r"^api_latency must be a number of seconds, 0 or more"):
            sandbox.api_latency = seconds

        assert 0 == sandbox.latency == sandbox.api_latency

    @pytest.mark.parametrize("setting", ["latency", "api_latency"])
    def test_each_latency_delays_either_token_requests_or_the_apis(self, sandbox: Sandbox, setting: str) -> None:
        """With a latency of one hour, the others are still answered immediately."""
        token = token_of(sandbox)
        calls: list[Callable[[], Answer]] = [lambda: request_token(sandbox), lambda: get(sandbox, "/media/jobs", token)]
        delayed, other = calls if setting == "latency" else reversed(calls)
        setattr(sandbox, setting, 3600)
        assert 200 == other().status

        setattr(sandbox, setting, 0.05)
        began_at = time.monotonic()
        delayed()

        assert time.monotonic() - began_at >= 0.05

    def test_refuse_tokens_also_refuses_valid_tokens(self, sandbox: Sandbox) -> None:
        token = token_of(sandbox)

        sandbox.refuse_tokens = True
        assert sandbox.refuse_tokens
        assert 401 == get(sandbox, "/media/jobs", token).status

        sandbox.refuse_tokens = False
        assert 200 == get(sandbox, "/media/jobs", token).status

    def test_counts_api_calls_and_those_refused(self, sandbox: Sandbox) -> None:
        """A call with a 401 counts as an API call. A token request does not."""
        token = token_of(sandbox)
        get(sandbox, "/media/jobs", token)
        get(sandbox, "/media/nothing", token)
        get(sandbox, "/media/jobs", "stale")

        assert 1 == sandbox.token_requests
        assert 3 == sandbox.api_calls
        assert 1 == sandbox.unauthorized

    def test_reset_counters_keeps_tokens_and_objects(self, sandbox: Sandbox) -> None:
        token = token_of(sandbox)
        get(sandbox, "/media/jobs", "stale")
        call("GET", f"{sandbox.storage_url}/x", token=token)

        sandbox.reset_counters()

        assert 0 == sandbox.token_requests == sandbox.api_calls == sandbox.unauthorized
        assert 0 == sandbox.storage_calls == sandbox.storage_leaks
        assert () == sandbox.token_log
        assert 200 == get(sandbox, "/media/jobs", token).status

    def test_reset_makes_it_like_new(self, sandbox: Sandbox) -> None:
        """It keeps its address, its credentials and its tokens."""
        url, options = sandbox.url, sandbox.options
        token = token_of(sandbox)
        call("PUT", post_json(sandbox, "/media/input", {"url": "dlb://in"}, token).json["url"], body=b"sound")
        start_job(sandbox, token, input="dlb://in", output="dlb://out")
        sandbox.fail_token_requests(times=2)
        sandbox.latency = sandbox.api_latency = 0.001
        sandbox.refuse_tokens = True

        sandbox.reset()

        assert (url, options) == (sandbox.url, sandbox.options)
        assert 0 == sandbox.token_requests == sandbox.api_calls == sandbox.storage_calls
        assert [] == list(sandbox.token_log)
        assert (0.0, 0.0, False, {}) == (sandbox.latency, sandbox.api_latency, sandbox.refuse_tokens, sandbox.uploads)
        assert [] == get(sandbox, "/media/jobs", token).json["jobs"]
        token_of(sandbox)
        assert [False] == [record.early for record in sandbox.token_log]

    def test_neither_prints_nor_logs(self, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
        """Refused requests, resets, invalid requests and lost clients are normal in tests."""
        caplog.set_level(1)
        with Sandbox() as sandbox:
            host, _, port = sandbox.allowed_hosts[0].partition(":")
            get(sandbox, "/media/jobs", "stale")
            sandbox.fail_token_requests(drop=True)
            with pytest.raises(ConnectionError):
                request_token(sandbox)
            with socket.create_connection((host, int(port)), timeout=PATIENCE) as nonsense:
                nonsense.sendall(b"nonsense\r\n\r\n")
                assert nonsense.recv(100).startswith(b"HTTP/1.1 400")
            with socket.create_connection((host, int(port))) as lost:
                lost.sendall(b"POST /v1/auth/token HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
                eventually(lambda: sandbox.token_requests == 2)
            sandbox.latency = 3600
            waiting = start_token_request(sandbox)
        waiting.close()

        # asyncio logs its selector and, in debug mode, its work. All of that is below the warning level.
        assert {"asyncio"} >= {record.name for record in caplog.records}
        assert [] == [record for record in caplog.records if record.levelno > logging.INFO]
        assert ("", "") == capfd.readouterr()
        assert [] == logging.getLogger("uvicorn").handlers


class TestTokens:
    def test_grants_a_bearer_token_for_the_default_lifetime(self, sandbox: Sandbox) -> None:
        """The lifetime is 1,800 seconds. An unrestricted token has no `scope` in its response."""
        answer = request_token(sandbox)

        assert 200 == answer.status
        assert {"access_token", "token_type", "expires_in"} == set(answer.json)
        assert ("Bearer", 1800) == (answer.json["token_type"], answer.json["expires_in"])

    def test_tokens_are_jwts_and_never_the_same(self, sandbox: Sandbox, clock: FakeClock) -> None:
        first, second = token_of(sandbox), token_of(sandbox)

        claims = jwt.decode(first, options={"verify_signature": False})
        assert first != second
        assert (1_700_000_000, 1_700_001_801) == (claims["iat"], claims["exp"])

    @pytest.mark.parametrize("expires_in", [1, 86_400])
    def test_grants_the_lifetime_asked_for(self, sandbox: Sandbox, expires_in: int) -> None:
        assert expires_in == request_token(sandbox, expires_in=expires_in).json["expires_in"]

    @pytest.mark.parametrize("expires_in", ["0", "86401", "-5", "1.5", "soon", "9" * 5000])
    def test_other_lifetimes_are_a_bad_request(self, sandbox: Sandbox, expires_in: str) -> None:
        """The error has the format of Media, which one SDK expects from this endpoint."""
        answer = request_token(sandbox, expires_in=expires_in)

        assert 400 == answer.status == answer.json["status"]
        assert {"type", "title", "status", "instance", "detail"} == set(answer.json)
        assert "/v1/auth/token" == answer.json["instance"]

    def test_a_token_expires_at_the_exact_fraction_of_a_second(self, sandbox: Sandbox, clock: FakeClock) -> None:
        token = token_of(sandbox, expires_in=1)

        clock.advance(0.999)
        assert 200 == get(sandbox, "/media/jobs", token).status

        clock.advance(0.001)
        assert 401 == get(sandbox, "/media/jobs", token).status

    def test_a_new_token_does_not_revoke_older_ones(self, sandbox: Sandbox) -> None:
        first = token_of(sandbox)
        token_of(sandbox)

        assert 200 == get(sandbox, "/media/jobs", first).status

    def test_revoke_all_revokes_the_tokens_issued_so_far(self, sandbox: Sandbox) -> None:
        before = token_of(sandbox)

        sandbox.revoke_all()

        assert 401 == get(sandbox, "/media/jobs", before).status
        assert 200 == get(sandbox, "/media/jobs", token_of(sandbox)).status

    def test_grants_scopes_as_one_string_and_drops_unknown_ones(self, sandbox: Sandbox) -> None:
        """Scopes are case-sensitive and keep their order. A duplicate scope is granted once."""
        scope = "comms:monitor:read Comms:Monitor:Read comms:* nonsense comms:* comms:conf:admin"

        answer = request_token(sandbox, scope=scope)

        assert "comms:monitor:read comms:* comms:conf:admin" == answer.json["scope"]

    def test_only_unknown_scopes_grant_an_empty_scope(self, sandbox: Sandbox) -> None:
        """The token is not unrestricted."""
        answer = request_token(sandbox, scope="comms:monitor:red")

        assert (200, "") == (answer.status, answer.json["scope"])

    @pytest.mark.parametrize(
        "authorization",
        [
            "Bearer x",
            "Basic",
            "Basic ?" + basic("key", "s:öcret")[6:],
            "Basic " + base64.b64encode(b"no colon").decode(),
            "Basic " + base64.b64encode(b"key:\xff").decode(),
            basic("key", "wrong"),
            basic("wrong", "s:öcret"),
            # Percent-encoded, as RFC 6749 §2.3.1 requires.
            basic("key", "s%3A%C3%B6cret"),
        ],
    )
    def test_wrong_credentials_are_a_401(self, authorization: str) -> None:
        """The error has the format of Communications, which the other SDKs expect from this endpoint."""
        with Sandbox(app_key="key", app_secret="s:öcret") as sandbox:
            answer = send_token_request(sandbox, b"grant_type=client_credentials", Authorization=authorization)

            assert 401 == answer.status
            assert "ErrorResponse" == answer.json["type"]
            assert "Invalid_client" == answer.json["error_reason"]

    def test_credentials_are_utf8_and_split_at_the_first_colon(self) -> None:
        """RFC 7617: a secret may contain a colon, a key may not."""
        with Sandbox(app_key="key", app_secret="s:öcret") as sandbox:
            assert 200 == request_token(sandbox).status

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"grant_type=password",
            b"grant_type=client_credentials&grant_type=client_credentials",
            b"grant_type=client_credentials&expires_in=60&expires_in=60",
            b"\xff\xfe",
        ],
    )
    def test_a_body_without_the_correct_grant_is_a_bad_request(self, sandbox: Sandbox, body: bytes) -> None:
        """`grant_type=client_credentials` is required, and no parameter may be repeated."""
        assert 400 == send_token_request(sandbox, body).status

    def test_the_body_must_be_a_form(self, sandbox: Sandbox) -> None:
        """Many users first try JSON."""
        body = b"grant_type=client_credentials"

        answer = send_token_request(sandbox, body, **{"Content-Type": "application/json"})

        assert 400 == answer.status
        assert "application/x-www-form-urlencoded" in answer.json["detail"]

    def test_parameters_of_the_content_type_do_not_matter(self, sandbox: Sandbox) -> None:
        """Many clients send a charset."""
        content_type = "Application/X-WWW-Form-URLEncoded; charset=utf-8"

        answer = send_token_request(sandbox, b"grant_type=client_credentials", **{"Content-Type": content_type})

        assert 200 == answer.status

    def test_only_post_obtains_a_token(self, sandbox: Sandbox) -> None:
        """Another method gets a 405 and does not count as a token request."""
        assert 405 == call("GET", sandbox.token_url).status
        assert 0 == sandbox.token_requests


class TestTokenLog:
    def test_records_the_request(self, sandbox: Sandbox, clock: FakeClock) -> None:
        """The record contains the values that were sent, not those that were granted."""
        body = b"grant_type=client_credentials&expires_in=60&scope=comms:*+nonsense"
        send_token_request(sandbox, body, **{"User-Agent": "test/1"})

        assert (
            TokenRequestRecord(
                at=datetime(2023, 11, 14, 22, 13, 20, 250_000, UTC),
                status=200,
                app_key=sandbox.app_key,
                scope="comms:* nonsense",
                expires_in=60,
                user_agent="test/1",
                early=False,
            ),
        ) == sandbox.token_log

    def test_records_missing_values_as_none(self, sandbox: Sandbox) -> None:
        """Refused requests are logged too."""
        call("POST", sandbox.token_url, body=b"expires_in=soon")

        (record,) = sandbox.token_log
        assert 401 == record.status
        assert (None, None, None, None) == (record.app_key, record.scope, record.expires_in, record.user_agent)

    def test_a_renewal_is_early_while_the_last_token_is_valid(self, sandbox: Sandbox, clock: FakeClock) -> None:
        """The first token is not early, nor is one after an expiry or a revocation."""
        request_token(sandbox, expires_in=10)
        clock.advance(9.999)
        request_token(sandbox, expires_in=10)
        clock.advance(10)
        request_token(sandbox, expires_in=10)
        sandbox.revoke_all()
        request_token(sandbox, expires_in=10)

        assert [False, True, False, False] == [record.early for record in sandbox.token_log]

    def test_a_refused_token_request_is_never_early(self, sandbox: Sandbox) -> None:
        request_token(sandbox)
        request_token(sandbox, expires_in=0)

        assert not sandbox.token_log[-1].early

    def test_a_request_still_waiting_is_counted_but_not_logged(self, sandbox: Sandbox) -> None:
        """Its result is not known yet."""
        sandbox.latency = 3600
        start_token_request(sandbox).close()

        assert (1, ()) == (sandbox.token_requests, sandbox.token_log)


class TestFaults:
    def test_only_the_given_number_of_token_requests_fails(self, sandbox: Sandbox) -> None:
        """The default is a 503 in the format of Dolby.io, without `Retry-After`."""
        sandbox.fail_token_requests(times=2)

        first, second, third = (request_token(sandbox) for _ in range(3))

        assert [503, 503, 200] == [first.status, second.status, third.status]
        assert "ErrorResponse" == first.json["type"]
        assert "application/json" == first.headers["content-type"]
        assert first.headers["retry-after"] is None
        assert [503, 503, 200] == [record.status for record in sandbox.token_log]

    def test_faults_come_in_the_order_they_were_queued(self, sandbox: Sandbox) -> None:
        sandbox.fail_token_requests(status=429)
        sandbox.fail_token_requests(status=500)

        assert [429, 500, 200] == [request_token(sandbox).status for _ in range(3)]

    def test_clear_faults_removes_queued_faults(self, sandbox: Sandbox) -> None:
        sandbox.fail_token_requests(times=100)
        sandbox.clear_faults()

        assert 200 == request_token(sandbox).status

    def test_a_fault_does_not_affect_a_waiting_request(self, sandbox: Sandbox) -> None:
        """A fault applies only to requests that arrive later."""
        sandbox.latency = 0.05
        waiting = start_token_request(sandbox)
        sandbox.latency = 0
        sandbox.fail_token_requests()

        assert 503 == request_token(sandbox).status
        assert waiting.recv(12) == b"HTTP/1.1 401"
        waiting.close()

    @pytest.mark.parametrize("retry_after", [7, "Wed, 21 Oct 2065 07:28:00 GMT", "nonsense"])
    def test_retry_after_is_sent_as_given(self, sandbox: Sandbox, retry_after: int | str) -> None:
        sandbox.fail_token_requests(retry_after=retry_after)

        assert str(retry_after) == request_token(sandbox).headers["retry-after"]

    @pytest.mark.parametrize(
        ("body", "sent"),
        [
            (b"\xff\x00", b"\xff\x00"),
            ("<html>ö", "<html>ö".encode()),
            ({"access_token": None}, b'{"access_token": null}'),
            ("", b""),
        ],
    )
    def test_a_body_can_be_anything(self, sandbox: Sandbox, body: object, sent: bytes) -> None:
        """With status 200, this simulates an invalid token response."""
        sandbox.fail_token_requests(status=200, body=body, content_type="text/html")

        answer = request_token(sandbox)

        assert (200, sent) == (answer.status, answer.body)
        assert "text/html" == answer.headers["content-type"]

    @pytest.mark.parametrize("status", [204, 304, 419, 599])
    def test_every_status_gets_a_valid_body(
        self, sandbox: Sandbox, status: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The body is empty if HTTP allows none. Statuses without a name work too."""
        sandbox.fail_token_requests(status=status)

        answer = request_token(sandbox)

        assert status == answer.status
        assert (status in (204, 304)) == (answer.body == b"")
        sandbox.stop()
        assert [] == caplog.records

    def test_redirect_sends_a_location(self, sandbox: Sandbox) -> None:
        """By default it is a 307, a temporary redirect that keeps the method."""
        sandbox.fail_token_requests(redirect="http://127.0.0.1:1/elsewhere")
        sandbox.fail_token_requests(redirect="/", status=301)

        first, second = request_token(sandbox), request_token(sandbox)

        assert (307, "http://127.0.0.1:1/elsewhere") == (first.status, first.headers["location"])
        assert (301, "/") == (second.status, second.headers["location"])

    def test_drop_resets_the_connection(self, sandbox: Sandbox) -> None:
        """The client gets a reset instead of a response or a normal end. The log has no status."""
        sandbox.fail_token_requests(drop=True)

        with pytest.raises(ConnectionResetError) as raised:
            request_token(sandbox)

        # http.client raises a subclass for a normal end of the connection.
        assert type(raised.value) is ConnectionResetError
        assert [None] == [record.status for record in sandbox.token_log]
        assert 200 == request_token(sandbox).status

    def test_dropping_a_disconnected_client_is_not_an_error(
        self, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
    ) -> None:
        sandbox.latency = 0.05
        sandbox.fail_token_requests(drop=True)
        start_token_request(sandbox).close()

        eventually(lambda: len(sandbox.token_log) == 1)

        assert sandbox.token_log[0].status is None
        sandbox.stop()
        assert [] == caplog.records

    @pytest.mark.parametrize("arguments", [{"status": 199}, {"status": 600}, {"times": 0}])
    def test_invalid_faults_are_rejected(self, arguments: dict[str, int]) -> None:
        with pytest.raises(ValueError, match=r"must be .*, got"):
            Sandbox().fail_token_requests(**arguments)  # type: ignore[arg-type] # each argument is an int


class TestGuard:
    @pytest.mark.parametrize(
        "authorization", [None, "", "Bearer", "Bearer x.y.z", "{token}", "Basic {token}", "{token} x"]
    )
    def test_without_a_valid_token_communications_answers_401(
        self, sandbox: Sandbox, authorization: str | None
    ) -> None:
        """The body is the recorded one. There is no `WWW-Authenticate` header."""
        headers = {}
        if authorization is not None:
            headers["Authorization"] = authorization.format(token=token_of(sandbox))

        answer = call("GET", f"{sandbox.url}/v1/monitor/conferences", headers=headers)

        assert 401 == answer.status
        assert {
            "type": "ErrorResponse",
            "error_code": 89,
            "error_reason": "Invalid_token",
            "error_description": "Expired or invalid token",
        } == answer.json
        assert answer.headers["www-authenticate"] is None

    def test_without_a_valid_token_media_answers_401(self, sandbox: Sandbox) -> None:
        answer = call("GET", f"{sandbox.url}/media/jobs")

        assert 401 == answer.status == answer.json["status"]
        assert {"type", "title", "status", "instance", "detail"} == set(answer.json)
        assert "/media/jobs" == answer.json["instance"]

    def test_two_authorization_headers_are_a_401(self, sandbox: Sandbox) -> None:
        """Even two valid tokens are rejected."""
        token = token_of(sandbox)
        connection = http.client.HTTPConnection(sandbox.allowed_hosts[0], timeout=PATIENCE)
        connection.putrequest("GET", "/media/jobs")
        connection.putheader("Authorization", f"Bearer {token}")
        connection.putheader("Authorization", f"Bearer {token}")
        connection.endheaders()

        status = connection.getresponse().status

        connection.close()
        assert 401 == status

    def test_the_scheme_is_not_case_sensitive(self, sandbox: Sandbox) -> None:
        """See RFC 9110 §11.1."""
        headers = {"Authorization": f"bEARER {token_of(sandbox)}"}

        assert 200 == call("GET", f"{sandbox.url}/media/jobs", headers=headers).status

    @pytest.mark.parametrize("path", ["/media/nothing", "/v2/nothing", "/media/jobs/"])
    def test_unknown_paths_are_a_401_before_they_are_a_404(self, sandbox: Sandbox, path: str) -> None:
        """A client without a token cannot discover paths. No redirect corrects a path."""
        assert 401 == call("GET", sandbox.url + path).status
        assert 404 == get(sandbox, path).status

    def test_a_refused_body_leaves_the_connection_usable(self, sandbox: Sandbox) -> None:
        """The server sends the 401 before it reads the body, and reads the body before the next request."""
        connection = http.client.HTTPConnection(sandbox.allowed_hosts[0], timeout=PATIENCE)
        connection.request("POST", "/media/input", b"x" * 1_000_000)
        refused = connection.getresponse()
        refused.read()
        own_port = connection.sock.getsockname()[1]

        headers = {"Authorization": f"Bearer {token_of(sandbox)}"}
        connection.request("GET", "/media/jobs", headers=headers)

        assert (401, 200) == (refused.status, connection.getresponse().status)
        assert own_port == connection.sock.getsockname()[1]
        connection.close()

    def test_the_webhook_keys_need_no_token(self, sandbox: Sandbox) -> None:
        """They are public and do not count as an API call."""
        assert 200 == call("GET", f"{sandbox.url}/v1/public/keys/webhooks").status
        assert 0 == sandbox.api_calls


class TestMedia:
    def test_upload_enhance_and_download(self, sandbox: Sandbox) -> None:
        """The complete workflow of a file. The storage receives no token."""
        token = token_of(sandbox)
        upload = post_json(sandbox, "/media/input", {"url": "dlb://in/ö 1%.wav"}, token).json["url"]
        assert 200 == call("PUT", upload, body=b"sound").status
        job_id = start_job(sandbox, token, input="dlb://in/ö 1%.wav", output="dlb://out.wav")

        polls = [get(sandbox, f"/media/enhance?job_id={job_id}", token).json for _ in range(4)]

        assert ["Pending", "Running", "Success", "Success"] == [poll["status"] for poll in polls]
        assert [0, 50, 100, 100] == [poll["progress"] for poll in polls]
        assert {"path": "/media/enhance", "result": {}}.items() <= polls[0].items()
        assert {"dlb://in/ö 1%.wav": b"sound", "dlb://out.wav": b"sound"} == sandbox.uploads
        redirect = get(sandbox, "/media/output?url=dlb://out.wav", token)
        assert 302 == redirect.status
        assert b"sound" == call("GET", redirect.headers["location"]).body
        download = post_json(sandbox, "/media/output", {"url": "dlb://out.wav"}, token).json["url"]
        assert b"sound" == call("GET", download).body
        assert (3, 0) == (sandbox.storage_calls, sandbox.storage_leaks)

    def test_a_job_without_its_input_fails(self, sandbox: Sandbox) -> None:
        """It creates no output."""
        token = token_of(sandbox)
        job_id = start_job(sandbox, token, input="dlb://missing", output="dlb://out")

        polls = [get(sandbox, f"/media/enhance?job_id={job_id}", token).json for _ in range(4)]

        assert ["Pending", "Running", "Failed", "Failed"] == [poll["status"] for poll in polls]
        assert {} == sandbox.uploads

    def test_listing_jobs_does_not_advance_them(self, sandbox: Sandbox) -> None:
        """Only a poll of the job itself does."""
        token = token_of(sandbox)
        job_id = start_job(sandbox, token, input="dlb://in", output="dlb://out")

        listed = [get(sandbox, "/media/jobs", token).json for _ in range(3)][-1]

        assert {"jobs": [{"job_id": job_id, "path": "/media/enhance", "status": "Pending", "progress": 0}]} == listed

    def test_an_unknown_job_is_a_404(self, sandbox: Sandbox) -> None:
        """The error has the format of Media, with the path as `instance`."""
        answer = get(sandbox, "/media/enhance?job_id=nothing")

        assert 404 == answer.status
        assert ("/problems/not-found", "/media/enhance") == (answer.json["type"], answer.json["instance"])

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
    def test_a_body_that_is_not_a_json_object_is_a_bad_request(self, sandbox: Sandbox, body: bytes) -> None:
        """The response is the recorded one."""
        answer = call("POST", f"{sandbox.url}/media/output", token=token_of(sandbox), body=body)

        assert 400 == answer.status
        assert {
            "type": "/problems/validation-error",
            "title": "Your request parameters didn't validate",
            "status": 400,
            "instance": "/media/output",
            "detail": "Request body contains invalid json",
        } == answer.json

    @pytest.mark.parametrize("location", [None, 7, "", "dlb://", "https://example.com/x.wav"])
    def test_other_locations_are_a_bad_request(self, sandbox: Sandbox, location: object) -> None:
        """Only the real service can access the storage of customers."""
        assert 400 == post_json(sandbox, "/media/input", {"url": location}).status

    def test_media_accepts_any_valid_token(self, sandbox: Sandbox) -> None:
        """Media has no scopes."""
        token = token_of(sandbox, scope="comms:monitor:read")

        assert 200 == get(sandbox, "/media/jobs", token).status


class TestStorage:
    def test_urls_are_signed_as_those_of_s3(self, sandbox: Sandbox) -> None:
        """They have the query of real URLs and do not use the port that receives tokens."""
        url = upload_url(sandbox)

        assert url.startswith(sandbox.storage_url + "/")
        assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in url
        assert "X-Amz-Expires=3600" in url
        assert "X-Amz-SignedHeaders=host" in url
        assert "X-Amz-Signature=" in url

    def test_a_token_with_a_signature_is_refused_repeated_and_counted(self, sandbox: Sandbox) -> None:
        """This is the response of S3. It contains the token, which may then appear in logs."""
        url = upload_url(sandbox)

        answer = call("PUT", url, token="<leaked>", body=b"data")

        assert 400 == answer.status
        assert b"<Code>InvalidArgument</Code>" in answer.body
        assert b"Only one auth mechanism allowed; only the X-Amz-Algorithm" in answer.body
        assert b"<ArgumentValue>Bearer &lt;leaked&gt;</ArgumentValue>" in answer.body
        assert {} == sandbox.uploads
        assert (1, 1) == (sandbox.storage_calls, sandbox.storage_leaks)

    def test_a_token_without_a_signature_is_denied_and_counted(self, sandbox: Sandbox) -> None:
        answer = call("GET", f"{sandbox.storage_url}/dlb/x", token=token_of(sandbox))

        assert 403 == answer.status
        assert b"<Code>AccessDenied</Code>" in answer.body
        assert (1, 1) == (sandbox.storage_calls, sandbox.storage_leaks)

    def test_a_signature_is_for_one_method_and_one_path(self, sandbox: Sandbox) -> None:
        url = upload_url(sandbox)

        assert 403 == call("GET", url).status
        assert 403 == call("PUT", url.replace("/dlb/x", "/dlb/y"), body=b"").status
        assert 403 == call("PUT", url + "0", body=b"").status
        assert {} == sandbox.uploads

    def test_a_signature_expires_after_an_hour(self, sandbox: Sandbox, clock: FakeClock) -> None:
        """`X-Amz-Expires` counts from the whole second of `X-Amz-Date`."""
        url = upload_url(sandbox)

        clock.advance(3599.749)
        assert 200 == call("PUT", url, body=b"data").status

        clock.advance(0.001)
        assert 403 == call("PUT", url, body=b"data").status

    def test_a_missing_object_is_a_404(self, sandbox: Sandbox) -> None:
        url = post_json(sandbox, "/media/output", {"url": "dlb://x"}).json["url"]

        answer = call("GET", url)

        assert 404 == answer.status
        assert b"<Code>NoSuchKey</Code>" in answer.body


class TestCommunications:
    @pytest.mark.parametrize(
        ("method", "path", "scope", "status"),
        [
            ("GET", "/v1/monitor/conferences", "comms:monitor:read", 200),
            ("GET", "/v2/monitor/recordings", "comms:monitor:download", 200),
            ("DELETE", "/v1/monitor/conferences/1/recordings", "comms:monitor:delete", 204),
            ("DELETE", "/v2/monitor/conferences/1/recordings", "comms:monitor:delete", 204),
            ("POST", "/v2/client-access-token", "comms:client_access_token:create", 200),
        ],
    )
    def test_a_call_needs_its_scope(self, sandbox: Sandbox, method: str, path: str, scope: str, status: int) -> None:
        """The scope itself, the wildcard and an unrestricted token work. Others get a 403."""

        def status_with(**form: str) -> int:
            token = token_of(sandbox, **form)
            return call(method, sandbox.url + path, token=token, body=b"{}").status

        assert status == status_with(scope=scope)
        assert status == status_with(scope="comms:*")
        assert status == status_with()
        assert 403 == status_with(scope="comms:conf:create")
        assert 403 == status_with(scope="nonsense")

    def test_a_missing_scope_is_an_error_in_the_format_of_communications(self, sandbox: Sandbox) -> None:
        token = token_of(sandbox, scope="comms:conf:create")

        answer = get(sandbox, "/v1/monitor/conferences", token)

        assert "ErrorResponse" == answer.json["type"]
        assert "comms:monitor:read" in answer.json["error_description"]

    def test_recordings_come_with_presigned_urls(self, sandbox: Sandbox) -> None:
        """They need no token and expire after ten minutes. A deleted recording is gone."""
        token = token_of(sandbox)

        (recording,) = get(sandbox, "/v2/monitor/recordings", token).json["recordings"]

        assert "X-Amz-Expires=600" in recording["url"]
        assert 200 == call("GET", recording["url"]).status
        path = f"/v2/monitor/conferences/{recording['confId']}/recordings"
        assert 204 == call("DELETE", sandbox.url + path, token=token).status
        assert [] == get(sandbox, "/v2/monitor/recordings", token).json["recordings"]
        assert 404 == call("GET", recording["url"]).status

    def test_client_access_tokens_expire_after_an_hour_by_default(self, sandbox: Sandbox) -> None:
        """They are unrestricted, so the response has no `scope`."""
        answer = post_json(sandbox, "/v2/client-access-token", {}).json

        assert {"access_token", "token_type", "expires_in"} == set(answer)
        assert ("Bearer", 3600) == (answer["token_type"], answer["expires_in"])

    @pytest.mark.parametrize("key", ["expiresIn", "expires_in"])
    def test_client_access_tokens_accept_a_lifetime_and_scopes(self, sandbox: Sandbox, key: str) -> None:
        """Both spellings of the lifetime work. Unknown session scopes are dropped."""
        body = {key: 60, "sessionScope": "conf:create nonsense session:update"}

        answer = post_json(sandbox, "/v2/client-access-token", body).json

        assert (60, "conf:create session:update") == (answer["expires_in"], answer["scope"])

    @pytest.mark.parametrize("lifetime", [0, 86_401, "60", 1.5, True, None])
    def test_other_lifetimes_are_an_illegal_argument(self, sandbox: Sandbox, lifetime: object) -> None:
        """The error code is the recorded one."""
        answer = post_json(sandbox, "/v2/client-access-token", {"expiresIn": lifetime})

        assert (400, 90) == (answer.status, answer.json["error_code"])

    def test_client_access_tokens_do_not_work_with_rest(self, sandbox: Sandbox) -> None:
        """They are for browsers, and the REST routes reject them."""
        token = post_json(sandbox, "/v2/client-access-token", {}).json["access_token"]

        assert 401 == get(sandbox, "/media/jobs", token).status


# The observer


@pytest.fixture
def observed() -> Iterator[tuple[Sandbox, SimpleQueue[RequestRecord]]]:
    """A sandbox, and the queue with its reports."""
    records: SimpleQueue[RequestRecord] = SimpleQueue()
    with Sandbox(on_request=records.put) as sandbox:
        yield sandbox, records


def test_each_request_is_reported_without_its_query(
    observed: tuple[Sandbox, SimpleQueue[RequestRecord]],
) -> None:
    sandbox, records = observed
    before = datetime.now(UTC)

    call("GET", f"{sandbox.url}/media/jobs?page=%7e2", token="wrong")
    call("PUT", f"{sandbox.storage_url}/dlb/in/1.wav?X-Amz-Signature=wrong", body=b"sound")

    first, second = records.get(timeout=PATIENCE), records.get(timeout=PATIENCE)
    assert ("GET", "/media/jobs", 401) == (first.method, first.path, first.status)
    assert ("PUT", "/dlb/in/1.wav", 403) == (second.method, second.path, second.status)
    assert before <= first.at <= second.at <= datetime.now(UTC)


def test_a_dropped_request_is_reported_without_a_status(
    observed: tuple[Sandbox, SimpleQueue[RequestRecord]],
) -> None:
    sandbox, records = observed
    sandbox.fail_token_requests(drop=True)

    with pytest.raises(OSError):  # noqa: PT011 - a reset, or the end of the connection
        call("POST", sandbox.token_url)

    assert records.get(timeout=PATIENCE).status is None


def test_the_password_in_a_whole_url_is_not_reported(
    observed: tuple[Sandbox, SimpleQueue[RequestRecord]],
) -> None:
    sandbox, records = observed
    connection = http.client.HTTPConnection(urlsplit(sandbox.url).netloc, timeout=PATIENCE)

    connection.request("GET", "http://user:canary@127.0.0.1/media/jobs")
    connection.getresponse()
    connection.close()

    assert "canary" not in repr(records.get(timeout=PATIENCE))
