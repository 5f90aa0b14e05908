"""Every order of events that the pure state can meet, and that the walk through them finds a broken state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from dolby_auth_plugin._core import state

from .explorer import Fault, Walk, explore

# A broken state is found long before so many states were visited.
ENOUGH = 50_000


class Break(NamedTuple):
    """
    A way to break the state.

    Attributes:
        old: A part of the state's source.
        new: What stands there instead.
        rule: The rule that no longer holds.
    """

    old: str
    new: str
    rule: str


BREAKS = {
    "a renewal begins while another fetch runs": Break(
        "if not token.is_fresh(now) and self.fetch is None and not is_paused:",
        "if not token.is_fresh(now) and not is_paused:",
        "at most one fetch runs",
    ),
    "no pause follows a failed renewal": Break(
        "is_paused = now.monotonic < self._next_renewal or ", "is_paused = ", "no renewal begins during a pause"
    ),
    "a renewal begins right after another fetch has failed": Break(
        " or self._remembered(now) is not None", "", "no renewal begins during a pause"
    ),
    "no pause follows a renewal that left the token": Break(
        "elif fetch.is_renewal:", "elif False:", "no renewal begins during a pause"
    ),
    "no renewal begins": Break(
        "                self._begin(now, is_renewal=True)", "                pass", "a token in renewal is renewed"
    ),
    "an expired token is handed out": Break(
        "if token is None or not token.is_good(now):", "if token is None:", "no caller gets an expired token"
    ),
    "a host gets the token that it refused": Break(
        "else host not in self._refused_by", "else True", "no caller gets a token that its host refused"
    ),
    "refusals cost nothing": Break(
        "self._is_charged = self._allowance.spend(now.monotonic)",
        "self._is_charged = True",
        "a refused token is replaced if, and only if, the allowance or a fetch allows it",
    ),
    "a failed fetch forgets who refused the token": Break(
        "if not self._is_charged:\n            # The allowance was used up",
        "if True:\n            # The allowance was used up",
        "no token is ready that a host refused",
    ),
    "hosts wait for a replacement that is not paid for": Break(
        "if not self._is_charged:\n            # The allowance was used up",
        "if False:\n            # The allowance was used up",
        "nobody waits while the token is good for its host",
    ),
    "the refusal of an earlier token counts": Break(
        "if token is None or token.fingerprint != fingerprint:",
        "if self.token is None:",
        "the refusal of an earlier token costs nothing",
    ),
    "the token of a discarded fetch is kept": Break(
        "if not fetch.is_discarded:",
        "if True:",
        "a new token is kept unless its fetch was discarded, and no other token is",
    ),
    "the token of an overdue fetch is kept": Break(
        "        if fetch.ended:\n            return\n", "", "the token of an overdue fetch is dropped"
    ),
    "an overdue fetch ends without waking its callers": Break(
        "        return fetch\n\n    def postpone_renewal",
        "        return None\n\n    def postpone_renewal",
        "every waiting caller is woken",
    ),
    "an ended fetch stays the running one": Break(
        "        if self.fetch is fetch:\n            self.forget_fetch()\n",
        "",
        "an ended fetch is not the running one",
    ),
    "no failure is remembered": Break(
        "return self._failure if now.monotonic < self._failure_until else None",
        "return None",
        "no fetch begins while a failure is remembered",
    ),
    "credentials that have just failed are sent again": Break(
        "if failure is not None and credentials == self._failed_credentials:",
        "if False:",
        "credentials that have just failed are not sent again, others are",
    ),
    "callers that waited ask anew after a failure": Break(
        "if isinstance(joined.outcome, Failure):", "if False:", "a caller gets the failure of the fetch that it joined"
    ),
    "callers that waited ask anew after `invalidate`": Break(
        "return joined.outcome if joined.is_discarded and joined.outcome.is_good(now) else None",
        "return None",
        "a caller from before `invalidate` gets the token of the fetch that it joined",
    ),
    "an invalidated token stays ready": Break(
        "        self._forget_failures()\n        self._update_ready()\n        if self.fetch",
        "        self._forget_failures()\n        if self.fetch",
        "only the present token is ready",
    ),
}


def broken(old: str, new: str) -> ModuleType:
    """The module of the state with one text in place of another."""
    source = Path(state.__file__).read_text(encoding="utf-8")
    assert source.count(old) == 1, f"{old!r} stands in the state {source.count(old)} times"
    module = ModuleType("broken_state")
    module.__package__ = state.__package__
    exec(compile(source.replace(old, new), "<broken state>", "exec"), vars(module))
    return module


def test_no_order_of_events_breaks_a_promise(
    pytestconfig: pytest.Config, record_property: Callable[[str, object], None]
) -> None:
    """`nox -s explore` goes deeper."""
    walk = explore(state, pytestconfig.getoption("explore_states"))

    assert isinstance(walk, Walk), str(walk)
    record_property("explore", f"{walk.states:,} states; all orders of {walk.depth} events after each beginning")


@pytest.mark.parametrize("way", BREAKS)
def test_a_broken_state_is_found(way: str) -> None:
    """So the walk can be trusted after a change of the state."""
    old, new, rule = BREAKS[way]

    fault = explore(broken(old, new), ENOUGH)

    assert isinstance(fault, Fault), "this was not found"
    assert rule == fault.rule, str(fault)
