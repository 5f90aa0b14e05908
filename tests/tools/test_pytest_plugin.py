"""The fixtures for pytest in real runs of it: found by their entry point, beside other plugins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CALL = """
import httpx
from dolby_auth_plugin.httpx import DolbyAuth

async def call(sandbox):
    async with httpx.AsyncClient(auth=DolbyAuth()) as client:
        assert (await client.get(f"{sandbox.url}/media/jobs")).status_code == 200
    assert sandbox.token_requests == 1
"""
WITH_ASYNCIO = """
import pytest
from call import call

@pytest.fixture
async def answered(dolby_auth_env):
    await call(dolby_auth_env)

async def test_a_fixture(answered): pass
async def test_a_test(dolby_auth_env): await call(dolby_auth_env)
"""
WITH_ANYIO = """
import pytest
from call import call

@pytest.mark.anyio
async def test_a_test(dolby_auth_env): await call(dolby_auth_env)
"""
WITH_XDIST = """
import pytest
from pathlib import Path
from dolby_auth_plugin.requests import DolbyAuth

@pytest.mark.parametrize("turn", range(3))
def test_token(turn, worker_id, dolby_auth_env):
    assert DolbyAuth().token()
    assert dolby_auth_env.token_requests == 1
    Path(f"{worker_id}-{dolby_auth_env.url.rpartition(':')[2]}").touch()
"""
UNUSED = """
import sys

def test_nothing():
    loaded = {name.partition(".")[0] for name in sys.modules}
    assert "dolby_auth_plugin.pytest_plugin" in sys.modules
    assert not loaded & {"starlette", "uvicorn", "jwt", "anyio", "requests", "urllib3", "httpx", "httpx2", "click"}
"""


def run(folder: Path, *options: str, autoload: bool = True, **files: str) -> str:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    if autoload:
        # Without a value for it, pytest-asyncio warns.
        options = ("-o", "asyncio_default_fixture_loop_scope=function", *options)
    else:
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", *options]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def test_with_pytest_asyncio(tmp_path: Path) -> None:
    assert "2 passed" in run(tmp_path, "-o", "asyncio_mode=auto", call=CALL, test_it=WITH_ASYNCIO)


def test_with_anyio_on_asyncio_and_trio(tmp_path: Path) -> None:
    assert "2 passed" in run(tmp_path, call=CALL, test_it=WITH_ANYIO)


def test_each_worker_of_xdist_has_a_server_of_its_own(tmp_path: Path) -> None:
    report = run(tmp_path, "-n", "2", "--dist", "each", test_it=WITH_XDIST)

    workers, ports = zip(*(file.name.split("-") for file in tmp_path.glob("gw*")), strict=True)
    assert "6 passed" in report
    assert (set(workers), len(set(ports))) == ({"gw0", "gw1"}, 2)


def test_a_run_that_does_not_use_it_imports_no_library(tmp_path: Path) -> None:
    """Other plugins import some of them, so only ours is loaded: by the name of its entry point."""
    assert "1 passed" in run(tmp_path, "-p", "dolby_auth_plugin", autoload=False, test_it=UNUSED)


def test_it_can_be_turned_off(tmp_path: Path) -> None:
    report = run(tmp_path, "-p", "no:dolby_auth_plugin", test_it="def test_it(dolby_sandbox): pass")

    assert "fixture 'dolby_sandbox' not found" in report
