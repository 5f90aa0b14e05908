"""`dolby-auth login` and `dolby-auth logout`."""

from __future__ import annotations

from contextlib import suppress

import click

from .._core import system_keyring
from .._core.credentials import AppCredentials, shown_key, variables
from .._core.errors import DolbyAuthError
from .account import secret_in
from .auth import adapter, token_url_option
from .cache import delete_tokens


@click.command()
@click.option(
    "--app-secret-file", type=click.Path(), help="Read the app secret from this file, and ask for the key only."
)
@token_url_option
def login(app_secret_file: str | None, token_url: str | None) -> None:
    """
    Store the app key and secret in the system's keyring.

    Asks for both, and shows neither. They are stored only if the token endpoint accepts them. Commands use them if the environment has
    none, and programs with AppCredentials.from_keyring.

    \b
    Example:
      dolby-auth login
    """
    # Before the user is asked for what could not be stored.
    _raise(system_keyring.unusable())
    try:
        # Hidden too: users mistake the one for the other.
        key = _ask("App key")
        credentials = AppCredentials(key, _ask("App secret") if app_secret_file is None else secret_in(app_secret_file))
        adapter().DolbyAuth(credentials=credentials, token_url=token_url).token()
    except (DolbyAuthError, ImportError, TypeError, ValueError) as error:
        raise click.ClickException(f"{str(error).rstrip('.')}. Nothing was stored.") from None
    _raise(system_keyring.store(credentials))
    click.echo(
        f"The app key {shown_key(credentials.app_key)} and its secret are good. They are in the system's keyring."
    )
    if names := variables():
        click.echo(f"Commands use the environment first: {' and '.join(names)}.", err=True)


@click.command()
def logout() -> None:
    """
    Delete the app key and secret in the system's keyring, and the tokens in your cache folder.

    Dolby.io knows nothing of this: a token stays valid until it expires.

    \b
    Example:
      dolby-auth logout
    """
    deleted = system_keyring.delete()
    if deleted is True:
        click.echo("Deleted the app key and secret in the system's keyring.")
    elif deleted is False:
        click.echo("The system's keyring has no app key and secret.")
    # Without the extra `file` there is no such cache.
    with suppress(ImportError):
        delete_tokens()
    _raise(deleted if isinstance(deleted, Exception) else None)


def _ask(what: str) -> str:
    answer: str = click.prompt(f"{what} (hidden)", hide_input=True, err=True)
    return answer.strip()


def _raise(complaint: Exception | None) -> None:
    if complaint is not None:
        raise click.ClickException(str(complaint))
