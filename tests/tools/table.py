"""The table in `docs/compatibility.md`: one row for each library and tool."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

from dolby_auth_plugin.sandbox import Sandbox

from .exercises import EXERCISES, Tool

_PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
_START, _END = "<!-- Written by the tests, from here -->\n", "<!-- to here -->"
_COLUMNS = ("library", "tool", "version", "Python", *EXERCISES, "trick")
_HOW_TO_WRITE = "docs/compatibility.md says something else: nox -s tools niquests -- --write-table"

Row = dict[str, str]
Record = Callable[[str, object], None]


def run(tool: Tool, exercise: str, record: Record, *, is_written: bool) -> None:
    """Do the *exercise*. *record* it for `write`, or compare the result with the table *is_written*."""
    record("exercise", [tool.library, tool.name, tool.distribution, tool.trick, exercise])
    with Sandbox() as sandbox, ExitStack() as stack:
        EXERCISES[exercise](sandbox, tool.open(sandbox, stack))
    row = {exercise: "works", "trick": tool.trick}
    assert not is_written or row.items() <= read()[1].get((tool.library, tool.name), {}).items(), _HOW_TO_WRITE


def check_names(tools: Iterable[Tool]) -> None:
    """The table has these tools for their libraries and no others, and the columns of all exercises."""
    names = {(tool.library, tool.name) for tool in tools}
    columns, rows = read()
    libraries = {library for library, _ in names}
    assert (columns, {key for key in rows if key[0] in libraries}) == ([*_COLUMNS], names), _HOW_TO_WRITE


def read() -> tuple[list[str], dict[tuple[str, str], Row]]:
    """The names of the columns; and the rows by the names of library and tool."""
    lines = _PAGE.read_text().partition(_START)[2].partition(_END)[0].splitlines()
    columns, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    return columns, {(cells[0].split()[0], cells[1]): dict(zip(columns, cells, strict=True)) for cells in rows}


def write(results: list[tuple[list[str], bool]]) -> None:
    """Write the rows of the tools that ran. Each result has what an exercise recorded, and whether it passed."""
    _, rows = read()
    for (library, tool, distribution, trick, exercise), passed in results:
        versions = f"{library} {version(library)}", tool, version(distribution), platform.python_version()
        result = {exercise: "works" if passed else "fails", "trick": trick}
        rows.setdefault((library, tool), {}).update(zip(_COLUMNS, versions, strict=False), **result)
    order = sorted(rows, key=lambda key: (key[0] != "requests", key[0], key[1].lower()))
    lines = [_COLUMNS, ["---"] * len(_COLUMNS), *([rows[key].get(name, "") for name in _COLUMNS] for key in order)]
    before, _, rest = _PAGE.read_text().partition(_START)
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    _PAGE.write_text(f"{before}{_START}{table}{_END}{rest.partition(_END)[2]}")
