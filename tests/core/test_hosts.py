"""The origins that may have the token."""

from __future__ import annotations

import gc
import logging
import weakref
from urllib.parse import urlsplit

import pytest

from dolby_auth_plugin import DOLBY_HOSTS
from dolby_auth_plugin._core.hosts import HostPolicy, Origin, check_token_url, is_loopback, policy_for
from dolby_auth_plugin._core.origins import KnownOrigins

from ..fakes import TOKEN_URL


def allowed(url: str, hosts: list[str] | tuple[str, ...] = DOLBY_HOSTS, token_url: str = TOKEN_URL) -> bool:
    parts = urlsplit(url)
    return HostPolicy(hosts, token_url).allowed_host((parts.scheme, parts.hostname or "", parts.port)) is not None


# `promises/test_urls.py` tests many more, with the libraries.


@pytest.mark.parametrize("url", ["https://API.dolby.COM", "https://a.b.comms.api.dolby.io", "wss://comms.api.dolby.io"])
def test_the_hosts_of_dolby_may_have_the_token(url: str) -> None:
    assert allowed(url)


@pytest.mark.parametrize(
    "url",
    [
        *("https://session.voxeet.com", "https://media-api-proxfyprug.s3-accelerate.amazonaws.com"),
        *("https://a%2f.comms.api.dolby.io", "https://a b.comms.api.dolby.io"),
        *("https://eu.comms.api.dolby.io.evil.test", "ftp://api.dolby.com"),
        *("https://localhost", "http://127.0.0.1", "https://[::1]"),
    ],
)
def test_other_origins_may_not_have_the_token(url: str) -> None:
    assert not allowed(url)


LOCAL = ["localhost", "127.0.0.1", "127.9.9.9:81", "[::1]"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://127.9.9.9:81", "https://127.9.9.9:81", "http://[::1]:5"])
def test_a_listed_loopback_host_may_have_the_token_on_any_port_and_over_http(url: str) -> None:
    assert allowed(url, LOCAL)


@pytest.mark.parametrize("url", ["http://127.9.9.9", "http://127.9.9.9:82", "http://sub.localhost", "http://0.0.0.0"])
def test_other_loopback_hosts_may_not_have_the_token(url: str) -> None:
    assert not allowed(url, LOCAL)


def test_a_name_with_a_port_allows_only_that_port() -> None:
    hosts = ["gateway.example:8443"]

    assert allowed("https://gateway.example:8443", hosts)
    assert not allowed("https://gateway.example", hosts)
    assert not allowed("http://gateway.example:8443", hosts)


def test_a_wildcard_may_have_a_port() -> None:
    hosts = ["*.example.com:8443"]

    assert allowed("https://a.example.com:8443", hosts)
    assert not allowed("https://a.example.com", hosts)
    assert not allowed("https://example.com:8443", hosts)


def test_a_wildcard_below_localhost_is_not_loopback() -> None:
    """Only the exact name is known to stay on this machine."""
    assert not allowed("http://a.localhost:80", ["*.localhost"])


def test_an_ipv6_address_is_compared_as_an_address() -> None:
    assert allowed("https://[2001:DB8:0::1]", ["[2001:db8::1]"])


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        *((entry, "whole labels") for entry in ("*", "*.*.example.com", "api.*.com", "a*.example.com")),
        *(
            (entry, "give a name")
            for entry in ("", "*.", "api.dolby.com.", ".api.dolby.com", "api..com", "api dolby.com")
        ),
        *((entry, "without scheme") for entry in ("https://api.dolby.com", "api.dolby.com/")),
        ("user@api.dolby.com", "without userinfo"),
        *((f"api.dolby.com:{port}", "port") for port in ("", "0", "65536", "99999999", "https")),
        *((entry, "xn--") for entry in ("bücher.example", "ａpi.dolby.com")),
        *((entry, "brackets") for entry in ("::1", "[::1", "[::1]x")),
        ("[localhost]", "brackets are for an IPv6 address"),
        ("[fe80::1%eth0]", "scope id"),
        ("[::1]:", "port"),
        *((entry, "four decimal numbers") for entry in ("127.1", "1.2.3.256", "*.0.0.1")),
    ],
)
def test_a_bad_entry_is_a_value_error_that_says_what_is_accepted(entry: str, why: str) -> None:
    with pytest.raises(ValueError, match="allowed_hosts") as caught:
        HostPolicy([entry], TOKEN_URL)

    assert why in str(caught.value)


def test_the_error_for_a_bad_entry_does_not_show_a_password() -> None:
    with pytest.raises(ValueError, match="userinfo") as caught:
        HostPolicy(["user:canary@api.dolby.com"], TOKEN_URL)

    assert "canary" not in str(caught.value)


def test_a_bare_string_is_a_type_error() -> None:
    """It would be taken for a list of one-letter hosts."""
    with pytest.raises(TypeError, match="bare string 'localhost'"):
        HostPolicy("localhost", TOKEN_URL)


def test_an_entry_that_is_not_a_string_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="must be a str, got bytes"):
        HostPolicy([b"localhost"], TOKEN_URL)  # type: ignore[list-item] # the point


def test_a_host_with_colons_that_is_not_an_address_may_not_have_the_token() -> None:
    assert HostPolicy(DOLBY_HOSTS, TOKEN_URL).allowed_host(("https", "api.dolby.com:1:2", None)) is None


def test_a_host_longer_than_any_valid_name_may_not_have_the_token() -> None:
    longest = f"{'a.' * 120}example.com"
    policy = HostPolicy(["*.example.com"], TOKEN_URL)

    assert policy.allowed_host(("https", longest, None)) == f"{longest}:443"
    assert policy.allowed_host(("https", f"aaa.{longest}", None)) is None


# The token endpoint


@pytest.mark.parametrize(
    ("target", "is_one"),
    [
        ("https://api.dolby.io/v1/auth/token?x=1", True),
        ("\x00 https://api.dolby.io/v1/auth/token", True),
        ("/v1/auth/to\tken", True),
        ("/v1/auth/token#x", True),
        ("/media/jobs?token=1", False),
        ("/redirect://api.dolby.io/v1/auth/token", False),
        ("//v1/auth/token", True),
        ("/a%20b", False),
    ],
)
def test_a_target_is_a_path_or_a_whole_url(target: str, is_one: bool) -> None:
    assert is_one == HostPolicy(DOLBY_HOSTS, TOKEN_URL).is_token_path(target)


@pytest.mark.parametrize(
    "url",
    ["https://gateway.example/token?tenant=1", "http://localhost:8000/token", "http://127.0.0.1/", "http://[::1]:1/t"],
)
def test_a_token_url_is_https_or_on_loopback(url: str) -> None:
    assert url == check_token_url(url).geturl()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://api.dolby.io/v1/auth/token", "must be https"),
        ("ftp://api.dolby.io/", "absolute https URL"),
        ("//api.dolby.io/", "absolute https URL"),
        ("https:///token", "absolute https URL"),
        ("", "absolute https URL"),
        ("https://api.dolby.io/#x", "fragment"),
        ("https://api.dolby.io:x/", "malformed host or port"),
        ("https://[::1/", "malformed host or port"),
        ("https://api.dolby.io/a b", "printable ASCII"),
        ("https://api.dolby.io/\n", "printable ASCII"),
        ("https://bücher.example/", "printable ASCII"),
        ("https://evil.test\\@api.dolby.io/", "printable ASCII"),
    ],
)
def test_a_bad_token_url_is_a_value_error(url: str, why: str) -> None:
    with pytest.raises(ValueError, match="token_url") as caught:
        check_token_url(url)

    assert why in str(caught.value)


def test_userinfo_in_the_token_url_is_a_value_error_that_does_not_show_it() -> None:
    with pytest.raises(ValueError, match="userinfo") as caught:
        check_token_url("https://user:canary@api.dolby.io/")

    assert "canary" not in str(caught.value)


def test_a_token_url_that_is_not_a_string_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="token_url must be a str"):
        check_token_url(b"https://api.dolby.io/")  # type: ignore[arg-type] # the point


@pytest.mark.parametrize(
    ("host", "is_one"),
    [
        ("localhost", True),
        ("127.255.0.1", True),
        ("::1", True),
        ("::2", False),
        ("126.255.255.255", False),
        ("128.0.0.1", False),
    ],
)
def test_only_loopback_hosts_are_loopback(host: str, is_one: bool) -> None:
    assert is_one == is_loopback(host)


# Known origins

STORAGE: Origin = ("https", "storage.example", None)


def origins() -> KnownOrigins:
    return KnownOrigins(HostPolicy(DOLBY_HOSTS, TOKEN_URL))


def test_the_path_matters_only_on_the_origin_of_the_token_endpoint() -> None:
    subject = origins()

    for _ in range(2):
        assert subject.allowed_host(("https", "api.dolby.com", None), "/v1/auth/token") == "api.dolby.com:443"
        assert subject.allowed_host(("https", "api.dolby.io", None), "/media/jobs") == "api.dolby.io:443"
        assert subject.allowed_host(("https", "api.dolby.io", None), "/v1/auth/token") is None
        assert subject.allowed_host(STORAGE, "/") is None
    assert subject.path_matters(("https", "api.dolby.io", 443))
    assert not subject.path_matters(("https", "api.dolby.com", None))


def test_origins_are_remembered_up_to_a_limit(caplog: pytest.LogCaptureFixture) -> None:
    """A forgotten one is reported again."""
    subject = origins()

    with caplog.at_level(logging.DEBUG, logger="dolby_auth_plugin"):
        for number in (*range(KnownOrigins.LIMIT + 1), 0):
            subject.allowed_host(("https", f"host{number}.example", None), "/")

    assert len(caplog.messages) == KnownOrigins.LIMIT + 2


def test_a_foreign_origin_is_logged_once_without_its_path(caplog: pytest.LogCaptureFixture) -> None:
    subject = origins()

    with caplog.at_level(logging.DEBUG, logger="dolby_auth_plugin"):
        subject.allowed_host(STORAGE, "/canary")
        subject.allowed_host(STORAGE, "/canary")

    assert ["no token for https://storage.example:443: it is not one of allowed_hosts"] == caplog.messages


@pytest.mark.parametrize(
    "origin",
    [("s" * 300, "a.example", None), ("https", "a" * 300, None), ("https", "a.example", 10**300)],
    ids=["scheme", "host", "port"],
)
def test_an_origin_that_is_too_long_to_be_dialled_is_not_logged(
    origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not remembered either: `test_any_number_of_foreign_origins_takes_less_than_128_kib`."""
    subject = origins()

    with caplog.at_level(logging.DEBUG, logger="dolby_auth_plugin"):
        assert subject.allowed_host(origin, "/") is None
        subject.explain(origin, "/")

    assert [] == caplog.messages


NOT_LISTED = "it is not one of allowed_hosts."
OTHER_PORT = "allowed_hosts names this host for another port."


@pytest.mark.parametrize(
    ("origin", "reason", "entry"),
    [
        (("https", "storage.example", None), NOT_LISTED, "'storage.example'"),
        (("https", "storage.example", 8443), NOT_LISTED, "'storage.example:8443'"),
        (("http", "localhost", None), NOT_LISTED, "'localhost:80'"),
        (("https", "2001:db8::1", None), NOT_LISTED, "'[2001:db8::1]'"),
        (("https", "api.dolby.com", 8443), OTHER_PORT, "'api.dolby.com:8443'"),
        (("https", "us.comms.api.dolby.io", 8443), OTHER_PORT, "'us.comms.api.dolby.io:8443'"),
        (("http", "api.dolby.com", None), "plain http never carries the token.", None),
        (("ftp", "api.dolby.com", None), "its scheme is not https.", None),
        (("https", "api.dolby.com.", None), "allowed_hosts can't name it.", None),
        (("https", "bücher.example", None), "allowed_hosts can't name it.", None),
        (("https", "api.dolby.io", None), "it is the token endpoint, which gets no token.", None),
    ],
)
def test_a_401_without_a_token_is_explained(
    origin: Origin, reason: str, entry: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    origins().explain(origin, "/v1/auth/token")

    assert caplog.messages[0].endswith(f" {reason}" if entry is None else f"add {entry} to allowed_hosts.")
    assert reason in caplog.messages[0]
    if entry is not None:
        port = origin[2] if origin[0] == "https" else 80
        assert HostPolicy([entry.strip("'")], TOKEN_URL).allowed_host((origin[0], origin[1], port)) is not None


def test_a_401_is_explained_once_for_each_of_64_origins(caplog: pytest.LogCaptureFixture) -> None:
    subject = origins()

    for number in [*range(100), *range(100)]:
        subject.explain(("https", f"{number}.example", None), "/")

    assert len(caplog.messages) == 64


def test_a_request_to_the_token_endpoint_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="dolby_auth_plugin"):
        assert origins().allowed_host(("https", "api.dolby.io", None), "/v1/auth/token") is None

    assert ["no token for https://api.dolby.io:443: it is the token endpoint, which gets no token"] == caplog.messages


def test_auth_objects_with_the_same_arguments_share_one_policy() -> None:
    policy = policy_for(["a.example"], TOKEN_URL)

    assert policy_for(["a.example"], TOKEN_URL) is policy
    assert policy_for(["a.example"], "https://gateway.example/token") is not policy
    assert policy_for(["b.example"], TOKEN_URL) is not policy


def test_a_policy_is_freed_with_its_last_user() -> None:
    """A list of hosts may be long."""
    policy = weakref.ref(policy_for(["gone.example"], TOKEN_URL))
    gc.collect()

    assert policy() is None
