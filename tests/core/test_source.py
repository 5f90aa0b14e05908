"""The token source, with a scripted sender and a fake clock."""

from __future__ import annotations

import copy
import gc
import logging
import os
import pickle
import threading
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dolby_auth_plugin import AccessToken, AppCredentials, ScopeWarning, TokenError
from dolby_auth_plugin._core.endpoint import TokenRequest, TokenResponse
from dolby_auth_plugin._core.errors import Failure
from dolby_auth_plugin._core.source import TokenSource, Wait
from dolby_auth_plugin._core.state import Fetch

from ..fakes import KEY, SECRET, FakeClock, ScriptedSender, answer, in_threads, make_source, wait_for_fetches
from ..internals import fetcher_of, is_fetching, is_reset_after_fork, lock_of, refuse, run_fork_hook, set_token, waiting

HOST, OTHER = "api.dolby.com:443", "comms.api.dolby.io:443"
DOWN = Failure("down", reason="down", retryable=True)


def error_of(subject: TokenSource, *arguments: Any) -> TokenError:
    with pytest.raises(TokenError) as caught:
        subject.token(*arguments)
    return caught.value


# Keeping a token


def test_the_token_is_obtained_once_and_kept() -> None:
    sender = ScriptedSender()
    subject = make_source(sender)

    assert ["token-1"] * 3 == [subject.token().value for _ in range(3)]
    assert sender.count == 1


def test_nothing_is_ready_before_the_first_token() -> None:
    assert make_source(ScriptedSender()).ready() is None


def test_a_fresh_token_is_ready() -> None:
    subject = make_source(ScriptedSender())
    token = subject.token()

    assert token is subject.ready()


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


def test_just_before_the_renewal_window_no_token_request_is_sent() -> None:
    sender, clock = ScriptedSender(), FakeClock()
    subject = make_source(sender, clock)
    subject.token()
    clock.advance(1499.9)

    subject.token()

    wait_for_fetches()
    assert sender.count == 1


def test_a_caller_waits_if_the_token_has_expired() -> None:
    sender, clock = ScriptedSender(), FakeClock()
    subject = make_source(sender, clock)
    subject.token()
    clock.advance(1795)

    assert subject.token().value == "token-2"


@pytest.mark.parametrize("move", ["step_wall", "stall_wall"])
def test_a_token_expires_by_either_clock(move: str) -> None:
    """Suspended machines and stepped clocks."""
    sender, clock = ScriptedSender(), FakeClock()
    subject = make_source(sender, clock)
    subject.token()
    getattr(clock, move)(86_400)

    assert subject.token().value == "token-2"


def test_a_wall_clock_set_back_does_not_extend_the_life_of_a_token() -> None:
    sender, clock = ScriptedSender(), FakeClock()
    subject = make_source(sender, clock)
    subject.token()
    clock.step_wall(-86_400)
    clock.advance(1795)

    assert subject.token().value == "token-2"


def test_the_life_of_a_token_starts_before_the_token_request() -> None:
    """Here the answer takes 100 s."""
    clock = FakeClock()
    sender = ScriptedSender(lambda: clock.advance(100) or answer(access_token="abc", expires_in=600))
    subject = make_source(sender, clock, timeout=400)

    token = subject.token()

    assert token.expires_at.timestamp() == clock.time() + 500


@pytest.mark.parametrize("life", [1, 2, 10, 60])
def test_short_lived_tokens_are_used_many_times(life: int) -> None:
    """The renewal window scales with the life. Otherwise every call would begin a fetch."""
    sender, clock = ScriptedSender(life=life), FakeClock()
    subject = make_source(sender, clock)

    for _ in range(100):
        subject.token()
        wait_for_fetches()
        clock.advance(life / 20)

    # 16 calls before renewal opens, at four fifths of the life: 100 / 16, rounded up.
    assert sender.count <= 7


def test_the_token_is_the_last_step() -> None:
    subject = make_source(ScriptedSender())
    token = subject.token()

    assert [token] == list(subject.steps(None, None))


# One fetch at a time


def test_callers_that_start_together_cost_one_token_request() -> None:
    sender = ScriptedSender()
    subject = make_source(sender)

    with sender.held():
        threads_done: list[Any] = []
        crowd = threading.Thread(target=lambda: threads_done.extend(in_threads(32, lambda _: subject.token().value)))
        crowd.start()
        assert sender.arrived.acquire(timeout=5)
    crowd.join(10)

    assert ["token-1"] * 32 == threads_done
    assert sender.count == 1


def test_callers_that_fail_together_get_separate_but_equal_errors() -> None:
    """The callers do not send a token request each."""
    sender = ScriptedSender(*[answer(401, body="")] * 99)
    subject = make_source(sender)

    with sender.held():
        errors: list[Any] = []
        crowd = threading.Thread(target=lambda: errors.extend(in_threads(32, lambda _: subject.token())))
        crowd.start()
        assert sender.arrived.acquire(timeout=5)
    crowd.join(10)

    assert sender.count == 1
    assert {"TokenError"} == {type(error).__name__ for error in errors}
    assert len({str(error) for error in errors}) == 1
    assert len({id(error) for error in errors}) == 32


def test_a_fetch_whose_caller_has_gone_still_serves_the_next_one() -> None:
    """The caller may be cancelled or interrupted. The fetch goes on."""
    sender = ScriptedSender()
    subject = make_source(sender)

    with sender.held():
        steps = subject.steps(None, None)
        assert isinstance(next(steps), Wait)
        steps.close()

    assert subject.token().value == "token-1"
    assert sender.count == 1


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


def test_temporary_failures_are_retried_after_growing_pauses() -> None:
    sender, clock = ScriptedSender(DOWN, answer(503, body=""), answer(429, body="")), FakeClock()

    assert make_source(sender, clock).token().value == "token-4"
    assert [0.5, 1.0, 2.0] == clock.slept


def test_pauses_are_shortened_by_chance() -> None:
    sender, clock = ScriptedSender(DOWN, DOWN), FakeClock()

    make_source(sender, clock, chance=1.0).token()

    assert [0.25, 0.5] == clock.slept


def test_there_are_four_tries_at_most() -> None:
    sender = ScriptedSender(*[DOWN] * 9)

    assert error_of(make_source(sender)).reason == "down"
    assert sender.count == 4


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404])
def test_other_answers_are_not_retried(status: int) -> None:
    sender = ScriptedSender(answer(status, body=""))

    assert status == error_of(make_source(sender)).status_code
    assert sender.count == 1


def test_an_answer_that_is_not_a_token_is_not_retried() -> None:
    sender = ScriptedSender(answer(body="<html>"))

    assert error_of(make_source(sender)).reason == "not a token"
    assert sender.count == 1


def test_an_exception_of_the_sender_becomes_a_token_error() -> None:
    sender = ScriptedSender(ValueError("canary"))

    error = error_of(make_source(sender))

    assert "ValueError" in str(error)
    assert "canary" not in str(error)
    assert (error.__cause__, error.__context__) == (None, None)


def test_an_answer_that_cannot_be_read_is_a_remembered_failure() -> None:
    """Without an outcome, each caller would begin the fetch again at once."""
    sender = ScriptedSender(TokenResponse(200, None, None))  # type: ignore[arg-type] # the point
    subject = make_source(sender)

    assert all(error_of(subject).reason.startswith("TypeError (endpoint.py, line ") for _ in range(3))
    assert sender.count == 1


def test_each_try_gets_a_third_of_the_time_at_most() -> None:
    sender = ScriptedSender()

    make_source(sender, timeout=30).token()

    assert sender.log[0][1] == 10


def test_tries_share_the_time_that_is_left() -> None:
    clock = FakeClock()
    slow = [lambda: clock.advance(9) or DOWN] * 9
    sender = ScriptedSender(*slow)

    error = error_of(make_source(sender, clock, timeout=20))

    assert error.reason == "down"
    assert [pytest.approx(seconds) for _, seconds in sender.log] == [20 / 3, 20 / 3, 0.5]


def test_the_next_try_waits_for_retry_after_if_it_ends_before_the_deadline() -> None:
    sender, clock = ScriptedSender(answer(503, retry_after="7", body="")), FakeClock()

    make_source(sender, clock).token()

    assert clock.slept == [7.0]


def test_a_retry_after_beyond_the_deadline_ends_the_tries() -> None:
    sender, clock = ScriptedSender(answer(503, retry_after="60", body="")), FakeClock()

    error = error_of(make_source(sender, clock))

    assert (60.0, True, []) == (error.retry_after, error.retryable, clock.slept)
    assert sender.count == 1


def test_a_failure_is_remembered_for_three_seconds() -> None:
    """A wrong secret must not cause a flood of token requests."""
    sender, clock = ScriptedSender(*[answer(401, body="")] * 9), FakeClock()
    subject = make_source(sender, clock)

    messages = {str(error_of(subject)) for _ in range(1000)}
    assert (1, 1) == (len(messages), sender.count)

    clock.advance(2.9)
    error_of(subject)
    assert sender.count == 1

    clock.advance(0.2)
    error_of(subject)
    assert sender.count == 2


@pytest.mark.parametrize(("retry_after", "memory"), [("1", 3), ("7", 7), ("31536000", 10)])
def test_retry_after_extends_the_memory_of_a_failure_up_to_ten_seconds(retry_after: str, memory: float) -> None:
    sender, clock = ScriptedSender(answer(429, retry_after=retry_after, body="")), FakeClock()
    subject = make_source(sender, clock, timeout=0.5)
    error_of(subject)

    clock.advance(memory - 0.1)
    error_of(subject)
    clock.advance(0.2)

    assert subject.token().value == "token-2"


def test_a_failed_renewal_affects_no_caller_while_the_token_is_good(caplog: pytest.LogCaptureFixture) -> None:
    """Each failed renewal logs a warning and doubles the pause. A later renewal succeeds."""
    sender, clock = ScriptedSender(), FakeClock()
    subject = make_source(sender, clock)
    subject.token()
    sender.script = [answer(401, body=""), answer(401, body="")]
    clock.advance(1500)

    def values(seconds: float) -> set[str]:
        clock.advance(seconds)
        value = subject.token().value
        wait_for_fetches()
        return {value}

    with caplog.at_level(logging.WARNING, logger="dolby_auth_plugin"):
        assert values(0) == {"token-1"}
        assert (values(2.9), sender.count) == ({"token-1"}, 2)
        assert (values(0.2), sender.count) == ({"token-1"}, 3)
        # The pause has doubled.
        assert (values(5.8), sender.count) == ({"token-1"}, 3)
        assert (values(0.3), sender.count) == ({"token-1"}, 4)

    assert values(0) == {"token-4"}
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2


def test_a_renewal_waits_while_another_failure_is_remembered() -> None:
    """A replacement failed in the time for renewals. The next caller must not ask the endpoint again at once."""
    sender, clock = ScriptedSender(), FakeClock()
    subject = make_source(sender, clock)
    token = subject.token()
    clock.advance(1500)
    refuse(subject, token, HOST)
    sender.script.append(answer(401, body=""))
    error_of(subject, HOST)

    assert subject.token(OTHER) is token
    wait_for_fetches()
    assert sender.count == 2
    clock.advance(3)
    assert subject.token(OTHER) is token
    wait_for_fetches()
    assert sender.count == 3


def test_if_all_renewals_fail_callers_get_the_error_once_the_token_has_expired() -> None:
    sender, clock = ScriptedSender(), FakeClock()
    subject = make_source(sender, clock)
    subject.token()
    sender.script = [answer(401, body="")] * 9
    clock.advance(1794)
    assert subject.token().value == "token-1"
    wait_for_fetches()
    clock.advance(1)

    assert error_of(subject).status_code == 401


# Limits of waiting


def test_no_caller_waits_longer_than_the_timeout() -> None:
    """In real time, with a sender that does not answer."""
    sender = ScriptedSender()
    subject = make_source(sender, clock=None, timeout=0.05)
    subject = TokenSource(real_time(subject, 0.05), TokenError)

    with sender.held():
        errors = in_threads(8, lambda _: subject.token())
        assert {"No token within 0.05 s"} == {str(error).partition(":")[0] for error in errors}
        assert all(error.retryable for error in errors)


def test_an_overdue_fetch_is_ended_and_its_late_token_dropped() -> None:
    sender = ScriptedSender()
    subject = TokenSource(real_time(make_source(sender), 0.05), TokenError)

    with sender.held():
        error_of(subject)
    wait_for_fetches()

    assert subject.ready() is None
    assert error_of(subject).reason == "timed out"


def test_a_caller_does_not_wait_for_ever_for_a_renewal_that_slept_in_a_frozen_process() -> None:
    """The callers that joined it ask again."""
    sender, clock = ScriptedSender(), FakeClock()
    subject = make_source(sender, clock)
    subject.token()
    clock.advance(1500)

    with sender.held():
        subject.token()
        assert sender.arrived.acquire(timeout=5)
        assert sender.arrived.acquire(timeout=5)
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
    subject = make_source(sender, clock)
    subject.token()
    clock.advance(1500)

    with sender.held(), caplog.at_level(logging.WARNING, logger="dolby_auth_plugin"):
        subject.token()
        for _ in range(2):
            assert sender.arrived.acquire(timeout=5)
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


def test_a_caller_that_joined_an_overdue_renewal_asks_again() -> None:
    sender, clock = ScriptedSender(life=100), FakeClock()
    subject = make_source(sender, clock)
    subject.token()
    clock.advance(80)

    with sender.held():
        subject.token()
        for _ in range(2):
            assert sender.arrived.acquire(timeout=5)
        clock.advance(16)  # expired, while the renewal runs
        waiting = subject.steps(None, None)
        assert isinstance(next(waiting), Wait)
        clock.advance(15)  # the renewal is overdue
        assert isinstance(next(waiting), Wait)
    wait_for_fetches()

    assert next(waiting).value == "token-3"  # type: ignore[union-attr] # a token by now


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


def real_time(subject: TokenSource, timeout: float) -> Any:
    fetcher = copy.copy(fetcher_of(subject))
    assert fetcher.send is fetcher_of(subject).send
    fetcher.timeout = timeout
    return fetcher


# Refusals


def test_a_refused_token_is_replaced_for_the_host_that_refused_it() -> None:
    sender = ScriptedSender()
    subject = make_source(sender)
    token = subject.token(HOST)

    assert refuse(subject, token, HOST)
    assert subject.ready() is None
    assert subject.token(HOST).value == "token-2"
    assert subject.token(OTHER).value == "token-2"


def test_a_refused_token_is_used_for_other_hosts_until_it_is_replaced() -> None:
    sender = ScriptedSender()
    subject = make_source(sender)
    token = subject.token(HOST)
    refuse(subject, token, HOST)

    with sender.held():
        waiting = subject.steps(HOST, None)
        assert isinstance(next(waiting), Wait)
        assert token is subject.token(OTHER)


def test_a_caller_that_names_no_host_gets_no_token_that_a_host_refused() -> None:
    subject = make_source(ScriptedSender())
    refuse(subject, subject.token(HOST), HOST)

    assert subject.token().value == "token-2"


def test_many_refusals_of_one_token_cost_one_token_request() -> None:
    sender = ScriptedSender()
    subject = make_source(sender)
    token = subject.token(HOST)

    def refused(_: int) -> str:
        assert refuse(subject, token, HOST)
        return subject.token(HOST).value

    assert ["token-2"] * 32 == in_threads(32, refused)
    assert sender.count == 2


def test_a_late_refusal_does_not_replace_a_newer_token() -> None:
    sender = ScriptedSender()
    subject = make_source(sender)
    old = subject.token(HOST)
    refuse(subject, old, HOST)
    subject.token(HOST)

    assert refuse(subject, old, HOST)

    assert subject.token(HOST).value == "token-2"
    assert sender.count == 2


def test_a_host_that_refuses_every_token_uses_up_the_allowance() -> None:
    """Then callers get its 401s, and the token stays."""
    sender, clock = ScriptedSender(), FakeClock()
    subject = make_source(sender, clock)

    for _ in range(1000):
        refuse(subject, subject.token(HOST), HOST)
        clock.advance(0.059)

    # The first token, four replacements in a row, and two more in 59 s.
    assert sender.count == 7
    assert not refuse(subject, subject.token(HOST), HOST)
    assert subject.ready() is not None


@pytest.mark.parametrize("count", [1, 10, 65, 500])
def test_any_number_of_refusing_hosts_costs_few_token_requests(count: int) -> None:
    sender = ScriptedSender()
    subject = make_source(sender)

    for number in range(1000):
        host = f"h{number % count}.example.com:443"
        refuse(subject, subject.token(host), host)

    assert sender.count <= 5


@pytest.mark.parametrize("every", [2, 3])
def test_one_refusal_of_several_answers_costs_few_token_requests(every: int) -> None:
    """An API with one bad node of two or three, for ten minutes."""
    sender, clock = ScriptedSender(), FakeClock()
    subject = make_source(sender, clock)

    for number in range(6000):
        token = subject.token(HOST)
        if number % every == 0:
            refuse(subject, token, HOST)
        clock.advance(0.1)

    assert sender.count <= 8 + 3 * 9


def test_a_revoked_token_is_replaced_twenty_seconds_after_the_allowance_was_used_up() -> None:
    sender, clock = ScriptedSender(), FakeClock()
    subject = make_source(sender, clock)
    while refuse(subject, subject.token(HOST), HOST):
        pass
    clock.advance(20)

    assert refuse(subject, subject.token(HOST), HOST)
    assert subject.token(HOST).value == f"token-{sender.count}"


def test_if_the_replacement_fails_the_mark_stays_and_a_later_request_fetches_again() -> None:
    sender, clock = ScriptedSender(), FakeClock()
    subject = make_source(sender, clock)
    token = subject.token(HOST)
    sender.script = [answer(401, body="")]
    refuse(subject, token, HOST)

    assert error_of(subject, HOST).status_code == 401
    assert token is subject.token(OTHER)
    clock.advance(3.1)

    assert subject.token(HOST).value == "token-3"


def test_a_refusal_during_a_fetch_joins_it() -> None:
    sender, clock = ScriptedSender(), FakeClock()
    subject = make_source(sender, clock)
    token = subject.token(HOST)
    clock.advance(1500)

    with sender.held():
        subject.token(HOST)
        assert refuse(subject, token, HOST)
        waiting = subject.steps(HOST, None)
        assert isinstance(next(waiting), Wait)
    wait_for_fetches()

    assert next(waiting).value == "token-2"  # type: ignore[union-attr] # a token by now
    assert sender.count == 2


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


def test_a_refusal_of_an_earlier_token_costs_no_token_request() -> None:
    sender = ScriptedSender()
    subject = make_source(sender)
    tokens = []
    for _ in range(50):
        tokens.append(subject.token())
        subject.invalidate()
    present = subject.token()

    assert all(refuse(subject, token, HOST) for token in tokens)
    assert subject.token(HOST) is present
    assert sender.count == 51


# Invalidating


def test_invalidate_forgets_the_token() -> None:
    subject = make_source(ScriptedSender())
    subject.token()

    subject.invalidate()

    assert subject.ready() is None
    assert subject.token().value == "token-2"


def test_invalidate_forgets_a_failure() -> None:
    subject = make_source(ScriptedSender(answer(401, body="")))
    error_of(subject)

    subject.invalidate()

    assert subject.token().value == "token-2"


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


def test_the_failure_of_a_fetch_that_ran_during_invalidate_is_not_remembered() -> None:
    sender = ScriptedSender(answer(401, body=""))
    subject = make_source(sender)

    with sender.held():
        waiting = subject.steps(None, None)
        next(waiting)
        subject.invalidate()
    wait_for_fetches()

    with pytest.raises(TokenError):
        next(waiting)
    assert subject.token().value == "token-2"


# Credentials from a callable


class Vault:
    def __init__(self, *secrets: str) -> None:
        self.secrets = list(secrets)
        self.asked = 0

    def __call__(self) -> AppCredentials:
        self.asked += 1
        return AppCredentials(KEY, self.secrets[0])


def test_a_callable_is_asked_once_per_fetch() -> None:
    vault = Vault(SECRET)
    subject = make_source(ScriptedSender(), credentials=vault)

    subject.token()
    subject.token()
    subject.invalidate()
    subject.token()

    assert vault.asked == 2


def test_a_failure_is_remembered_for_the_credentials_that_failed() -> None:
    sender = ScriptedSender(*[answer(401, body="")] * 9)
    subject = make_source(sender, credentials=Vault(SECRET))

    for _ in range(10):
        error_of(subject)

    assert sender.count == 1


def test_asking_again_does_not_extend_the_memory_of_a_failure() -> None:
    sender, clock = ScriptedSender(answer(401, body="")), FakeClock()
    subject = make_source(sender, clock, credentials=Vault(SECRET))
    error_of(subject)
    clock.advance(2.9)
    error_of(subject)
    clock.advance(0.2)

    assert subject.token().value == "token-2"


def test_new_credentials_are_tried_at_once_after_a_failure() -> None:
    vault = Vault("old")
    subject = make_source(ScriptedSender(answer(401, body="")), credentials=vault)
    error_of(subject)

    vault.secrets = ["new"]

    assert subject.token().value == "token-2"


def test_a_callable_that_raises_is_a_token_error_without_the_text_of_the_exception() -> None:
    def vault() -> AppCredentials:
        raise RuntimeError("canary")

    error = error_of(make_source(ScriptedSender(), credentials=vault))

    assert "credentials() raised RuntimeError" in str(error)
    assert "canary" not in str(error)
    assert (error.__cause__, error.__context__) == (None, None)


def test_a_callable_that_raises_is_not_asked_again_for_three_seconds() -> None:
    asked: list[int] = []
    clock = FakeClock()

    def vault() -> AppCredentials:
        asked.append(1)
        raise RuntimeError

    subject = make_source(ScriptedSender(), clock, credentials=vault)

    for _ in range(5):
        error_of(subject)
    assert len(asked) == 1

    clock.advance(3.1)
    error_of(subject)
    assert len(asked) == 2


def test_a_system_exit_in_a_callable_is_a_token_error() -> None:
    def vault() -> AppCredentials:
        raise SystemExit

    assert error_of(make_source(ScriptedSender(), credentials=vault)).reason == "no credentials"


def test_a_callable_that_returns_something_else_is_a_token_error() -> None:
    subject = make_source(ScriptedSender(), credentials=lambda: ("k", "canary"))

    assert "credentials() returned tuple" in str(error_of(subject))


def test_a_callable_that_takes_all_the_time_leaves_none_for_a_try() -> None:
    clock = FakeClock()
    sender = ScriptedSender()
    subject = make_source(sender, clock, credentials=lambda: clock.advance(30) or AppCredentials(KEY, SECRET))

    assert error_of(subject).reason == "timed out"
    assert sender.count == 0


# Scopes


def test_a_scope_that_was_not_granted_is_a_warning_once() -> None:
    subject = make_source(ScriptedSender(scope="a"), scope="a b")

    with pytest.warns(ScopeWarning, match="did not grant 'b'") as caught:
        subject.token()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        subject.invalidate()
        subject.token()

    assert len(caught) == 1


def test_a_warning_turned_into_an_error_costs_one_call_and_never_the_token() -> None:
    sender = ScriptedSender(scope="a")
    subject = make_source(sender, scope="a b")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ScopeWarning):
            subject.token()
        assert subject.token().value == "token-1"

    assert sender.count == 1
    assert subject.ready() is not None


def test_the_warning_reaches_a_caller_even_if_the_first_caller_has_gone() -> None:
    """Until a caller has got the warning, no token is ready."""
    sender = ScriptedSender(scope="a")
    subject = make_source(sender, scope="a b")
    with sender.held():
        steps = subject.steps(None, None)
        next(steps)
        steps.close()
    wait_for_fetches()

    assert subject.ready() is None
    with pytest.warns(ScopeWarning):
        subject.token()


@pytest.mark.parametrize(("asked", "granted"), [(None, "a"), ("a", "a b"), ("a", None), ("comms:x", "comms:*")])
def test_there_is_no_warning_if_no_scope_is_missing(asked: str | None, granted: str | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_source(ScriptedSender(scope=granted), scope=asked).token()


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


def test_if_no_thread_can_be_started_the_caller_fetches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter shuts down, or a limit is reached."""
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    sender = ScriptedSender()

    assert make_source(sender).token().value == "token-1"
    assert sender.count == 1


@contextmanager
def held_elsewhere(subject: TokenSource) -> Iterator[None]:
    """Inside the block, another thread holds the lock."""
    entered, leave = threading.Event(), threading.Event()
    lock = lock_of(subject)

    def hold() -> None:
        with lock:
            entered.set()
            leave.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert entered.wait(5)
        yield
    finally:
        leave.set()
        holder.join()


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


def test_after_an_interrupt_during_the_start_of_a_thread_the_next_caller_gets_a_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(self: threading.Thread) -> None:
        raise KeyboardInterrupt

    subject = make_source(ScriptedSender())
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        subject.token()
    monkeypatch.undo()

    assert subject.token().value == "token-1"


def test_a_caller_asks_again_if_the_thread_of_its_fetch_never_started(monkeypatch: pytest.MonkeyPatch) -> None:
    sender = ScriptedSender()
    subject = make_source(sender)
    got: list[AccessToken] = []
    waiter = threading.Thread(target=lambda: got.append(subject.token()))

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


def test_a_signal_handler_may_use_the_source_that_it_interrupted() -> None:
    """It runs in the interrupted thread, which may hold the lock."""
    subject = make_source(ScriptedSender())
    token = subject.token()

    with lock_of(subject):
        assert subject.token() is token


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


def test_a_fetch_whose_starter_was_interrupted_still_serves_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interrupt comes after the thread has started."""
    start = threading.Thread.start

    def interrupted(self: threading.Thread) -> None:
        start(self)
        raise KeyboardInterrupt

    sender = ScriptedSender()
    subject = make_source(sender)
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        subject.token()
    monkeypatch.undo()
    wait_for_fetches()

    assert subject.token().value == "token-1"


def test_after_an_interrupt_in_a_caller_that_fetches_the_next_caller_gets_a_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupted = ScriptedSender()
    interrupted.script = [lambda: (_ for _ in ()).throw(KeyboardInterrupt)]
    clock = FakeClock()
    subject = make_source(interrupted, clock)
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with pytest.raises(KeyboardInterrupt):
        subject.token()

    assert subject.token().value == "token-2"


def test_after_a_fork_the_lock_is_new_and_no_fetch_runs() -> None:
    """The fork hook of a child, called in this process."""
    sender = ScriptedSender()
    subject = make_source(sender)
    with sender.held():
        next(subject.steps(None, None))
        with held_elsewhere(subject):
            run_fork_hook()
            assert isinstance(next(subject.steps(None, None)), Wait)
            assert sender.arrived.acquire(timeout=5)

    wait_for_fetches()
    assert subject.ready() is not None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_does_not_wait_for_threads_of_its_parent() -> None:
    """At the fork, a fetch runs and the lock is held, by threads that the child does not have."""
    sender = ScriptedSender()
    subject = make_source(sender)
    with sender.held():
        waiting = subject.steps(None, None)
        next(waiting)
        with held_elsewhere(subject):
            child = os.fork()
            if child == 0:  # pragma: no cover - runs in the child, which coverage does not see
                sender.open()
                os._exit(0 if subject.token().value.startswith("token-") else 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert subject.token().value == "token-1"


def test_a_source_can_be_garbage_collected() -> None:
    """The fork hook does not keep it alive."""
    subject = make_source(ScriptedSender())
    subject.token()
    gone = weakref.ref(subject)
    wait_for_fetches()

    del subject
    gc.collect()

    assert gone() is None


def test_without_token_shares_the_configuration_and_nothing_else() -> None:
    subject = make_source(ScriptedSender())
    subject.token()

    other = subject.without_token()

    assert other.ready() is None
    assert other.token().value == "token-2"


def test_a_pickle_has_the_configuration_and_no_token() -> None:
    subject = make_source(ScriptedSender())
    fetcher_of(subject).send = silent
    token = AccessToken.issued("canary", None, 1800, FakeClock().now(), 0.5)
    set_token(subject, token)

    data = pickle.dumps(subject)
    other = pickle.loads(data)

    assert token.value.encode() not in data
    assert other.ready() is None
    assert fetcher_of(other).timeout == 30.0


def silent(request: TokenRequest, seconds: float) -> Failure:
    """A sender that can be pickled."""
    return DOWN


def test_all_sources_share_one_fork_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """`os.register_at_fork` keeps its functions for ever."""
    hooks: list[Any] = []
    monkeypatch.setattr(os, "register_at_fork", lambda **hook: hooks.append(hook), raising=False)

    sources = [make_source(ScriptedSender()) for _ in range(10)]

    assert all(is_reset_after_fork(source) for source in sources)
    assert hooks == []
