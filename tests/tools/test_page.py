"""Runs the code of docs/tools.md and docs/testing.md, in processes of its own: betamax keeps its hooks for the whole process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..pages import blocks

ROOT = Path(__file__).parents[2]
[FOR_THE_SDK] = [block.code for block in blocks("tools")]
FOR_VCRPY, FOR_BETAMAX = [block.code for block in blocks("testing") if "needs" in block.mark]
FOR_PYTEST = [block.code for block in blocks("testing") if block.mark == "runs in `nox -s tools`: pytest runs it"]

BEFORE = """
import os
from dolby_auth_plugin.sandbox import Sandbox
sandbox = Sandbox().start()
os.environ.update(
    DOLBYIO_APP_KEY=sandbox.app_key,
    DOLBYIO_APP_SECRET=sandbox.app_secret,
    DOLBYIO_TOKEN_URL=sandbox.token_url,
    DOLBYIO_ALLOWED_HOSTS=",".join(sandbox.allowed_hosts),
)
"""

# Each calls the API, revokes the token, and calls again.
WITH_VCRPY = """
import requests
from dolby_auth_plugin.requests import DolbyAuth
with recorder.use_cassette("calls.yaml"), requests.Session() as session:
    session.auth = DolbyAuth()
    for _ in range(2):
        assert session.get(f"{sandbox.url}/media/jobs").status_code == 200
        sandbox.revoke_all()
"""
WITH_BETAMAX = """
import requests
from dolby_auth_plugin.requests import DolbyAuth
betamax.Betamax.configure().cassette_library_dir = "."
with requests.Session() as session, betamax.Betamax(session).use_cassette("calls"):
    session.auth = DolbyAuth(session=session)
    for _ in range(2):
        assert session.get(f"{sandbox.url}/media/jobs").status_code == 200
        sandbox.revoke_all()
"""
WITH_THE_SDK = """
import asyncio
jobs.get_mapi_url = lambda: sandbox.url
async def main():
    for _ in range(2):
        assert (await list_jobs()).jobs == []
        sandbox.revoke_all()
asyncio.run(main())
"""
AFTER = """
print(sandbox.token_requests, sandbox.app_secret)
sandbox.stop()
"""


@pytest.mark.parametrize(
    ("page", "use", "files"),
    [(FOR_VCRPY, WITH_VCRPY, 1), (FOR_BETAMAX, WITH_BETAMAX, 1), (FOR_THE_SDK, WITH_THE_SDK, 0)],
    ids=["vcrpy", "betamax", "Dolby.io's SDK"],
)
def test_the_code_of_the_page_works_and_records_no_secret(page: str, use: str, files: int, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys.executable, "-c", BEFORE + page + use + AFTER]

    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    token_requests, secret = done.stdout.split()
    recorded = [file.read_text() for file in tmp_path.iterdir()]
    assert (token_requests, len(recorded)) == ("2", files)
    # "eyJ": how a token begins.
    assert [] == [text for text in recorded for leak in (secret, "eyJ") if leak in text]


def test_the_mocks_of_the_page_intercept_the_token_request(tmp_path: Path) -> None:
    for number, code in enumerate(FOR_PYTEST):
        (tmp_path / f"test_{number}.py").write_text(code)
    # In an empty folder, so without the options of this project: pytest loads the plugins that it finds.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    assert done.stdout.splitlines()[-1].startswith(f"{len(FOR_PYTEST)} passed"), done.stdout
