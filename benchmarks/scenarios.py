"""The scenarios: which measurements run for which subjects, and how their results are judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .subjects import CONSTANT_HEADER, TOKEN_PER_CALL

Result = dict[str, Any]

# The HTTP library, and whether it is used asynchronously.
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
    A measurement and its table.

    Args:
        measure: The function in `measures`.
        title: The title of the table.
        unit: The unit of the number.
        wrong: Returns what is wrong with a result, or an empty string.
        together: Whether all subjects are measured in turn in one process.
        least: The baseline: the best possible number. None: the number of the constant header.
        without: Subjects that are left out.
        more: Further columns: the name, and the place in the result.
        repeat: The number of runs. The median counts; with *together*, the median of the ratios.
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


BASELINE_ONLY = frozenset({CONSTANT_HEADER})
NO_RENEWAL = frozenset({CONSTANT_HEADER, TOKEN_PER_CALL})

SCENARIOS = (
    Scenario(
        "elsewhere",
        "A request to a host that is not allowed",
        "tokens leaked",
        _elsewhere,
        least=0,
        without=NO_RENEWAL,
    ),
    Scenario(
        "added",
        "Time that an auth object adds to a request with a fresh token",
        "ns",
        lambda _: "",
        together=True,
    ),
    Scenario("call", "A complete call, in memory", "µs", lambda _: "", together=True, repeat=9),
    Scenario(
        "throughput",
        "Calls on loopback, one after another",
        "calls per second",
        lambda _: "",
        together=True,
    ),
    Scenario(
        "herd",
        "64 threads or 1,000 tasks start together without a token",
        "token requests",
        _herd,
        least=1,
        more={"last response after, s": "seconds"},
    ),
    Scenario(
        "rollover",
        "Token renewal under load, the endpoint takes 300 ms",
        "ms, p99",
        _rollover,
        more={"p50": "p50", "max": "max", "waited": "stalled", "token requests": "token_requests", "401": "refused"},
    ),
    Scenario(
        "outage",
        "The token endpoint is down when a valid token is due for renewal",
        "failed calls",
        _outage,
        least=0,
        without=NO_RENEWAL,
        more={"calls": "calls", "waited": "stalled", "token requests": "token_requests"},
    ),
    Scenario(
        "revocation",
        "Revocation under load: 64 threads or 500 tasks",
        "failed calls",
        _revocation,
        least=0,
        without=NO_RENEWAL,
        more={"calls": "calls", "token requests": "token_requests"},
    ),
    Scenario(
        "refusal",
        "1,000 calls to an API that rejects every token",
        "token requests",
        _refusal,
        least=1,
        without=BASELINE_ONLY,
    ),
    Scenario(
        "bodies",
        "A request with a body, after a revocation",
        "corrupted",
        _bodies,
        least=0,
        without=NO_RENEWAL,
        more={kind: f"kinds.{kind}" for kind in ("bytes", "multipart", "file", "generator")},
    ),
    Scenario(
        "lag",
        "Longest time that a token fetch blocks the event loop",
        "ms",
        lambda result: "the event loop was blocked" if result["value"] >= 20 else "",
        ways=ASYNC_WAYS,
        repeat=5,
    ),
    Scenario(
        "imports",
        "Import time, including the HTTP library",
        "ms",
        lambda _: "",
        ways=SYNC_WAYS,
        together=True,
    ),
    Scenario(
        "memory",
        "Memory per auth object (or per session, if the peer is one)",
        "KiB",
        lambda result: f"{result['threads']} threads" if result["threads"] else "",
        ways=ALL_WAYS,
        without=frozenset({TOKEN_PER_CALL}),
    ),
)
