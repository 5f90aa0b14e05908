"""
Walks through every order of events that a `TokenState` can meet.

The walk is breadth-first: it tries all events in all states that it has found, and walks no second time from a state that
it has seen. Two states are the same if they differ only in the names of tokens, in times that are past or far away, or in which of the
two hosts is which. Every state is reached by real events. So no rule is reported as broken by mistake.
"""

from __future__ import annotations

import gc
from types import ModuleType
from typing import NamedTuple, TypeAlias

from .world import REPLACEMENTS, BrokenRuleError, World

_OBTAIN = ("a caller for A comes", "the fetch uses the first key", "the fetch brings a token")
_AGAIN = "the waiting caller for A asks again"
_TOKEN = (*_OBTAIN, _AGAIN)
_REPLACED = ("A refuses the present token", *_TOKEN)
_RENEWAL, _SECOND = "time moves to the renewal", "a second passes"
_FAILED = ("a caller for A comes", "the fetch uses the first key")

_OVERDUE = (
    "time moves to the fetch's deadline",
    _AGAIN,
    "time moves until the failure is forgotten",
    "a caller for A comes",
)

# Where walks begin: before the first event, and where many events lead. From the beginning alone, a walk would not get there.
BEGINNINGS: tuple[tuple[str, ...], ...] = (
    (),
    _TOKEN,
    (*_TOKEN, _RENEWAL),
    # A renewal has failed once.
    (*_TOKEN, _RENEWAL, *_FAILED, "the fetch ends with a final failure", "time moves to the end of the pause"),
    # The allowance for refusals is used up. Time alone would fill it again until the renewal.
    (*_TOKEN, *_REPLACED * REPLACEMENTS),
    (*_TOKEN, *_REPLACED * REPLACEMENTS, "the wall clock jumps to the renewal"),
    # Four fetches were overdue, and are still alive.
    ("a caller for A comes", *_OVERDUE * 4),
    ("a caller for A comes", *_OVERDUE * 4, "20 s pass", "20 s pass", *_TOKEN, "the wall clock jumps to the renewal"),
    # There never was a token.
    (*_FAILED, "the fetch ends with a final failure", _AGAIN, _SECOND),
    (*_FAILED, "the fetch ends with a retryable failure", _AGAIN, *(_SECOND,) * 3),
)

# The events that led to a state, the last one first.
Path: TypeAlias = "tuple[Path, str] | None"


class Walk(NamedTuple):
    """How many states were visited, and after how many events all of them had been."""

    states: int
    depth: int


class Fault(NamedTuple):
    """A rule that does not hold, the shortest events that lead there, and how many states were visited before."""

    rule: str
    events: tuple[str, ...]
    states: int

    def __str__(self) -> str:
        lines = [f"{number:3}. {event}" for number, event in enumerate(self.events, 1)]
        return "\n".join([f"broken: {self.rule}", *lines])


def explore(module: ModuleType, limit: int, room: int = 2) -> Walk | Fault:
    """Walk until *limit* states were visited, or a rule is broken."""
    # States are many, and none of them is part of a cycle.
    gc.disable()
    try:
        return _walk(module, limit, room)
    finally:
        gc.enable()


def _walk(module: ModuleType, limit: int, room: int) -> Walk | Fault:
    seen: set[int] = set()
    frontier: list[tuple[World, Path]] = []
    for asks, shares in ((False, False), (True, False), (False, True)):
        for beginning in BEGINNINGS:
            world, path = World(module, asks=asks, shares=shares, room=room), None
            try:
                for name in beginning:
                    path = _follow(world, name, path)
            except BrokenRuleError as broken:
                return Fault(str(broken), _events((path, name)), len(seen))
            frontier.append((world, path))
    depth = 0
    while frontier:
        following: list[tuple[World, Path]] = []
        for world, path in frontier:
            for name, act, argument in world.events():
                new = world.copy()
                try:
                    act(new, argument)
                    new.check()
                except BrokenRuleError as broken:
                    return Fault(str(broken), _events((path, name)), len(seen))
                key = new.fingerprint()
                if key not in seen:
                    seen.add(key)
                    following.append((new, (path, name)))
            if len(seen) >= limit:
                return Walk(len(seen), depth)
        frontier, depth = following, depth + 1
    return Walk(len(seen), depth)


def _follow(world: World, name: str, path: Path) -> Path:
    """
    The event of this name, in the world itself.

    A world that has no choice of credentials skips that event. In a world that shares the token, the endpoint is asked first.
    """
    events = {event: (act, argument) for event, act, argument in world.events()}
    asking = "the fetch asks the endpoint"
    if name not in events and asking in events:
        path = _follow(world, asking, path)
        events = {event: (act, argument) for event, act, argument in world.events()}
    if name in events:
        act, argument = events[name]
        act(world, argument)
        world.check()
        return path, name
    assert not world.asks, f"{name!r} can't come here"
    return path


def _events(path: Path) -> tuple[str, ...]:
    names: list[str] = []
    while path is not None:
        path, name = path
        names.append(name)
    return tuple(reversed(names))
