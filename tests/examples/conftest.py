"""A sandbox, and the environment variables that lead the examples to it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dolby_auth_plugin.sandbox import Sandbox

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def environment(sandbox: Sandbox, tmp_path: Path) -> dict[str, str]:
    """As for the real service, apart from the addresses. Nothing is read from or left in the user's folders."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": str(EXAMPLES),
        "PYTHONUNBUFFERED": "1",
        "DOLBYIO_APP_KEY": sandbox.app_key,
        "DOLBYIO_APP_SECRET": sandbox.app_secret,
        "DOLBYIO_TOKEN_URL": sandbox.token_url,
        "DOLBYIO_ALLOWED_HOSTS": ",".join(sandbox.allowed_hosts),
        "API_URL": sandbox.url,
    }
