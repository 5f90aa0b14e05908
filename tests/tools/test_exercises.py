"""The four exercises with each tool for requests and httpx."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from . import table
from .exercises import EXERCISES, Tool, run
from .with_httpx import HTTPX
from .with_requests import REQUESTS

TOOLS = [*REQUESTS.tools, *HTTPX.tools]


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: f"{tool.library}-{tool.name}")
def test_a_tool_lets_the_auth_work(
    tool: Tool, exercise: str, record_property: Callable[[str, object], None], is_in_table: bool
) -> None:
    run(tool, exercise, record_property, is_in_table=is_in_table)


def test_the_table_has_these_tools_and_no_others(is_in_table: bool) -> None:
    documented = {key for key in table.read() if key[0] in ("requests", "httpx")}

    assert not is_in_table or documented == {(tool.library, tool.name) for tool in TOOLS}, table.HOW_TO_WRITE
