"""Recorders of HTTP: a healed revocation is recorded without secrets, and replayed without the sandbox."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import betamax
import httpx
import httpx2
import pytest
import requests
import vcr
from betamax.cassette.cassette import Placeholder

import dolby_auth_plugin.httpx
import dolby_auth_plugin.httpx2
import dolby_auth_plugin.requests
from dolby_auth_plugin.sandbox import Sandbox

# A context manager of a client with an auth object. Its argument: whether the recording exists.
Recorder = Callable[[Sandbox, Path, bool], Any]


def basic(sandbox: Sandbox) -> str:
    """The credentials in the header of a token request."""
    return base64.b64encode(f"{sandbox.app_key}:{sandbox.app_secret}".encode()).decode()


def without_token(response: Any) -> Any:
    """The *response* as vcrpy records it."""
    if b"access_token" in response["body"]["string"]:
        response["body"]["string"] = b'{"access_token": "scrubbed", "expires_in": 1800}'
    return response


def vcrpy(library: Any, adapter: Any) -> Recorder:
    @contextmanager
    def opened(sandbox: Sandbox, folder: Path, is_replay: bool) -> Iterator[Any]:
        recorder = vcr.VCR(
            record_mode="none" if is_replay else "all",
            filter_headers=["Authorization"],
            before_record_response=without_token,
        )
        client = library.Session() if library is requests else library.Client()
        with recorder.use_cassette(str(folder / "calls.yaml")), client:
            client.auth = adapter.DolbyAuth(**sandbox.options)
            yield client

    return opened


@contextmanager
def with_betamax(sandbox: Sandbox, folder: Path, is_replay: bool) -> Iterator[Any]:
    def hide(interaction: Any, cassette: Any) -> None:
        """betamax replaces both when it saves. Here, their removal would change the live request and response."""
        cassette.placeholders.append(Placeholder("scrubbed", basic(sandbox)))
        if token := re.search(r'"access_token":"(.+?)"', interaction.data["response"]["body"]["string"]):
            # Of the same length, because of `Content-Length`.
            cassette.placeholders.append(Placeholder("scrubbed".ljust(len(token[1]), "_"), token[1]))

    with requests.Session() as session:
        recorder = betamax.Betamax(session, folder)
        recorder.config.before_record(callback=hide)
        with recorder.use_cassette("calls", record="none" if is_replay else "once"):
            session.auth = dolby_auth_plugin.requests.DolbyAuth(**sandbox.options, session=session)
            yield session


HEALED = [(200, []), (200, [401])]


# The replies of betamax carry a request that it has read from its cassette, not the one that the auth object has marked. So
# DolbyAuth does not know the request as its own, and leaves the 401.
@pytest.mark.parametrize(
    ("recorder", "replayed"),
    [
        pytest.param(vcrpy(requests, dolby_auth_plugin.requests), HEALED, id="vcrpy-requests"),
        pytest.param(vcrpy(httpx, dolby_auth_plugin.httpx), HEALED, id="vcrpy-httpx"),
        pytest.param(vcrpy(httpx2, dolby_auth_plugin.httpx2), HEALED, id="vcrpy-httpx2"),
        pytest.param(with_betamax, [(200, []), (401, [])], id="betamax"),
    ],
)
def test_a_revocation_is_recorded_without_secrets_and_replayed_without_network(
    recorder: Recorder, replayed: list[Any], tmp_path: Path
) -> None:
    def calls(is_replay: bool) -> list[tuple[int, list[int]]]:
        results = []
        with recorder(sandbox, tmp_path, is_replay) as client:
            for _ in range(2):
                response = client.get(f"{sandbox.url}/media/jobs")
                results.append((response.status_code, [earlier.status_code for earlier in response.history]))
                sandbox.revoke_all()
        return results

    with Sandbox() as sandbox:
        recorded = calls(False)
    [cassette] = tmp_path.iterdir()
    text = cassette.read_text()

    assert (recorded, calls(True)) == (HEALED, replayed)
    # "eyJ": how a token begins.
    assert [] == [secret for secret in (sandbox.app_secret, basic(sandbox), "eyJ") if secret in text]
    assert text.count("scrubbed") >= sandbox.token_requests == 2
