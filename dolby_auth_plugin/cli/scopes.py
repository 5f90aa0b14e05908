"""`dolby-auth scopes`."""

from __future__ import annotations

import click

from .._core.scope import Scope
from .output import console

# Dolby.io's libraries describe the single scopes. No source says which of `read` and `download` a list of recordings needs.
MEANINGS = {
    Scope.ALL_COMMUNICATIONS: "do everything in the Communications APIs",
    Scope.CLIENT_ACCESS_TOKEN_CREATE: "create client access tokens, for browsers and apps",
    Scope.CONFERENCE_ADMIN: "invite and remove participants, send messages, change permissions and spatial audio",
    Scope.CONFERENCE_CREATE: "create conferences",
    Scope.CONFERENCE_DESTROY: "end conferences",
    Scope.MONITOR_DELETE: "delete Monitor data, such as recordings",
    Scope.MONITOR_DOWNLOAD: "get URLs to download, such as those of recordings",
    Scope.MONITOR_READ: "read Monitor data: conferences, participants, webhooks",
    Scope.RECORD_WRITE: "start and stop recordings",
    Scope.REMIX_READ: "read the status of a remix",
    Scope.REMIX_WRITE: "remix recordings",
    Scope.STREAM_WRITE: "start and stop streams",
}


@click.command("scopes")
def command() -> None:
    """
    List the scopes, and what each allows.

    They narrow a token for the Communications APIs. The Media APIs have none: a token without a scope may do everything.

    \b
    Example:
      dolby-auth scopes
    """
    output = console()
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("scope", no_wrap=True, style="cyan")
    table.add_column("allows to")
    for scope in Scope:
        table.add_row(scope, MEANINGS[scope])
    output.print(table)
