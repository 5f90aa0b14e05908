"""
Which URLs receive the token, judged by where each library connects and what it sends.

The tests make calls like a user. Below each library, a fake network accepts every connection and records its address
and data. The fake network is independent of the package and does not parse URLs.
"""

from __future__ import annotations

import io
import ipaddress
import posixpath
import re
import ssl
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import hypothesis
import pytest
import requests
import urllib3
from httpx2.websockets import WebSocketUpgradeError
from hypothesis import strategies as st

import dolby_auth_plugin
from dolby_auth_plugin import DOLBY_HOSTS

from ..contract import CLASSIC
from ..drivers import Driver, HttpxDriver, RequestsDriver
from ..fakes import TOKEN_URL, ScriptedSender
from ..internals import send_with, sender_of

ALLOWED = (*DOLBY_HOSTS, "gateway.example:8443", "xn--bcher-kva.example", "localhost", "127.0.0.1", "[::1]:8443")


class Call:
    """A connection and the data sent on it. It acts as a socket for urllib3 and as a stream for httpcore."""

    def __init__(self, host: str, port: int, *, tls: bool, status: int, location: str | None = None) -> None:
        self.host, self.port, self.tls = host, port, tls
        self._sent = b""
        header = b"" if location is None else b"Location: %b\r\n" % location.encode()
        self._answer = b"HTTP/1.1 %d \r\n%bContent-Length: 0\r\nConnection: close\r\n\r\n" % (status, header)

    @property
    def dialled(self) -> tuple[str, int, bool]:
        return self.host, self.port, self.tls

    @property
    def target(self) -> str:
        """The target in the request line."""
        return self._sent.split(b" ")[1].decode("ascii")

    @property
    def has_token(self) -> bool:
        return b"\r\nauthorization: bearer token-1\r\n" in self._sent.lower()

    def sendall(self, data: bytes, *_: object, **__: object) -> None:
        self._sent += data

    write = sendall

    def read(self, *_: object, **__: object) -> bytes:
        return self._answer

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._answer)

    def start_tls(self, *_: object, **__: object) -> Call:
        self.tls = True
        return self

    def get_extra_info(self, *_: object, **__: object) -> None:
        """No extra information is available."""

    settimeout = close = get_extra_info


class Network:
    """Accepts every connection and answers with `status`; the first one with a redirect, if there is a `location`."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.status = 204
        self.location: str | None = None

    def dial(self, host: str, port: int, *, tls: bool = False) -> Call:
        first = self.location if not self.calls else None
        status = self.status if first is None else 302
        self.calls.append(Call(host, port, tls=tls, status=status, location=first))
        return self.calls[-1]

    def connect_tcp(self, host: str, port: int, *_: object, **__: object) -> Call:
        """The interface of a network backend of httpcore."""
        return self.dial(host, port)

    def adapter(self) -> requests.adapters.HTTPAdapter:
        """An adapter for requests whose pools use this network."""
        dial = self.dial

        class Plain(urllib3.connection.HTTPConnection):
            def connect(self) -> None:
                self.sock = dial(self._dns_host, self.port)

        class Secure(urllib3.connection.HTTPSConnection):
            def connect(self) -> None:
                self.sock = dial(self._dns_host, self.port, tls=True)
                self.is_verified = True

        class PlainPool(urllib3.HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(urllib3.HTTPSConnectionPool):
            ConnectionCls = Secure

        adapter = requests.adapters.HTTPAdapter()
        manager = adapter.poolmanager
        manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool, "wss": SecurePool}
        manager.key_fn_by_scheme = {**manager.key_fn_by_scheme, "wss": manager.key_fn_by_scheme["https"]}
        return adapter


def _as_it_is(request: Any) -> Any:
    """An auth that does nothing. Without an auth, a library would use the userinfo of the URL."""
    return request


class Caller:
    """A user of a library. All connections go to the fake network."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.network = Network()
        self.client = self._client()
        self.auth = self.make_auth()
        # An auth object with its token endpoint on loopback.
        self.local_auth = self.make_auth(token_url="http://localhost/x/../v1/auth/token")

    def _client(self) -> Any:
        if isinstance(self.driver, RequestsDriver):
            session = self.driver.library.Session()
            session.trust_env = False
            for prefix in ("https://", "http://"):
                session.mount(prefix, self.network.adapter())
            return session
        client = self.driver.library.Client(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False)
        client._transport._pool._network_backend = self.network  # noqa: SLF001 - httpx has no public way
        return client

    def make_auth(self, **options: Any) -> Any:
        """An auth object that already has a token."""
        auth = self.driver.adapter.DolbyAuth(**{**CLASSIC, "allowed_hosts": ALLOWED, **options})
        send_with(auth, ScriptedSender())
        auth.token()
        return auth

    def get(self, url: str, auth: Any, **options: Any) -> Call | Exception:
        """The connection of a call, or the error of the library."""
        return self._call(lambda: self.client.get(url, auth=auth, **options))

    def _call(self, call: Callable[[], object]) -> Call | Exception:
        self.network.calls.clear()
        try:
            call()
        except Exception as error:
            return error
        [made] = self.network.calls
        return made

    def outcome(self, url: str, auth: Any = None, **options: Any) -> tuple[str, Call | None]:
        """`T` with a token, `.` without, `x` if the library rejects the URL. And the call, if there was one."""
        plain = self.get(url, _as_it_is, **options)
        call = self.get(url, auth or self.auth, **options)
        if isinstance(plain, Exception):
            assert type(plain) is type(call), call
            return "x", None
        assert isinstance(call, Call), call
        assert (plain.dialled, plain.target) == (call.dialled, call.target)
        return "T" if call.has_token else ".", call


class LateCaller(Caller):
    """Changes the URL of a prepared request before the auth sees it. requests then uses the URL unchanged."""

    def get(self, url: str, auth: Any, **options: Any) -> Call | Exception:
        request = requests.Request("GET", "https://evil.test/").prepare()
        request.url = url
        return self._call(lambda: self.client.send(auth(request)))


LIBRARIES = ["requests", "httpx", "httpx2"]
CALLERS: dict[str, Callable[[], Caller]] = {
    "requests": lambda: Caller(RequestsDriver("requests")),
    "httpx": lambda: Caller(HttpxDriver("httpx")),
    "httpx2": lambda: Caller(HttpxDriver("httpx2")),
    "requests, late": lambda: LateCaller(RequestsDriver("requests")),
}


@pytest.fixture(scope="module")
def callers() -> dict[str, Caller]:
    return {name: make() for name, make in CALLERS.items()}


def outcomes(callers: dict[str, Caller], url: str) -> str:
    """A letter for each library, in the order of `LIBRARIES`."""
    return "".join(callers[name].outcome(url)[0] for name in LIBRARIES)


# The three letters are for requests, httpx and httpx2: `T` with the token, `.` without, `x` if the library itself
# rejects the URL. If the letters differ, the libraries connect to different hosts, or one library is stricter.
# `?` is `.` or `x`: urllib3 rejects these hosts from 2.8 on.

MAY = [
    ("https://api.dolby.com", "TTT"),
    ("https://api.dolby.com/media/jobs?a=b#c", "TTT"),
    ("https://comms.api.dolby.io/", "TTT"),
    ("https://a.b.comms.api.dolby.io/", "TTT"),
    ("https://gateway.example:8443/", "TTT"),
    # Case
    ("HTTPS://API.DOLBY.COM/", "TTT"),
    ("hTtPs://Api.Dolby.Com:443/", "TTT"),
    ("https://EU.Comms.API.dolby.IO/", "TTT"),
    ("https://LOCALHOST:8000/", "TTT"),
    # Ports
    ("https://api.dolby.com:443/", "TTT"),
    ("https://api.dolby.com:0443/", "TTT"),
    ("https://api.dolby.com:/", "TTT"),
    # All libraries use the default port of the scheme instead of 0.
    ("https://api.dolby.com:0/", "TTT"),
    ("https://api.dolby.com:+443/", "xTT"),
    ("https://api.dolby.com:4_43/", "xTT"),
    ("https://api.dolby.com:\uff14\uff14\uff13/", "xTT"),
    # Userinfo: the token replaces it
    ("https://user:pass@api.dolby.com/", "TTT"),
    ("https://evil.test:80@api.dolby.com/", "TTT"),
    ("https://evil.test%2F@api.dolby.com/", "TTT"),
    ("https://evil.test@evil.test@api.dolby.com/", "TTT"),
    ("https://@api.dolby.com/", "TTT"),
    ("https://[@api.dolby.com/", "TTT"),
    ("https://api.dolby.com#@evil.test/", "TTT"),
    ("https://api.dolby.com?@evil.test/", "TTT"),
    # Backslashes: one library ends the host there, the others treat them as part of the userinfo
    ("https://api.dolby.com\\@evil.test/", "T.."),
    ("https://api.dolby.com\\.evil.test/", "T.."),
    ("https://evil.test\\@api.dolby.com/", ".TT"),
    # Escapes in the host: one library decodes them, the others pass them to the resolver unchanged
    ("https://api%2edolby.com/", "T.."),
    ("https://%61pi.dolby.com/", "T.."),
    # Names in other scripts
    ("https://b\u00fccher.example/", "TTT"),
    ("https://XN--BCHER-KVA.example/", "TTT"),
    ("https://\u00e4.comms.api.dolby.io/", "TTT"),
    ("https://api\u3002dolby\uff0ecom/", "xTT"),
    # Addresses
    ("http://127.0.0.1:8000/", "TTT"),
    ("https://[::1]:8443/", "TTT"),
    ("http://[0:0:0:0:0:0:0:1]:8443/", "TTT"),
    ("http://[::0001]:8443/", "TTT"),
    # Schemes, and characters before them
    ("http://localhost:8000/", "TTT"),
    ("wss://api.dolby.com/", "xTT"),
    ("WSS://api.dolby.com/", "xTT"),
    ("ws://localhost:8000/", "xTT"),
    (" https://api.dolby.com/", "Txx"),
    ("\u00a0https://api.dolby.com/", "Txx"),
    # Similar to the token endpoint, but different
    ("https://api.dolby.io/", "TTT"),
    ("https://api.dolby.io/v1/auth/tokens", "TTT"),
    ("https://api.dolby.io/v1/auth/token/x", "TTT"),
    ("https://api.dolby.io/v1/auth/token/..", "TTT"),
    ("https://api.dolby.io/x/v1/auth/token", "TTT"),
    ("https://api.dolby.io?/v1/auth/token", "TTT"),
    ("https://api.dolby.com/v1/auth/token", "TTT"),
]

MAY_NOT = [
    # Look-alikes
    ("https://dolby.com/", "..."),
    ("https://www.api.dolby.com/", "..."),
    ("https://xapi.dolby.com/", "..."),
    ("https://api-dolby.com/", "..."),
    ("https://api.dolby.co/", "..."),
    ("https://api.dolby.community/", "..."),
    ("https://api.dolby.com.evil.test/", "..."),
    ("https://api.dolby.com-evil.test/", "..."),
    ("https://comms.api.dolby.io.evil.test/", "..."),
    ("https://xcomms.api.dolby.io/", "..."),
    ("https://.comms.api.dolby.io/", "x.."),
    ("https://a..comms.api.dolby.io/", "..."),
    ("https://*.comms.api.dolby.io/", "x.."),
    ("https://api.millicast.com/", "..."),
    ("https://evil.test/https://api.dolby.com/", "..."),
    ("https://evil.test?https://api.dolby.com/", "..."),
    ("https://evil.test#https://api.dolby.com/", "..."),
    # Userinfo
    ("https://api.dolby.com@evil.test/", "..."),
    ("https://api.dolby.com:443@evil.test/", "..."),
    ("https://api.dolby.com:443@evil.test:443/", "..."),
    ("https://api.dolby.com%2F@evil.test/", "..."),
    ("https://api.dolby.com%40evil.test/", "..."),
    ("https://user@api.dolby.com@evil.test/", "..."),
    ("https://[api.dolby.com]@evil.test/", "..."),
    ("https://evil.test/@api.dolby.com/", "..."),
    ("https://evil.test?@api.dolby.com/", "..."),
    ("https://evil.test#@api.dolby.com/", "..."),
    # Ports
    ("https://api.dolby.com:80/", "..."),
    ("https://api.dolby.com:8443/", "..."),
    ("https://eu.comms.api.dolby.io:8443/", "..."),
    ("https://gateway.example/", "..."),
    ("https://api.dolby.com:65536/", "x.."),
    # Truncated to 16 bits, this port is 443
    ("https://api.dolby.com:65979/", "x.."),
    ("https://api.dolby.com:-443/", "x.."),
    # Truncated to 16 bits, this port is 80. The resolver of the system does that.
    ("http://localhost:65616/", "x.."),
    ("http://localhost:-1/", "x.."),
    ("https://api.dolby.com:443:443/", "xxx"),
    ("https://api.dolby.com:443.evil.test/", "xxx"),
    ("https://api.dolby.com:evil.test/", "xxx"),
    # A trailing dot
    ("https://api.dolby.com./", "..."),
    ("https://api.dolby.com../", "..."),
    ("https://api.dolby.com.:443/", "..."),
    ("https://comms.api.dolby.io./", "..."),
    ("https://api.dolby.com%2e/", "..."),
    ("https://api.dolby.com\u3002/", "x.."),
    ("http://localhost./", "..."),
    # Names in other scripts, confusable and invisible characters
    ("https://\u0430pi.dolby.com/", "..."),
    ("https://api.dolby.c\u043em/", "..."),
    ("https://xn--pi-7kc.dolby.com/", "..."),
    ("https://api.do\u0131by.com/", "..."),
    ("https://ap\u0130.dolby.com/", "..."),
    ("https://\u212aomms.api.dolby.io/", "..."),
    ("https://bucher.example/", "..."),
    ("https://BU\u0308CHER.example/", "xxx"),
    ("https://\uff41pi.dolby.com/", "xxx"),
    ("https://api.dolby.\u2102om/", "xxx"),
    ("https://api.dol\u00adby.com/", "xxx"),
    ("https://api.dolby\u200b.com/", "xxx"),
    ("https://api.dolby\u200d.com/", "xxx"),
    ("https://api.dolby.com\u2024evil.test/", "xxx"),
    ("https://api.dolby.com\uff0fevil.test/", "xxx"),
    ("https://evil.test\uff20api.dolby.com/", "xxx"),
    ("https://api.dolby.com\u2100.evil.test/", "xxx"),
    # Escapes in the host
    ("https://api.dolby.com%2f.evil.test/", "..."),
    ("https://api.dolby.com%23.evil.test/", "..."),
    ("https://api.dolby.com%5c.evil.test/", "..."),
    ("https://evil.test%2f.comms.api.dolby.io/", "..."),
    ("https://api.dolby.com%20/", "..."),
    ("https://api.dolby.com%00.evil.test/", "?.."),
    ("https://api.dolby.com%0a/", "?.."),
    ("https://api.dolby.com%/", "x.."),
    # Unusual IPv4 notations: the resolver would read most of them as 127.0.0.1
    ("http://127.1/", "..."),
    ("http://0x7f.0.0.1/", "..."),
    ("http://0x7f000001/", "..."),
    ("http://2130706433/", "..."),
    ("http://0177.0.0.1/", ".xx"),
    ("http://127.0.0.01/", ".xx"),
    ("http://127.0.0.1./", "..."),
    ("http://\uff11\uff12\uff17.0.0.1/", "xxx"),
    ("http://127.0.0.2/", "..."),
    ("http://0.0.0.0/", "..."),
    ("http://0/", "..."),
    # IPv6, and scoped addresses
    ("http://[::1]/", "..."),
    ("http://[::1%25eth0]:8443/", "..."),
    ("http://[::1%eth0]:8443/", "..."),
    ("http://[::ffff:127.0.0.1]:8443/", "..."),
    ("http://[::ffff:7f00:1]:8443/", "..."),
    ("https://[::]:8443/", "..."),
    ("http://[::1]evil.test:8443/", "xxx"),
    ("http://evil.test[::1]:8443/", "xxx"),
    ("https://[api.dolby.com]/", "xxx"),
    ("http://::1:8443/", "xxx"),
    # Backslashes
    ("https://evil.test\\.api.dolby.com/", "..."),
    ("https://evil.test\\/api.dolby.com/", "..."),
    ("https://evil.test\\.comms.api.dolby.io/", "..."),
    ("https:\\\\api.dolby.com/", "xxx"),
    ("https:/\\api.dolby.com/", "xxx"),
    # Tabs, newlines, spaces and other characters that some parsers remove
    ("https://api.dolby.com\t/", "?xx"),
    ("https://api.dolby.com\t.evil.test/", "?xx"),
    ("https://api.\ndolby.com/", "?xx"),
    ("https://api.dolby.com\r\n.evil.test/", "?xx"),
    ("https:/\t/api.dolby.com/", "xxx"),
    ("ht\ttps://api.dolby.com/", "xxx"),
    ("\x00https://api.dolby.com/", "xxx"),
    ("https://api.dolby.com\x00.evil.test/", "?xx"),
    ("https://api.dolby.com\x7f/", "?xx"),
    ("https://api.dolby.com\u00a0/", "xxx"),
    ("https://api.dolby.com\u2028.evil.test/", "xxx"),
    ("https://api.dolby.com /", "?.."),
    ("https:// api.dolby.com/", "?.."),
    # Plain http
    ("http://api.dolby.com/", "..."),
    ("HTTP://api.dolby.com/", "..."),
    ("http://api.dolby.com:443/", "..."),
    ("http://eu.comms.api.dolby.io:443/", "..."),
    ("ws://api.dolby.com/", "x.."),
    ("ws://api.dolby.com:443/", "x.."),
    # Other schemes, and missing schemes
    ("ftp://api.dolby.com/", "xxx"),
    ("file://api.dolby.com/", "xxx"),
    ("httpss://api.dolby.com/", "xxx"),
    ("https+unix://api.dolby.com/", "xxx"),
    ("javascript:https://api.dolby.com/", "xxx"),
    ("api.dolby.com/", "xxx"),
    ("api.dolby.com:443/", "xxx"),
    ("//api.dolby.com/", "xxx"),
    ("https:api.dolby.com/", "xxx"),
    ("https:/api.dolby.com/", "xxx"),
    ("https:///api.dolby.com/", "xxx"),
    ("://api.dolby.com/", "xxx"),
]

# Different spellings of the token endpoint. A server may normalise a path that the library sends unchanged.
TOKEN_ENDPOINT = [
    ("https://api.dolby.io/v1/auth/token", "..."),
    ("https://API.dolby.io:443/v1/auth/token", "..."),
    ("https://api.dolby.io:0/v1/auth/token", "..."),
    ("https://user@api.dolby.io/v1/auth/token", "..."),
    ("wss://api.dolby.io/v1/auth/token", "x.."),
    ("https://api.dolby.io/v1/auth/token?query", "..."),
    ("https://api.dolby.io/v1/auth/token#fragment", "..."),
    ("https://api.dolby.io/v1/auth/token/", "..."),
    ("https://api.dolby.io//v1//auth/token", "..."),
    ("https://api.dolby.io/%761/auth/token", "..."),
    ("https://api.dolby.io/v1/auth%2ftoken", "..."),
    ("https://api.dolby.io/v1/./auth/token", "..."),
    ("https://api.dolby.io/x/../v1/auth/token", "..."),
    ("https://api.dolby.io/../v1/auth/token", "..."),
    ("https://api.dolby.io/v1/auth/token/x/..", "..."),
    # requests decodes these to dots and does not resolve them.
    ("https://api.dolby.io/v1/%2e/auth/token", "..."),
    ("https://api.dolby.io/x/%2e%2e/v1/auth/token", "..."),
    ("https://api.dolby.io/x/.%2E/v1/auth/token", "..."),
    ("https://api.dolby.io/x/..%2fv1/auth/token", "..."),
    ("https://api.dolby.io/v1/auth/token;params", "..."),
    ("https://api.dolby.io/v1;a=b/auth;c/token", "..."),
    ("https://api.dolby.io/v1/auth/token%3bparams", "..."),
    ("https://api.dolby.io/v1\\auth\\token", "..."),
    ("https://api.dolby.io/v1/auth%5Ctoken", "..."),
]


@pytest.mark.parametrize(("url", "expected"), MAY)
def test_a_connection_to_an_allowed_host_carries_the_token(callers: dict[str, Caller], url: str, expected: str) -> None:
    assert expected == outcomes(callers, url)


@pytest.mark.parametrize(("url", "expected"), MAY_NOT)
def test_a_connection_to_another_host_carries_no_token(callers: dict[str, Caller], url: str, expected: str) -> None:
    assert outcomes(callers, url) in {expected.replace("?", "."), expected.replace("?", "x")}


@pytest.mark.parametrize(("url", "expected"), TOKEN_ENDPOINT)
def test_no_spelling_of_the_token_endpoint_gets_a_token(callers: dict[str, Caller], url: str, expected: str) -> None:
    assert expected == outcomes(callers, url)


@pytest.mark.parametrize(
    ("token_url", "url"),
    [
        ("https://API.dolby.io:443/v1/auth/token", TOKEN_URL),
        ("https://api.dolby.io:0443//v1//auth/token/", TOKEN_URL),
        ("https://api.dolby.io/v1/./auth/token?tenant=1", TOKEN_URL),
        ("https://api.dolby.io/x/../v1/auth/token", TOKEN_URL),
        ("https://api.dolby.io/x/%2e%2e/%761/auth/token", TOKEN_URL),
        ("https://api.dolby.io/v1/auth/token;v=1", TOKEN_URL),
        # This path must be decoded once, not twice.
        ("https://api.dolby.io/a%2541/token", "https://api.dolby.io/a%2541/token"),
        ("https://gateway.example:8443", "https://gateway.example:8443/?a"),
        ("http://localhost", "http://LOCALHOST:80//"),
        ("http://localhost:80/token", "http://localhost:0/token"),
        ("https://[::1]:8443/token", "https://[0:0::1]:8443/token"),
        ("https://xn--bcher-kva.example/token", "https://b\u00fccher.example/token"),
    ],
)
@pytest.mark.parametrize("library", LIBRARIES)
def test_no_spelling_of_the_token_url_argument_opens_the_token_endpoint(
    callers: dict[str, Caller], library: str, token_url: str, url: str
) -> None:
    subject = callers[library]

    assert subject.outcome(url, subject.make_auth(token_url=token_url))[0] == "."


@pytest.mark.parametrize("library", LIBRARIES)
def test_another_port_of_its_host_is_not_the_token_endpoint(callers: dict[str, Caller], library: str) -> None:
    subject = callers[library]

    assert subject.outcome("http://localhost:8000/v1/auth/token", subject.local_auth)[0] == "T"


# Our parser against the parsers of the libraries

# The suite tries the same inputs each time. `nox -s fuzz` tries others.
TRIES = hypothesis.settings(
    max_examples=120, derandomize=True, database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
)


def _pieces(text: str) -> list[str]:
    return text.split("|")


_USUAL = {"scheme": "https", "slashes": "://", "userinfo": "", "port": "", "rest": ""}
_ODD = {
    "scheme": _pieces("http|HTTPS|hTTp|wss|WSS|ws|ftp|https+x|ht\ttps| https|\x00https|"),
    "slashes": _pieces(":/|:|:///|:\\\\|://\\|:/\t/"),
    "userinfo": _pieces("u:p@|api.dolby.com@|api.dolby.com\\@|evil.test\\@|a@b@|%40@|e%2f@|[@|#@|?@|/@|e:1@"),
    "port": _pieces(
        ":|:443|:0443|:80|:8443|:0|:65616|:65979|:-1|:+443|:\uff14\uff14\uff13|: 443|:443:443|:443@evil.test"
    ),
    "rest": _pieces("?|?q=//|?@evil.test/|#f|#@evil.test|\\| "),
}
_HOSTS = _pieces("api.dolby.com|api.dolby.io|eu.comms.api.dolby.io|gateway.example|b\u00fccher.example|evil.test")
_HOSTS += _pieces("localhost|127.0.0.1|127.1|[::1]|[0:0::1]")
_INSERTED = _pieces(
    ".|\u3002|-|x|\u00ad|\u200d|\u0301|\t|\n|\\|\\@|@|:|#|/|?|*|[|]| |;|xn--|\uff20|.evil.test|evil.test."
)
_INSERTED += _pieces("%2e|%00|%25|%5c|%zz|%25eth0")
_REPLACED: list[Callable[[str], str]] = [
    str.upper,
    lambda letter: f"%{ord(letter):02x}",
    lambda letter: chr(ord(letter) + 0xFEE0),  # full width
    lambda letter: {"a": "\u0430", "o": "\u043e", "i": "\u0131", "c": "\u2102", ".": "\u2024"}.get(letter, letter),
]
_ENDS = _pieces(".|.evil.test|%2e|\u3002")
_STEPS = _pieces("/|//|/v1|/auth|/token|/..|/.|/%2e%2e|/x|/%761|;a|%3b|\\|%2f|@evil.test")
_TOKEN_PATHS = _pieces("/v1/auth/token|//v1/x/../auth/./token/|/x/%2e%2e/v1/auth/token|/v1;a/auth/tok%65n;b")


@st.composite
def urls(draw: st.DrawFn) -> str:
    """URL-like strings with up to three constructs that are known to confuse parsers."""
    parts = dict(_USUAL)
    aimed = draw(st.booleans())
    if aimed:
        host = draw(st.sampled_from(["api.dolby.io", "localhost"]))
        path = draw(st.sampled_from(_TOKEN_PATHS)) + draw(st.sampled_from(["", *_STEPS]))
    else:
        host = draw(st.sampled_from(_HOSTS))
        path = draw(st.lists(st.sampled_from(_STEPS), max_size=5).map("".join))
    for odd in draw(st.lists(st.sampled_from(["insert", "replace", "end", "port", *_ODD]), max_size=1 if aimed else 3)):
        if odd in parts:
            parts[odd] = draw(st.sampled_from(_ODD[odd]))
        elif odd == "end":
            host += draw(st.sampled_from(_ENDS))
        else:
            at = draw(st.integers(0, len(host) - 1))
            if odd == "insert":
                host = host[:at] + draw(st.sampled_from(_INSERTED) | st.characters(exclude_categories=())) + host[at:]
            else:
                host = host[:at] + draw(st.sampled_from(_REPLACED))(host[at]) + host[at + 1 :]
    return f"{parts['scheme']}{parts['slashes']}{parts['userinfo']}{host}{parts['port']}{path}{parts['rest']}"


def may_have_it(call: Call) -> bool:
    """Whether the documented rule allows the token on this connection."""
    host, port, tls = call.dialled
    if ":" in host:
        return ipaddress.IPv6Address(host) == ipaddress.IPv6Address("::1") and port == 8443
    if host in ("localhost", "127.0.0.1"):
        return 0 < port < 65_536
    if host == "gateway.example":
        return tls and port == 8443
    if re.fullmatch(r"([a-z0-9_-]+\.)*comms\.api\.dolby\.io", host):
        return tls and port == 443
    return tls and port == 443 and host in ("api.dolby.com", "api.dolby.io", "xn--bcher-kva.example")


def is_token_endpoint(call: Call, origin: tuple[str, int, bool]) -> bool:
    path = re.sub(";[^/]*", "", unquote(call.target.partition("?")[0]).replace("\\", "/"))
    return call.dialled == origin and posixpath.normpath("/" + path.lstrip("/")) == "/v1/auth/token"


@TRIES
@hypothesis.given(url=urls())
def agreement(callers: dict[str, Caller], seen: Counter[str], url: str) -> None:
    local = "localhost" in url
    origin = ("localhost", 80, False) if local else ("api.dolby.io", 443, True)
    for name, subject in callers.items():
        outcome, call = subject.outcome(url, subject.local_auth if local else subject.auth)
        seen[outcome] += 1
        if call is not None:
            guarded = is_token_endpoint(call, origin)
            seen["token endpoint"] += guarded
            may = may_have_it(call) and not guarded
            assert may or outcome == ".", name
            # requests normalises some URLs only when it connects. The check may be stricter and send no token.
            assert outcome == "T" or not may or name == "requests, late", name


def test_check_and_library_agree_on_any_url(callers: dict[str, Caller]) -> None:
    """Exactly the connections to allowed hosts carry the token, except those to the token endpoint."""
    seen: Counter[str] = Counter()

    agreement(callers, seen)

    assert min(seen["T"], seen["."], seen["x"]) > 80 and seen["token endpoint"] > 15, seen


class KeepsAuth(requests.Session):
    """A user's session that never removes a header on a redirect."""

    def should_strip_auth(self, old_url: str, new_url: str) -> bool:
        return False


def redirected(session: requests.Session, location: str) -> tuple[Network, tuple[str, int, bool]]:
    """A call of a URL beside the token endpoint, which is redirected to *location*; and the token endpoint's origin."""
    network = Network()
    network.location = location
    local = "localhost" in location
    options = {"token_url": "http://localhost/v1/auth/token"} if local else {}
    auth = dolby_auth_plugin.DolbyAuth(**{**CLASSIC, "allowed_hosts": ALLOWED, **options})
    send_with(auth, ScriptedSender())
    session.trust_env = False
    for prefix in ("https://", "http://"):
        session.mount(prefix, network.adapter())
    with session, suppress(requests.RequestException, ValueError):
        session.get("http://localhost/jobs" if local else "https://api.dolby.io/jobs", auth=auth)
    return network, ("localhost", 80, False) if local else ("api.dolby.io", 443, True)


def assert_no_token_where_none_belongs(session: requests.Session, location: str) -> int:
    """The number of connections after the redirect that carried the token."""
    network, origin = redirected(session, location)
    assert network.calls[0].has_token
    for call in network.calls[1:]:
        assert not call.has_token or (may_have_it(call) and not is_token_endpoint(call, origin)), call.dialled
    return sum(call.has_token for call in network.calls[1:])


@pytest.mark.parametrize("session", [requests.Session, KeepsAuth])
@pytest.mark.parametrize(
    "location",
    [
        "http:////localhost/v1/auth/token",
        "http://localhost\\@localhost/v1/auth/token",
        "https:////api.dolby.io/v1/auth/token",
        "https://api.dolby.io\\@api.dolby.io/v1/auth/token",
        "http:////evil.test/",
        "http://evil.test\\@evil.test/",
        "//evil.test/",
        "http:///evil.test/",
        "https://[evil.test/",
        "https://api.dolby.io:x/",
    ],
)
def test_a_redirect_is_read_as_requests_reads_it(session: type[requests.Session], location: str) -> None:
    """Python 3.13 reads four slashes as a path on the same host."""
    assert_no_token_where_none_belongs(session(), location)


@hypothesis.settings(TRIES)
@hypothesis.given(url=urls(), session=st.sampled_from([requests.Session, KeepsAuth]))
def redirects(seen: Counter[str], url: str, session: type[requests.Session]) -> None:
    # These characters would end the header.
    hypothesis.assume(not re.search(r"[\r\n\0]", url))
    seen["token" if assert_no_token_where_none_belongs(session(), url) else "no token"] += 1


def test_no_redirect_takes_the_token_where_none_belongs() -> None:
    seen: Counter[str] = Counter()

    redirects(seen)

    assert min(seen["token"], seen["no token"]) > 20, seen


# Special features of the libraries


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/auth/token",
        "/v1/auth/token",
        b"//v1/auth/token?a=b",
        b"https://api.dolby.io/v1/auth/token",
        b"/v1/auth/token#a",
    ],
)
@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_the_target_extension_counts_instead_of_the_path(
    callers: dict[str, Caller], library: str, target: bytes | str
) -> None:
    outcome, call = callers[library].outcome("https://api.dolby.io/x", extensions={"target": target})

    assert outcome == "."
    assert call is not None
    assert "token" in call.target


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_a_request_with_another_target_carries_the_token(callers: dict[str, Caller], library: str) -> None:
    assert callers[library].outcome("https://api.dolby.io/x", extensions={"target": b"*"})[0] == "T"


@pytest.mark.parametrize(
    ("url", "has_token"),
    [
        ("wss://api.dolby.com/", True),
        ("wss://evil.test/", False),
        ("ws://api.dolby.com/", False),
        ("ws://localhost/", True),
        ("wss://api.dolby.io/v1/auth/token", False),
    ],
)
def test_a_websocket_follows_the_same_rule_as_a_request(callers: dict[str, Caller], url: str, has_token: bool) -> None:
    subject = callers["httpx2"]
    subject.network.calls.clear()

    with pytest.raises(WebSocketUpgradeError), subject.client.websocket(url, auth=subject.auth):
        raise AssertionError

    [call] = subject.network.calls
    assert has_token == call.has_token


@pytest.mark.parametrize(
    ("base_url", "url", "expected", "target"),
    [
        ("https://api.dolby.com/media", "jobs", "T", "/media/jobs"),
        ("https://api.dolby.com/media", "//evil.test/jobs", "T", "/media/jobs"),
        ("https://api.dolby.com/media", "https://evil.test/", ".", "/"),
        ("https://api.dolby.com/media", "\\\\evil.test/", "T", "/media/\\\\evil.test/"),
        ("https://api.dolby.com/media", "@evil.test/", "T", "/media/@evil.test/"),
        ("https://evil.test/", "https://api.dolby.com/jobs", "T", "/jobs"),
        ("https://evil.test/", "//api.dolby.com/jobs", ".", "/jobs"),
        ("https://api.dolby.com@evil.test/", "jobs", ".", "/jobs"),
        ("https://api.dolby.io/v1", "auth/token", ".", "/v1/auth/token"),
        ("https://api.dolby.io/x/", "../v1/auth/token", ".", "/v1/auth/token"),
        ("https://api.dolby.io/v1/auth/token", "", ".", "/v1/auth/token/"),
        ("wss://api.dolby.io/v1/auth/", "token", ".", "/v1/auth/token"),
    ],
)
@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_the_url_after_joining_with_the_base_url_counts(
    library: str, base_url: str, url: str, expected: str, target: str
) -> None:
    subject = CALLERS[library]()
    subject.client.base_url = base_url

    outcome, call = subject.outcome(url)

    assert call is not None
    assert (expected, target) == (outcome, call.target)


@pytest.mark.parametrize(
    ("prefix", "url", "expected"),
    [
        # requests compares URL prefixes, so it may use an adapter for other hosts too.
        ("https://api.dolby.com", "https://api.dolby.com/", "T"),
        ("https://api.dolby.com", "https://api.dolby.com.evil.test/", "."),
        ("https://api.dolby.com", "https://api.dolby.com@evil.test/", "."),
        ("", "wss://api.dolby.com/", "T"),
        ("", "wss://api.dolby.io/v1/auth/token", "."),
        ("", "wss://api.dolby.com.evil.test/", "."),
        # requests does not normalise such URLs, so the check rejects them.
        ("", "\x00https://api.dolby.com/", "."),
        ("", "\x00https://api.dolby.com\\@evil.test/", "."),
        ("", "\x00https://api.dolby.io/v1/auth/to\tken", "."),
    ],
)
def test_a_mounted_adapter_does_not_change_the_rule(prefix: str, url: str, expected: str) -> None:
    subject = CALLERS["requests"]()
    subject.client.mount(prefix, subject.network.adapter())

    assert expected == subject.outcome(url)[0]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.dolby.com", "T"),
        ("https://api.dolby.com?@evil.test/", "T"),
        ("https://api.dolby.com#@evil.test/", "T"),
        # The adapter parses URLs differently from `prepare`.
        ("https://evil.test\\@api.dolby.com/", "T"),
        ("https://api.dolby.com\\@evil.test/", "."),
        ("https://api.dolby.com\\.evil.test/", "."),
        ("https://api.dolby.com\t.evil.test/", "."),
        ("https://api.dolby.comx", "."),
        ("https://api.dolby.com.", "."),
        ("https://api.dolby.com:0/", "."),
        ("https://api.dolby.com:65979/", "x"),
        # requests decodes the host when it connects. The token is allowed there, but not required.
        ("https://%61pi.dolby.com/", "."),
        ("https://api.dolby.io/x/../v1/auth/token", "."),
        ("https://api.dolby.io/v1/auth/to\tken", "."),
    ],
)
def test_the_changed_url_of_a_prepared_request_counts(callers: dict[str, Caller], url: str, expected: str) -> None:
    assert expected == callers["requests, late"].outcome(url)[0]


def turned(subject: Caller, url: str, to: str) -> Call:
    """A request for *url*. Its URL is changed to *to* after the auth has seen it."""
    subject.network.calls.clear()
    if isinstance(subject.driver, RequestsDriver):
        request = subject.client.prepare_request(requests.Request("GET", url, auth=subject.auth))
        request.url = to
        subject.client.send(request)
    else:

        def turn(request: Any) -> None:
            request.url = subject.driver.library.URL(to)

        subject.client.event_hooks = {"request": [turn]}
        subject.client.get(url, auth=subject.auth)
    [call] = subject.network.calls
    return call


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_url_that_is_changed_after_the_auth_takes_the_token_along(library: str) -> None:
    """`SECURITY.md` lists this among the things that the library does not protect."""
    call = turned(CALLERS[library](), "https://api.dolby.com/", "https://evil.test/")

    assert (call.host, call.has_token) == ("evil.test", True)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_401_after_the_url_was_changed_to_another_host_is_not_retried(library: str) -> None:
    """The caller has sent the header there, but the host gets no new token."""
    subject = CALLERS[library]()
    subject.network.status = 401

    call = turned(subject, "https://api.dolby.com/", "https://evil.test/")

    assert call.host == "evil.test"
    assert sender_of(subject.auth).count == 1


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_request_whose_url_is_changed_to_an_allowed_host_carries_no_token(library: str) -> None:
    """The auth object has not seen the new URL."""
    subject = CALLERS[library]()
    subject.network.status = 401

    call = turned(subject, "https://evil.test/", "https://api.dolby.com/")

    assert (call.host, call.has_token) == ("api.dolby.com", False)
