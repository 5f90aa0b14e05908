"""What single tools do besides the exercises."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
import sentry_sdk
from requests_toolbelt import MultipartEncoder

from dolby_auth_plugin.requests import DolbyAuth, TokenError
from dolby_auth_plugin.sandbox import Sandbox

from .observers import sentry


def test_a_report_of_sentry_has_no_secret(sandbox: Sandbox) -> None:
    """A report has the local variables of all frames, and its breadcrumbs have the requests."""
    sandbox.fail_token_requests(status=403)
    sent: list[Any] = []

    with sentry(sent):
        try:
            requests.get(f"{sandbox.url}/media/jobs", auth=DolbyAuth(**sandbox.options), timeout=20)
        except TokenError as error:
            sentry_sdk.capture_exception(error)

    text = "".join(item.payload.get_bytes().decode() for envelope in sent for item in envelope.items)
    basic = base64.b64encode(f"{sandbox.app_key}:{sandbox.app_secret}".encode()).decode()
    assert ("TokenError" in text, sandbox.app_secret in text, basic in text) == (True, False, False)


@pytest.mark.parametrize(("trick", "status"), [(False, 401), (True, 400)])
def test_a_multipart_encoder_is_not_sent_again_and_its_bytes_are(trick: bool, status: int, sandbox: Sandbox) -> None:
    """The sandbox takes JSON only. The 400 is its answer to a request with a good token and another body."""
    with requests.Session() as session:
        session.auth = DolbyAuth(**sandbox.options)
        session.get(f"{sandbox.url}/media/jobs")
        sandbox.revoke_all()
        form = MultipartEncoder({"name": "song"})
        body = form.to_string() if trick else form

        answer = session.post(f"{sandbox.url}/media/input", data=body, timeout=20)

    assert (answer.status_code, sandbox.unauthorized) == (status, 1)


GREENLETS = """
import gevent.monkey
gevent.monkey.patch_all()
import json, sys
import gevent, requests
from dolby_auth_plugin.requests import DolbyAuth

options, url = json.loads(sys.argv[1])
auth = DolbyAuth(**options)
calls = [gevent.spawn(requests.get, url, auth=auth, timeout=20) for _ in range(20)]
gevent.joinall(calls, raise_error=True)
print({call.value.status_code for call in calls})
"""


def test_twenty_greenlets_of_gevent_cost_one_token_request(sandbox: Sandbox) -> None:
    sandbox.latency = 0.2
    command = [sys.executable, "-c", GREENLETS, json.dumps([sandbox.options, f"{sandbox.url}/media/jobs"])]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    assert (done.stdout, sandbox.token_requests) == ("{200}\n", 1)


def test_pytest_httpx_intercepts_the_token_request(tmp_path: Path) -> None:
    (tmp_path / "test_users.py").write_text(
        "import httpx\n"
        "from dolby_auth_plugin.httpx import DolbyAuth\n"
        "def test_jobs(httpx_mock):\n"
        "    for token in ('one', 'two'):\n"
        "        httpx_mock.add_response(url='https://api.dolby.io/v1/auth/token', json={'access_token': token})\n"
        "    for status in (401, 200):\n"
        "        httpx_mock.add_response(url='https://api.dolby.com/media/jobs', status_code=status)\n"
        "    client = httpx.Client(auth=DolbyAuth('k', 's'))\n"
        "    assert client.get('https://api.dolby.com/media/jobs').status_code == 200\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "pytest_httpx", "-p", "no:cacheprovider", "test_users.py"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    assert "1 passed" in done.stdout, done.stdout
