"""Several token sources, each in the place of a process, share a token through one cache."""

from __future__ import annotations

import copy
import itertools
import logging
import pickle
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import pytest

from dolby_auth_plugin import AppCredentials, TokenError
from dolby_auth_plugin._core.endpoint import TokenEndpoint
from dolby_auth_plugin._core.entry import Entry
from dolby_auth_plugin._core.errors import Failure
from dolby_auth_plugin._core.source import TokenSource
from dolby_auth_plugin._core.wait import Wait
from dolby_auth_plugin.caches._sealing import Seal
from dolby_auth_plugin.requests import DolbyAuth

from ..fakes import (
    EPOCH,
    KEY,
    SECRET,
    TOKEN_URL,
    CrowdClock,
    FakeClock,
    MemoryCache,
    Outcome,
    ScriptedSender,
    WrongClock,
    answer,
    in_threads,
    make_source,
    wait_for_fetches,
)
from ..internals import send_with

HOST = "api.dolby.com:443"
DOWN = Failure("down", reason="down", retryable=True)
FINAL = Failure("final", reason="final")
HOURS = 3 * 3600.0

# The operations of a fetch that asks the endpoint, and of one that finds a token.
ASKS = ["load", "lock", "enter", "load", "store", "exit", "fetch_ended"]
FINDS = ["load", "fetch_ended"]


class Fleet:
    """Processes that share a cache, on one clock."""

    def __init__(self, *script: Outcome, clock: Any = None, **options: Any) -> None:
        self.clock: Any = clock or FakeClock()
        self.cache = MemoryCache(self.clock)
        self.sender = ScriptedSender(*script)
        self.options = options

    def process(self, **options: Any) -> TokenSource:
        """A further process."""
        return make_source(self.sender, **{"clock": self.clock, "cache": self.cache, **self.options, **options})

    def processes(self, count: int) -> list[TokenSource]:
        return [self.process() for _ in range(count)]

    def put(self, entry: Entry) -> None:
        """Make *entry* the present one."""
        seal = Seal(AppCredentials(KEY, SECRET), TokenEndpoint(TOKEN_URL, None, 1800, "host/1.0"))
        self.cache.entries[seal.name] = seal.seal(entry)


def value(process: TokenSource, host: str | None = None) -> str:
    return process.token(host).value


def replaced(process: TokenSource, host: str = HOST) -> str:
    """The token after *host* has refused the present one. The same one: the 401 goes to the caller."""
    process.refuse(process.token(host).fingerprint, host)
    return value(process, host)


def fails(process: TokenSource) -> TokenError:
    with pytest.raises(TokenError) as caught:
        process.token()
    return caught.value


def raising(error: BaseException) -> Callable[[], Any]:
    def operation() -> None:
        raise error

    return operation


def crowd(fleet: Fleet, processes: list[TokenSource], work: Callable[[TokenSource], Any]) -> list[Any]:
    """Do *work* in all *processes* at once. Each makes one fetch. An operation of the cache takes a millisecond."""
    fleet.clock.awake = len(processes)
    slow = dict.fromkeys(("load", "enter", "store"), lambda: fleet.clock.sleep(0.001))
    fleet.cache.trouble = {**slow, "fetch_ended": fleet.clock.leave}
    return in_threads(len(processes), lambda number: work(processes[number]))


# One token


def test_another_process_takes_the_token_and_asks_nobody() -> None:
    fleet = Fleet()

    assert ["token-1"] * 3 == [value(process) for process in fleet.processes(3)]
    assert fleet.sender.count == 1
    assert [*ASKS, *FINDS, *FINDS] == fleet.cache.operations


def test_a_process_with_another_scope_has_a_token_of_its_own() -> None:
    fleet = Fleet()

    assert ["token-1", "token-2"] == [value(fleet.process(scope=scope)) for scope in ("comms:a", "comms:b")]


def test_an_expired_token_is_not_taken() -> None:
    fleet = Fleet()
    value(fleet.process())
    fleet.clock.advance(1796)

    assert value(fleet.process()) == "token-2"


def test_processes_that_start_together_make_one_token_request() -> None:
    """The endpoint takes 5 s. The last process has the token a second later at most."""
    fleet = Fleet(lambda: fleet.clock.sleep(5), clock=CrowdClock())

    assert ["token-1"] * 8 == crowd(fleet, fleet.processes(8), value)
    assert fleet.sender.count == 1
    assert fleet.clock.monotonic() <= 1006
    assert not fleet.cache.locks


def test_a_renewal_by_one_process_is_found_by_the_others() -> None:
    """Each process draws its own moment of renewal."""
    fleet = Fleet()
    early, late = fleet.process(), fleet.process(chance=1.0)
    in_order = [early, late]
    assert ["token-1"] * 2 == [value(process) for process in in_order]

    fleet.clock.advance(1500)
    assert (early.ready(), late.ready() is None) == (None, False)
    fleet.clock.advance(90)
    for process in in_order:
        assert value(process) == "token-1"
        wait_for_fetches()

    assert ["token-2"] * 2 == [value(process) for process in in_order]
    assert fleet.sender.count == 2


def test_a_revocation_that_all_notice_at_once_costs_one_token_request() -> None:
    fleet = Fleet(None, lambda: fleet.clock.sleep(0.3), clock=CrowdClock())
    processes = fleet.processes(8)
    assert {"token-1"} == {value(process) for process in processes}

    assert ["token-2"] * 8 == crowd(fleet, processes, replaced)
    assert fleet.sender.count == 2


def test_a_refused_token_that_another_process_has_replaced_costs_no_token_request() -> None:
    fleet = Fleet()
    first, second = fleet.processes(2)
    value(second)
    replaced(first)
    fleet.clock.advance(100)

    assert replaced(second) == "token-2"
    assert fleet.sender.count == 2


# The allowance


def test_all_processes_share_one_allowance() -> None:
    """Four replacements in a row, then one every 20 seconds. Beyond that, the token stays."""
    fleet = Fleet()
    processes = fleet.processes(5)

    def requests_after(seconds: float) -> int:
        fleet.clock.advance(seconds)
        for _ in range(3):
            for process in processes:
                replaced(process)
            fleet.clock.advance(0.1)
        return fleet.sender.count

    assert [5, 5, 6, 6, 7] == [requests_after(seconds) for seconds in (0, 17, 3, 17, 3)]


def test_refusals_that_change_nothing_cause_one_look_a_second() -> None:
    fleet = Fleet()
    process = fleet.process()
    for _ in range(5):
        replaced(process)
    fleet.cache.log.clear()

    for _ in range(30):
        assert replaced(process) == "token-5"
        fleet.clock.advance(0.1)

    assert fleet.cache.operations.count("fetch_ended") == 2
    assert "store" not in fleet.cache.operations


def test_a_token_that_stays_after_a_look_is_not_logged_as_a_new_one(caplog: pytest.LogCaptureFixture) -> None:
    fleet = Fleet()
    process = fleet.process()
    for _ in range(5):
        replaced(process)
    fleet.clock.advance(1.1)
    caplog.clear()
    caplog.set_level(logging.INFO, "dolby_auth_plugin")

    assert replaced(process) == "token-5"
    assert [] == caplog.records


def test_a_denied_replacement_delays_nobody() -> None:
    """All processes look at once, and do not wait for each other."""
    fleet = Fleet(clock=CrowdClock())
    processes = fleet.processes(8)
    for _ in range(4):
        replaced(processes[0])
    assert {"token-5"} == {value(process) for process in processes}
    began = fleet.clock.monotonic()

    assert ["token-5"] * 8 == crowd(fleet, processes, replaced)
    assert fleet.clock.monotonic() - began < 0.1


def test_looks_that_change_nothing_cost_no_allowance() -> None:
    fleet = Fleet()
    process, other = fleet.processes(2)
    for _ in range(5):
        replaced(process)
    for _ in range(19):
        fleet.clock.advance(1)
        assert {"token-5"} == {replaced(process), replaced(other)}
    fleet.clock.advance(1)

    assert replaced(process) == "token-6"


def test_a_process_charges_itself_for_replacements_by_others() -> None:
    """So it replaces no more tokens after a flush of the cache. A new process may."""
    fleet = Fleet()
    first, second = fleet.processes(2)
    value(second)
    for _ in range(4):
        assert replaced(first) == replaced(second)
    fleet.cache.entries.clear()

    assert ["token-5"] * 2 == [replaced(first), replaced(second)]
    assert ["token-6", "token-7"] == [value(new := fleet.process()), replaced(new)]


def test_after_each_flush_of_the_cache_a_process_replaces_at_most_four_tokens_in_a_row() -> None:
    fleet = Fleet()
    processes = fleet.processes(3)
    for _ in range(20):
        for process in processes:
            replaced(process)
            fleet.cache.entries.clear()

    assert fleet.sender.count == 3 + 3 * 4


def test_a_token_is_charged_once_although_its_replacement_failed_first() -> None:
    fleet = Fleet(answer(access_token="token-0", expires_in=1800), FINAL, FINAL, FINAL)
    process = fleet.process()
    process.refuse(process.token().fingerprint, HOST)
    for _ in range(3):
        with pytest.raises(TokenError):
            process.token(HOST)
        fleet.clock.advance(3.1)

    assert value(process, HOST) == "token-5"
    assert ["token-6", "token-7", "token-8", "token-8"] == [replaced(process) for _ in range(4)]


# A failing endpoint


def test_all_processes_share_one_sequence_of_four_tries() -> None:
    clock = CrowdClock()
    fleet = Fleet(*[lambda: clock.sleep(0.3) or DOWN] * 20, clock=clock)  # type: ignore[func-returns-value] # so `or` follows

    errors = crowd(fleet, fleet.processes(8), fails)

    assert {"down"} == {error.reason for error in errors}
    assert fleet.sender.count == 4


def test_processes_continue_the_sequence_of_one_that_died() -> None:
    fleet = Fleet(*[DOWN] * 20)
    fleet.put(Entry(tries=2, failed_at=EPOCH, pause=1.0, failure=DOWN))

    fails(fleet.process())

    assert (fleet.sender.count, fleet.clock.slept) == (2, [1.0, 2.0])


def test_a_stale_sequence_begins_anew() -> None:
    fleet = Fleet(*[DOWN] * 20)
    fleet.put(Entry(tries=3, failed_at=EPOCH - 60, pause=2.0, failure=DOWN))

    fails(fleet.process())

    assert (fleet.sender.count, fleet.clock.slept) == (4, [0.5, 1.0, 2.0])


@pytest.mark.parametrize(("failure", "memory"), [(FINAL, 3.0), (FINAL._replace(retry_after=7.0), 7.0)])
def test_no_process_remembers_a_failure_longer_than_the_first_one(failure: Failure, memory: float) -> None:
    fleet = Fleet(failure)
    first, second = fleet.processes(2)
    fails(first)
    fleet.clock.advance(memory - 0.1)
    fails(second)
    assert fleet.sender.count == 1
    fleet.clock.advance(0.2)

    assert ["token-2"] * 2 == [value(second), value(first)]


def test_retry_after_delays_all_processes() -> None:
    fleet = Fleet(answer(429, retry_after="20", body=""))

    assert ["token-2"] * 2 == [value(process) for process in (fleet.process(timeout=25), fleet.process())]
    assert fleet.clock.slept == [20.0]


def test_the_deadline_of_the_process_that_made_the_try_decides_whether_there_is_another_one() -> None:
    fleet = Fleet(DOWN)
    fails(fleet.process(timeout=0.4))
    fails(fleet.process())
    fleet.clock.advance(3.1)

    assert value(fleet.process()) == "token-2"


def test_a_failed_renewal_leaves_the_good_token_to_new_processes() -> None:
    fleet = Fleet(answer(access_token="token-0", expires_in=1800), *[DOWN] * 4)
    process = fleet.process()
    value(process)
    fleet.clock.advance(1500)
    value(process)
    wait_for_fetches()
    assert fleet.sender.count == 5

    assert value(fleet.process()) == "token-0"


def test_a_cache_that_loses_entries_does_not_make_the_tries_follow_each_other_at_once() -> None:
    fleet = Fleet(*[DOWN] * 20)
    fleet.cache.trouble["load"] = lambda: setattr(fleet.cache, "entries", {})

    fails(fleet.process())

    assert (fleet.sender.count, fleet.clock.slept) == (4, [0.5, 1.0, 2.0])


def test_a_cache_that_gives_an_old_entry_does_not_make_the_tries_follow_each_other_at_once() -> None:
    """As a replica that lags behind does."""
    fleet = Fleet(*[DOWN] * 20)
    fleet.put(Entry())
    old = fleet.cache.entries
    fleet.cache.trouble["load"] = lambda: setattr(fleet.cache, "entries", dict(old))

    fails(fleet.process(timeout=3))

    assert fleet.clock.slept == [0.75] * 4
    assert fleet.sender.count == 4


# Entries that are ignored


@pytest.mark.parametrize("entry", [b"", b"garbage", bytes(5000), b"dolby-auth-plugin 1\n" + bytes(40)], ids=len)
def test_an_entry_that_cannot_be_opened_is_replaced(entry: bytes, caplog: pytest.LogCaptureFixture) -> None:
    fleet = Fleet()
    fleet.put(Entry())
    [name] = fleet.cache.entries
    fleet.cache.entries[name] = entry

    assert ["token-1"] * 2 == [value(process) for process in fleet.processes(2)]
    assert [] == [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_replayed_entry_costs_one_token_request() -> None:
    """Its token was revoked. The process that has the present one goes on with it."""
    fleet = Fleet()
    first, second = fleet.processes(2)
    value(first)
    old = dict(fleet.cache.entries)
    fleet.clock.advance(100)
    replaced(first)
    fleet.cache.entries.update(old)

    assert ["token-1", "token-3", "token-2"] == [value(second), replaced(second), value(first)]
    assert ["token-3", "token-3"] == [replaced(first), value(fleet.process())]
    assert fleet.sender.count == 3


# Wrong clocks


@pytest.mark.parametrize("ahead", [HOURS, -HOURS])
def test_a_token_of_a_machine_with_a_wrong_clock_lives_no_longer_than_granted(ahead: float) -> None:
    fleet = Fleet()
    value(fleet.process(clock=WrongClock(fleet.clock, ahead)))
    process = fleet.process()
    token = process.token()

    assert fleet.clock.slept == []
    assert not token.is_good(fleet.clock.now().after(1796))
    assert value(fleet.process(clock=WrongClock(fleet.clock, ahead)))


@pytest.mark.parametrize("ahead", [HOURS, 9.0, -9.0, -HOURS])
@pytest.mark.parametrize("failure", [DOWN, FINAL])
def test_a_failure_on_a_machine_with_a_wrong_clock_delays_others_for_twenty_seconds_at_most(
    ahead: float, failure: Failure
) -> None:
    """The clock may be ten seconds ahead, and a failure is remembered for ten seconds."""
    fleet = Fleet(*[failure] * (4 if failure is DOWN else 1))
    fails(fleet.process(clock=WrongClock(fleet.clock, ahead)))
    process, began = fleet.process(), fleet.clock.monotonic()

    for _ in range(20):
        try:
            value(process)
        except TokenError:
            fleet.clock.advance(1)

    assert process.ready() is not None
    assert fleet.clock.monotonic() - began <= (20 if abs(ahead) < 10 else 0)


@pytest.mark.parametrize("ahead", [HOURS, -HOURS])
def test_the_allowance_of_a_machine_with_a_wrong_clock_denies_others_no_replacement(ahead: float) -> None:
    fleet = Fleet()
    wrong = fleet.process(clock=WrongClock(fleet.clock, ahead))
    for _ in range(5):
        replaced(wrong)
    process = fleet.process()
    before = fleet.sender.count
    value(process)

    assert replaced(process) == f"token-{fleet.sender.count}" != f"token-{before}"


# What invalidate ignores


def test_invalidate_ignores_the_stored_token_and_other_processes_keep_theirs() -> None:
    fleet = Fleet()
    first, second = fleet.processes(2)
    value(first), value(second)
    fleet.clock.advance(1)
    first.invalidate()

    assert ["token-2", "token-1"] == [value(first), value(second)]


def test_invalidate_ignores_tokens_that_other_processes_stored_before_it() -> None:
    fleet = Fleet()
    first, second = fleet.processes(2)
    value(first)
    fleet.clock.advance(1)
    replaced(second)
    fleet.clock.advance(1)
    first.invalidate()

    assert value(first) == "token-3"


def test_invalidate_ignores_the_dropped_token_whatever_the_clocks_say() -> None:
    """The token comes from a machine whose clock is ahead."""
    fleet = Fleet()
    value(fleet.process(clock=WrongClock(fleet.clock, HOURS)))
    process = fleet.process()
    value(process)
    process.invalidate()

    assert value(process) == "token-2"


def test_a_token_that_another_process_asked_for_after_invalidate_is_taken() -> None:
    fleet = Fleet()
    first, second = fleet.processes(2)
    value(first), value(second)
    fleet.clock.advance(1)
    first.invalidate()
    second.invalidate()

    assert ["token-2"] * 2 == [value(first), value(second)]


def test_invalidate_forgets_a_failure_of_all_processes() -> None:
    fleet = Fleet(FINAL)
    process = fleet.process()
    fails(process)
    fleet.clock.advance(1)
    process.invalidate()

    assert value(process) == "token-2"


def test_after_invalidate_and_a_failure_new_processes_still_find_the_token() -> None:
    fleet = Fleet(answer(access_token="token-0", expires_in=1800), *[DOWN] * 4)
    process = fleet.process()
    value(process)
    fleet.clock.advance(1)
    process.invalidate()
    fails(process)

    assert value(fleet.process()) == "token-0"


def test_after_the_clock_was_set_back_an_earlier_invalidate_does_not_hide_failures() -> None:
    """Otherwise the tries would follow each other without a pause."""
    fleet = Fleet(*[DOWN] * 20)
    process = fleet.process()
    fleet.clock.step_wall(HOURS)
    process.invalidate()
    fleet.clock.step_wall(-HOURS)

    fails(process)

    assert (fleet.sender.count, fleet.clock.slept) == (4, [0.5, 1.0, 2.0])


def test_a_discarded_fetch_serves_its_callers_and_the_other_processes() -> None:
    fleet = Fleet()
    process = fleet.process()
    with fleet.sender.held():
        begun = process.steps(None, None)
        waiting = next(begun)
        assert fleet.sender.arrived.acquire(timeout=5)
        fleet.clock.advance(1)
        process.invalidate()
    wait_for_fetches()

    assert isinstance(waiting, Wait)
    assert ["token-1", "token-1"] == [next(begun).value, value(fleet.process())]  # type: ignore[union-attr] # tokens by now
    assert value(process) == "token-2"
    assert fleet.cache.operations == [*ASKS, *FINDS, *ASKS]


# The lock


def hold_lock(fleet: Fleet, seconds: float) -> None:
    """Another process has the lock for *seconds*, and does nothing."""
    fleet.put(Entry())
    [name] = fleet.cache.entries
    fleet.cache.locks[name] = fleet.clock.monotonic() + seconds


@pytest.mark.parametrize(("chance", "most"), [(0.0, 14), (0.25, 16), (0.5, 16), (0.75, 16), (1.0, 16)])
def test_a_holder_that_dies_delays_the_others_by_its_lease(chance: float, most: float) -> None:
    """They try the lock again each second, or up to three seconds later by chance."""
    fleet = Fleet()
    hold_lock(fleet, 12.0)

    value(fleet.process(chance=chance))

    assert 12 <= sum(fleet.clock.slept) <= most


def test_a_lock_that_a_killed_holder_has_lost_is_taken_soon() -> None:
    fleet = Fleet()
    hold_lock(fleet, 0.1)

    value(fleet.process())

    assert sum(fleet.clock.slept) <= 2


@pytest.mark.parametrize(("chance", "first", "again"), [(0.0, 0.05, 1.0), (1.0, 0.1, 4.0)])
def test_a_process_without_the_lock_looks_less_and_less_often(chance: float, first: float, again: float) -> None:
    fleet = Fleet()
    hold_lock(fleet, 100.0)

    fails(fleet.process(chance=chance))

    looks = [min(first * 1.5**number, 1.0) for number in range(100)]
    assert fleet.clock.slept[:-1] == pytest.approx(looks[: len(fleet.clock.slept) - 1])
    assert sum(fleet.clock.slept) == pytest.approx(30)
    locks = [when for name, when in fleet.cache.log if name == "lock"]
    assert all(again <= later - earlier < again + 1 for earlier, later in itertools.pairwise(locks))


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 2.0), (1.0, 3.0)])
def test_chance_spreads_the_processes_that_wait_for_the_next_try(chance: float, seconds: float) -> None:
    fleet = Fleet()
    fleet.put(Entry(tries=1, failed_at=EPOCH, pause=2.0, failure=DOWN))

    value(fleet.process(chance=chance))

    assert fleet.clock.slept == [seconds]


@pytest.mark.parametrize(("chance", "least", "most"), [(0.0, 0.0, 0.0), (1.0, 1.0, 1.5)])
def test_chance_spreads_the_processes_that_look_when_the_next_try_is_due(
    chance: float, least: float, most: float
) -> None:
    """Others have waited for that moment, and may have more time left for the tries after it."""
    fleet = Fleet()
    fleet.put(Entry(tries=1, failed_at=EPOCH - 3.0, pause=2.0, failure=DOWN))

    value(fleet.process(chance=chance))

    assert least <= sum(fleet.clock.slept) <= most


def test_a_failed_try_does_not_make_the_processes_ask_for_the_lock_sooner() -> None:
    """Each would ask within a second of it."""
    fleet = Fleet()
    hold_lock(fleet, 0.1)
    due = Entry(tries=1, failed_at=EPOCH - 3.0, pause=2.0, failure=DOWN)
    fleet.cache.trouble["enter"] = lambda: fleet.put(due)

    value(fleet.process(chance=1.0))

    assert 4 <= sum(fleet.clock.slept) <= 5


@pytest.mark.parametrize(
    ("tries", "timeout", "seconds"),
    [(1, 4.6, 2.0), (1, 4.4, 2.25), (2, 4.4, 2.25), (3, 4.4, 2.0)],
)
def test_a_process_without_time_for_two_tries_lets_others_make_the_next_one(
    tries: int, timeout: float, seconds: float
) -> None:
    """If it made the next try, that would be the last one for all. The fourth is the last one anyway."""
    fleet = Fleet()
    fleet.put(Entry(tries=tries, failed_at=EPOCH, pause=2.0, failure=DOWN))

    value(fleet.process(timeout=timeout))

    assert fleet.clock.slept == [seconds]


def test_nobody_waits_longer_than_its_timeout_for_the_next_try() -> None:
    """The error is that of the last try."""
    fleet = Fleet()
    fleet.put(Entry(tries=1, failed_at=EPOCH, pause=20.0, failure=DOWN))

    assert fails(fleet.process(timeout=5)).reason == "down"
    assert fleet.clock.slept == [5.0]


@pytest.mark.parametrize("move", ["advance", "step_wall", "stall_wall"])
def test_a_holder_whose_lease_has_ended_stores_nothing(move: str) -> None:
    """The machine was suspended, or the token request took too long."""
    fleet = Fleet(lambda: getattr(fleet.clock, move)(12.1) or None)

    assert value(fleet.process()) == "token-1"
    assert not fleet.cache.entries


def test_without_the_lock_nothing_is_stored_although_an_earlier_lease_goes_on() -> None:
    """The cache fails to lock for the second try, and works again after it."""
    fleet: Fleet = Fleet(
        lambda: fleet.cache.trouble.update(lock=raising(RuntimeError())) or DOWN,
        lambda: fleet.clock.advance(6) or None,
    )

    assert value(fleet.process()) == "token-2"
    assert fleet.cache.operations.count("store") == 1


def test_a_process_that_gets_the_lock_after_another_ones_try_makes_none() -> None:
    """It has looked before the other one stored the token."""
    fleet = Fleet()
    first, second = fleet.processes(2)

    def overtake() -> None:
        fleet.cache.trouble = {}
        value(second)

    fleet.cache.trouble["lock"] = overtake

    assert value(first) == "token-1"
    assert fleet.sender.count == 1


# Trouble


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


class Odd(BaseException):
    """As the time-outs of gevent and eventlet are."""


@pytest.mark.parametrize("operation", ["load", "lock", "enter", "store", "exit", "fetch_ended"])
@pytest.mark.parametrize("error", [RuntimeError, CancelledError, Odd, SystemExit])
def test_a_cache_that_raises_costs_a_warning_and_no_request(
    operation: str, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """The warning says what was raised and where, and nothing of its text."""
    fleet = Fleet()
    fleet.cache.trouble[operation] = raising(error("canary"))

    assert value(fleet.process()) == "token-1"

    assert not fleet.cache.locks
    [message] = warnings_in(caplog)
    assert f"the token cache raised {error.__name__} (test_shared.py, line " in message
    assert "canary" not in caplog.text


@pytest.mark.parametrize("entry", ["text", bytearray(9), 5])
def test_an_entry_that_is_not_bytes_is_trouble(entry: object, caplog: pytest.LogCaptureFixture) -> None:
    fleet = Fleet()
    fleet.put(Entry())
    [name] = fleet.cache.entries
    fleet.cache.entries[name] = entry

    assert value(fleet.process()) == "token-1"
    assert "raised TypeError (_shared.py, line" in caplog.text


def test_a_cache_whose_attributes_raise_is_trouble(caplog: pytest.LogCaptureFixture) -> None:
    class Cache(MemoryCache):
        @property
        def fetch_ended(self) -> Any:
            raise RuntimeError("canary")

    fleet = Fleet()

    assert value(fleet.process(cache=Cache(fleet.clock))) == "token-1"
    assert "raised RuntimeError (test_shared.py" in caplog.text


def test_a_cache_needs_no_method_for_the_end_of_a_fetch(caplog: pytest.LogCaptureFixture) -> None:
    class Cache(MemoryCache):
        fetch_ended = None  # type: ignore[assignment] # it is left out

    fleet = Fleet()

    assert value(fleet.process(cache=Cache(fleet.clock))) == "token-1"
    assert [] == warnings_in(caplog)


def test_each_spell_of_trouble_causes_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    fleet = Fleet()
    process = fleet.process()

    def warnings_after_fetches(*, works: bool) -> int:
        fleet.cache.trouble = {} if works else {"load": raising(RuntimeError())}
        for _ in range(5):
            fleet.clock.advance(6)
            process.invalidate()
            value(process)
        return len(warnings_in(caplog))

    assert [1, 1, 2] == [warnings_after_fetches(works=works) for works in (False, True, False)]


def test_a_cache_in_trouble_is_left_alone_for_five_seconds() -> None:
    fleet = Fleet()
    process = fleet.process()
    fleet.cache.trouble["load"] = raising(RuntimeError())
    value(process)
    fleet.cache.log.clear()

    def operations_after(seconds: float) -> int:
        fleet.clock.advance(seconds)
        process.invalidate()
        value(process)
        return fleet.cache.operations.count("load")

    assert [0, 1] == [operations_after(seconds) for seconds in (4.9, 0.2)]


def test_while_the_cache_is_down_each_process_makes_one_token_request_for_each_life() -> None:
    fleet = Fleet()
    fleet.cache.trouble["load"] = raising(ConnectionError())
    processes = fleet.processes(3)

    for _ in range(18):
        for process in processes:
            value(process)
        fleet.clock.advance(100)
        wait_for_fetches()

    assert fleet.sender.count == 3 + 3


@pytest.mark.parametrize(
    ("operation", "operations"),
    [
        ("load", ["load", "lock", "enter", "load", "exit", "fetch_ended"]),
        ("enter", ["load", "lock", "enter", "load", "store", "exit", "fetch_ended"]),
        ("store", ASKS),
    ],
)
def test_all_operations_of_a_fetch_together_may_lose_a_second(
    operation: str, operations: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The operations take 0.65 s, or 0.65 s each. After more than a second, the process goes on without the cache."""
    fleet = Fleet()
    fleet.cache.trouble[operation] = lambda: fleet.clock.advance(0.65)

    assert value(fleet.process()) == "token-1"
    assert operations == fleet.cache.operations
    assert ("is too slow" in caplog.text) is (operation == "load")


def test_a_process_that_waits_long_may_make_many_operations_on_a_busy_machine(caplog: pytest.LogCaptureFixture) -> None:
    """Each operation takes 0.09 s. After some seconds, a fleet that waits would ask for a token per process."""
    fleet = Fleet()
    hold_lock(fleet, 100.0)
    fleet.cache.trouble = dict.fromkeys(("load", "enter"), lambda: fleet.clock.advance(0.09))

    fails(fleet.process())

    assert len(fleet.cache.operations) > 40
    assert (0, []) == (fleet.sender.count, warnings_in(caplog))


@pytest.mark.parametrize("operation", ["load", "lock", "enter", "store", "exit"])
def test_a_slow_cache_keeps_no_lock(operation: str, caplog: pytest.LogCaptureFixture) -> None:
    fleet = Fleet()
    fleet.cache.trouble[operation] = lambda: fleet.clock.advance(2)

    assert value(fleet.process()) == "token-1"
    assert not fleet.cache.locks
    assert len(warnings_in(caplog)) == 1
    assert fleet.cache.operations.count("enter") == fleet.cache.operations.count("exit") == (operation != "load")


def test_an_interrupt_while_the_cache_works_is_raised() -> None:
    """A fetch may run in the thread of a caller: at shutdown, or for a mock."""
    fleet = Fleet()
    process = fleet.process()
    old = process.token(HOST)
    wait_for_fetches()
    fleet.cache.trouble["store"] = raising(KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        process.refuse(old.fingerprint, HOST, in_caller=True)

    assert not fleet.cache.locks
    assert [*ASKS, *ASKS] == fleet.cache.operations


# Operations


def test_a_request_with_a_fresh_token_causes_no_operation() -> None:
    fleet = Fleet()
    process = fleet.process()
    value(process)
    fleet.cache.log.clear()

    for _ in range(9):
        assert process.ready() is not None
        value(process, HOST)

    assert [] == fleet.cache.operations


def test_a_failed_try_costs_one_look_for_the_next_one() -> None:
    fleet = Fleet(DOWN)
    value(fleet.process())

    assert [*ASKS[:-1], *ASKS] == fleet.cache.operations


def test_a_fetch_without_credentials_does_not_use_the_cache() -> None:
    fleet = Fleet()
    fails(fleet.process(credentials=lambda: None))

    assert [] == fleet.cache.operations


# Copies


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_of_an_auth_object_shares_the_cache(duplicate: Callable[[Any], Any]) -> None:
    auth, sender = DolbyAuth(KEY, SECRET, cache=MemoryCache(FakeClock())), ScriptedSender()
    send_with(auth, sender)

    assert auth.token() == duplicate(auth).token()
    assert sender.count == 1


def test_a_pickle_of_an_auth_object_has_its_cache() -> None:
    auth = pickle.loads(pickle.dumps(DolbyAuth(KEY, SECRET, cache=MemoryCache(FakeClock()))))
    sender = ScriptedSender()
    send_with(auth, sender)

    assert auth.token() == copy.copy(auth).token()
    assert sender.count == 1


def test_other_credentials_of_a_callable_have_another_entry() -> None:
    fleet, vault = Fleet(), [AppCredentials("a", secret) for secret in ("one", "other", "one")]
    processes = [fleet.process(credentials=vault.pop) for _ in vault]

    assert ["token-1", "token-2", "token-1"] == [value(process) for process in processes]


class Vault:
    """Credentials that are asked for. They are not in its pickle."""

    def __call__(self) -> AppCredentials:
        return AppCredentials(KEY, SECRET)


@pytest.mark.parametrize(("credentials", "is_pickled"), [(Vault(), False), (AppCredentials(KEY, SECRET), True)])
def test_a_pickle_holds_the_cache_and_only_credentials_that_were_given(credentials: Any, *, is_pickled: bool) -> None:
    process = Fleet().process(credentials=credentials, cache=MemoryCache(FakeClock()))
    value(process)

    pickled = pickle.dumps(process.fetcher.shared)

    assert (SECRET.encode() in pickled) is is_pickled
    assert b"MemoryCache" in pickled


def test_the_log_says_that_a_token_was_found(caplog: pytest.LogCaptureFixture) -> None:
    fleet = Fleet()
    with caplog.at_level(logging.INFO, logger="dolby_auth_plugin"):
        for process in fleet.processes(2):
            value(process)
        wait_for_fetches()

    assert ["token obtained", "token found in the cache"] == [
        record.getMessage().partition(":")[0] for record in caplog.records
    ]
