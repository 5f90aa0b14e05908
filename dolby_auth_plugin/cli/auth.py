"""The options that commands share, and the auth object that they make of them."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .account import find
from .output import complaints_in_one_line

if TYPE_CHECKING:
    from ..caches.protocol import TokenCache

_Command = TypeVar("_Command", bound=Callable[..., Any])


def token_url_option(command: _Command) -> _Command:
    """The option that says where the token endpoint is."""
    token_url = click.option(
        "--token-url",
        metavar="URL",
        help="The token endpoint, by default DOLBYIO_TOKEN_URL or that of Dolby.io. The system shows options to all users: put a URL"
        " with the key of a gateway into the variable.",
    )
    return token_url(command)


def account_options(command: _Command) -> _Command:
    """The options that say whose token is wanted, and where."""
    secret = click.option(
        "--app-secret-file",
        type=click.Path(),
        help="Read the app secret from this file. The app key comes from where it is found otherwise.",
    )
    return secret(token_url_option(command))


def token_options(command: _Command) -> _Command:
    """The options that say what the token is for."""
    scope = click.option(
        "--scope",
        "scopes",
        multiple=True,
        help="Ask for this scope only. Repeat it for more. `dolby-auth scopes` lists them.",
    )
    life = click.option(
        "--expires-in",
        type=click.IntRange(1, 86_400),
        default=1800,
        show_default=True,
        metavar="SECONDS",
        help="Ask for this lifetime.",
    )
    return scope(life(command))


def make_auth(
    app_secret_file: str | None,
    token_url: str | None,
    scopes: Sequence[str] = (),
    expires_in: int = 1800,
    cache: str | None = None,
) -> Any:
    """An auth object of the first installed HTTP library."""
    account = find(app_secret_file)
    with complaints_in_one_line():
        return adapter().DolbyAuth(
            credentials=account.credentials,
            scope=joined(scopes),
            expires_in=expires_in,
            token_url=token_url,
            cache=None if cache is None else cache_of(cache),
        )


def joined(scopes: Sequence[str]) -> str | None:
    """The scopes as the library takes them: one option may contain several, as in the answer of the token endpoint."""
    return " ".join(scopes) if scopes else None


def cache_of(name: str, folder: str | None = None, **of_redis: str) -> TokenCache:
    """The cache `file` or `redis`. Without further arguments, the one of programs that give none."""
    if name == "file":
        from ..caches.file import FileTokenCache

        return FileTokenCache(folder)
    from ..caches.redis import RedisTokenCache

    return RedisTokenCache(redis_url(), **of_redis)


def redis_url() -> str:
    """The Redis of a command. It is no option: it may hold a password, and the system shows all users the options of a process."""
    return os.environ.get("REDIS_URL") or "redis://127.0.0.1"


def adapter() -> Any:
    """The adapter of the first installed HTTP library."""
    unsupported: ImportError | None = None
    for library in ("requests", "httpx", "httpx2"):
        try:
            return importlib.import_module(f"dolby_auth_plugin.{library}")
        except ImportError as error:
            if error.name == library and importlib.util.find_spec(library) is not None:
                unsupported = error
    raise unsupported or ImportError(
        "no HTTP library is installed: pip install 'dolby-auth-plugin[requests]', or [httpx], or [httpx2]"
    )
