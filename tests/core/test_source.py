"""The token source, with a scripted sender and a fake clock."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import random
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dolby_auth_plugin import AccessToken, AppCredentials, CredentialsError, TokenError
from dolby_auth_plugin._core.endpoint import TokenResponse
from dolby_auth_plugin._core.errors import Failure
from dolby_auth_plugin._core.fetch import Fetcher
from dolby_auth_plugin._core.source import TokenSource
from dolby_auth_plugin._core.state import Fetch
from dolby_auth_plugin._core.wait import Wait

from ..fakes import KEY, SECRET, FakeClock, Gate, ScriptedSender, answer, make_source, wait_for_fetches
from ..internals import fetcher_of, is_fetching, is_reset_after_fork, lock_of, refuse, run_fork_hook, waiting

HOST, OTHER = "api.dolby.com:443", "comms.api.dolby.io:443"
DOWN = Failure("down", reason="down", retryable=True)


def error_of(subject: TokenSource, *arguments: Any) -> TokenError:
    with pytest.raises(TokenError) as caught:
        subject.token(*arguments)
    return caught.value


# Keeping a token


@pytest.mark.parametrize("move", ["step_wall", "stall_wall"])
def test_a_token_is_not_ready_when_either_clock_has_opened_its_renewal(move: str) -> None:
    """A suspended machine stops the monotonic clock, and a wall clock can be set back."""
    clock = FakeClock()
    subject = make_source(ScriptedSender(), clock)
    subject.token()
    getattr(clock, move)(1500)

    assert subject.ready() is None


def test_a_token_in_its_renewal_window_is_handed_out_and_renewed_in_the_background() -> None:
    """No caller waits, however long the renewal takes."""
    sender, clock = ScriptedSender(), FakeClock()
    subject = make_source(sender, clock)
    subject.token()
    clock.advance(1500)

    with sender.held():
        assert subject.ready() is None
        assert ["token-1"] * 3 == [subject.token().value for _ in range(3)]
        for _ in range(2):
            assert sender.arrived.acquire(timeout=5)
    wait_for_fetches()

    assert subject.token().value == "token-2"
    assert sender.count == 2


def test_the_life_of_a_token_starts_before_the_token_request() -> None:
    """Here the answer takes 100 s."""
    clock = FakeClock()
    sender = ScriptedSender(lambda: clock.advance(100) or answer(access_token="abc", expires_in=600))
    subject = make_source(sender, clock, timeout=400)

    token = subject.token()

    assert token.expires_at.timestamp() == clock.time() + 500


def test_the_token_is_the_last_step() -> None:
    subject = make_source(ScriptedSender())
    token = subject.token()

    assert [token] == list(subject.steps(None, None))


def test_a_fetch_takes_no_random_numbers_from_the_program() -> None:
    """A program may have seeded `random`, with one seed in all its processes, and expects its own numbers from it."""
    fetcher = fetcher_of(make_source(ScriptedSender(DOWN)))
    subject = TokenSource(Fetcher(fetcher.endpoint, fetcher.credentials, fetcher.send, clock=fetcher.clock), TokenError)
    before = random.getstate()

    subject.token()

    assert fetcher.clock.slept
    assert random.getstate() == before


# One fetch at a time


def test_a_caller_that_left_is_not_woken() -> None:
    called: list[str] = []
    fetch = Fetch(0.0, is_renewal=False)
    with Wait(fetch, 1).calling(lambda: called.append("left")):
        assert len(fetch.waiters) == 1

    assert not fetch.waiters
    assert called == []


def test_a_caller_that_comes_after_the_end_is_woken_at_once() -> None:
    called: list[str] = []
    fetch = Fetch(0.0, is_renewal=False)
    fetch.ended = True

    with Wait(fetch, 1).calling(lambda: called.append("woken")):
        assert called == ["woken"]


# The endpoint fails


def test_pauses_are_shortened_by_chance() -> None:
    sender, clock = ScriptedSender(DOWN, DOWN), FakeClock()

    make_source(sender, clock, chance=1.0).token()

    assert [0.25, 0.5] == clock.slept


def test_an_answer_that_cannot_be_read_is_a_remembered_failure() -> None:
    """Without an outcome, each caller would begin the fetch again at once."""
    sender = ScriptedSender(TokenResponse(200, None, None))  # type: ignore[arg-type] # the point
    subject = make_source(sender)

    assert all(error_of(subject).reason.startswith("TypeError (endpoint.py, line ") for _ in range(3))
    assert sender.count == 1


def test_tries_share_the_time_that_is_left() -> None:
    clock = FakeClock()
    slow = [lambda: clock.advance(9) or DOWN] * 9
    sender = ScriptedSender(*slow)

    error = error_of(make_source(sender, clock, timeout=20))

    assert error.reason == "down"
    assert [pytest.approx(seconds) for _, seconds in sender.log] == [20 / 3, 20 / 3, 0.5]


@pytest.mark.parametrize(("retry_after", "memory"), [("1", 3), ("7", 7), ("31536000", 10)])
def test_retry_after_extends_the_memory_of_a_failure_up_to_ten_seconds(retry_after: str, memory: float) -> None:
    sender, clock = ScriptedSender(answer(429, retry_after=retry_after, body="")), FakeClock()
    subject = make_source(sender, clock, timeout=0.5)
    error_of(subject)

    clock.advance(memory - 0.1)
    error_of(subject)
    clock.advance(0.2)

    assert subject.token().value == "token-2"


# Limits of waiting


@contextmanager
def renewing(sender: ScriptedSender, clock: FakeClock) -> Iterator[TokenSource]:
    """A source whose renewal waits for its answer until the end of the block."""
    source = make_source(sender, clock)
    source.token()
    clock.advance(1500)
    with sender.held():
        source.token()
        for _ in range(2):
            assert sender.arrived.acquire(timeout=5)
        yield source


def test_a_caller_does_not_wait_for_ever_for_a_renewal_that_slept_in_a_frozen_process() -> None:
    """The callers that joined it ask again."""
    sender, clock = ScriptedSender(), FakeClock()

    with renewing(sender, clock) as subject:
        clock.advance(3600)
        waiting = subject.steps(None, None)
        assert isinstance(next(waiting), Wait)
        assert sender.arrived.acquire(timeout=5)
    wait_for_fetches()

    assert next(waiting).value == "token-3"  # type: ignore[union-attr] # a token by now
    assert subject.token().value == "token-3"


def test_an_overdue_renewal_counts_as_failed(caplog: pytest.LogCaptureFixture) -> None:
    """It logs a warning and causes a pause. Otherwise a silent endpoint would collect a thread for each timeout."""
    sender, clock = ScriptedSender(), FakeClock()

    with caplog.at_level(logging.WARNING, logger="dolby_auth_plugin"), renewing(sender, clock) as subject:
        clock.advance(30)
        for _ in range(5):
            assert subject.token().value == "token-1"
        clock.advance(2.9)
        assert subject.token().value == "token-1"
        assert not sender.arrived.acquire(timeout=0.05)
        assert len(caplog.records) == 1
        clock.advance(0.2)
        subject.token()
        assert sender.arrived.acquire(timeout=5)

    wait_for_fetches()


@pytest.mark.parametrize("is_overdue", [False, True])
def test_the_failure_of_a_renewal_that_invalidate_discarded_is_not_logged(
    is_overdue: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The record would say that the present token is used, and there is none."""
    sender, clock = ScriptedSender(None, Failure("down", reason="down")), FakeClock()

    with caplog.at_level(logging.WARNING, logger="dolby_auth_plugin"):
        with renewing(sender, clock) as subject:
            subject.invalidate()
            if is_overdue:
                clock.advance(30)
                next(subject.steps(None, None))
        wait_for_fetches()

    assert [] == caplog.records


def test_a_callers_own_timeout_shortens_only_its_own_wait() -> None:
    sender, clock = ScriptedSender(), FakeClock()
    subject = make_source(sender, clock)

    with sender.held():
        impatient, patient = subject.steps(None, 5), subject.steps(None, None)
        assert (next(impatient).seconds, next(patient).seconds) == (5, 30)  # type: ignore[union-attr] # both wait
        clock.advance(5)
        with pytest.raises(TokenError, match="No token within 5 s"):
            next(impatient)
    wait_for_fetches()

    assert next(patient).value == "token-1"  # type: ignore[union-attr] # a token by now


def test_a_callers_longer_patience_does_not_lengthen_its_wait() -> None:
    """It waits for a fetch that `invalidate` discarded, and then for another. Both together take the source's timeout."""
    sender, clock = ScriptedSender(), FakeClock()
    subject = make_source(sender, clock)
    with sender.held():
        next(subject.steps(None, None))
        clock.advance(20)
        subject.invalidate()
        steps = subject.steps(None, 100.0)

        waits = [next(steps)]
        clock.advance(10)
        waits.append(next(steps))

    assert [10, 20] == [wait.seconds for wait in waits if isinstance(wait, Wait)]


# Refusals


@pytest.mark.parametrize("succeeds", [True, False])
def test_a_refusal_beyond_the_allowance_waits_for_a_renewal_that_runs(succeeds: bool) -> None:
    """If the renewal fails, the host gets the old token again: no other token will come."""
    sender, clock = ScriptedSender(life=10), FakeClock()
    subject = make_source(sender, clock)
    while refuse(subject, subject.token(HOST), HOST):
        pass
    old = subject.token(HOST)
    clock.advance(8)

    with sender.held():
        sender.script = [] if succeeds else [answer(401)]
        assert subject.token(HOST) is old  # and a renewal begins
        assert refuse(subject, old, HOST)
        waiting = subject.steps(HOST, None)
        assert isinstance(next(waiting), Wait)
    wait_for_fetches()

    assert (subject.token(HOST) is old) != succeeds


# Invalidating


def test_a_fetch_that_runs_during_invalidate_serves_its_callers_and_its_token_is_not_kept() -> None:
    """A caller that comes after `invalidate` waits for the end of that fetch, and then begins another."""
    sender = ScriptedSender()
    subject = make_source(sender)

    with sender.held():
        before = subject.steps(None, None)
        assert isinstance(next(before), Wait)
        subject.invalidate()
        after = subject.steps(None, None)
        assert isinstance(next(after), Wait)
        assert sender.arrived.acquire(timeout=5)
        assert sender.count == 1
    wait_for_fetches()

    assert next(before).value == "token-1"  # type: ignore[union-attr] # a token by now
    assert isinstance(next(after), Wait)
    wait_for_fetches()
    assert next(after).value == "token-2"  # type: ignore[union-attr] # a token by now


# Credentials from a callable


def test_a_fetch_needs_no_sniffio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only event loops need it."""
    monkeypatch.delitem(sys.modules, "sniffio", raising=False)

    assert make_source(ScriptedSender()).token().value == "token-1"


def test_a_callable_is_asked_once_per_fetch() -> None:
    left = [AppCredentials(KEY, SECRET)] * 2
    subject = make_source(ScriptedSender(), credentials=left.pop)

    subject.token()
    subject.token()
    subject.invalidate()
    subject.token()

    assert left == []


def test_new_credentials_are_tried_at_once_after_a_failure() -> None:
    secrets = ["old", "new"]
    sender = ScriptedSender(answer(401, body=""))
    subject = make_source(sender, credentials=lambda: AppCredentials(KEY, secrets.pop(0)))
    error_of(subject)

    assert subject.token().value == "token-2"


def test_credentials_that_differ_each_time_cost_one_token_request_a_second() -> None:
    """A failure is remembered for the credentials that failed. Others could be right, and would be asked for with each call."""
    serial = itertools.count()
    sender, clock = ScriptedSender(*[answer(401, body="")] * 100), FakeClock()
    subject = make_source(sender, clock, credentials=lambda: AppCredentials(KEY, f"{SECRET}-{next(serial)}"))

    for _ in range(100):
        error_of(subject)
        clock.advance(0.1)

    # One for the first call, one for the next call, and one for each second after that.
    assert sender.count == 11


def test_the_lifetime_in_the_log_begins_when_the_token_is_there(caplog: pytest.LogCaptureFixture) -> None:
    """A vault, or tries that failed, may have taken long."""
    clock = FakeClock()

    def vault() -> AppCredentials:
        clock.advance(20)
        return AppCredentials(KEY, SECRET)

    caplog.set_level(logging.INFO, "dolby_auth_plugin")
    make_source(ScriptedSender(), clock, credentials=vault).token()
    wait_for_fetches()

    assert "lives 1800 s" in caplog.messages[0]


def test_a_system_exit_in_a_callable_is_a_token_error() -> None:
    def vault() -> AppCredentials:
        raise SystemExit

    assert error_of(make_source(ScriptedSender(), credentials=vault)).reason == "no credentials"


def test_the_reason_of_our_own_credentials_errors_is_repeated() -> None:
    """Other exceptions may have a secret in their text. A path may have a newline, which must not forge a log line."""

    def vault() -> AppCredentials:
        raise CredentialsError("a\nb has no app_secret")

    error = error_of(make_source(ScriptedSender(), credentials=vault))

    assert str(error) == "No app key and secret: a\N{REPLACEMENT CHARACTER}b has no app_secret"
    assert error.reason == "no credentials"


def test_a_callable_that_returns_something_else_is_a_token_error() -> None:
    subject = make_source(ScriptedSender(), credentials=lambda: ("k", "canary"))

    assert "credentials() returned tuple" in str(error_of(subject))


def test_a_callable_that_takes_all_the_time_leaves_none_for_a_try() -> None:
    clock = FakeClock()
    sender = ScriptedSender()
    subject = make_source(sender, clock, credentials=lambda: clock.advance(30) or AppCredentials(KEY, SECRET))

    error = error_of(subject)

    assert error.reason == "timed out"
    assert "no token request was sent. Check whether credentials= waits" in str(error)
    assert sender.count == 0


def test_a_caller_whose_own_time_ends_before_the_token_request_is_told_so() -> None:
    gate = Gate(KEY, SECRET)
    subject = make_source(ScriptedSender(), credentials=gate)

    with pytest.raises(TokenError, match="No token within 0 s: no token request was sent"):
        subject.token(timeout=0)

    gate.open()
    wait_for_fetches()


def test_a_refusal_may_fetch_the_replacement_before_any_other_thread_can_begin_to() -> None:
    """Another thread's fetch could not send if this one is in a hook of requests-mock, which holds a lock."""
    runners: list[int] = []
    sender = ScriptedSender(*[lambda: runners.append(threading.get_ident())] * 2)
    subject = make_source(sender)
    old = subject.token(HOST)

    assert subject.refuse(old.fingerprint, HOST, in_caller=True)

    assert runners[1:] == [threading.get_ident()]
    assert subject.ready() is subject.token(HOST) is not old


def test_an_interrupt_in_a_callable_reaches_the_caller_that_runs_it() -> None:
    sender, pairs = ScriptedSender(), [AppCredentials(KEY, SECRET)]

    def vault() -> AppCredentials:
        if not pairs:
            raise KeyboardInterrupt
        return pairs.pop()

    subject = make_source(sender, credentials=vault)
    token = subject.token(HOST)

    with pytest.raises(KeyboardInterrupt):
        subject.refuse(token.fingerprint, HOST, in_caller=True)


def test_a_fault_of_the_library_in_a_caller_is_a_token_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is in a fetch's own thread."""
    subject = make_source(ScriptedSender())
    token = subject.token(HOST)
    monkeypatch.setattr(Fetcher, "obtain", lambda *_: 1 // 0)

    subject.refuse(token.fingerprint, HOST, in_caller=True)

    with pytest.raises(TokenError, match=r"The code that obtains the token raised ZeroDivisionError \("):
        subject.token(HOST)


def test_a_refusal_that_leaves_the_token_fetches_nothing_in_the_caller() -> None:
    sender = ScriptedSender()
    subject = make_source(sender)
    while subject.refuse(subject.token(HOST).fingerprint, HOST, in_caller=True):
        pass

    assert sender.count == 5
    assert subject.ready() is not None


def test_an_interrupt_before_the_fetch_of_a_refusal_leaves_no_fetch_that_others_wait_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sender = ScriptedSender()
    subject = make_source(sender)
    token = subject.token(HOST)

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TokenSource, "_start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            subject.refuse(token.fingerprint, HOST, in_caller=True)

    assert subject.token(HOST).value == "token-2"


def test_a_signal_handler_that_is_refused_begins_no_fetch_of_its_own() -> None:
    """It interrupted the holder of the lock."""
    sender = ScriptedSender()
    subject = make_source(sender)
    token = subject.token(HOST)

    with lock_of(subject):
        assert subject.refuse(token.fingerprint, HOST, in_caller=True)

    assert sender.count == 1


# Logging


def test_an_obtained_and_a_renewed_token_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    subject = make_source(ScriptedSender(scope="b a"), scope="a b")

    with caplog.at_level(logging.DEBUG, logger="dolby_auth_plugin"):
        token = subject.token(HOST)
        refuse(subject, token, HOST)
        subject.token(HOST)
        wait_for_fetches()

    assert caplog.messages == [
        "token obtained: lives 1800 s, scopes a b, took 0.000 s",
        "401 from api.dolby.com:443: the token is replaced",
        "token renewed: lives 1800 s, scopes a b, took 0.000 s",
    ]
    assert [record.levelname for record in caplog.records] == ["INFO", "DEBUG", "INFO"]


@pytest.mark.parametrize(("scope", "text"), [(None, "scopes not named"), ("", "scopes none")])
def test_the_log_distinguishes_no_scopes_from_unnamed_scopes(
    scope: str | None, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="dolby_auth_plugin"):
        make_source(ScriptedSender(scope=scope)).token()
        wait_for_fetches()

    assert text in caplog.text


# Threads, interrupts and forks


def no_thread(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_if_no_thread_can_be_started_a_renewal_is_postponed(monkeypatch: pytest.MonkeyPatch) -> None:
    sender, clock = ScriptedSender(), FakeClock()
    subject = make_source(sender, clock)
    subject.token()
    clock.advance(1500)
    monkeypatch.setattr(threading.Thread, "start", no_thread)

    assert subject.token().value == "token-1"
    monkeypatch.undo()
    subject.token()
    wait_for_fetches()
    assert sender.count == 1
    clock.advance(3)
    subject.token()
    wait_for_fetches()

    assert subject.token().value == "token-2"


def test_a_caller_asks_again_if_the_thread_of_its_fetch_never_started(monkeypatch: pytest.MonkeyPatch) -> None:
    sender = ScriptedSender()
    subject = make_source(sender)
    got: list[AccessToken] = []
    waiter = threading.Thread(target=lambda: got.append(subject.token()), daemon=True)

    def interrupted(self: threading.Thread) -> None:
        # The fetch is known by now, and others wait for it.
        monkeypatch.undo()
        waiter.start()
        while is_fetching(subject) and not waiting(subject):
            pass
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        subject.token()
    waiter.join(5)

    assert ["token-1"] == [token.value for token in got]


def test_a_fetch_that_was_given_up_sends_no_token_request_if_its_thread_starts_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sender = ScriptedSender()
    subject = make_source(sender)
    threads: list[threading.Thread] = []

    def interrupted(self: threading.Thread) -> None:
        threads.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        subject.token()
    monkeypatch.undo()
    threads[0].start()
    threads[0].join(5)

    assert sender.count == 0


def test_no_thread_is_started_while_the_lock_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Thread.start` waits until the new thread runs. No caller may wait for that."""
    start = threading.Thread.start

    def start_while_another_takes_the_lock(self: threading.Thread) -> None:
        other = threading.Thread(target=take_the_lock)
        start(other)
        other.join(5)
        assert not other.is_alive()
        start(self)

    def take_the_lock() -> None:
        with lock_of(subject):
            pass

    subject = make_source(ScriptedSender())
    monkeypatch.setattr(threading.Thread, "start", start_while_another_takes_the_lock)

    assert subject.token().value == "token-1"


def test_a_signal_handler_that_would_wait_for_itself_gets_an_error_at_once() -> None:
    sender = ScriptedSender()
    subject = make_source(sender)

    with lock_of(subject):
        error = error_of(subject)

    assert error.reason == "would wait for itself"
    assert sender.count == 0
    assert subject.token().value == "token-1"


def test_a_signal_handler_gets_no_token_that_its_host_refused() -> None:
    subject = make_source(ScriptedSender())
    token = subject.token(HOST)
    refuse(subject, token, HOST)

    with lock_of(subject):
        assert [token] == list(subject.steps(OTHER, None))
        assert error_of(subject, HOST).reason == "would wait for itself"


def test_a_credentials_callable_that_asks_its_own_source_is_a_token_error() -> None:
    """It would wait for the fetch that waits for it."""

    def ask() -> AppCredentials:
        subject.token()
        return AppCredentials(KEY, SECRET)

    sender = ScriptedSender()
    subject = make_source(sender, credentials=ask)

    assert error_of(subject).reason == "no credentials"
    assert sender.count == 0


def test_after_an_interrupt_in_a_caller_that_fetches_the_next_caller_gets_a_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = make_source(ScriptedSender(lambda: (_ for _ in ()).throw(KeyboardInterrupt)))
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with pytest.raises(KeyboardInterrupt):
        subject.token()

    assert subject.token().value == "token-2"


def test_after_a_fork_the_lock_is_new_and_no_fetch_runs() -> None:
    """The fork hook of a child, called in this process. `test_process.py` forks."""
    sender = ScriptedSender()
    subject = make_source(sender)
    lock = lock_of(subject)
    with sender.held():
        next(subject.steps(None, None))

        run_fork_hook()

        assert (lock_of(subject) is lock, is_fetching(subject)) == (False, False)
    wait_for_fetches()
    assert subject.ready() is not None


def test_a_source_can_be_garbage_collected() -> None:
    """The fork hook does not keep it alive."""
    subject = make_source(ScriptedSender())
    subject.token()
    gone = weakref.ref(subject)
    wait_for_fetches()

    del subject
    gc.collect()

    assert gone() is None


def test_all_sources_share_one_fork_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """`os.register_at_fork` keeps its functions for ever."""
    hooks: list[Any] = []
    monkeypatch.setattr(os, "register_at_fork", lambda **hook: hooks.append(hook), raising=False)

    sources = [make_source(ScriptedSender()) for _ in range(10)]

    assert all(is_reset_after_fork(source) for source in sources)
    assert hooks == []


def test_a_process_that_ends_may_wait_for_its_renewal() -> None:
    sender, clock = ScriptedSender(), FakeClock()
    source = make_source(sender, clock)
    source.token()
    clock.advance(1600)
    with sender.held():
        source.token()
        source.join_fetch(0.01)

        assert is_fetching(source)
    source.join_fetch(30)

    assert source.ready() is not None
    source.join_fetch(30)
