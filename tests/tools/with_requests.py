"""Tools for requests, each set up as its users do."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from contextlib import ExitStack
from tempfile import TemporaryDirectory
from typing import Any

import betamax
import flask
import requests
import requests_cache
import requests_mock
import requests_toolbelt.sessions
import responses
import urllib3
from cachecontrol import CacheControl
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from requests.adapters import HTTPAdapter
from requests_futures.sessions import FuturesSession

from dolby_auth_plugin import AppCredentials
from dolby_auth_plugin.requests import DolbyAuth
from dolby_auth_plugin.sandbox import Sandbox

from . import exercises
from .exercises import Send, Tool, asked, asking, through
from .observers import instrumented, recorded, sentry

usual = functools.partial(exercises.usual, library=requests, auth=DolbyAuth, client=requests.Session)


def passing() -> Any:
    mock = responses.RequestsMock()
    mock.add_passthru("http://127.0.0.1")
    return mock


def retrying() -> requests.Session:
    session = requests.Session()
    session.mount("http://", HTTPAdapter(max_retries=urllib3.Retry(3, status_forcelist=[502, 503])))
    return session


def with_betamax(sandbox: Sandbox, stack: ExitStack) -> Send:
    folder = stack.enter_context(TemporaryDirectory())
    session = stack.enter_context(requests.Session())
    stack.enter_context(betamax.Betamax(session, folder).use_cassette("calls"))
    return through(session, DolbyAuth(**sandbox.options, session=session))


def with_flask(sandbox: Sandbox, stack: ExitStack) -> Send:
    """Each call is a request to an app, whose view calls the sandbox. The app's context reaches the callable."""
    app = flask.Flask(__name__)
    app.config["DOLBY"] = AppCredentials(sandbox.app_key, sandbox.app_secret)
    options = {**sandbox.options, "app_key": None, "app_secret": None}
    auth = DolbyAuth(**options, credentials=lambda: flask.current_app.config["DOLBY"])
    call = through(stack.enter_context(requests.Session()), auth)

    def view() -> tuple[bytes, int]:
        status, body = call(*asked(flask.request.data))
        return body, status

    app.add_url_rule("/", view_func=view, methods=["POST"])
    browser = stack.enter_context(app.test_client())

    def send(method: str, url: str, body: bytes | None) -> tuple[int, bytes]:
        response = browser.post("/", data=asking(method, url, body))
        return response.status_code, response.data

    return send


def with_gevent(sandbox: Sandbox, stack: ExitStack) -> Send:
    """In a process of its own, which reads a call from each line and prints its result."""
    command = [sys.executable, "-c", _PATCHED, json.dumps(sandbox.options)]
    child = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    stack.callback(child.terminate)
    assert child.stdin is not None and child.stdout is not None
    calls, results = child.stdin, child.stdout

    def send(method: str, url: str, body: bytes | None) -> tuple[int, bytes]:
        calls.write(asking(method, url, body) + b"\n")
        calls.flush()
        status, content = json.loads(results.readline())
        return status, content.encode()

    return send


_PATCHED = """
import gevent.monkey
gevent.monkey.patch_all()
import json, sys
import gevent
import requests
from dolby_auth_plugin.requests import DolbyAuth

session = requests.Session()
session.auth = DolbyAuth(**json.loads(sys.argv[1]))

def call(line):
    method, url, body = json.loads(line)
    response = session.request(method, url, data=body and body.encode(), timeout=20)
    print(json.dumps([response.status_code, response.text]), flush=True)

for line in sys.stdin:
    gevent.spawn(call, line).get()
"""

TOOLS = [
    usual("requests-mock", around=lambda: requests_mock.Mocker(real_http=True)),
    usual("responses", around=passing),
    usual("vcrpy", around=recorded),
    usual("requests-cache", client=lambda: requests_cache.CachedSession(backend="memory")),
    usual("CacheControl", client=lambda: CacheControl(requests.Session())),
    usual(
        "requests-toolbelt",
        client=requests_toolbelt.sessions.BaseUrlSession,
        trick="`data=encoder.to_string()`: a `MultipartEncoder` itself is not sent again after a 401.",
    ),
    usual("requests-futures", client=FuturesSession),
    usual("urllib3's Retry", "urllib3", client=retrying),
    usual(
        "OpenTelemetry",
        "opentelemetry-instrumentation-requests",
        around=lambda: instrumented(RequestsInstrumentor()),
    ),
    usual("Sentry", "sentry-sdk", around=lambda: sentry([])),
    Tool(
        "requests",
        "betamax",
        "betamax",
        with_betamax,
        "`DolbyAuth(session=session)` records the token request too. A recorded 401 is replayed, but not healed.",
    ),
    Tool("requests", "Flask", "flask", with_flask),
    Tool("requests", "gevent", "gevent", with_gevent, "`gevent.monkey.patch_all()` before anything else is imported."),
]
