"""Which measures are taken, of whom, and how a result is read: a number, what it may be at best, and whether it was right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .subjects import CONSTANT_HEADER, TOKEN_PER_CALL

Result = dict[str, Any]

# A host library, and whether its async side.
Way = tuple[str, bool]

ALL_WAYS: tuple[Way, ...] = (
    ("requests", False),
    ("httpx", False),
    ("httpx", True),
    ("httpx2", False),
    ("httpx2", True),
)
ASYNC_WAYS = tuple(way for way in ALL_WAYS if way[1])
SYNC_WAYS = tuple(way for way in ALL_WAYS if not way[1])


@dataclass(frozen=True)
class Scenario:
    """
    A measure, as it is reported.

    Args:
        measure: The function in `measures`.
        title: What is done.
        unit: Of its number.
        wrong: What was wrong with a result, in a few words; an empty string where it was right.
        together: Whether all subjects are measured in one process, in turn.
        least: The best number there can be; None: the constant header's.
        without: Subjects that it says nothing about.
        more: Further columns: their names, and where in a result they are.
        repeat: Times it is measured; the median counts; where all are measured in turn, of the ratios.
    """

    measure: str
    title: str
    unit: str
    wrong: Callable[[Result], str]
    ways: tuple[Way, ...] = ALL_WAYS
    together: bool = False
    least: float | None = None
    without: frozenset[str] = frozenset()
    more: dict[str, str] = field(default_factory=dict)
    repeat: int = 1


def _failed(result: Result) -> list[str]:
    failed = result["failed"]
    if not failed:
        return []
    kinds = ", ".join(result["failures"])
    return [f"{failed:,} of {result['calls']:,} failed ({kinds})"]


def _waited(result: Result) -> list[str]:
    stalled = result["stalled"]
    return [f"{stalled:,} call{'s' if stalled > 1 else ''} waited"] if stalled else []


def _herd(result: Result) -> str:
    return "; ".join([*_failed(result), *_requests(result["value"], 1)])


def _requests(count: int, most: int) -> list[str]:
    return [f"{count:,} token requests"] if count > most else []


def _rollover(result: Result) -> str:
    return "; ".join([*_failed(result), *_waited(result), *_requests(result["token_requests"], 1)])


def _outage(result: Result) -> str:
    return "; ".join([*_failed(result), *_waited(result)])


def _revocation(result: Result) -> str:
    return "; ".join([*_failed(result), *_requests(result["token_requests"], 1)])


def _refusal(result: Result) -> str:
    return "; ".join([*_failed(result), *_requests(result["value"], 5)])


def _bodies(result: Result) -> str:
    kinds = result["kinds"]
    return "; ".join(f"{kind} {outcome}" for kind, outcome in kinds.items() if outcome not in ("sent again", "refused"))


def _elsewhere(result: Result) -> str:
    return "the token went to another host" if result["value"] else ""


LIMIT_ALONE = frozenset({CONSTANT_HEADER})
NO_RENEWAL = frozenset({CONSTANT_HEADER, TOKEN_PER_CALL})

SCENARIOS = (
    Scenario(
        "elsewhere",
        "A request to a host that is none of the API's",
        "tokens given away",
        _elsewhere,
        least=0,
        without=NO_RENEWAL,
    ),
    Scenario(
        "added",
        "What an auth object adds to a request, with a fresh token",
        "ns",
        lambda _: "",
        together=True,
    ),
    Scenario("call", "A whole call, in memory", "µs", lambda _: "", together=True, repeat=9),
    Scenario(
        "throughput",
        "Calls on loopback, one after another",
        "a second",
        lambda _: "",
        together=True,
    ),
    Scenario(
        "herd",
        "A cold herd: 64 threads, or 1,000 tasks, start together",
        "token requests",
        _herd,
        least=1,
        more={"until the last has its answer, s": "seconds"},
    ),
    Scenario(
        "rollover",
        "A token is renewed under load, and the endpoint takes 300 ms",
        "ms, p99",
        _rollover,
        more={"p50": "p50", "max": "max", "waited": "stalled", "token requests": "token_requests", "401": "refused"},
    ),
    Scenario(
        "outage",
        "The endpoint is down when a good token ought to be renewed",
        "failed calls",
        _outage,
        least=0,
        without=NO_RENEWAL,
        more={"of": "calls", "waited": "stalled", "token requests": "token_requests"},
    ),
    Scenario(
        "revocation",
        "The token is revoked under load: 64 threads, or 500 tasks",
        "failed calls",
        _revocation,
        least=0,
        without=NO_RENEWAL,
        more={"of": "calls", "token requests": "token_requests"},
    ),
    Scenario(
        "refusal",
        "An API refuses every token, 1,000 calls",
        "token requests",
        _refusal,
        least=1,
        without=LIMIT_ALONE,
    ),
    Scenario(
        "bodies",
        "A request with a body, after the token was revoked",
        "corrupted",
        _bodies,
        least=0,
        without=NO_RENEWAL,
        more={kind: f"kinds.{kind}" for kind in ("bytes", "multipart", "file", "generator")},
    ),
    Scenario(
        "lag",
        "An event loop's longest standstill while a token is fetched",
        "ms",
        lambda result: "the loop stood still" if result["value"] >= 20 else "",
        ways=ASYNC_WAYS,
        repeat=5,
    ),
    Scenario(
        "imports",
        "Import, over the import of its host library",
        "ms",
        lambda _: "",
        ways=SYNC_WAYS,
        together=True,
    ),
    Scenario(
        "memory",
        "Memory of an auth object, one of 1,000 (where a peer is a session: of that)",
        "KiB",
        lambda result: f"{result['threads']} threads" if result["threads"] else "",
        ways=ALL_WAYS,
        without=frozenset({TOKEN_PER_CALL}),
    ),
)
