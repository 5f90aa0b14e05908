"""The decisions that the source's tests can't reach: values in, values out."""

from __future__ import annotations

from itertools import pairwise

from dolby_auth_plugin import AccessToken, AppCredentials
from dolby_auth_plugin._core.errors import Failure
from dolby_auth_plugin._core.state import Fetch, TokenState
from dolby_auth_plugin._core.token import Instant

from ..fakes import EPOCH
from ..internals import memory_of

HOST, OTHER = "api.dolby.com:443", "comms.api.dolby.io:443"
NOW = Instant(1000.0, EPOCH)
FAILURE = Failure("refused", reason="refused")


def issued(name: str, at: Instant = NOW, life: int = 1800) -> AccessToken:
    return AccessToken.issued(name, None, life, at, 0.0)


def fetched(subject: TokenState, at: Instant = NOW) -> Fetch:
    """The fetch that a caller without a host waits for."""
    fetch = subject.decide(None, None, at)
    assert isinstance(fetch, Fetch)
    return fetch


def with_token(token: AccessToken) -> TokenState:
    subject = TokenState((), 30.0, asks_credentials=False)
    subject.settle(fetched(subject), token, NOW)
    return subject


def test_the_token_may_stay_after_a_refusal() -> None:
    """A shared cache may answer that the token is not replaced. The refused request then gets the same token again."""
    token = issued("one")
    subject = with_token(token)
    assert subject.refuse(token.fingerprint, HOST, NOW)
    fetch = subject.decide(HOST, None, NOW)
    assert isinstance(fetch, Fetch)

    subject.settle(fetch, token, NOW)

    assert subject.decide(HOST, fetch, NOW) is token
    assert subject.ready[0] is token


def test_each_refusal_of_a_token_that_stays_is_charged() -> None:
    """Otherwise every 401 would cause a look-up in the cache."""
    token = issued("one")
    subject = with_token(token)

    refused = 0
    while refused < 20 and subject.refuse(token.fingerprint, HOST, NOW):
        fetch = subject.decide(HOST, None, NOW)
        assert isinstance(fetch, Fetch)
        subject.settle(fetch, token, NOW)
        refused += 1

    assert refused == 4


def test_a_second_host_that_refuses_a_token_is_not_charged() -> None:
    token = issued("one")
    subject = with_token(token)
    hosts = [f"h{number}.example.com:443" for number in range(100)]

    assert all(subject.refuse(token.fingerprint, host, NOW) for host in hosts)


def test_a_token_that_64_hosts_refused_is_refused_by_all() -> None:
    """A wildcard allows any number of hosts. Only so many are remembered, and none that refused the token gets it again."""
    token = issued("one")
    subject = with_token(token)
    hosts = [f"h{number}.example.com:443" for number in range(1000)]
    other = "other.example.com:443"

    for host in hosts:
        assert subject.is_good_for(other, NOW) == (hosts.index(host) < 64)
        assert subject.refuse(token.fingerprint, host, NOW)

    assert not any(subject.is_good_for(host, NOW) for host in hosts)
    assert len(memory_of(subject)[2]) == 64


def test_a_replacement_that_failed_is_not_charged_again() -> None:
    token, now = issued("one"), NOW
    subject = with_token(token)

    for _ in range(20):
        assert subject.refuse(token.fingerprint, HOST, now)
        fetch = subject.decide(HOST, None, now)
        assert isinstance(fetch, Fetch)
        subject.settle(fetch, FAILURE, now)
        assert subject.decide(HOST, None, now) is FAILURE
        now = now.after(3)


def test_a_token_that_has_expired_on_arrival_is_a_failure() -> None:
    subject = TokenState((), 30.0, asks_credentials=False)
    fetch = fetched(subject)

    subject.settle(fetch, issued("late", life=10), NOW.after(10))

    assert isinstance(fetch.outcome, Failure)
    assert fetch.outcome.reason == "expired on arrival"
    assert subject.token is None


def test_a_caller_of_a_discarded_fetch_gets_no_token_that_has_expired_since() -> None:
    subject = TokenState((), 30.0, asks_credentials=False)
    fetch = fetched(subject)
    subject.invalidate(NOW)
    subject.settle(fetch, issued("one", life=10), NOW)

    assert subject.decide(None, fetch, NOW) is fetch.outcome
    assert isinstance(subject.decide(None, fetch, NOW.after(10)), Fetch)


def test_credentials_that_have_just_failed_are_not_sent_again() -> None:
    credentials = AppCredentials("k", "s")
    subject = TokenState((), 30.0, asks_credentials=True)
    first = fetched(subject)
    subject.use_credentials(first, credentials, NOW)
    subject.settle(first, FAILURE, NOW)

    assert subject.use_credentials(Fetch(0.0, is_renewal=False), credentials, NOW) is FAILURE
    assert subject.use_credentials(Fetch(0.0, is_renewal=False), AppCredentials("k", "new"), NOW) is None
    assert subject.use_credentials(Fetch(0.0, is_renewal=False), credentials, NOW.after(3)) is None


def test_the_pause_after_a_failed_renewal_doubles_up_to_48_seconds() -> None:
    subject = with_token(issued("one", life=86_400))
    opened = NOW.after(86_100)

    begun = []
    for second in range(290):
        subject.decide(HOST, None, opened.after(second))
        if subject.fetch is not None:
            begun.append(second)
            subject.settle(subject.fetch, FAILURE, opened.after(second))

    assert [3, 6, 12, 24, 48, 48, 48, 48, 48] == [after - before for before, after in pairwise(begun)]
