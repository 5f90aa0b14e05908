"""Runs the code of docs/moving.md that needs the libraries from which a user comes."""

from __future__ import annotations

import importlib

import pytest

from dolby_auth_plugin.sandbox import Sandbox

from ..pages import Block, blocks, environment, run


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in the SDK
@pytest.mark.parametrize(
    "block", [block for block in blocks("moving") if block.mark], ids=lambda block: block.mark.partition("needs ")[2]
)
def test_the_code_of_the_page_calls_the_api(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox() as sandbox:
        # authlib asks for https, the SDK knows its addresses.
        for name, value in {**environment(sandbox), "AUTHLIB_INSECURE_TRANSPORT": "1"}.items():
            monkeypatch.setenv(name, value)
        sdk = "dolbyio_rest_apis.media"
        monkeypatch.setattr(
            importlib.import_module(f"{sdk}.authentication"), "get_api_url", lambda: f"{sandbox.url}/v1"
        )
        monkeypatch.setattr(importlib.import_module(f"{sdk}.jobs"), "get_mapi_url", lambda: sandbox.url)

        run(block.code, {"__name__": "page"}, sandbox)

        assert (sandbox.token_requests, sandbox.api_calls, sandbox.unauthorized) == (1, 1, 0)
