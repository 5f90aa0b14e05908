"""
The ways to send an authorized request that are compared, all made alike: ours, other packages, and the two limits.

Nothing here imports an HTTP library or a peer before it is needed: a process that measures httpx hides httpx2 first
(`sys.modules["httpx2"] = None`), since authlib takes whichever it finds, httpx2 before httpx.
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

# Names of those that a scenario treats as what they are.
CONSTANT_HEADER, OURS, TOKEN_PER_CALL = "constant header", "ours", "token per call"

_GRANT = {"grant_type": "client_credentials"}
_BASIC = "Basic " + b64encode(f"{KEY}:{SECRET}".encode()).decode()


@dataclass(frozen=True)
class Subject:
    """
    One way to send authorized requests with one host library.

    Attributes:
        margin: Seconds before a token's end from which it asks for another, by its own default.
        kind: "auth": an auth object that is handed to a session or client; "session": brings its own.
        distribution: Whose version it is; None where there is nothing to install.
        import_line: What its user writes.
        new: The auth object alone, or the session; with `Target.memory` unset exactly what its user would make.
        make: All of it, ready to send.
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
    """The `make` of an auth object; *obtain* is its method to have a token before the first request, if any."""

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
    """The limit: what any auth object has to do."""

    @functools.cache
    def auth_class() -> Any:
        host = import_module(library)
        value = f"Bearer {CONSTANT}"

        class ConstantHeader(host.auth.AuthBase if library == "requests" else host.Auth):  # type: ignore[misc]
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
    # It renews in a share of the token's life, and nobody waits for that: no margin that a call would feel.
    return Subject(OURS, library, is_async, 0, "auth", "dolby-auth-plugin", line, new, make)


def _cached_by_class(library: str, is_async: bool) -> Subject:
    """Of httpx-auth and requests-auth, by one author: a class keeps their tokens, for the whole process."""
    package = f"{library}_auth"

    def new(target: Target) -> Any:
        cls = import_module(package).OAuth2ClientCredentials
        return cls(target.token_url, KEY, SECRET, **lent(library, target))

    def make(target: Target) -> Client:
        # What an earlier object has obtained must not serve this one.
        import_module(package).OAuth2.token_cache.clear()
        client: Client = _with_auth(library, is_async, new)(target)
        return client

    line = f"from {package} import OAuth2ClientCredentials"
    # The margin is its `early_expiry`.
    return Subject(f"{library}-auth", library, is_async, 30, "auth", f"{library}-auth", line, new, make)


def _requests_oauth2client() -> Subject:
    def new(target: Target) -> Any:
        from requests_oauth2client import OAuth2Client, OAuth2ClientCredentialsAuth

        # `testing` lets the token endpoint be on plain http.
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
            raise RuntimeError(f"authlib has taken another library than {library}: hide that one before any import")
        options = {"default_timeout": TIMEOUT} if library == "requests" else client_options(library, target)
        return cls(KEY, SECRET, token_endpoint=target.token_url, **_GRANT, **options)

    def make(target: Target) -> Client:
        client = new(target)

        # It renews a token by itself, but the first one its user has to fetch; a request without it raises. Where
        # that is to happen when first needed, this stands before each request.
        def before() -> None:
            if not client.token:
                client.fetch_token()

        async def abefore() -> None:
            if not client.token:
                await client.fetch_token()

        def step(url: str) -> Callable[[], None]:
            # What its `request` does before it sends.
            ensure, authorize = client.ensure_active_token, httpx_step(library, is_async, client.token_auth, url)

            def ensure_and_authorize() -> None:
                ensured = ensure(client.token)
                if is_async:
                    drive(ensured)
                authorize()

            return ensure_and_authorize

        if library == "requests":
            # Here `token_auth` itself ensures that the token is active.
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
            """google-auth has no client credentials grant; its base class is there for adding one."""

            def __init__(self, token_url: str) -> None:
                super().__init__()
                self._token_url = token_url

            def refresh(self, request: Any) -> None:
                headers = {"Authorization": _BASIC, "Content-Type": "application/x-www-form-urlencoded"}
                response = request(self._token_url, "POST", urlencode(_GRANT), headers)
                if response.status != 200:
                    raise RefreshError(f"the token endpoint answered {response.status}")
                answer = json.loads(response.data)
                # It counts in UTC without saying so.
                now = datetime.now(UTC).replace(tzinfo=None)
                self.token, self.expiry = answer["access_token"], now + timedelta(seconds=answer["expires_in"])

        return ClientCredentials

    def new(target: Target) -> Any:
        from google.auth.transport.requests import AuthorizedSession, Request

        credentials = credentials_class()(target.token_url)
        # Renewal in the background is not its default, but its best.
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
    """A `TokenCredential`, which is a protocol: azure-core itself knows no grant."""

    session: Any
    token_url: str

    def get_token(self, *_: str, **__: Any) -> Any:
        from azure.core.credentials import AccessToken

        response = self.session.post(self.token_url, data=_GRANT, headers={"Authorization": _BASIC}, timeout=TIMEOUT)
        response.raise_for_status()
        answer = response.json()
        return AccessToken(answer["access_token"], int(time.time()) + answer["expires_in"])


class _Azure(SyncClient):
    """*sender* is a pipeline, around a session of its policy's credential."""

    def send(self, method: str, url: str, *, content: Any = None, files: Any = None) -> Any:
        from azure.core.rest import HttpRequest

        # It gives tokens to https only, unless told otherwise for the request.
        run = self.sender.run(HttpRequest(method, url, content=content, files=files), enforce_https=False)
        return run.http_response.status_code, run.http_response.content

    def close(self) -> Any:
        self.sender.__exit__()


def _azure_core() -> Subject:
    def parts(target: Target) -> tuple[Any, Any]:
        from azure.core.pipeline import Pipeline
        from azure.core.pipeline.policies import BearerTokenCredentialPolicy
        from azure.core.pipeline.transport import RequestsTransport

        # A session that it makes itself keeps ten connections at most.
        session = plain_sender("requests", False, target)
        policy = BearerTokenCredentialPolicy(_AzureCredential(session, target.token_url), "scope")
        # The policy alone: `PipelineClient` would add others, a RetryPolicy among them, which are not auth.
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
            # Up to a minute less, by chance: so that the moment at which it asks for the next one is known.
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
    """What a script does at first: ask for a token, then make the call, both on one session or client."""
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
