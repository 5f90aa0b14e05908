"""Every order of events that the pure state can meet, and that the walk through them finds a broken state."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType

import pytest

from dolby_auth_plugin._core import state

from ..mutations import MUTATIONS, Mutation, mutated
from .explorer import Fault, Walk, explore

# A broken state is found long before so many states were visited.
ENOUGH = 50_000


# Mutations of the state, and the rule that each one breaks.
RULES = {
    "two fetches at once": "at most one fetch runs",
    "renewals without a pause": "no renewal begins during a pause",
    "a renewal asks what has just failed": "no renewal begins during a pause",
    "no pause after a renewal that left the token": "no renewal begins during a pause",
    "no renewals": "a token in renewal is renewed",
    "expired tokens are handed out": "no caller gets an expired token",
    "a host gets the token that it refused": "no caller gets a token that its host refused",
    "no allowance": "the allowance has paid for each replaced token once",
    "a failed fetch drops the marks": "no token is ready that a host refused",
    "a mark stays without a replacement": "nobody waits while the token is good for its host",
    "a late 401 marks a newer token": "the refusal of an earlier token costs nothing",
    "an invalidated token is kept": "a new token is kept unless its fetch was discarded, and no other token is",
    "a late token of an overdue fetch is kept": "the token of an overdue fetch is dropped",
    "an overdue fetch wakes nobody": "every waiting caller is woken",
    "an ended fetch stays the running one": "an ended fetch is not the running one",
    "no failure is remembered": "no fetch begins while a failure is remembered",
    "credentials that failed are sent again": "credentials that have just failed are not sent again, others are",
    "a callable is asked with each call": "no fetch begins while a failure is remembered",
    "any number of overdue fetches": "while four overdue fetches are alive, one fetch begins in 30 seconds",
    "a renewal although too many fetches are overdue": "while four overdue fetches are alive, one fetch begins in 30 seconds",
    "an overdue fetch counts after its end": "no caller gets a failure that was forgotten",
    "a child counts the overdue fetches of its parent": "no caller gets a failure that was forgotten",
    "waiters of a failed fetch fetch again": "a caller gets the failure of the fetch that it joined",
    "invalidate costs the waiters their token": "a caller from before `invalidate` gets the token of the fetch that it joined",
    "shared: a failed fetch drops the marks": "no token is ready that a host refused",
    "shared: each refusal causes a look": "a refused token is replaced if, and only if, the allowance or a fetch allows it",
    "shared: a replacement by others costs nothing": "the allowance has paid for each replaced token once",
    "shared: a refused token is taken again": "a known token is not taken from the cache",
    "shared: an invalidated token is taken again": "a known token is not taken from the cache",
    "shared: a renewal is charged": "the allowance pays for a good token that was refused, and for nothing else",
    "an invalidated token stays ready": "only the present token is ready",
}
FILES = ("_core/state.py", "_core/backoff.py")
MUTATIONS_OF_THE_STATE = {mutation.why: mutation for mutation in MUTATIONS if mutation.file in FILES}


def broken(mutation: Mutation) -> ModuleType:
    """The module of the state with a mutation in it, or in the module of its backoff."""
    if mutation.file == "_core/state.py":
        return loaded(mutated(mutation))
    module = loaded(inspect.getsource(state))
    vars(module)["Backoff"] = loaded(mutated(mutation)).Backoff
    return module


def loaded(source: str) -> ModuleType:
    """A module of the core with this source, which no other module imports."""
    module = ModuleType("broken")
    module.__package__ = state.__package__
    exec(compile(source, "<broken>", "exec"), vars(module))
    return module


def test_no_order_of_events_breaks_a_promise(
    pytestconfig: pytest.Config, record_property: Callable[[str, object], None]
) -> None:
    """`nox -s explore` goes deeper."""
    walk = explore(state, pytestconfig.getoption("explore_states"))

    assert isinstance(walk, Walk), str(walk)
    record_property("explore", f"{walk.states:,} states; all orders of {walk.depth} events after each beginning")


# Many states have to be visited before the walk finds these.
RARE = [
    "a mark stays without a replacement",
    "a renewal asks what has just failed",
    "invalidate costs the waiters their token",
    "shared: each refusal causes a look",
]


@pytest.mark.parametrize("why", [pytest.param(why, marks=pytest.mark.slow) if why in RARE else why for why in RULES])
def test_a_broken_state_is_found(why: str) -> None:
    """So the walk can be trusted after a change of the state."""
    fault = explore(broken(MUTATIONS_OF_THE_STATE[why]), ENOUGH)

    assert isinstance(fault, Fault), "this was not found"
    assert RULES[why] == fault.rule, str(fault)
