"""Writes the table of the documentation from the exercises that ran."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dolby_auth_plugin.sandbox import Sandbox

# Make failed assertions there as detailed as those in test modules.
pytest.register_assert_rewrite("tests.tools.exercises", "tests.tools.table")

from . import table  # noqa: E402 - after the line above

_RESULTS: list[tuple[list[str], bool]] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-table", action="store_true", help="write the results into docs/compatibility.md")


def pytest_configure(config: pytest.Config) -> None:
    # betamax calls it, and Python 3.12 and later warn of it.
    config.addinivalue_line("filterwarnings", r"ignore:datetime\.datetime\.utcnow:DeprecationWarning:betamax")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call":
        _RESULTS.extend((case, report.passed) for name, case in report.user_properties if name == "exercise")  # type: ignore[misc] # pytest calls it an object


def pytest_sessionfinish(session: pytest.Session) -> None:
    # The workers of xdist send their reports to the main process.
    if session.config.getoption("--write-table") and not hasattr(session.config, "workerinput"):
        table.write(_RESULTS)


@pytest.fixture
def is_written(pytestconfig: pytest.Config) -> bool:
    """Whether an earlier run has written the table, which must have the same results."""
    return not pytestconfig.getoption("--write-table")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox
