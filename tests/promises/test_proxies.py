"""
The data that a forward proxy sees, and the errors when a proxy fails.

The proxy is a real one on loopback. Behind it, a server with TLS acts as the hosts of Dolby.io, as in
`test_redirects.py`.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from dolby_auth_plugin import TokenError
from dolby_auth_plugin.sandbox import Sandbox

from ..contract import CLASSIC, on_clock, rendered, server_context
from ..drivers import Client, Driver
from ..fakes import FakeClock, wait_for_fetches
from ..internals import fresh_tls_contexts
from ..matrix import ALL, SYNC, each, label, names_settings
from ..servers import Proxy, Received, Reply, Server, proxying, refusing, serving, socks_proxying

MEDIA, TOKEN_HOST = "api.dolby.com:443", "api.dolby.io:443"
URL = "https://api.dolby.com/media/jobs"


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


FOR_DOLBY = basic(CLASSIC["app_key"], CLASSIC["app_secret"])
FOR_PROXY = basic("proxy-user", "proxy-canary")


@pytest.fixture(scope="module")
def bundle(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("proxies") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="module")
def servers(authority: trustme.CA) -> Iterator[tuple[Server, Server, Proxy]]:
    names = ("api.dolby.com", "api.dolby.io", "storage.example")
    with serving(server_context(authority, *names)) as secure, serving() as plain, proxying() as proxy:
        proxy.hosts = {MEDIA: secure, TOKEN_HOST: secure, "api.dolby.com:80": plain, "storage.example:80": plain}
        yield secure, plain, proxy


@pytest.fixture
def dolby(servers: tuple[Server, Server, Proxy]) -> Server:
    """The TLS server. It issues numbered tokens. The first token gets a 401, which closes the connection."""
    server = servers[0]
    server.log.clear()
    issued: list[Received] = []

    def answer(received: Received) -> Reply:
        if received.headers["Host"] == "api.dolby.io":
            issued.append(received)
            return Reply(body=json.dumps({"access_token": f"token-{len(issued)}"}).encode())
        return Reply(401, {"Connection": "close"}) if received.token == "Bearer token-1" else Reply()

    server.answer = answer
    return server


@pytest.fixture
def plain(servers: tuple[Server, Server, Proxy]) -> Server:
    """The server without TLS."""
    servers[1].log.clear()
    return servers[1]


@pytest.fixture
def proxy(servers: tuple[Server, Server, Proxy]) -> Proxy:
    proxy = servers[2]
    proxy.log.clear()
    proxy.refusal = lambda _: None
    return proxy


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    """Remove the proxies of the environment, and use the CA of these tests in all libraries."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    fresh_tls_contexts(monkeypatch)


def with_credentials(proxy: Server) -> str:
    return proxy.url.replace("http://", "http://proxy-user:proxy-canary@")


@pytest.fixture
def in_environment(monkeypatch: pytest.MonkeyPatch, proxy: Proxy) -> None:
    monkeypatch.setenv("http_proxy", with_credentials(proxy))
    monkeypatch.setenv("https_proxy", with_credentials(proxy))


@pytest.fixture(params=ALL, ids=label)
def client(request: pytest.FixtureRequest, in_environment: None, bundle: Path) -> Iterator[Client]:
    """A client with an auth object. Both use the proxy from the environment."""
    driver: Driver = request.param
    trusting = driver.through("", bundle)["verify"]
    with driver.open(driver.adapter.DolbyAuth(**CLASSIC), verify=trusting) as client:
        yield client


@each(SYNC)
def test_a_token_request_goes_through_a_socks_proxy(
    driver: Driver, dolby: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socks_proxying() as proxy:
        proxy.hosts[TOKEN_HOST] = dolby
        # The proxy looks up the names. requests takes `socks5` for a lookup of its own; httpx before 0.28 knows no other word.
        scheme = "socks5h" if driver.name == "requests" else "socks5"
        monkeypatch.setenv("https_proxy", f"{scheme}://{proxy.host}")

        assert driver.token(driver.adapter.DolbyAuth(**CLASSIC)).value == "token-1"

    assert [TOKEN_HOST] == proxy.log


# PySocks and socksio are the packages of the extras `socks`.
WITHOUT_EXTRA = """
import importlib, sys
sys.modules["socks"] = sys.modules["socksio"] = None
for name in ("requests", "httpx", "httpx2"):
    adapter = importlib.import_module(f"dolby_auth_plugin.{name}")
    try:
        adapter.DolbyAuth(app_key="a-key", app_secret="a-secret").token()
    except adapter.TokenError as error:
        print(error.reason.partition(" ")[0], error.retryable)
"""


def test_without_the_library_s_extra_a_socks_proxy_is_the_error_that_the_page_tells() -> None:
    variables = {**os.environ, "https_proxy": "socks5://127.0.0.1:9"}
    command = [sys.executable, "-W", "error", "-c", WITHOUT_EXTRA]

    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)

    assert done.stdout.split("\n") == ["InvalidSchema False", "ImportError False", "ImportError False", ""]


# The data that a proxy sees


def test_a_proxy_sees_neither_token_nor_basic_credentials(client: Client, dolby: Server, proxy: Proxy) -> None:
    assert [401] == client.get(URL).history

    assert {("CONNECT", MEDIA), ("CONNECT", TOKEN_HOST)} == {(seen.method, seen.path) for seen in proxy.log}
    assert {None} == {seen.token for seen in proxy.log}
    assert ["Bearer token-1", "Bearer token-2"] == [seen.token for seen in dolby.log if "Bearer" in (seen.token or "")]
    assert [FOR_DOLBY] * 2 == [seen.token for seen in dolby.log if "Bearer" not in (seen.token or "")]


def test_only_the_proxy_gets_its_credentials_also_on_a_retry(client: Client, dolby: Server, proxy: Proxy) -> None:
    """Each of the four requests uses a new tunnel, because the 401 closes the connection."""
    client.get(URL)

    assert [FOR_PROXY] * 4 == [seen.headers["Proxy-Authorization"] for seen in proxy.log]
    assert [None] * 4 == [seen.headers["Proxy-Authorization"] for seen in dolby.log]


@each(ALL)
def test_the_proxy_of_a_client_sees_the_tunnels_but_no_token(
    driver: Driver, dolby: Server, proxy: Proxy, bundle: Path
) -> None:
    """The token request uses the proxy of the lent client: here the same proxy, without credentials."""
    sync = next(sender for sender in SYNC if sender.name == driver.name)
    with sync.open(None, **sync.through(proxy.url, bundle)) as lent:
        auth = driver.adapter.DolbyAuth(**CLASSIC, **lend(lent))
        with driver.open(auth, **driver.through(with_credentials(proxy), bundle)) as client:
            assert [401] == client.get(URL).history

    assert {(TOKEN_HOST, None, None), (MEDIA, None, FOR_PROXY)} == {
        (seen.path, seen.token, seen.headers["Proxy-Authorization"]) for seen in proxy.log
    }
    assert {None} == {seen.headers["Proxy-Authorization"] for seen in dolby.log}


@pytest.mark.parametrize("callers", [16, pytest.param(64, marks=pytest.mark.slow)])
def test_many_callers_through_a_proxy_cost_one_token_request_and_one_for_a_revocation(
    client: Client, dolby: Server, proxy: Proxy, callers: int
) -> None:
    """All start together, without a token; the API refuses the first one. The proxy sees tunnels, and no token."""
    seen = client.crowd(callers, "GET", URL)

    assert [200] * callers == [getattr(one, "status", one) for one in seen]
    assert [FOR_DOLBY] * 2 == [seen.token for seen in dolby.log if seen.headers["Host"] == "api.dolby.io"]
    assert {("CONNECT", MEDIA), ("CONNECT", TOKEN_HOST)} == {(seen.method, seen.path) for seen in proxy.log}
    assert not any("token-" in str(seen.headers) or FOR_DOLBY in str(seen.headers) for seen in proxy.log)


@pytest.mark.parametrize("host", ["storage.example", "api.dolby.com"])
def test_a_plain_http_request_shows_the_proxy_no_token(client: Client, plain: Server, proxy: Proxy, host: str) -> None:
    plain.answer = lambda _: Reply(401)

    seen = client.get(f"http://{host}/in?X-Amz-Signature=1")

    assert (401, []) == (seen.status, seen.history)
    assert [(f"http://{host}/in?X-Amz-Signature=1", None)] == [(seen.path, seen.token) for seen in proxy.log]
    assert [None] == [seen.token for seen in plain.log]


# The token request


@each(SYNC)
def test_a_lent_client_sends_the_token_request_through_its_own_proxy(
    driver: Driver, dolby: Server, proxy: Proxy, bundle: Path
) -> None:
    with driver.open(None, **driver.through(with_credentials(proxy), bundle)) as lent:
        auth = driver.adapter.DolbyAuth(**CLASSIC, **lend(lent))

        assert "token-1" == driver.token(auth).value

    assert [(TOKEN_HOST, None, FOR_PROXY)] == [
        (seen.path, seen.token, seen.headers["Proxy-Authorization"]) for seen in proxy.log
    ]
    assert [(FOR_DOLBY, None)] == [(seen.token, seen.headers["Proxy-Authorization"]) for seen in dolby.log]


def lend(client: Any) -> dict[str, Any]:
    return {"session": client.session} if hasattr(client, "session") else {"client": client.client}


@each(SYNC)
@pytest.mark.usefixtures("in_environment")
def test_a_plain_http_token_request_bypasses_the_proxy(driver: Driver, proxy: Proxy) -> None:
    """Its endpoint is on loopback. A proxy would see the app secret, and would connect to its own loopback."""
    with Sandbox() as sandbox:
        for token_url in (sandbox.token_url, sandbox.token_url.replace("http:", "HTTP:")):
            auth = driver.adapter.DolbyAuth(**{**sandbox.options, "token_url": token_url})

            assert driver.token(on_clock(auth, FakeClock())).value

    assert proxy.log == []


@each(SYNC)
@pytest.mark.usefixtures("in_environment", "dolby")
def test_the_library_logs_nothing_of_a_token_request_through_a_proxy(
    driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    """At the lowest log level, the library would log headers and the address of the proxy."""
    with caplog.at_level(logging.DEBUG):
        driver.token(driver.adapter.DolbyAuth(**CLASSIC))
        wait_for_fetches()

    assert {"dolby_auth_plugin"} == {record.name for record in caplog.records}


# A proxy that fails

REFUSES = "the proxy refused the connection"
# The answer of the proxy, and words in the reason of the error.
FAILURES = {
    "asks for credentials": (Reply(407, {"Proxy-Authenticate": 'Basic realm="proxy"'}, b"<html>"), REFUSES),
    "cannot connect": (Reply(502, body=b"<html>"), REFUSES),
    "forbids": (Reply(403, body=b"<html>"), REFUSES),
    "redirects": (Reply(302, {"Location": "http://storage.example/"}), REFUSES),
    "closes": (Reply(raw=b""), ""),
    "resets": (Reply(raw=b"", reset=True), ""),
    "does not speak HTTP": (Reply(raw=b"SSH-2.0-proxy\r\n\r\n"), ""),
}


def complaint(driver: Driver, **options: Any) -> tuple[Any, str]:
    """Request a token that cannot be obtained. Returns the error and all text that it shows."""
    url = "https://api.dolby.io/v1/auth/token?key=query-canary"
    auth = on_clock(driver.adapter.DolbyAuth(**CLASSIC, token_url=url, **options), FakeClock())
    with pytest.raises(TokenError) as caught:
        driver.token(auth)
    error = caught.value
    shown = f"{error} {error!r} {error.reason} {error.description} {vars(error)} {rendered(error)}"
    return error, shown


def assert_useful(error: Any, shown: str) -> None:
    assert (None, None, None) == (error.status_code, error.__cause__, error.__context__)
    assert "proxy settings" in str(error)
    for secret in ("proxy-canary", FOR_PROXY, CLASSIC["app_secret"], FOR_DOLBY, "query-canary"):
        assert secret not in shown


@each(SYNC)
@pytest.mark.usefixtures("in_environment")
@pytest.mark.parametrize("how", FAILURES)
def test_a_proxy_that_fails_is_a_token_error_that_shows_no_password(
    driver: Driver, proxy: Proxy, plain: Server, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The proxy gets its own credentials only, and its redirect is not followed."""
    reply, words = FAILURES[how]
    proxy.refusal = lambda _: reply

    with caplog.at_level(logging.DEBUG):
        error, shown = complaint(driver)

    assert_useful(error, shown + caplog.text)
    assert words in error.reason
    assert names_settings(driver, error, lent=False)
    assert {("CONNECT", TOKEN_HOST, None, FOR_PROXY)} == {
        (seen.method, seen.path, seen.token, seen.headers["Proxy-Authorization"]) for seen in proxy.log
    }
    assert plain.log == []


@each(SYNC)
def test_an_unreachable_proxy_is_reported_with_the_error_of_the_system(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refusing() as host:
        monkeypatch.setenv("https_proxy", f"http://proxy-user:proxy-canary@{host}")

        error, shown = complaint(driver)

    assert_useful(error, shown)
    assert "Connection refused" in str(error)


@each(SYNC)
@pytest.mark.parametrize("how", ["asks for credentials", "closes"])
def test_a_failing_proxy_of_a_lent_client_is_reported_in_the_same_way(
    driver: Driver, proxy: Proxy, bundle: Path, how: str
) -> None:
    proxy.refusal = lambda _: FAILURES[how][0]

    with driver.open(None, **driver.through(with_credentials(proxy), bundle)) as lent:
        error, shown = complaint(driver, **lend(lent))

    assert_useful(error, shown)
    assert names_settings(driver, error, lent=True)
