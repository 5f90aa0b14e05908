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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What a soak had to tell; its seed, above all, which repeats it."""
    for report in (*terminalreporter.stats.get("passed", ()), *terminalreporter.stats.get("failed", ())):
        for name, told in report.user_properties:
            if name == "soak":
                terminalreporter.write_line(f"soak: {told}")


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that nobody trusts unless told to."""
    return trustme.CA()
