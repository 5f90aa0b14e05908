"""Three scripts for one job: upload, enhance, download."""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
import requests

from dolby_auth_plugin.sandbox import Sandbox

from ..fakes import eventually
from ..servers import refusing
from .conftest import EXAMPLES

SCRIPTS = ("enhance_with_requests", "enhance_with_aiohttp", "enhance_with_sdk")

CONTENT = bytes(range(256)) * 2000


def start(script: str, environment: dict[str, str], folder: Path) -> subprocess.Popen[str]:
    (folder / "noisy.wav").write_bytes(CONTENT)
    command = [sys.executable, str(EXAMPLES / f"{script}.py"), "noisy.wav", "clean.wav"]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_file_is_enhanced_with_one_token_which_the_storage_does_not_get(
    script: str, sandbox: Sandbox, environment: dict[str, str], tmp_path: Path
) -> None:
    with start(script, environment, tmp_path) as process:
        out, err = process.communicate(timeout=60)

    assert (process.returncode, out) == (0, ""), err
    # The sandbox enhances nothing.
    assert CONTENT == (tmp_path / "clean.wav").read_bytes()
    assert ["clean.wav", "noisy.wav"] == sorted(path.name for path in tmp_path.iterdir())
    assert (sandbox.token_requests, sandbox.unauthorized, sandbox.storage_calls, sandbox.storage_leaks) == (1, 0, 2, 0)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_token_that_is_revoked_during_the_job_is_replaced(
    script: str, sandbox: Sandbox, environment: dict[str, str], tmp_path: Path
) -> None:
    with start(script, environment, tmp_path) as process:
        # An upload, a job, and the first question about it.
        eventually(lambda: sandbox.api_calls >= 3)
        sandbox.revoke_all()
        _, err = process.communicate(timeout=60)

    assert process.returncode == 0, err
    assert CONTENT == (tmp_path / "clean.wav").read_bytes()
    assert (sandbox.token_requests, sandbox.unauthorized) == (2, 1)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_wrong_secret_is_an_error_in_words_that_does_not_show_it(
    script: str, environment: dict[str, str], tmp_path: Path
) -> None:
    environment["DOLBYIO_APP_SECRET"] = "a-wrong-secret"

    with start(script, environment, tmp_path) as process:
        out, err = process.communicate(timeout=60)

    lines = [line for line in err.splitlines() if line.strip()]
    assert (process.returncode, out, len(lines)) == (1, "", 1), err
    assert lines[0].startswith("error: ")
    assert "app key" in err
    assert "a-wrong-secret" not in err
    assert not (tmp_path / "clean.wav").exists()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_missing_app_key_is_an_error_that_names_the_variable(
    script: str, environment: dict[str, str], tmp_path: Path
) -> None:
    del environment["DOLBYIO_APP_KEY"], environment["DOLBYIO_APP_SECRET"]

    with start(script, environment, tmp_path) as process:
        _, err = process.communicate(timeout=60)

    assert (process.returncode, "DOLBYIO_APP_KEY" in err, "Traceback" in err) == (1, True, False), err


def test_the_sdk_does_not_log_a_presigned_url(environment: dict[str, str], tmp_path: Path) -> None:
    """The API redirects to the storage, which does not have the file."""
    program = (
        "import sys, enhance_with_sdk as example\n"
        "example.run = lambda _, target: example.with_token(\n"
        "    example.DolbyAuth(), example.io.download_file, 'dlb://nothing', target\n"
        ")\n"
        "sys.exit(example.main('noisy.wav', 'clean.wav'))\n"
    )
    command = [sys.executable, "-c", program]

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    assert (1, "error: the server answered 404\n") == (done.returncode, done.stderr)


def get_with_requests(url: str) -> None:
    requests.get(url, timeout=10).raise_for_status()


def get_with_aiohttp(url: str) -> None:
    async def get() -> None:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            response.raise_for_status()

    asyncio.run(get())


@pytest.mark.parametrize(
    ("script", "get"), [(SCRIPTS[0], get_with_requests), (SCRIPTS[1], get_with_aiohttp), (SCRIPTS[2], get_with_aiohttp)]
)
@pytest.mark.parametrize("answers", [True, False])
def test_an_error_of_the_storage_does_not_show_the_presigned_url(
    script: str, get: Callable[[str], None], answers: bool, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    example = importlib.import_module(script)

    with refusing() as nobody:
        address = sandbox.storage_url if answers else f"http://{nobody}"
        with pytest.raises((requests.RequestException, aiohttp.ClientError)) as caught:
            get(f"{address}/dlb/a.wav?X-Amz-Signature=hush")

    said = example.explain(caught.value)
    assert said.startswith("the server answered 403" if answers else "the network failed: ")
    assert "hush" not in said
