"""
The subjects of the comparison: this library, other packages ("peers"), the constant header, and a token per call.

HTTP libraries and peers are imported only when they are needed. A process that measures httpx first hides httpx2
(`sys.modules["httpx2"] = None`), because authlib prefers httpx2 to httpx.
"""

from __future__ import annotations

import functools
import itertools
import json
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any
from urllib.parse import urlencode

from .senders import (
    TIMEOUT,
    AsyncClient,
    Client,
    SyncClient,
    Target,
    client_options,
    drive,
    httpx_step,
    lent,
    mounted,
    nothing,
    plain_sender,
    requests_step,
)
from .server import CONSTANT

__all__ = ["SUBJECTS", "Client", "Subject", "Target", "subjects"]

KEY, SECRET = "key", "secret"

# The subjects that some scenarios treat differently.
CONSTANT_HEADER, OURS, TOKEN_PER_CALL = "constant header", "ours", "token per call"

_GRANT = {"grant_type": "client_credentials"}
_BASIC = "Basic " + b64encode(f"{KEY}:{SECRET}".encode()).decode()


@dataclass(frozen=True)
class Subject:
    """
    One way to send authorized requests with one host library.

    Attributes:
        margin: The default number of seconds before a token expires at which the subject requests a new one.
        kind: "auth": an auth object for a session or client. "session": the subject has its own session.
        distribution: The name of the package, or None if there is nothing to install.
        import_line: The import statement of its user.
        new: Creates the auth object or session only. Unless `Target.memory` is set, exactly as a user would.
        make: Creates a complete client that is ready to send.
    """

    name: str
    library: str
    is_async: bool
    margin: float
    kind: str
    distribution: str | None
    import_line: str
    new: Callable[[Target], Any]
    make: Callable[[Target], Client]


def subjects(library: str, is_async: bool) -> list[Subject]:
    return [subject for subject in SUBJECTS if (subject.library, subject.is_async) == (library, is_async)]


_Requests = functools.partial(SyncClient, body="data")


def _with_auth(library: str, is_async: bool, new: Callable[[Target], Any], obtain: str = "") -> Any:
    """The `make` of an auth object. *obtain* names its method that obtains a token, if it has one."""

    def make(target: Target) -> Client:
        auth, sender = new(target), plain_sender(library, is_async, target)
        sender.auth = auth
        warm = getattr(auth, obtain) if obtain else None
        if library == "requests":
            return _Requests(target, sender, functools.partial(requests_step, auth), warm)
        step = functools.partial(httpx_step, library, is_async, auth)
        return (AsyncClient if is_async else SyncClient)(target, sender, step, warm)

    return make


def _constant(library: str, is_async: bool) -> Subject:
    """The baseline: the minimum that any auth object has to do."""

    @functools.cache
    def auth_class() -> Any:
        host = import_module(library)
        value = f"Bearer {CONSTANT}"

        class ConstantHeader(host.auth.AuthBase if library == "requests" else host.Auth):  # type: ignore[misc] # known at run time
            def __call__(self, request: Any) -> Any:
                request.headers["Authorization"] = value
                return request

            def auth_flow(self, request: Any) -> Any:
                request.headers["Authorization"] = value
                yield request

        return ConstantHeader

    def new(_: Target) -> Any:
        return auth_class()()

    make = _with_auth(library, is_async, new)
    return Subject(CONSTANT_HEADER, library, is_async, 0, "auth", None, f"import {library}", new, make)


def _ours(library: str, is_async: bool) -> Subject:
    def new(target: Target) -> Any:
        from dolby_auth_plugin import DOLBY_HOSTS

        hosts = [*DOLBY_HOSTS, "127.0.0.1"]
        cls = import_module(f"dolby_auth_plugin.{library}").DolbyAuth
        return cls(KEY, SECRET, token_url=target.token_url, allowed_hosts=hosts, **lent(library, target))

    make = _with_auth(library, is_async, new, "atoken" if is_async else "token")
    line = f"from dolby_auth_plugin.{library} import DolbyAuth"
    # 0, because calls never wait for a renewal. The renewal starts in the last fifth of the token's life.
    return Subject(OURS, library, is_async, 0, "auth", "dolby-auth-plugin", line, new, make)


def _cached_by_class(library: str, is_async: bool) -> Subject:
    """httpx-auth or requests-auth, by the same author. Both cache tokens in a class, for the whole process."""
    package = f"{library}_auth"

    def new(target: Target) -> Any:
        cls = import_module(package).OAuth2ClientCredentials
        return cls(target.token_url, KEY, SECRET, **lent(library, target))

    def make(target: Target) -> Client:
        # This object must not use a token of an earlier one.
        import_module(package).OAuth2.token_cache.clear()
        client: Client = _with_auth(library, is_async, new)(target)
        return client

    line = f"from {package} import OAuth2ClientCredentials"
    # The margin is its `early_expiry`.
    return Subject(f"{library}-auth", library, is_async, 30, "auth", f"{library}-auth", line, new, make)


def _requests_oauth2client() -> Subject:
    def new(target: Target) -> Any:
        from requests_oauth2client import OAuth2Client, OAuth2ClientCredentialsAuth

        # `testing` allows a token endpoint on plain http.
        client = OAuth2Client(target.token_url, auth=(KEY, SECRET), testing=True, **lent("requests", target))
        return OAuth2ClientCredentialsAuth(client)

    name = "requests-oauth2client"
    line = "from requests_oauth2client import OAuth2Client, OAuth2ClientCredentialsAuth"
    # The margin is its `leeway`.
    return Subject(
        name, "requests", False, 20, "auth", name, line, new, _with_auth("requests", False, new, "renew_token")
    )


def _authlib(library: str, is_async: bool) -> Subject:
    module = f"authlib.integrations.{'requests' if library == 'requests' else 'httpx'}_client"
    name = "OAuth2Session" if library == "requests" else "AsyncOAuth2Client" if is_async else "OAuth2Client"

    def new(target: Target) -> Any:
        cls = getattr(import_module(module), name)
        if library not in {base.__module__.partition(".")[0] for base in cls.__mro__}:
            raise RuntimeError(f"authlib uses another library than {library}. Hide that library before any import.")
        options = {"default_timeout": TIMEOUT} if library == "requests" else client_options(library, target)
        return cls(KEY, SECRET, token_endpoint=target.token_url, **_GRANT, **options)

    def make(target: Target) -> Client:
        client = new(target)

        # authlib renews a token itself, but its user must fetch the first one. To fetch it on demand, a user has to
        # run this before each request.
        def before() -> None:
            if not client.token:
                client.fetch_token()

        async def abefore() -> None:
            if not client.token:
                await client.fetch_token()

        def step(url: str) -> Callable[[], None]:
            # The work of its `request` before it sends.
            ensure, authorize = client.ensure_active_token, httpx_step(library, is_async, client.token_auth, url)

            def ensure_and_authorize() -> None:
                ensured = ensure(client.token)
                if is_async:
                    drive(ensured)
                authorize()

            return ensure_and_authorize

        if library == "requests":
            # With requests, `token_auth` itself ensures that the token is active.
            simple = functools.partial(requests_step, client.token_auth)
            return _Requests(target, mounted(client, target), simple, before, before)
        if is_async:
            return AsyncClient(target, client, step, abefore, abefore)
        return SyncClient(target, client, step, before, before)

    # The margin is its `leeway`.
    return Subject("authlib", library, is_async, 60, "session", "Authlib", f"from {module} import {name}", new, make)


def _google_auth() -> Subject:
    @functools.cache
    def credentials_class() -> Any:
        from google.auth.credentials import Credentials
        from google.auth.exceptions import RefreshError

        class ClientCredentials(Credentials):  # type: ignore[misc] # no stubs where types are checked
            """google-auth has no client credentials grant. Its base class allows users to add one."""

            def __init__(self, token_url: str) -> None:
                super().__init__()
                self._token_url = token_url

            def refresh(self, request: Any) -> None:
                headers = {"Authorization": _BASIC, "Content-Type": "application/x-www-form-urlencoded"}
                response = request(self._token_url, "POST", urlencode(_GRANT), headers)
                if response.status != 200:
                    raise RefreshError(f"the token endpoint answered {response.status}")
                answer = json.loads(response.data)
                # google-auth expects a naive datetime in UTC.
                now = datetime.now(UTC).replace(tzinfo=None)
                self.token, self.expiry = answer["access_token"], now + timedelta(seconds=answer["expires_in"])

        return ClientCredentials

    def new(target: Target) -> Any:
        from google.auth.transport.requests import AuthorizedSession, Request

        credentials = credentials_class()(target.token_url)
        # Renewal in the background is not its default, but its best mode.
        credentials.with_non_blocking_refresh()
        own = Request(plain_sender("requests", False, target)) if target.memory else None
        return AuthorizedSession(credentials, auth_request=own)

    def make(target: Target) -> Client:
        session = mounted(new(target), target)

        def step(url: str) -> Callable[[], None]:
            headers: dict[str, str] = {}
            before_request, request = session.credentials.before_request, session._auth_request
            return lambda: before_request(request, "GET", url, headers)

        return _Requests(target, session, step)

    line = "from google.auth.transport.requests import AuthorizedSession"
    # The margin is its `REFRESH_THRESHOLD`.
    return Subject("google-auth", "requests", False, 225, "session", "google-auth", line, new, make)


@dataclass
class _AzureCredential:
    """A `TokenCredential`. azure-core defines only this protocol and implements no grant."""

    session: Any
    token_url: str

    def get_token(self, *_: str, **__: Any) -> Any:
        from azure.core.credentials import AccessToken

        response = self.session.post(self.token_url, data=_GRANT, headers={"Authorization": _BASIC}, timeout=TIMEOUT)
        response.raise_for_status()
        answer = response.json()
        return AccessToken(answer["access_token"], int(time.time()) + answer["expires_in"])


class _Azure(SyncClient):
    """Sends through *sender*, a pipeline of azure-core."""

    def send(self, method: str, url: str, *, content: Any = None, files: Any = None) -> Any:
        from azure.core.rest import HttpRequest

        # By default azure-core sends tokens over https only.
        run = self.sender.run(HttpRequest(method, url, content=content, files=files), enforce_https=False)
        return run.http_response.status_code, run.http_response.content

    def close(self) -> Any:
        self.sender.__exit__()


def _azure_core() -> Subject:
    def parts(target: Target) -> tuple[Any, Any]:
        from azure.core.pipeline import Pipeline
        from azure.core.pipeline.policies import BearerTokenCredentialPolicy
        from azure.core.pipeline.transport import RequestsTransport

        # Its own session would keep at most ten connections.
        session = plain_sender("requests", False, target)
        policy = BearerTokenCredentialPolicy(_AzureCredential(session, target.token_url), "scope")
        # Only this policy. `PipelineClient` would add others that are not auth, such as a RetryPolicy.
        transport = RequestsTransport(session=session, connection_timeout=TIMEOUT, read_timeout=TIMEOUT)
        return Pipeline(transport, [policy]), policy

    def make(target: Target) -> Client:
        pipeline, policy = parts(target)

        def step(url: str) -> Callable[[], None]:
            from azure.core.pipeline import PipelineContext, PipelineRequest, PipelineResponse
            from azure.core.rest import HttpRequest

            context = PipelineContext(None, enforce_https=False)
            request = PipelineRequest(HttpRequest("GET", url), context)
            response = PipelineResponse(request.http_request, None, context)

            def authorize() -> None:
                policy.on_request(request)
                policy.on_response(request, response)

            return authorize

        def obtain() -> None:
            policy._request_token("scope")
            # Remove the random jitter of up to a minute, so that the time of the renewal is known.
            policy._refresh_jitter = 0

        return _Azure(target, pipeline, step, obtain)

    line = (
        "from azure.core.pipeline import Pipeline; "
        "from azure.core.pipeline.policies import BearerTokenCredentialPolicy; "
        "from azure.core.pipeline.transport import RequestsTransport"
    )
    # The margin is its `DEFAULT_REFRESH_WINDOW_SECONDS`.
    return Subject("azure-core", "requests", False, 300, "session", "azure-core", line, lambda t: parts(t)[0], make)


def _token_per_call(library: str, is_async: bool) -> Subject:
    """The simplest script: request a token, then send the call, on one session or client."""
    new = functools.partial(plain_sender, library, is_async)

    def make(target: Target) -> Client:
        sender = new(target)
        ask = functools.partial(sender.post, target.token_url, data=_GRANT, auth=(KEY, SECRET), timeout=TIMEOUT)

        def bearer(response: Any) -> dict[str, str]:
            response.raise_for_status()
            return {"Authorization": f"Bearer {response.json()['access_token']}"}

        def before() -> dict[str, str]:
            return bearer(ask())

        async def abefore() -> dict[str, str]:
            return bearer(await ask())

        if is_async:
            return AsyncClient(target, sender, lambda _: lambda: drive(abefore()), nothing, abefore)
        return (_Requests if library == "requests" else SyncClient)(target, sender, lambda _: before, dict, before)

    return Subject(TOKEN_PER_CALL, library, is_async, 0, "session", None, f"import {library}", new, make)


_HOSTS = [("requests", False), *itertools.product(("httpx", "httpx2"), (False, True))]

SUBJECTS: list[Subject] = [
    *itertools.starmap(_constant, _HOSTS),
    *itertools.starmap(_ours, _HOSTS),
    *itertools.starmap(_authlib, _HOSTS),
    *itertools.starmap(_cached_by_class, _HOSTS[:3]),
    _requests_oauth2client(),
    _google_auth(),
    _azure_core(),
    *itertools.starmap(_token_per_call, _HOSTS),
]
