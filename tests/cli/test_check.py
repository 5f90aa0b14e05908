"""`dolby-auth check`."""

from __future__ import annotations

import json
import re
import ssl
import time
import types
from pathlib import Path
from typing import Any

import pytest
import trustme
from click.testing import CliRunner

from dolby_auth_plugin import DOLBY_HOSTS, cli
from dolby_auth_plugin._requests.sender import RequestsSender
from dolby_auth_plugin.cli import checks
from dolby_auth_plugin.sandbox import Sandbox

from ..internals import granted
from ..servers import Reply, Server, refusing, serving
from .test_cli import run

NAMES = ["credentials", "endpoint", "tls", "clock", "token", "scopes", "hosts"]

GOOD = Reply(body=b'{"access_token":"canary-token","expires_in":60,"scope":"comms:conf:create"}')


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app key and secret, and nothing else."""
    monkeypatch.setenv("DOLBYIO_APP_KEY", "some-app-key")
    monkeypatch.setenv("DOLBYIO_APP_SECRET", "canary-secret")
    for name in ("DOLBYIO_TOKEN_URL", "DOLBYIO_ALLOWED_HOSTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def endpoint(api: Server) -> Server:
    """A token endpoint on plain http. It grants every token."""
    api.answer = lambda _: GOOD
    return api


def check(*arguments: str, **environment: str) -> tuple[dict[str, bool | None], dict[str, str]]:
    """Which checks passed, and their details. The exit status, and that nothing else was printed, are checked here."""
    result = run("check", "--json", *arguments, **environment)
    report = json.loads(result.stdout)
    passed = {check["name"]: check["passed"] for check in report["checks"]}
    assert list(passed) == NAMES
    assert report["passed"] is (False not in passed.values())
    assert (result.exit_code, result.stderr) == (0 if report["passed"] else 1, "")
    assert "canary" not in result.output
    return passed, {check["name"]: check["detail"] for check in report["checks"]}


def marks(passed: dict[str, bool | None]) -> str:
    """The results in the order of `NAMES`: `+` for a pass, `x` for a failure, `-` for what was not checked."""
    return "".join({True: "+", False: "x", None: "-"}[passed[name]] for name in NAMES)


# The whole report


@pytest.fixture
def trust(authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    """An environment that trusts the authority of the tests."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return {"REQUESTS_CA_BUNDLE": str(tmp_path / "ca.pem")}


@pytest.fixture
def certified(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_all_checks_pass_with_one_token_request(certified: ssl.SSLContext, trust: dict[str, str]) -> None:
    with serving(certified) as endpoint:
        endpoint.answer = lambda _: GOOD

        passed, details = check(
            "--scope", "comms:conf:create", "--expires-in", "60", "--token-url", endpoint.url, **trust
        )

    assert marks(passed) == "+++++++"
    assert len(endpoint.log) == 1
    assert details["credentials"] == (
        "app key some… and its secret, from the environment variables DOLBYIO_APP_KEY and DOLBYIO_APP_SECRET"
    )
    assert re.fullmatch(rf"{endpoint.url} answers with HTTP 200 in \d\.\d\d s", details["endpoint"])
    assert details["tls"] == "the certificate of 127.0.0.1 is accepted"
    assert details["clock"] == "this machine and the endpoint agree"
    assert re.fullmatch(r"granted for 60 s, until 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC", details["token"])
    assert details["scopes"] == "asked for comms:conf:create; granted comms:conf:create"
    assert details["hosts"] == f"the token may go to {', '.join(DOLBY_HOSTS)}"


def test_with_the_sandbox_the_checks_pass_that_can_be_made(sandbox: Sandbox) -> None:
    found = {"DOLBYIO_TOKEN_URL": sandbox.token_url, "DOLBYIO_ALLOWED_HOSTS": sandbox.allowed_hosts[0]}

    passed, details = check(DOLBYIO_APP_KEY=sandbox.app_key, DOLBYIO_APP_SECRET=sandbox.app_secret, **found)

    assert marks(passed) == "++--+++"
    assert details["scopes"] == "asked for none, so for everything; the answer names no scopes"
    assert details["hosts"] == f"the token may go to {sandbox.allowed_hosts[0]}"
    assert len(granted(sandbox)) == 1


def test_each_check_is_a_line_with_a_mark(endpoint: Server) -> None:
    shown = run("check", "--token-url", endpoint.url, "--scope", "comms:conf:admin").stdout

    assert "\x1b" not in shown
    lines = [line for line in shown.splitlines() if not line.startswith(" ")]
    assert [line.split()[0] for line in lines] == ["✓", "✓", "-", "✓", "✓", "✗", "✓"]
    assert [line.split()[1] for line in lines] == NAMES


def test_an_encoding_without_ticks_gets_words(endpoint: Server) -> None:
    runner = CliRunner(charset="ascii")

    shown = runner.invoke(cli.main, ["check", "--token-url", endpoint.url, "--scope", "comms:conf:admin"]).stdout

    assert shown.startswith("ok  credentials  app key some? and its secret")
    assert "\nno  scopes " in shown


@pytest.mark.parametrize(("setting", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colours_unless_no_color_is_set(
    endpoint: Server, setting: dict[str, str], is_coloured: bool
) -> None:
    """FORCE_COLOR stands for a terminal."""
    shown = run("check", "--token-url", endpoint.url, FORCE_COLOR="1", **setting).stdout

    assert is_coloured is ("\x1b[32m✓" in shown)
    assert is_coloured is ("\x1b[3" in shown)


# One check fails, and the others are made all the same


def test_without_credentials_the_network_is_checked(endpoint: Server) -> None:
    passed, details = check("--token-url", endpoint.url, DOLBYIO_APP_SECRET="")

    assert marks(passed) == "x+-+--+"
    assert "the environment has no DOLBYIO_APP_SECRET" in details["credentials"]
    assert details["token"] == "not checked: no credentials"
    [request] = endpoint.log
    assert (None, b"") == (request.headers["Authorization"], request.body)


def test_refused_credentials_are_a_failure_of_the_token(endpoint: Server) -> None:
    endpoint.answer = lambda _: Reply(401)

    passed, details = check("--token-url", endpoint.url)

    assert marks(passed) == "++-+x-+"
    assert "refused the app key 'some…'" in details["token"]
    assert details["scopes"] == "asked for none, so for everything; the grant is not checked: no token"


def test_an_endpoint_that_is_down_is_a_failure() -> None:
    with refusing() as host:
        passed, details = check("--token-url", f"http://{host}/")

    assert marks(passed) == "+x----+"
    assert details["endpoint"] == (
        f"http://{host}/ gives no answer: Connection refused. Check the network, HTTPS_PROXY and NO_PROXY"
    )
    assert details["token"] == "not checked: no answer"


def test_a_host_that_is_unknown_has_no_tls_to_check() -> None:
    with refusing() as host:
        passed, details = check("--token-url", f"https://{host}/")

    assert marks(passed) == "+x----+"
    assert details["tls"] == "not checked: no answer"


def test_a_certificate_that_is_not_trusted_is_a_failure_of_tls(certified: ssl.SSLContext) -> None:
    with serving(certified) as endpoint:
        passed, details = check("--token-url", endpoint.url)

    assert marks(passed) == "++x---+"
    assert details["endpoint"] == f"{endpoint.url} is reached"
    assert details["tls"].startswith("certificate not accepted: ")
    assert "REQUESTS_CA_BUNDLE" in details["tls"]


def test_a_port_without_tls_is_a_failure_of_tls(endpoint: Server) -> None:
    passed, details = check("--token-url", endpoint.url.replace("http:", "https:"))

    assert marks(passed) == "++x---+"
    assert "[SSL" in details["tls"]


def test_a_ca_bundle_that_is_missing_is_a_failure(endpoint: Server, tmp_path: Path) -> None:
    """The network is not at fault."""
    url = endpoint.url.replace("http:", "https:")

    passed, details = check("--token-url", url, REQUESTS_CA_BUNDLE=str(tmp_path / "missing.pem"))

    assert marks(passed) == "+x----+"
    assert details["endpoint"] == (
        f"no answer from {url}. The CA bundle can't be loaded: No such file or directory."
        " Check REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE in the environment."
    )


def test_an_error_in_code_is_a_failure_of_the_endpoint(endpoint: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """For example, httpx needs another package for a SOCKS proxy."""
    monkeypatch.setattr(RequestsSender, "__call__", lambda *_: 1 // 0)

    passed, details = check("--token-url", endpoint.url)

    assert marks(passed) == "+x----+"
    assert re.fullmatch(
        rf"no answer from {endpoint.url}\. The code that sends the token request raised ZeroDivisionError \(test_check\.py, line \d+\)\."
        r" This is an error in code: the network is not at fault\.",
        details["endpoint"],
    )


@pytest.mark.parametrize(
    ("seconds", "passed", "detail"),
    [
        (9, True, "this machine and the endpoint agree"),
        (-9, True, "this machine and the endpoint agree"),
        (3600, False, r"this machine is 3,(599|600) s ahead of the endpoint\. Set its clock"),
        (-3600, False, r"this machine is 3,(599|600) s behind the endpoint\. Set its clock"),
    ],
)
def test_a_clock_may_be_ten_seconds_wrong(
    seconds: float, passed: bool, detail: str, endpoint: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = types.SimpleNamespace(monotonic=time.monotonic, time=lambda: time.time() + seconds)
    monkeypatch.setattr(checks, "time", clock)

    results, details = check("--token-url", endpoint.url)

    assert results["clock"] is passed
    assert re.fullmatch(detail, details["clock"])


@pytest.mark.parametrize("date", ["", "Date: yesterday\r\n"])
def test_without_a_date_the_clock_is_not_checked(date: str, endpoint: Server) -> None:
    endpoint.answer = lambda _: Reply(raw=b"HTTP/1.1 503 Down\r\n%sContent-Length: 0\r\n\r\n" % date.encode())

    passed, details = check("--token-url", endpoint.url)

    assert (None, "not checked: the answer has no Date") == (passed["clock"], details["clock"])


def test_another_lifetime_than_asked_for_is_shown(endpoint: Server) -> None:
    _, details = check("--token-url", endpoint.url)

    assert details["token"].startswith("granted for 60 s, not 1,800 s as asked, until")


def test_a_scope_that_is_not_granted_is_a_failure(endpoint: Server) -> None:
    passed, details = check(
        "--token-url", endpoint.url, "--scope", "comms:conf:create", "--scope", "comms:monitor:raed"
    )

    assert marks(passed) == "++-++x+"
    assert details["scopes"] == (
        "asked for comms:conf:create comms:monitor:raed; granted comms:conf:create; missing comms:monitor:raed;"
        " unknown scope 'comms:monitor:raed', which Dolby.io drops silently: did you mean 'comms:monitor:read'?"
    )


def test_scopes_that_the_answer_does_not_name_are_not_checked(endpoint: Server) -> None:
    endpoint.answer = lambda _: Reply(body=b'{"access_token":"any"}')

    passed, details = check("--token-url", endpoint.url, "--scope", "comms:conf:create")

    assert (None, "asked for comms:conf:create; the answer names no scopes") == (passed["scopes"], details["scopes"])


def test_a_malformed_scope_is_a_failure_of_the_scopes_alone(endpoint: Server) -> None:
    passed, details = check("--token-url", endpoint.url, "--scope", '"')

    assert marks(passed) == "++-++x+"
    assert details["scopes"].startswith("malformed scope")


def test_a_malformed_url_is_a_failure_of_the_endpoint() -> None:
    passed, details = check("--token-url", "http://example.com/")

    assert marks(passed) == "+x----+"
    assert details["endpoint"].startswith("token_url must be https")
    assert details["token"] == "not checked: no request was sent"


def test_a_malformed_host_is_a_failure_of_the_hosts_alone(endpoint: Server) -> None:
    passed, details = check("--token-url", endpoint.url, DOLBYIO_ALLOWED_HOSTS="*")

    assert marks(passed) == "++-+++x"
    assert details["hosts"].startswith("bad host '*'")


def test_a_missing_http_library_is_a_failure_of_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    def adapter() -> Any:
        raise ImportError("no HTTP library is installed")

    monkeypatch.setattr(checks, "adapter", adapter)

    passed, details = check()

    assert marks(passed) == "+x----+"
    assert details["endpoint"] == "no HTTP library is installed"


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_each_library_tells_the_date(library: str, endpoint: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    monkeypatch.setattr(checks, "adapter", lambda: importlib.import_module(f"dolby_auth_plugin.{library}"))

    passed, _ = check("--token-url", endpoint.url)

    assert marks(passed) == "++-++++"
