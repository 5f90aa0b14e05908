"""The app key and secret that a command uses: from the environment, else from the system's keyring."""

from __future__ import annotations

import os
from typing import NamedTuple

import click

from .._core import secret_files, system_keyring
from .._core.credentials import ENVIRONMENT, AppCredentials, variables

_KEYRING = "the system's keyring"


class Account(NamedTuple):
    """
    Attributes:
        credentials: The app key and secret.
        origin: Where they were found, in words.
    """

    credentials: AppCredentials
    origin: str


def find(app_secret_file: str | None = None) -> Account:
    """
    The app key and secret.

    Args:
        app_secret_file: A file with the secret alone, in place of the one in the environment or the keyring.

    Raises:
        click.ClickException: If there are none. It says in one line what to do.
    """
    try:
        return _pair() if app_secret_file is None else _key_with(app_secret_file)
    except ValueError as error:
        raise click.ClickException(str(error)) from None


def secret_in(file: str) -> str:
    """
    The secret in a *file* that holds nothing else.

    Raises:
        click.ClickException: If the file can't be read.
    """
    paths = secret_files.paths(file)
    for doubt in secret_files.doubts(paths):
        click.echo(f"Warning: {doubt}", err=True)
    secret = secret_files.read_value(paths[0])
    if isinstance(secret, Exception):
        raise click.ClickException(str(secret))
    if not secret:
        raise click.ClickException(f"{file} is empty: it should hold the app secret")
    return secret


def _pair() -> Account:
    if names := variables():
        return Account(AppCredentials.from_env(), f"the environment variables {' and '.join(names)}")
    return Account(AppCredentials(*_stored("key and secret", ENVIRONMENT[0])), _KEYRING)


def _key_with(file: str) -> Account:
    (own_key, own_secret), (other_key, _) = ENVIRONMENT
    name = own_key if os.environ.get(own_key) or os.environ.get(own_secret) else other_key
    if key := os.environ.get(name):
        return Account(AppCredentials(key, secret_in(file)), f"the environment variable {name} and the file {file}")
    if name == own_key:
        raise click.ClickException(f"the environment has no {own_key}, but {own_secret}: set both or none")
    return Account(AppCredentials(_stored("key", [own_key])[0], secret_in(file)), f"{_KEYRING} and the file {file}")


def _stored(what: str, names: tuple[str, ...] | list[str]) -> tuple[str, str]:
    stored = system_keyring.read()
    if isinstance(stored, tuple):
        return stored
    raise click.ClickException(
        f"no app {what} in the environment (set {' and '.join(names)}), and {stored or system_keyring.nothing()}"
    )
