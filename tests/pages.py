"""
Runs the code on the pages of the documentation against the sandbox.

A comment before a block says why it does not run in the suite: `<!-- runs in ...: why -->`, or `<!-- does not run: why -->`.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import requests

import dolby_auth_plugin
from dolby_auth_plugin.sandbox import Sandbox

DOCS = Path(dolby_auth_plugin.__file__).parent.parent / "docs"

_BLOCK = re.compile(r"(?:^<!-- (.+) -->\n)?^```python.*\n((?:.*\n)*?)^```$", re.MULTILINE)
_ADDRESS = re.compile(r"https://(?:comms\.api\.dolby\.io|api\.dolby\.com|api\.dolby\.io)")


class Block(NamedTuple):
    mark: str
    code: str


def blocks(page: str) -> list[Block]:
    """The blocks of Python of docs/*page*.md."""
    return [Block(*block) for block in _BLOCK.findall((DOCS / f"{page}.md").read_text())]


def environment(sandbox: Sandbox) -> dict[str, str]:
    """The variables with which a `DolbyAuth` without arguments uses *sandbox*."""
    return {
        "DOLBYIO_APP_KEY": sandbox.app_key,
        "DOLBYIO_APP_SECRET": sandbox.app_secret,
        "DOLBYIO_TOKEN_URL": sandbox.token_url,
        "DOLBYIO_ALLOWED_HOSTS": ",".join(sandbox.allowed_hosts),
    }


def run(code: str, names: dict[str, Any], sandbox: Sandbox) -> None:
    """Run *code*, which may await, with the addresses of Dolby.io changed to those of *sandbox*. Every response must be a success."""
    compiled = compile(_ADDRESS.sub(sandbox.url, code), "<page>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if compiled.co_flags & inspect.CO_COROUTINE:

        async def main() -> None:
            await eval(compiled, names)

        anyio.run(main)
    else:
        exec(compiled, names)
    for value in names.values():
        if hasattr(value, "raise_for_status"):
            value.raise_for_status()
        if isinstance(value, requests.Session):
            value.close()
