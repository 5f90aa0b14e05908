"""Tools for requests, each set up as its users do."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import Future
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
import vcr
from cachecontrol import CacheControl
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from requests.adapters import HTTPAdapter
from requests_futures.sessions import FuturesSession

from dolby_auth_plugin import AppCredentials
from dolby_auth_plugin.requests import DolbyAuth
from dolby_auth_plugin.sandbox import Sandbox

from .exercises import Send, Toolbox, asked, asking
from .observers import sentry

REQUESTS = Toolbox("requests")


def through(session: Any, sandbox: Sandbox, /, **options: Any) -> Send:
    session.auth = DolbyAuth(**{**sandbox.options, **options})

    def send(method: str, url: str, body: bytes | None) -> tuple[int, bytes]:
        response = session.request(method, url, data=body, timeout=20)
        if isinstance(response, Future):
            response = response.result()
        return response.status_code, response.content

    return send


@REQUESTS.add("requests-mock")
def _requests_mock(sandbox: Sandbox, stack: ExitStack) -> Send:
    stack.enter_context(requests_mock.Mocker(real_http=True))
    return through(stack.enter_context(requests.Session()), sandbox)


@REQUESTS.add("responses")
def _responses(sandbox: Sandbox, stack: ExitStack) -> Send:
    mock = stack.enter_context(responses.RequestsMock())
    mock.add_passthru("http://127.0.0.1")
    return through(stack.enter_context(requests.Session()), sandbox)


@REQUESTS.add("vcrpy")
def _vcrpy(sandbox: Sandbox, stack: ExitStack) -> Send:
    folder = stack.enter_context(TemporaryDirectory())
    stack.enter_context(vcr.use_cassette(f"{folder}/calls.yaml", record_mode="all"))
    return through(stack.enter_context(requests.Session()), sandbox)


@REQUESTS.add(
    "betamax",
    trick="`DolbyAuth(session=session)` records the token request too. A recorded 401 is replayed, but not healed.",
)
def _betamax(sandbox: Sandbox, stack: ExitStack) -> Send:
    folder = stack.enter_context(TemporaryDirectory())
    session = stack.enter_context(requests.Session())
    stack.enter_context(betamax.Betamax(session, folder).use_cassette("calls"))
    return through(session, sandbox, session=session)


@REQUESTS.add("requests-cache")
def _requests_cache(sandbox: Sandbox, stack: ExitStack) -> Send:
    return through(stack.enter_context(requests_cache.CachedSession(backend="memory")), sandbox)


@REQUESTS.add("CacheControl")
def _cache_control(sandbox: Sandbox, stack: ExitStack) -> Send:
    return through(CacheControl(stack.enter_context(requests.Session())), sandbox)


@REQUESTS.add(
    "requests-toolbelt", trick="`data=encoder.to_string()`: a `MultipartEncoder` itself is not sent again after a 401."
)
def _toolbelt(sandbox: Sandbox, stack: ExitStack) -> Send:
    return through(stack.enter_context(requests_toolbelt.sessions.BaseUrlSession(sandbox.url)), sandbox)


@REQUESTS.add("requests-futures")
def _futures(sandbox: Sandbox, stack: ExitStack) -> Send:
    return through(stack.enter_context(FuturesSession()), sandbox)


@REQUESTS.add("urllib3's Retry", "urllib3")
def _retry(sandbox: Sandbox, stack: ExitStack) -> Send:
    session = stack.enter_context(requests.Session())
    session.mount("http://", HTTPAdapter(max_retries=urllib3.Retry(3, status_forcelist=[502, 503])))
    return through(session, sandbox)


@REQUESTS.add("OpenTelemetry", "opentelemetry-instrumentation-requests")
def _opentelemetry(sandbox: Sandbox, stack: ExitStack) -> Send:
    RequestsInstrumentor().instrument()
    stack.callback(RequestsInstrumentor().uninstrument)
    return through(stack.enter_context(requests.Session()), sandbox)


@REQUESTS.add("Sentry", "sentry-sdk")
def _sentry(sandbox: Sandbox, stack: ExitStack) -> Send:
    stack.enter_context(sentry([]))
    return through(stack.enter_context(requests.Session()), sandbox)


@REQUESTS.add("Flask")
def _flask(sandbox: Sandbox, stack: ExitStack) -> Send:
    """Each call is a request to an app, whose view calls the sandbox. The app's context reaches the callable."""
    app = flask.Flask(__name__)
    app.config["DOLBY"] = AppCredentials(sandbox.app_key, sandbox.app_secret)
    options = {"app_key": None, "app_secret": None, "credentials": lambda: flask.current_app.config["DOLBY"]}
    call = through(stack.enter_context(requests.Session()), sandbox, **options)

    def view() -> tuple[bytes, int]:
        status, body = call(*asked(flask.request.data))
        return body, status

    app.add_url_rule("/", view_func=view, methods=["POST"])
    browser = stack.enter_context(app.test_client())

    def send(method: str, url: str, body: bytes | None) -> tuple[int, bytes]:
        response = browser.post("/", data=asking(method, url, body))
        return response.status_code, response.data

    return send


@REQUESTS.add("gevent", trick="`gevent.monkey.patch_all()` before anything else is imported.")
def _gevent(sandbox: Sandbox, stack: ExitStack) -> Send:
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
