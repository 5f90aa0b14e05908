"""Runs the code of the README."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anyio
import pytest

import dolby_auth_plugin
from dolby_auth_plugin.sandbox import Sandbox

ROOT = Path(dolby_auth_plugin.__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def pointed_at(sandbox: Sandbox, code: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """*code* for the sandbox: changes only token_url, allowed_hosts and the URLs of the calls."""
    monkeypatch.setenv("DOLBYIO_APP_KEY", sandbox.app_key)
    monkeypatch.setenv("DOLBYIO_APP_SECRET", sandbox.app_secret)
    where = f"token_url={sandbox.token_url!r}, allowed_hosts={sandbox.allowed_hosts!r}"
    code = re.sub(r"DolbyAuth\(([^)]*)\)", lambda call: f"DolbyAuth({', '.join(filter(None, (call[1], where)))})", code)
    return re.sub(r"https://(comms\.api\.dolby\.io|api\.dolby\.com)", sandbox.url, code)


def test_the_first_example_works_against_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox() as sandbox:
        names: dict[str, Any] = {}
        exec(pointed_at(sandbox, BLOCKS[0], monkeypatch), names)
        names["session"].close()

        assert (sandbox.api_calls, sandbox.unauthorized) == (1, 0)


@pytest.mark.parametrize("adapter", ["httpx", "httpx2"])
def test_the_second_example_works_against_the_sandbox(adapter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox() as sandbox:
        code = pointed_at(sandbox, BLOCKS[1], monkeypatch).replace("httpx", adapter)
        code = code.replace(f"or dolby_auth_plugin.{adapter}2", "")
        names: dict[str, Any] = {}
        exec("async def main():\n" + re.sub("^", "    ", code, flags=re.MULTILINE), names)
        anyio.run(names["main"])

        assert (sandbox.api_calls, sandbox.unauthorized) == (1, 0)


def test_each_link_leads_to_a_file() -> None:
    """The links of the site are checked when it is built."""
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if not link.startswith("https://")]

    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_the_first_screen_has_the_examples_and_the_two_commands() -> None:
    first_screen = "\n".join(README.splitlines()[:42])

    assert first_screen.count("```python") == 2
    assert "dolby_auth_plugin demo" in first_screen
    assert "-m pytest" in first_screen
