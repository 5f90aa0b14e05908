"""Set-up for all tests."""

from __future__ import annotations

import random

import pytest
import trustme

# Shared tests explain a failed assertion as those in test modules do.
pytest.register_assert_rewrite("tests.contract", "tests.drivers", "tests.fakes")

# What a soak run has to tell.
SOAK_TOLD = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("soak", "soak tests: pytest -m soak")
    group.addoption("--soak-seconds", type=float, default=120.0, help="how long one goes on (default: 120)")
    group.addoption("--soak-seed", type=int, default=random.randrange(1_000_000), help="chance begins with this")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if SOAK_TOLD in config.stash:
        terminalreporter.write_line(config.stash[SOAK_TOLD])


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that nobody trusts unless told to."""
    return trustme.CA()
