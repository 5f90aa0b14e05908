"""The table in `docs/compatibility.md`: one row for each library and tool."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

_PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
_START, _END = "<!-- Written by the tests, from here -->\n", "<!-- to here -->"
EXERCISED = ("normal call", "healed revocation", "whole body after a 401", "no token to storage")
_COLUMNS = ("library", "tool", "version", "Python", *EXERCISED, "trick")
HOW_TO_WRITE = "docs/compatibility.md says something else: nox -s tools niquests -- --write-table"

Row = dict[str, str]


def read() -> dict[tuple[str, str], Row]:
    """The rows by the names of library and tool."""
    _, _, lines = _PAGE.read_text().partition(_START)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines.partition(_END)[0].splitlines()[2:]]
    return {(cells[0].split()[0], cells[1]): dict(zip(_COLUMNS, cells, strict=True)) for cells in rows}


def write(results: list[tuple[list[str], bool]]) -> None:
    """Replace the rows of the libraries that ran. Each result has what an exercise recorded, and whether it passed."""
    ran = {case[0] for case, _ in results}
    rows = {key: row for key, row in read().items() if key[0] not in ran}
    for (library, tool, distribution, trick, exercise), passed in results:
        new = {
            "library": f"{library} {version(library)}",
            "tool": tool,
            "version": version(distribution),
            "trick": trick,
        }
        row = rows.setdefault((library, tool), {**new, "Python": platform.python_version()})
        row[exercise] = "works" if passed else "fails"
    order = sorted(rows, key=lambda key: (key[0] != "requests", key[0], key[1].lower()))
    lines = [_COLUMNS, ["---"] * len(_COLUMNS), *([rows[key].get(name, "") for name in _COLUMNS] for key in order)]
    before, _, rest = _PAGE.read_text().partition(_START)
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    _PAGE.write_text(f"{before}{_START}{table}{_END}{rest.partition(_END)[2]}")
