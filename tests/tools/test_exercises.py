"""The four exercises with each tool for requests and httpx."""

from __future__ import annotations

import pytest

from . import table, with_httpx, with_requests
from .exercises import EXERCISES, Tool

TOOLS = [*with_requests.TOOLS, *with_httpx.TOOLS]


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: f"{tool.library}-{tool.name}")
def test_a_tool_lets_the_auth_work(tool: Tool, exercise: str, record_property: table.Record, is_written: bool) -> None:
    table.run(tool, exercise, record_property, is_written=is_written)


def test_the_table_has_these_tools_and_no_others(is_written: bool) -> None:
    if is_written:
        table.check_names(TOOLS)
