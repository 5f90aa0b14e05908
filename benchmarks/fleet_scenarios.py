"""
What happens to a fleet, in simulation and in reality: a fleet is processes that share one token through a cache.

Nothing is measured here. A `Fleet` lets its processes call, and tells its `Figures`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

# Cache operations that one Redis server does in a second without effort.
MAX_BUSIEST = 20_000


class Scale(NamedTuple):
    """How many processes there are, how many seconds a token lives, and within how many seconds all processes start."""

    processes: int = 10_000
    life: int = 1800
    start_seconds: float = 10.0


class Conditions(NamedTuple):
    """How many seconds the token endpoint takes, how it fails (503, silence), and whether the cache is down."""

    seconds: float = 0.3
    fails: str | None = None
    cache_is_down: bool = False


NORMAL = Conditions()


@dataclass
class Figures:
    """
    What was measured.

    Attributes:
        requests: Token requests.
        operations: When each cache operation began, in seconds.
        waits: Seconds that each call waited.
        failed: The calls that got an error.
    """

    requests: int = 0
    operations: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    failed: int = 0

    def reset(self) -> None:
        self.requests = self.failed = 0
        self.operations.clear()
        self.waits.clear()

    @property
    def busiest(self) -> int:
        """The cache operations in the busiest second, wherever that second begins."""
        moments = sorted(self.operations)
        return max((bisect_right(moments, moment + 1) - i for i, moment in enumerate(moments)), default=0)


class Fleet(ABC):
    """Processes that share a cache. Each method returns when its calls have ended."""

    scale: Scale

    @abstractmethod
    def start(self) -> None:
        """Each process calls once, within the seconds of the scale."""

    @abstractmethod
    def renew(self) -> None:
        """Each process calls about once a second, until the renewal of the token is over."""

    @abstractmethod
    def revoke(self, seconds: float) -> None:
        """The token is revoked. Each process calls once within *seconds*."""

    @abstractmethod
    def begin_measuring(self) -> None:
        """Forget the figures until now."""

    @abstractmethod
    def figures(self) -> Figures: ...

    @abstractmethod
    def tokens(self) -> set[str]:
        """The tokens that the processes have."""


def cold_start(fleet: Fleet) -> None:
    fleet.start()


def roll_over(fleet: Fleet) -> None:
    _have_next_token(fleet, fleet.renew)


def revocation(fleet: Fleet) -> None:
    _have_next_token(fleet, lambda: fleet.revoke(1.0))


def sudden_revocation(fleet: Fleet) -> None:
    _have_next_token(fleet, lambda: fleet.revoke(0.1))


def _have_next_token(fleet: Fleet, act: Callable[[], None]) -> None:
    """Start the fleet, and measure what *act* does."""
    fleet.start()
    before = fleet.tokens()
    fleet.begin_measuring()
    act()
    tokens = fleet.tokens()
    assert len(tokens) == 1, f"the processes have {len(tokens)} tokens"
    assert not tokens & before, "the processes still have the first token"


@dataclass
class Scenario:
    """
    One row of the table, and its bars.

    Attributes:
        act: What happens.
        requests: How many token requests are allowed.
        longest: How long a caller may wait at most.
        busiest: How many cache operations are allowed in the busiest second. None: they are only reported.
    """

    title: str
    act: Callable[[Fleet], None]
    requests: range
    longest: float
    conditions: Conditions = NORMAL
    busiest: int | None = MAX_BUSIEST

    def holds(self, figures: Figures) -> bool:
        is_calm = self.busiest is None or figures.busiest <= self.busiest
        return figures.requests in self.requests and max(figures.waits) <= self.longest + 1e-6 and is_calm


def scenarios(scale: Scale) -> dict[str, Scenario]:
    one, each = range(1, 2), range(scale.processes, scale.processes + 1)
    start = f"cold start over {scale.start_seconds:g} s"
    slow, failing = Conditions(seconds=5.0), Conditions(fails="503")
    silent, down = Conditions(fails="silence"), Conditions(cache_is_down=True)
    return {
        "cold": Scenario(start, cold_start, one, 1.3),
        "cold-slow": Scenario(f"{start}, endpoint takes 5 s", cold_start, one, 6.0, slow),
        "roll-over": Scenario("roll-over", roll_over, one, 0.0),
        "revocation": Scenario("revocation, noticed over 1 s", revocation, one, 1.3),
        "sudden": Scenario("revocation, noticed over 0.1 s", sudden_revocation, one, 1.3, busiest=None),
        "503": Scenario(f"{start}, endpoint answers 503", cold_start, range(4, 9), 30.0, failing),
        "silent": Scenario(f"{start}, endpoint is silent", cold_start, range(4, 5), 30.0, silent),
        "cache-down": Scenario(f"{start}, cache is down", cold_start, each, 1.3, down),
    }
