"""`dolby-auth check`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from .auth import account_options, joined, token_options
from .output import console

if TYPE_CHECKING:
    from .checks import Check

# A mark for each result: for terminals that can show it, and for the others.
_MARKS = {
    True: ("[green]✓[/]", "[green]ok[/]"),
    False: ("[red]✗[/]", "[red]no[/]"),
    None: ("[yellow]-[/]", "[yellow]-[/]"),
}


@click.command("check")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@token_options
@account_options
@click.pass_context
def command(
    context: click.Context,
    as_json: bool,
    scopes: tuple[str, ...],
    expires_in: int,
    app_secret_file: str | None,
    token_url: str | None,
) -> None:
    """
    Check everything that a token needs, with one token request.

    The exit status is 1 if a check fails, else 0, even if a check could not be made.

    \b
    Example:
      dolby-auth check --scope comms:monitor:read
    """
    from . import checks

    with console(stderr=True).status("Requesting a token ..."):
        results = checks.run(app_secret_file, token_url, joined(scopes), expires_in)
    passed = all(check.passed is not False for check in results)
    if as_json:
        click.echo(json.dumps({"passed": passed, "checks": [check._asdict() for check in results]}, indent=2))
    else:
        _print(results)
    context.exit(0 if passed else 1)


def _print(results: list[Check]) -> None:
    output = console()
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    for check in results:
        table.add_row(_MARKS[check.passed][output.options.ascii_only], check.name, Text(check.detail))
    output.print(table)
