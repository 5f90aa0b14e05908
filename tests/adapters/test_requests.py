"""Runs the contract with requests, and tests what only requests has."""

from __future__ import annotations

import copy
import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import requests
import requests_mock
import trustme
import urllib3
from requests.adapters import HTTPAdapter
from requests.hooks import dispatch_hook

from dolby_auth_plugin import TokenError
from dolby_auth_plugin._core.cutoff import Cutoff
from dolby_auth_plugin._core.endpoint import TokenResponse
from dolby_auth_plugin._requests import connections
from dolby_auth_plugin.requests import DolbyAuth
from dolby_auth_plugin.sandbox import Sandbox

from ..contract import CLASSIC, AuthContract, on_clock, server_context
from ..drivers import RequestsDriver
from ..fakes import FakeClock, ScriptedSender
from ..internals import (
    authority,
    forget_tls_contexts,
    read_refusals_by,
    read_refusals_for,
    rebuild,
    remembered_origins,
    send_with,
)
from ..servers import Received, Reply, Server, serving

DOLBY = "https://api.dolby.com/media/jobs"
TOKEN_URL = "https://api.dolby.io/v1/auth/token"


class HooksTwice(requests.Session):
    """As in requests-cache, which `tests/tools` has: the hooks are called again for the response after all redirects."""

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        response = super().send(request, **kwargs)
        return dispatch_hook("response", request.hooks, response, **kwargs)


class TestRequests(AuthContract):
    driver = RequestsDriver("requests")

    def as_told(self, history: list[int]) -> list[int]:
        # After a redirect, requests replaces `history` by its own list of redirects.
        return [status for status in history if status != 401]

    def trust(self, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))

    def session(self, sandbox: Sandbox, *allowed: Server, **options: Any) -> requests.Session:
        session = requests.Session()
        session.auth = self.auth(sandbox, *allowed, **options)
        return session

    # The retry

    def test_the_callers_hooks_see_the_final_answer(self, sandbox: Sandbox) -> None:
        """A hook that raises for the status must not raise for a 401 that is retried."""
        seen: list[int] = []

        def hook(response: requests.Response, **kwargs: Any) -> None:
            seen.append(response.status_code)
            response.raise_for_status()

        with self.session(sandbox) as session:
            session.hooks["response"].append(hook)
            session.get(f"{sandbox.url}/media/jobs")
            sandbox.revoke_all()
            session.get(f"{sandbox.url}/media/jobs")

        assert seen == [200, 200]

    @pytest.mark.parametrize("is_prepared", [False, True])
    def test_a_lasting_401_is_sent_twice_if_the_hooks_are_called_twice(
        self, is_prepared: bool, sandbox: Sandbox
    ) -> None:
        """`Session.send` of a prepared request passes no `allow_redirects`."""
        sandbox.refuse_tokens = True
        with HooksTwice() as session:
            session.auth = self.auth(sandbox)
            request = requests.Request("GET", f"{sandbox.url}/media/jobs")
            response = (
                session.send(session.prepare_request(request))
                if is_prepared
                else session.get(f"{sandbox.url}/media/jobs")
            )

        assert [response.status_code, *(earlier.status_code for earlier in response.history)] == [401, 401]
        assert (sandbox.api_calls, sandbox.token_requests) == (2, 2)

    def test_our_hook_comes_before_existing_hooks(self, sandbox: Sandbox) -> None:
        """For example, if a caller authorizes a prepared request by hand."""
        theirs = requests.Request("GET", f"{sandbox.url}/media/jobs", hooks={"response": lambda *_, **__: None})
        prepared = theirs.prepare()
        [their_hook] = prepared.hooks["response"]

        self.auth(sandbox)(prepared)

        assert len(prepared.hooks["response"]) == 2
        assert prepared.hooks["response"][1] is their_hook

    def test_the_retry_keeps_the_calls_own_arguments(self, sandbox: Sandbox) -> None:
        calls: list[dict[str, Any]] = []

        class Recording(HTTPAdapter):
            def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # type: ignore[override] # the rest in one
                calls.append(kwargs)
                return super().send(request, **{**kwargs, "cert": None, "verify": True})

        with self.session(sandbox) as session:
            session.mount("http://", Recording())
            sandbox.refuse_tokens = True
            session.get(
                f"{sandbox.url}/media/jobs",
                timeout=(3, 7),
                verify="bundle",
                cert="mine",
                stream=True,
                proxies={"x": "y"},
            ).close()

        first, second = calls
        assert first == second
        assert ((3, 7), "bundle", "mine", True) == tuple(
            second[name] for name in ("timeout", "verify", "cert", "stream")
        )
        assert second["proxies"]["x"] == "y"

    def test_a_pool_of_one_connection_is_enough(self, sandbox: Sandbox) -> None:
        """The refused response releases its connection before the retry needs one."""
        with self.session(sandbox) as session:
            session.mount("http://", HTTPAdapter(pool_maxsize=1, pool_block=True))
            session.get(f"{sandbox.url}/media/jobs")
            sandbox.revoke_all()

            response = session.get(f"{sandbox.url}/media/jobs", timeout=10)

        assert response.status_code == 200

    def test_a_streamed_call_is_retried_and_its_body_left_unread(self, sandbox: Sandbox, api: Server) -> None:
        api.refuse_old_tokens()
        with (
            self.session(sandbox, api) as session,
            session.get(api.url, stream=True) as response,
        ):
            assert [401] == [refused.status_code for refused in response.history]
            assert response.raw.read() == b"ok"

    def test_a_streamed_refusal_lets_its_connection_go(self, sandbox: Sandbox, api: Server) -> None:
        api.refuse_old_tokens()

        with self.session(sandbox, api) as session, session.get(api.url, stream=True) as response:
            assert [True] == [refused.raw.closed for refused in response.history]

    def test_history_keeps_the_responses_that_an_adapter_had_put_there(self, sandbox: Sandbox, api: Server) -> None:
        """An adapter of the user's may follow redirects by itself."""

        class Following(HTTPAdapter):
            def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # type: ignore[override] # the rest in one
                response = super().send(request, **kwargs)
                if response.status_code == 401:
                    earlier = requests.Response()
                    earlier.status_code = 302
                    response.history = [earlier]
                return response

        api.refuse_old_tokens()
        with self.session(sandbox, api) as session:
            session.mount("http://", Following())
            response = session.get(api.url)

        assert (200, [302, 401]) == (response.status_code, [one.status_code for one in response.history])

    def test_a_refusal_that_an_adapter_has_read_keeps_its_body(self, sandbox: Sandbox, api: Server) -> None:
        """Its connection may already serve another call."""

        class Reading(HTTPAdapter):
            def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # type: ignore[override] # the rest in one
                response = super().send(request, **kwargs)
                assert response.content
                return response

        api.refuse_old_tokens()
        with self.session(sandbox, api) as session:
            session.mount("http://", Reading())
            response = session.get(api.url)

        assert [b"refused"] == [refused.content for refused in response.history]

    def test_a_file_is_rewound_to_its_first_position(self, sandbox: Sandbox, api: Server) -> None:
        api.refuse_old_tokens()
        file = io.BytesIO(b"skipped|the rest")
        file.seek(8)

        with self.session(sandbox, api) as session:
            assert session.put(api.url, data=file, timeout=10).status_code == 200

        assert [b"the rest"] * 2 == [received.body for received in api.log]

    def test_a_pipe_is_not_resent(self, sandbox: Sandbox, api: Server) -> None:
        api.refuse_old_tokens()
        reader, writer = os.pipe()
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(b"once")
        with os.fdopen(reader, "rb") as body, self.session(sandbox, api) as session:
            assert session.put(api.url, data=body, timeout=10).status_code == 401

        assert [b"once"] == [received.body for received in api.log]

    def test_a_file_closed_in_between_is_not_resent(self, sandbox: Sandbox, api: Server) -> None:
        file = io.BytesIO(b"content")

        class Closing(HTTPAdapter):
            def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # type: ignore[override] # the rest in one
                response = super().send(request, **kwargs)
                file.close()
                return response

        api.answer = lambda _: Reply(401)
        with self.session(sandbox, api) as session:
            session.mount("http://", Closing())
            assert session.put(api.url, data=file, timeout=10).status_code == 401

        assert len(api.log) == 1

    def test_a_request_may_be_sent_many_times(self, sandbox: Sandbox) -> None:
        """It has one hook, and the hook has no state."""
        with self.session(sandbox) as session:
            prepared = session.prepare_request(requests.Request("GET", f"{sandbox.url}/media/jobs"))
            auth: Any = session.auth
            auth(auth(prepared))
            assert len(prepared.hooks["response"]) == 1
            for _ in range(3):
                assert session.send(prepared).status_code == 200
                sandbox.revoke_all()

        assert sandbox.token_requests == 3

    def test_a_request_that_is_reused_after_a_foreign_hop_is_still_retried(
        self, sandbox: Sandbox, api: Server, other: Server
    ) -> None:
        """The hook is removed from the hop, not from the caller's request."""
        api.answer = lambda _: Reply(302, {"Location": f"{other.url}/there"})
        other.answer = lambda _: Reply(302, {"Location": f"{other.url}/further"})
        other.answer = lambda received: (
            Reply() if received.path == "/further" else Reply(302, {"Location": f"{other.url}/further"})
        )
        with self.session(sandbox, api) as session:
            prepared = session.prepare_request(requests.Request("GET", api.url))
            session.send(prepared)
            api.refuse_old_tokens()

            response = session.send(prepared)

        assert (response.status_code, [r.status_code for r in response.history]) == (200, [401])

    def test_a_request_with_another_authorization_is_not_retried(self, sandbox: Sandbox) -> None:
        with self.session(sandbox) as session:
            prepared = session.prepare_request(requests.Request("GET", f"{sandbox.url}/media/jobs"))
            prepared.headers["Authorization"] = "Bearer own"

            response = session.send(prepared)

        assert (response.status_code, response.history, sandbox.token_requests) == (401, [], 1)

    def test_a_401_without_a_connection_is_returned_to_the_caller(self) -> None:
        """Mocks and caches give responses without a connection."""

        class Cache(HTTPAdapter):
            def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # type: ignore[override] # the rest in one
                response = requests.Response()
                response.status_code, response.request, response.raw = 401, request, io.BytesIO()
                return response

        with lent_session(token_answer) as sender, requests.Session() as session:
            session.mount("https://", Cache())
            response = session.get(DOLBY, auth=DolbyAuth(**CLASSIC, session=sender))

        assert response.status_code == 401

    def test_a_401_whose_body_no_socket_gave_is_retried(self) -> None:
        """The adapter of a cache or of another protocol gives the body in its own way. It is not read."""

        class Own(HTTPAdapter):
            def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # type: ignore[override] # the rest in one
                response: Any = requests.Response()
                refused = request.headers["Authorization"] == "Bearer token-1"
                response.status_code, response.request, response.raw = (
                    401 if refused else 200,
                    request,
                    io.BytesIO(b"x"),
                )
                response.connection = self
                return response  # type: ignore[no-any-return] # it is one

        sender = ScriptedSender()
        with requests.Session() as session:
            session.mount("https://", Own())
            session.auth = rebuild(DolbyAuth(**CLASSIC), send=sender)
            response = session.get(DOLBY)

        assert (response.status_code, [r.status_code for r in response.history]) == (200, [401])

    def test_an_http_error_without_a_response_is_an_error_in_code(self) -> None:
        """A hook of a lent session may raise one."""

        def raises(response: requests.Response, **kwargs: Any) -> None:
            raise requests.HTTPError("canary")

        with lent_session(token_answer) as lent:
            lent.hooks["response"].append(raises)

            with pytest.raises(TokenError, match=r"raised HTTPError \(test_requests.py, line"):
                DolbyAuth(**CLASSIC, session=lent).token()

    def test_the_retry_does_not_wait_for_a_slow_401_body(
        self, sandbox: Sandbox, api: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read_refusals_for(0.05, monkeypatch)
        first: list[Received] = []

        def answer(received: Received) -> Reply:
            first.append(received)
            if len(first) > 1:
                return Reply()
            return Reply(raw=b"HTTP/1.1 401 X\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000, drip=0.02)

        api.answer = answer
        with self.session(sandbox, api) as session:
            assert session.get(api.url, timeout=10).status_code == 200

    def test_a_refused_body_is_read_for_five_seconds(self, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each byte takes one second, so the sixth is the last."""
        clock = FakeClock()
        read_refusals_by(clock, monkeypatch)

        class Slow(io.BytesIO):
            def read1(self, size: int | None = -1) -> bytes:
                clock.advance(1)
                return super().read1(1)

        answers = [
            urllib3.HTTPResponse(Slow(b"x" * 100), status=401, preload_content=False),
            urllib3.HTTPResponse(io.BytesIO(), status=200, preload_content=False),
        ]

        class Scripted(HTTPAdapter):
            def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # type: ignore[override] # the rest in one
                return self.build_response(request, answers.pop(0))

        with self.session(sandbox) as session:
            session.mount("http://", Scripted())
            response = session.get(f"{sandbox.url}/media/jobs")

        assert (200, [b"x" * 6]) == (response.status_code, [one.content for one in response.history])

    def test_a_redirect_to_the_token_endpoint_after_a_retry_carries_no_token(self, api: Server) -> None:
        def answer(received: Received) -> Reply:
            if received.method == "POST":
                return Reply(body=f'{{"access_token":"token-{len(api.log)}"}}'.encode())
            if received.path == "/job":
                return Reply(401) if received.token == "Bearer token-1" else Reply(302, {"Location": "/token"})
            return Reply()

        api.answer = answer
        auth = DolbyAuth(**CLASSIC, token_url=f"{api.url}/token", allowed_hosts=[api.host])
        with self.driver.open(auth) as client:
            seen = client.get(f"{api.url}/job")

        assert [302] == seen.history
        assert ("GET", "/token", None) == (api.log[-1].method, api.log[-1].path, api.log[-1].token)

    def test_the_callers_own_cookie_header_is_not_changed(self, sandbox: Sandbox, api: Server) -> None:
        api.answer = lambda _: Reply(401, {"Set-Cookie": "a=new; Path=/"})

        with self.session(sandbox, api) as session:
            session.get(api.url, headers={"Cookie": "mine=1"})

        assert ["mine=1"] * 2 == [received.headers["Cookie"] for received in api.log]

    # .netrc

    @pytest.fixture
    def netrc(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "netrc"
        path.write_text("machine 127.0.0.1 login user password pass\nmachine api.dolby.io login user password pass\n")
        monkeypatch.setenv("NETRC", str(path))

    @pytest.mark.usefixtures("netrc")
    def test_netrc_does_not_replace_the_basic_credentials(self, sandbox: Sandbox) -> None:
        with self.session(sandbox) as session:
            assert session.get(f"{sandbox.url}/media/jobs").status_code == 200

        assert [sandbox.app_key] == [record.app_key for record in sandbox.token_log]

    @pytest.mark.usefixtures("netrc")
    def test_netrc_credentials_on_a_redirected_request_are_not_treated_as_the_token(
        self, sandbox: Sandbox, api: Server, other: Server
    ) -> None:
        """An allowed host answers them with 401. That causes no retry."""
        api.answer = lambda _: Reply(302, {"Location": f"{other.url}/there"})
        other.answer = lambda _: Reply(401)

        with self.session(sandbox, api, other) as session:
            response = session.get(api.url)

        assert (response.status_code, len(other.log)) == (401, 1)
        assert other.log[0].token is not None
        assert other.log[0].token.startswith("Basic ")

    # Pickles

    def test_a_pickled_response_holds_no_secret(self, sandbox: Sandbox) -> None:
        """HTTP caches and job queues pickle a response with its request and the request's hooks."""
        with self.session(sandbox) as session:
            data = pickle.dumps(session.get(f"{sandbox.url}/media/jobs"))

        assert sandbox.app_secret.encode() not in data

    def test_the_hook_of_an_unpickled_request_does_nothing(self, sandbox: Sandbox) -> None:
        with self.session(sandbox) as session:
            prepared = session.prepare_request(requests.Request("GET", f"{sandbox.url}/media/jobs"))
        sandbox.revoke_all()

        with requests.Session() as plain:
            assert plain.send(pickle.loads(pickle.dumps(prepared))).status_code == 401

    def test_a_pickled_session_contains_its_auth_object(self, sandbox: Sandbox) -> None:
        with self.session(sandbox) as session:
            copied = pickle.loads(pickle.dumps(session))

        with copied:
            assert copied.get(f"{sandbox.url}/media/jobs").status_code == 200

    # TLS

    def test_a_ca_bundle_may_be_a_folder(self, tmp_path: Path) -> None:
        """OpenSSL looks up certificates in it by a hash in their file names. This folder is empty."""
        assert connections.tls_context(str(tmp_path)).get_ca_certs() == []

    def test_an_https_proxy_is_verified_with_the_same_bundle(self) -> None:
        manager = connections.TokenAdapter(Cutoff(1)).proxy_manager_for("https://localhost:1")

        assert manager.proxy_config.ssl_context is connections.tls_context(connections.ca_bundle())

    def test_all_auth_objects_share_one_tls_context(
        self, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Loading a CA bundle blocks all threads."""
        bundle = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(bundle))
        monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
        monkeypatch.setenv("CURL_CA_BUNDLE", str(bundle))
        forget_tls_contexts()

        with serving(server_context(authority)) as server:
            server.answer = lambda _: Reply(body=b'{"access_token":"abc"}')
            for _ in range(3):
                DolbyAuth(**CLASSIC, token_url=f"{server.url}/token").token()

        assert connections.tls_context.cache_info().misses == 1

    # Lent sessions

    def test_a_mock_without_an_answer_is_not_reported_as_a_network_problem(self) -> None:
        with requests.Session() as lent:
            lent.mount("https://", requests_mock.Adapter())

            with pytest.raises(TokenError, match="raised NoMockAddress") as caught:
                DolbyAuth(**CLASSIC, session=lent).token()

        assert "Check the network" not in str(caught.value)
        assert not caught.value.retryable

    def test_a_lent_session_that_has_this_auth_itself_causes_no_recursion(self, sandbox: Sandbox) -> None:
        with requests.Session() as lent:
            auth = DolbyAuth(**sandbox.options, session=lent)
            lent.auth = auth

            assert auth.token().value
            assert lent.get(f"{sandbox.url}/media/jobs").status_code == 200

    @pytest.mark.parametrize("status", [401, 503])
    def test_a_lent_sessions_hook_that_raises_for_the_status_does_not_hide_it(
        self, sandbox: Sandbox, status: int
    ) -> None:
        sandbox.fail_token_requests(status=status, times=9)
        with requests.Session() as lent:
            lent.hooks["response"].append(lambda response, **_: response.raise_for_status())
            auth = on_clock(DolbyAuth(**sandbox.options, session=lent), FakeClock())

            with pytest.raises(TokenError) as caught:
                auth.token()

        assert (status, status == 503) == (caught.value.status_code, caught.value.retryable)

    def test_a_lent_sessions_error_without_an_answer_is_final(self, sandbox: Sandbox) -> None:
        def hook(response: requests.Response, **kwargs: Any) -> None:
            raise requests.HTTPError("canary")

        with requests.Session() as lent:
            lent.hooks["response"].append(hook)

            with pytest.raises(TokenError, match="HTTPError") as caught:
                DolbyAuth(**sandbox.options, session=lent).token()

        assert "canary" not in str(caught.value)
        assert not caught.value.retryable

    def test_a_lent_sessions_hook_may_read_the_answer(self, sandbox: Sandbox) -> None:
        with requests.Session() as lent:
            lent.hooks["response"].append(lambda response, **_: response.content and None)

            assert DolbyAuth(**sandbox.options, session=lent).token().value


def token_answer() -> tuple[int, bytes]:
    return 200, b'{"access_token":"abc"}'


def lent_session(answer: Any) -> requests.Session:
    session: requests.Session = TestRequests.driver.lend(answer, [])["session"]
    return session


def test_a_request_with_a_custom_scheme_passes_unchanged() -> None:
    """requests does not prepare the URLs of custom schemes."""
    request = requests.PreparedRequest()
    request.prepare(method="GET", url="mailto:someone@example.com")

    assert DolbyAuth(**CLASSIC)(request).headers == {}


def test_a_url_without_a_path_is_compared_with_whole_origins() -> None:
    """A caller may set such a URL on a prepared request."""
    request = requests.Request("GET", DOLBY).prepare()
    request.url = "https://api.dolby.comx"

    assert "Authorization" not in DolbyAuth(**CLASSIC)(request).headers


# URL prefixes that are remembered as allowed


def handed_out(auth: DolbyAuth, url: str) -> bool:
    return "Authorization" in auth(requests.Request("GET", url).prepare()).headers


@pytest.fixture
def with_token() -> DolbyAuth:
    auth = DolbyAuth("key", "secret", allowed_hosts=["api.dolby.com", "*.example.com"])
    send_with(auth, lambda *_: TokenResponse(200, None, b'{"access_token":"abc"}'))
    auth.token()
    return auth


@pytest.mark.parametrize("rest", [".evil.test/", "@evil.test/", ":8443/", "x/"])
def test_a_url_that_only_begins_like_an_allowed_one_gets_no_token(with_token: DolbyAuth, rest: str) -> None:
    assert handed_out(with_token, "https://api.dolby.com/")
    assert handed_out(with_token, "https://api.dolby.com/media/jobs")

    assert not handed_out(with_token, f"https://api.dolby.com{rest}")


def test_any_number_of_allowed_hosts_gets_the_token_and_a_few_are_remembered(with_token: DolbyAuth) -> None:
    urls = [f"https://{number}.example.com/" for number in range(50)]

    assert all(handed_out(with_token, url) for url in [*urls, *urls])
    assert len(remembered_origins(with_token)) == 8


def test_the_origin_of_the_token_endpoint_is_not_remembered_as_allowed() -> None:
    """The path decides there, so no prefix of its URL is remembered."""
    auth = DolbyAuth("key", "secret", token_url="https://api.dolby.com/v1/auth/token")
    send_with(auth, lambda *_: TokenResponse(200, None, b'{"access_token":"abc"}'))

    assert handed_out(auth, "https://api.dolby.com/media/jobs")
    assert not handed_out(auth, "https://api.dolby.com/v1/auth/token")


def test_a_copied_auth_object_remembers_no_origins(with_token: DolbyAuth) -> None:
    assert handed_out(with_token, "https://met.example.com/")
    assert any("met.example" in prefix for prefix in remembered_origins(with_token))

    assert remembered_origins(copy.copy(with_token)) == ()


def test_an_unpickled_auth_object_has_its_allowed_hosts() -> None:
    copied = pickle.loads(pickle.dumps(DolbyAuth("key", "secret", allowed_hosts=["*.example.com"])))

    assert authority(copied, "https://a.example.com/") == "a.example.com:443"
    assert authority(copied, "https://api.dolby.com/") is None
