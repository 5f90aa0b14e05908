"""Set-up for all tests."""

from __future__ import annotations

import random

import pytest
import trustme

# Shared tests explain a failed assertion as those in test modules do.
pytest.register_assert_rewrite("tests.contract", "tests.drivers", "tests.fakes", "tests.matrix")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("soak", "soak tests: pytest -m soak")
    group.addoption("--soak-seconds", type=float, default=120.0, help="how long one goes on (default: 120)")
    group.addoption("--soak-seed", type=int, default=random.randrange(1_000_000), help="chance begins with this")
    group = parser.getgroup("explore", "the walk through all orders of events")
    group.addoption("--explore-states", type=int, default=100_000, help="how many states it visits (default: 100000)")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How far a walk came; what a soak had to tell: its seed, above all, which repeats it."""
    for report in (*terminalreporter.stats.get("passed", ()), *terminalreporter.stats.get("failed", ())):
        for name, told in report.user_properties:
            if name in ("explore", "soak"):
                terminalreporter.write_line(f"{name}: {told}")


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that nobody trusts unless told to."""
    return trustme.CA()
