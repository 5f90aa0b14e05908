"""
Which hosts receive the token when a server redirects, with real host names and real TLS.

A forward proxy on loopback resolves the names in `WORLD`. Two servers, one with TLS, act as all of these hosts.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import httpx2
import pytest
import trustme

from dolby_auth_plugin.sandbox import Sandbox

from ..contract import CLASSIC, server_context
from ..drivers import AsyncHttpxDriver, Client, Driver
from ..matrix import ALL, FAMILY, REQUESTS, SYNC, label, matrix
from ..servers import Proxy, Received, Reply, proxying, serving

SENDERS = {driver.name: driver for driver in SYNC}

# Allowed by default: Media, Communications, one of its regions, and the host of the token endpoint.
MEDIA, COMMS, REGION = "https://api.dolby.com", "https://comms.api.dolby.io", "https://au.comms.api.dolby.io"
TOKEN_HOST = "https://api.dolby.io"
TOKEN_URL = f"{TOKEN_HOST}/v1/auth/token"
# Not allowed ("foreign"): two storages, the same host in plain text or on another port, and similar names.
STORAGE, OTHER = "https://storage.example", "https://other.example"
PLAIN, PORT, PLAIN_STORAGE = "http://api.dolby.com", "https://api.dolby.com:8443", "http://storage.example"
LOOKALIKES = [
    "https://api.dolby.com.storage.example",
    "https://xapi.dolby.com",
    "https://x.api.dolby.com",
    "https://api-dolby.com",
    "https://xcomms.api.dolby.io",
    "https://xn--api-dolby.com",
    "https://xn--bcher-kva.example",
]
WORLD = [MEDIA, COMMS, REGION, TOKEN_HOST, STORAGE, OTHER, PLAIN, PORT, PLAIN_STORAGE, *LOOKALIKES]


@dataclass
class World:
    """
    Attributes:
        replies: The responses by URL. Other URLs answer 200 to a token of the auth object, and 401 otherwise.
        trail: The requested URLs in order, each with its `Authorization` header.
        token_requests: The number of token requests that were answered with a token.
    """

    proxy: Proxy
    bundle: Path
    replies: dict[str, Callable[[Received], Reply]] = field(default_factory=dict)
    trail: list[tuple[str, str | None]] = field(default_factory=list)
    token_requests: int = 0

    def answer(self, scheme: str, received: Received) -> Reply:
        url = f"{scheme}://{received.headers['Host']}{received.path}"
        if url == TOKEN_URL and (received.token or "").startswith("Basic "):
            self.token_requests += 1
            return Reply(body=json.dumps({"access_token": f"token-{self.token_requests}"}).encode())
        self.trail.append((url, received.token))
        return self.replies.get(url, guarded)(received)

    @property
    def carriers(self) -> set[str]:
        """The origins that received the token. Includes the proxy, if it saw the token."""
        seen = {"/".join(url.split("/")[:3]) for url, worn in self.trail if is_ours(worn)}
        return seen | {"the proxy" for received in self.proxy.log if "token-" in str(received.headers)}

    def forget(self) -> None:
        self.trail.clear()
        self.proxy.log.clear()


def is_ours(worn: str | None) -> bool:
    return worn is not None and worn.startswith("Bearer token-")


@dataclass
class Rig:
    """An open client of a driver, and a lent client for token requests. Both use the proxy of the world."""

    driver: Driver
    world: World
    client: Client
    lent: dict[str, Any]

    def carry(self, **options: Any) -> None:
        """Give the client a new auth object without a token."""
        auth = self.driver.adapter.DolbyAuth(**{**CLASSIC, **self.lent, **options})
        inner: Any = self.client
        (inner.session if self.driver is REQUESTS else inner.client).auth = auth
        self.world.forget()
        self.world.token_requests = 0

    def travel(self, chain: Chain, method: str = "GET", status: int = 302) -> tuple[str, int, list[int]]:
        """
        Make a call along *chain*. Returns its trail, its status and its history.

        In a trail, each request is the number of its hop, with `+` if it carried the token and `-` if not.
        """
        self.world.forget()
        urls = [url if url == TOKEN_URL else f"{url}/{number}" for number, url in enumerate(chain.hops)]
        self.world.replies = {url: redirect(status, to) for url, to in itertools.pairwise(urls)}
        if chain.guarded is not None:
            # This hop refuses requests without a token.
            there = self.world.replies[urls[chain.guarded]]
            self.world.replies[urls[chain.guarded]] = lambda received: guard(received) or there(received)
        self.world.replies[urls[-1]] = chain.last
        seen = self.client.send(method, urls[0], **({"content": b"job"} if method == "POST" else {}))
        trail = [f"{urls.index(url)}{'+' if is_ours(worn) else '-'}" for url, worn in self.world.trail]
        assert "the proxy" not in self.world.carriers
        return " ".join(trail), seen.status, seen.history

    def expected(self, chain: Chain, status: int = 302) -> tuple[str, int, list[int]]:
        history = [status] * (len(chain.hops) - 1)
        if chain.retried is not None and self.driver is not REQUESTS:
            # After a redirect, the history of requests contains no 401.
            history.insert(chain.retried, 401)
        return chain.trail, chain.status, history

    @property
    def ways(self) -> list[tuple[str, int]]:
        """Methods and statuses. Async clients share the redirect code of the sync ones, so a few are enough."""
        return WAYS[-2:] if isinstance(self.driver, AsyncHttpxDriver) else WAYS


def redirect(status: int, location: str) -> Callable[[Received], Reply]:
    return lambda _: Reply(status, {"Location": location})


def refuse(_: Received) -> Reply:
    return Reply(401, body=b"refused")


def guard(received: Received) -> Reply | None:
    return None if is_ours(received.token) else Reply(401)


def guarded(received: Received) -> Reply:
    return guard(received) or Reply()


@dataclass(frozen=True)
class Chain:
    """
    Attributes:
        hops: The URLs. Each one redirects to the next.
        trail: The requests that the servers see, in the format of `Rig.travel`.
        status: The status that the caller receives.
        last: The response of the last hop.
        guarded: The number of an earlier hop that refuses requests without a token, or None.
        retried: The index in the full history of a 401 that was retried with the token, or None.
    """

    hops: tuple[str, ...]
    trail: str
    status: int
    last: Callable[[Received], Reply] = refuse
    guarded: int | None = None
    retried: int | None = None


CHAINS = {
    "to a foreign host": Chain((MEDIA, STORAGE), "0+ 1-", 200, last=lambda _: Reply()),
    "to a foreign host that refuses": Chain((MEDIA, STORAGE), "0+ 1-", 401),
    "to a foreign host and on within it": Chain((MEDIA, STORAGE, STORAGE), "0+ 1- 2-", 401),
    "over two foreign hosts": Chain((MEDIA, STORAGE, OTHER), "0+ 1- 2-", 401),
    "to a foreign host in plain text": Chain((MEDIA, PLAIN_STORAGE), "0+ 1-", 401),
    "to the same host in plain text": Chain((MEDIA, PLAIN), "0+ 1-", 401),
    "to plain text and back": Chain((MEDIA, PLAIN, MEDIA), "0+ 1- 2-", 401),
    "to another port of the same host": Chain((MEDIA, PORT), "0+ 1-", 401),
    "to another port and back": Chain((MEDIA, PORT, MEDIA), "0+ 1- 2-", 401),
    "to a foreign host and back": Chain((MEDIA, STORAGE, MEDIA), "0+ 1- 2-", 401),
    "over two foreign hosts and back": Chain((MEDIA, STORAGE, OTHER, MEDIA), "0+ 1- 2- 3-", 401),
    "over a foreign host to another allowed one": Chain((MEDIA, STORAGE, COMMS), "0+ 1- 2-", 401),
    "back and on within the host": Chain((MEDIA, STORAGE, MEDIA, MEDIA), "0+ 1- 2- 3-", 401),
    "back and on to another allowed one": Chain((MEDIA, STORAGE, MEDIA, COMMS), "0+ 1- 2- 3-", 401),
    "within the host": Chain((MEDIA, MEDIA), "0+ 1+", 200, last=guarded),
    "within the host and to a foreign one": Chain((MEDIA, MEDIA, STORAGE), "0+ 1+ 2-", 401),
    "to another allowed host": Chain((MEDIA, COMMS), "0+ 1- 1+", 200, last=guarded, retried=1),
    "over two other allowed hosts": Chain((MEDIA, COMMS, REGION), "0+ 1- 2- 2+", 200, last=guarded, retried=2),
    "over another allowed host to a foreign one": Chain((MEDIA, COMMS, STORAGE), "0+ 1- 2-", 401),
    "over a guarded allowed host to a foreign one": Chain(
        (MEDIA, COMMS, STORAGE), "0+ 1- 1+ 2-", 401, guarded=1, retried=1
    ),
    "to the token URL from another host": Chain((MEDIA, TOKEN_URL), "0+ 1-", 401),
    "over the token URL and back": Chain((MEDIA, TOKEN_URL, MEDIA), "0+ 1- 2-", 401),
    "from a foreign host to an allowed one": Chain((STORAGE, MEDIA), "0- 1-", 401),
    "from plain text to the same host": Chain((PLAIN, MEDIA), "0- 1-", 401),
    "from a foreign host over an allowed one": Chain((STORAGE, MEDIA, MEDIA, OTHER), "0- 1- 2- 3-", 401),
    "between foreign hosts": Chain((STORAGE, OTHER), "0- 1-", 401),
}

WAYS = [("GET", 301), ("POST", 302), ("POST", 303), ("GET", 308), ("GET", 302), ("POST", 307)]


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """Remove the settings of the machine, because with requests they override those of a session."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        yield


@pytest.fixture(scope="module")
def world(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    bundle = tmp_path_factory.mktemp("world") / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    names = {urlsplit(url).hostname or "" for url in WORLD}
    with serving(server_context(authority, *names)) as secure, serving() as plain, proxying() as proxy:
        world = World(proxy, bundle)
        secure.answer = lambda received: world.answer("https", received)
        plain.answer = lambda received: world.answer("http", received)
        for url in WORLD:
            parts = urlsplit(url)
            server = secure if parts.scheme == "https" else plain
            proxy.hosts[f"{parts.hostname}:{parts.port or (443 if server is secure else 80)}"] = server
        # With the final dot, the policy treats it as another host. A resolver treats it as the same.
        proxy.hosts["api.dolby.com.:443"] = secure
        yield world


@pytest.fixture(scope="module")
def rigs(world: World) -> Iterator[Callable[[Driver], Rig]]:
    """One rig per driver, created on first use. Its connections stay open between tests."""
    made: dict[Driver, Rig] = {}
    with ExitStack() as stack:

        def rig(driver: Driver) -> Rig:
            if driver not in made:
                client = stack.enter_context(driver.open(None, **driver.through(world.proxy.url, world.bundle)))
                sync = SENDERS[driver.name]
                lent: Any = stack.enter_context(sync.open(None, **sync.through(world.proxy.url, world.bundle)))
                how = {"session": lent.session} if driver is REQUESTS else {"client": lent.client}
                made[driver] = Rig(driver, world, client, how)
            return made[driver]

        yield rig


@pytest.fixture(params=ALL, ids=label)
def rig(rigs: Callable[[Driver], Rig], request: pytest.FixtureRequest) -> Rig:
    return rigs(request.param)


@pytest.fixture(params=SYNC, ids=label)
def sync_rig(rigs: Callable[[Driver], Rig], request: pytest.FixtureRequest) -> Rig:
    return rigs(request.param)


@pytest.fixture(params=FAMILY, ids=label)
def family_rig(rigs: Callable[[Driver], Rig], request: pytest.FixtureRequest) -> Rig:
    return rigs(request.param)


@pytest.fixture
def requests_rig(rigs: Callable[[Driver], Rig]) -> Rig:
    return rigs(REQUESTS)


# Chains


@matrix("chain", (ALL, CHAINS.items()))
def test_only_allowed_hops_see_the_token_and_the_caller_gets_the_last_response(
    driver: Driver, chain: Chain, rigs: Callable[[Driver], Rig]
) -> None:
    rig = rigs(driver)
    rig.carry()

    seen = {way: rig.travel(chain, *way) for way in rig.ways}

    assert {way: rig.expected(chain, way[1]) for way in rig.ways} == seen
    assert rig.world.token_requests == ("+" in chain.trail)


def test_a_redirect_within_the_host_of_the_token_url_carries_no_token(requests_rig: Rig) -> None:
    chain = Chain((TOKEN_HOST, TOKEN_URL), "0+ 1-", 401)
    requests_rig.carry()

    seen = {way: requests_rig.travel(chain, *way) for way in requests_rig.ways}

    assert {way: requests_rig.expected(chain, way[1]) for way in requests_rig.ways} == seen
    assert requests_rig.world.token_requests == 1


def test_a_401_after_a_redirect_within_the_host_of_the_token_url_is_not_retried(family_rig: Rig) -> None:
    """
    On such a redirect the library keeps the header, and the auth object sees only the last response.

    So the token endpoint may receive a token that it issued. No other host does.
    """
    chain = Chain((TOKEN_HOST, TOKEN_URL), "0+ 1+", 401)
    family_rig.carry()

    seen = {way: family_rig.travel(chain, *way) for way in family_rig.ways}

    assert {way: family_rig.expected(chain, way[1]) for way in family_rig.ways} == seen
    assert family_rig.world.token_requests == 1


def test_the_caller_gets_the_response_of_a_foreign_host_unchanged(rig: Rig) -> None:
    rig.carry()
    challenge = {"WWW-Authenticate": 'Basic realm="storage"', "Set-Cookie": "a=1"}
    rig.world.replies = {
        f"{MEDIA}/": redirect(302, f"{STORAGE}/there?X-Amz-Signature=1"),
        f"{STORAGE}/there?X-Amz-Signature=1": lambda _: Reply(401, challenge, b"whose are you?"),
    }

    seen = rig.client.get(f"{MEDIA}/")

    assert (401, b"whose are you?") == (seen.status, seen.body)
    assert challenge["WWW-Authenticate"] == seen.response.headers["WWW-Authenticate"]
    assert f"{STORAGE}/there?X-Amz-Signature=1" == str(seen.response.url)
    assert "Authorization" not in seen.response.request.headers


def test_history_shows_the_token_that_the_next_hop_did_not_get(rig: Rig) -> None:
    rig.carry()
    rig.world.replies = {f"{MEDIA}/0": redirect(302, f"{STORAGE}/1")}

    [first] = rig.client.get(f"{MEDIA}/0").response.history

    assert is_ours(first.request.headers["Authorization"])


def test_the_next_call_carries_the_token_again(rig: Rig) -> None:
    """A redirect to a foreign host affects only its own call."""
    rig.carry()
    rig.travel(CHAINS["to a foreign host and back"])
    rig.world.forget()

    seen = rig.client.get(f"{MEDIA}/2")

    assert (401, [401]) == (seen.status, seen.history)
    assert [True, True] == [is_ours(worn) for _, worn in rig.world.trail]


# Locations

LOCATIONS = [
    "//storage.example/1",
    "///storage.example/1",
    "/\\storage.example/1",
    "\\\\storage.example/1",
    "https:storage.example/1",
    "https:/storage.example/1",
    "https:///storage.example/1",
    "https:\\\\storage.example\\1",
    "https://user:pw@storage.example/1",
    "https://api.dolby.com@storage.example/1",
    "https://api.dolby.com:443@storage.example/1",
    "https://api.dolby.com%2f@storage.example/1",
    "https://api.dolby.com\\@storage.example/1",
    "https://storage.example\\@api.dolby.com/1",
    "https://storage.example%2f@api.dolby.com/1",
    "https://storage.example#@api.dolby.com/1",
    "https://storage.example?@api.dolby.com/1",
    "https://storage.example/@api.dolby.com/1",
    "https://storage.example\\.api.dolby.com/1",
    "https://api.dolby.com\\.storage.example/1",
    "https://api.dolby.com%2estorage.example/1",
    "https://api.dolby.com\t.storage.example/1",
    "\thttps://storage.example/1",
    "HTTPS://STORAGE.EXAMPLE/1",
    "HTTP://API.DOLBY.COM/1",
    "https://api.dolby.com.:443/1",
    "https://api.dolby.com:8443/1",
    "https://api.dolby.com:08443/1",
    "https://api.dolby.com:80/1",
    # Each character is one byte of UTF-8: a name with an umlaut, and an ideographic full stop.
    "https://b\u00c3\u00bccher.example/1",
    "https://api.dolby.com\u00e3\u0080\u0082storage.example/1",
    "https://xn--bcher-kva.example/1",
    *(f"{url}/1" for url in LOOKALIKES),
]
WITHIN = ["/1", "1", "?x=1", "//api.dolby.com/1", "HTTPS://API.DOLBY.COM/1", "https://api.dolby.com:443/1"]


def test_no_form_of_a_location_sends_the_token_to_a_foreign_host(sync_rig: Rig) -> None:
    """The library decides where a location points, or raises its own error."""
    sync_rig.carry()
    carriers = {}
    for location in LOCATIONS:
        sync_rig.world.forget()
        sync_rig.world.replies = {f"{MEDIA}/0": redirect(302, location)}
        with suppress(sync_rig.driver.host_error, httpx.InvalidURL, httpx2.InvalidURL):
            sync_rig.client.get(f"{MEDIA}/0")
        carriers[location] = sync_rig.world.carriers

    assert {location: {MEDIA} for location in LOCATIONS} == carriers


def test_a_location_within_the_host_keeps_the_token(sync_rig: Rig) -> None:
    sync_rig.carry()
    worn = {}
    for location in WITHIN:
        sync_rig.world.forget()
        sync_rig.world.replies = {f"{MEDIA}/0": redirect(302, location)}
        sync_rig.client.get(f"{MEDIA}/0")
        worn[location] = [is_ours(worn) for _, worn in sync_rig.world.trail]

    assert {location: [True, True] for location in WITHIN} == worn


# Headers of the caller


def test_a_foreign_request_keeps_its_own_authorization_on_redirects(rig: Rig) -> None:
    rig.carry()
    rig.world.replies = {f"{STORAGE}/0": redirect(307, "/1"), f"{STORAGE}/1": refuse}

    seen = rig.client.send("PUT", f"{STORAGE}/0", content=b"sound", headers={"Authorization": "Custom own"})

    assert (401, [307]) == (seen.status, seen.history)
    assert ["Custom own"] * 2 == [worn for _, worn in rig.world.trail]
    assert rig.world.token_requests == 0


def test_a_redirect_from_a_foreign_to_an_allowed_host_adds_no_token(rig: Rig) -> None:
    """The library removes the caller's header. The 401 that follows is not retried."""
    rig.carry()
    rig.world.replies = {f"{STORAGE}/0": redirect(302, f"{MEDIA}/1"), f"{MEDIA}/1": refuse}

    seen = rig.client.get(f"{STORAGE}/0", headers={"Authorization": "Custom own"})

    assert (401, [302]) == (seen.status, seen.history)
    assert ["Custom own", None] == [worn for _, worn in rig.world.trail]
    assert rig.world.token_requests == 0


# Presigned URLs


def test_a_request_to_a_presigned_url_stays_unchanged_even_on_a_similar_host(rig: Rig) -> None:
    rig.carry()
    urls = [f"{host}/in?X-Amz-Credential=AK%2FVI%2Fus&X-Amz-Signature=a%2Bb%3D" for host in (STORAGE, *LOOKALIKES)]
    rig.world.replies = dict.fromkeys(urls, lambda received: Reply(400 if received.token else 200))

    statuses = [(rig.client.send("PUT", url, content=b"sound").status, rig.client.get(url).status) for url in urls]

    assert [(200, 200)] * len(urls) == statuses
    assert (0, set()) == (rig.world.token_requests, rig.world.carriers)


@pytest.fixture(params=ALL, ids=label)
def media(request: pytest.FixtureRequest) -> Iterator[tuple[Sandbox, Client]]:
    """A sandbox and a client with an auth object for it."""
    driver = request.param
    with Sandbox() as sandbox, driver.open(driver.adapter.DolbyAuth(**sandbox.options)) as client:
        yield sandbox, client


def test_uploads_and_downloads_need_no_second_client(media: tuple[Sandbox, Client]) -> None:
    """Media uses presigned URLs for both, and the list of recordings contains one."""
    sandbox, client = media
    put = json.loads(client.send("POST", f"{sandbox.url}/media/input", json={"url": "dlb://in"}).body)["url"]
    client.send("PUT", put, content=b"sound")
    get = json.loads(client.send("POST", f"{sandbox.url}/media/output", json={"url": "dlb://in"}).body)["url"]
    recordings = json.loads(client.get(f"{sandbox.url}/v2/monitor/recordings").body)["recordings"]

    assert b"sound" == client.get(get).body
    assert {200} == {client.get(recording["url"]).status for recording in recordings}
    assert (0, 1) == (sandbox.storage_leaks, sandbox.token_requests)
    assert sandbox.storage_calls == 2 + len(recordings)


@pytest.mark.parametrize("query", ["", "?X-Amz-Signature=forged"])
def test_the_caller_gets_an_error_of_the_storage_and_no_token_is_requested(
    media: tuple[Sandbox, Client], query: str
) -> None:
    sandbox, client = media

    assert client.get(f"{sandbox.storage_url}/dlb/in{query}").status == 403
    assert (0, 0) == (sandbox.storage_leaks, sandbox.token_requests)


# .netrc


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A .netrc file with an entry for each host."""
    path = tmp_path / "netrc"
    names = ("api.dolby.com", "comms.api.dolby.io", "api.dolby.io", "storage.example")
    path.write_text("".join(f"machine {name} login user password pass\n" for name in names))
    monkeypatch.setenv("NETRC", str(path))


NETRC = "Basic dXNlcjpwYXNz"


@pytest.mark.usefixtures("netrc")
@pytest.mark.parametrize(
    "hops", [(MEDIA, STORAGE), (MEDIA, MEDIA), (MEDIA, COMMS), (MEDIA, STORAGE, MEDIA), (MEDIA, PLAIN)], ids=" ".join
)
def test_credentials_from_netrc_on_a_redirect_are_neither_replaced_nor_retried(
    requests_rig: Rig, hops: tuple[str, ...]
) -> None:
    """requests reads .netrc at each hop. Only the first hop carries the token."""
    requests_rig.carry()
    chain = Chain(hops, " ".join(["0+", *(f"{number}-" for number in range(1, len(hops)))]), 401)

    seen = requests_rig.travel(chain)

    assert requests_rig.expected(chain) == seen
    assert [NETRC] * (len(hops) - 1) == [worn for _, worn in requests_rig.world.trail[1:]]


@pytest.mark.usefixtures("netrc")
def test_httpx_ignores_a_netrc_from_the_environment(family_rig: Rig) -> None:
    chain = CHAINS["to a foreign host and back"]
    family_rig.carry()

    seen = family_rig.travel(chain)

    assert family_rig.expected(chain) == seen
    assert [None, None] == [worn for _, worn in family_rig.world.trail[1:]]


# Loopback names


def test_loopback_names_are_different_hosts(sync_rig: Rig) -> None:
    """All ports of a listed name are allowed. Another name for the same address is foreign."""
    adapter = sync_rig.driver.adapter
    with Sandbox() as sandbox, serving() as api, serving() as other:
        api.answer = redirect(302, f"{other.url}/1")
        localhost = other.url.replace("127.0.0.1", "localhost")

        def answer(received: Received) -> Reply:
            if received.path == "/1" and received.token is not None:
                return Reply(302, {"Location": f"{localhost}/2"})
            return Reply(401)

        other.answer = answer
        auth = adapter.DolbyAuth(**{**sandbox.options, "allowed_hosts": ["127.0.0.1"]})
        with sync_rig.driver.open(auth) as client:
            seen = client.get(f"{api.url}/0")

    assert (401, f"{localhost}/2") == (seen.status, str(seen.response.url))
    assert [("/1", False), ("/1", True), ("/2", False)] == [
        (received.path, received.token is not None) for received in other.log
    ]
    assert sandbox.token_requests == 1
