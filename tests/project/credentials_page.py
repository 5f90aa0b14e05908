"""Runs the code of docs/credentials.md, for the suite and for `nox -s tools`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import requests

from dolby_auth_plugin.sandbox import Sandbox

PAGE = (Path(__file__).parents[2] / "docs" / "credentials.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
BY_ENVIRONMENT, BY_KEYRING, BY_FILE, BY_KUBERNETES, BY_DOCKER, BY_AWS, BY_VAULT = BLOCKS


def point_at(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let auth objects without arguments use *sandbox*. They still need credentials."""
    for name in ("DOLBYIO_APP_KEY", "DOLBYIO_APP_SECRET", "APP_KEY", "APP_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOLBYIO_TOKEN_URL", sandbox.token_url)
    monkeypatch.setenv("DOLBYIO_ALLOWED_HOSTS", ",".join(sandbox.allowed_hosts))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def works(block: str, sandbox: Sandbox) -> bool:
    """Whether the `auth` of *block* obtains a token."""
    names: dict[str, Any] = {}
    exec(block, names)
    return requests.get(f"{sandbox.url}/media/jobs", auth=names["auth"], timeout=20).status_code == 200
