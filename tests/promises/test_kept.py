"""What auth objects and the package keep of the requests that they see: no URL, and little memory."""

from __future__ import annotations

import functools
import gc
import pickle
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import requests_mock

from dolby_auth_plugin import TokenError
from dolby_auth_plugin._core.errors import Failure

from ..contract import CLASSIC
from ..drivers import Client, Driver
from ..fakes import ScriptedSender, wait_for_fetches
from ..internals import send_with
from ..matrix import ALL, REQUESTS, each

PACKAGE = "dolby_auth_plugin"
HOSTS = ["api.dolby.io", "*.example.com"]

# It is in userinfo, paths, queries and long hosts. Hosts have lower case.
WORD = "nightingale"
USERINFO = f"{WORD}:{WORD}@"
REST = f"/{WORD}/{'x' * 4000}?{WORD}={WORD}#{WORD}"

URLS = [
    f"https://{USERINFO}met.example.com{REST}",
    f"https://{USERINFO}storage.example{REST}",
    f"https://{USERINFO}storage.example:0443{REST}",
    f"https://{USERINFO}api.dolby.io/v1/auth/token?{WORD}",
    f"https://{f'{WORD}.' * 30}example/",
    f"https://{f'{WORD}.' * 30}example.com/",
    f"{WORD * 30}://storage.example/",
]


remembering = functools.lru_cache(str)
remembering.__module__ = PACKAGE


def is_ours(thing: Any) -> bool:
    """
    Whether *thing* belongs to the package, or is a container of Python's.

    The cache of `urlsplit` is Python's. It has the last URLs of each process, because the libraries fill it too.
    """
    if isinstance(thing, type | types.FunctionType | type(remembering)):
        return bool(thing.__module__.startswith(PACKAGE))
    module = type(thing).__module__.partition(".")[0]
    return module in (PACKAGE, "builtins", "collections", "functools", "weakref", "_weakrefset") and not isinstance(
        thing, types.ModuleType | types.FrameType
    )


def kept_by(*roots: object) -> str:
    """All texts that are reachable from *roots* and from the modules of the package."""
    waiting: list[Any] = [*roots, *(vars(module) for name, module in sys.modules.items() if name.startswith(PACKAGE))]
    seen: dict[int, Any] = {}
    while waiting:
        thing = waiting.pop()
        if id(thing) not in seen and is_ours(thing):
            seen[id(thing)] = thing
            waiting += gc.get_referents(thing)
    return "\n".join(repr(thing) for thing in seen.values() if isinstance(thing, str | bytes)).lower()


@pytest.mark.parametrize(
    "place",
    [{("a", f"{WORD}!"): 1}, [WORD.encode()], functools.partial(str, WORD), remembering],
    ids=["a key", "bytes", "an argument", "a cache"],
)
def test_the_search_finds_a_text_wherever_it_is_kept(place: Any) -> None:
    remembering(WORD)
    auth = REQUESTS.adapter.DolbyAuth(**CLASSIC)
    assert WORD not in kept_by(auth)

    auth.place = place

    assert WORD in kept_by(auth)


@contextmanager
def answering(driver: Driver, auth: Any, status: int) -> Iterator[Client]:
    """A client with *auth* that gets *status* from every URL, without a network."""
    if driver is REQUESTS:
        adapter = requests_mock.Adapter()
        adapter.register_uri(requests_mock.ANY, requests_mock.ANY, status_code=status)
        with driver.open(auth) as client:
            for prefix in ("https://", "http://", ""):
                client.session.mount(prefix, adapter)  # type: ignore[attr-defined] # it is the client for requests
            yield client
    else:
        transport = driver.library.MockTransport(lambda _: driver.library.Response(status))
        with driver.open(auth, transport=transport) as client:
            yield client


def failing(*_: object) -> Failure:
    return Failure("no", "no")


@each(ALL)
def test_an_auth_object_keeps_no_url_and_shares_no_origin(driver: Driver) -> None:
    """Auth objects with the same hosts share a policy. Neither another one nor a pickle has the origins that this one met."""
    auth, twin = (driver.adapter.DolbyAuth(**CLASSIC, allowed_hosts=HOSTS) for _ in range(2))
    for sender, status in ((ScriptedSender(), 200), (ScriptedSender(), 401), (failing, 401)):
        send_with(auth, sender)
        with answering(driver, auth, status) as client:
            for url in URLS:
                with suppress(TokenError):
                    client.get(url)
    wait_for_fetches()

    pickled = pickle.dumps(auth).decode("latin-1")

    assert "storage.example" in kept_by(auth)
    assert WORD not in kept_by(auth)
    assert [] == [host for host in ("met.example", "storage.example") if host in kept_by(twin) + pickled]
