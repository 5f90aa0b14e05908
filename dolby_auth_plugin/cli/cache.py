"""`dolby-auth cache`."""

from __future__ import annotations

import click

from .output import complaints_in_one_line


@click.group("cache")
def command() -> None:
    """
    Manage the tokens in your cache folder.

    \b
    Example:
      dolby-auth cache clear
    """


@command.command("clear")
def clear() -> None:
    """
    Delete the tokens in your cache folder.

    Dolby.io knows nothing of this. Programs that have a token go on with it, and it stays valid until it expires.

    \b
    Example:
      dolby-auth cache clear
    """
    delete_tokens()


def delete_tokens() -> None:
    """Delete the tokens for any credentials: the names of the entries do not tell whose they are."""
    from ..caches.file import FileTokenCache

    with complaints_in_one_line():
        cache = FileTokenCache()
        removed = cache.clear()
    click.echo(f"Deleted {removed} cached token{'' if removed == 1 else 's'} in {cache.path}.")
