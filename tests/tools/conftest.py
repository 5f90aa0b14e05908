"""Writes the table of the documentation from the exercises that ran."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dolby_auth_plugin.sandbox import Sandbox

from . import table

# Make failed assertions there as detailed as those in test modules.
pytest.register_assert_rewrite("tests.tools.exercises")

_RESULTS: list[tuple[list[str], bool]] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-table", action="store_true", help="write the results into docs/compatibility.md")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call":
        _RESULTS.extend((case, report.passed) for name, case in report.user_properties if name == "exercise")  # type: ignore[misc]


def pytest_sessionfinish(session: pytest.Session) -> None:
    # The workers of xdist send their reports to the main process.
    if session.config.getoption("--write-table") and not hasattr(session.config, "workerinput"):
        table.write(_RESULTS)


@pytest.fixture
def is_in_table(pytestconfig: pytest.Config) -> bool:
    """Whether the table was written by an earlier run, and must have the same results."""
    return not pytestconfig.getoption("--write-table")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox
