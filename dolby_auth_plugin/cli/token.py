"""`dolby-auth token`."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from .._core.token import AccessToken, Instant
from .auth import account_options, make_auth, token_options

# Seconds to wait for the renewal of a token that is still good.
_PATIENCE = 5.0


@click.command("token")
@click.option("--header", "form", flag_value="header", help="Print the whole header: Authorization: Bearer ...")
@click.option("--json", "form", flag_value="json", help="Print JSON: the token, its lifetime in seconds, its scopes.")
@token_options
@account_options
@click.option(
    "--cache",
    type=click.Choice(["file", "redis"]),
    help="Share the token with other calls and programs: in your cache folder, or in the Redis that REDIS_URL names.",
)
def command(form: str | None, cache: str | None, **options: Any) -> None:
    """
    Print an API token.

    With --header, curl can read it from a pipe. It then shows in no list of processes.

    \b
    Example:
      dolby-auth token --header | curl -H @- https://api.dolby.com/media/jobs
    """
    auth = make_auth(cache=cache, **options)
    token = auth.token()
    if not token.is_fresh(Instant.now(time)):
        token = _renewed(auth)
    if form == "header":
        click.echo(f"Authorization: {token.authorization}")
    else:
        click.echo(_json(token) if form == "json" else token.value)


def _renewed(auth: Any) -> AccessToken:
    """
    The token after one from a cache that expires soon, or that one if there is no other in time.

    The library renews it in the background. That ends with this process, so wait here. Else each call would make a token request in vain.
    """
    auth.token()
    auth._source.join_fetch(_PATIENCE)  # noqa: SLF001 - it is of this package
    token: AccessToken = auth.token()
    return token


def _json(token: AccessToken) -> str:
    """The fields of the token endpoint's answer, and the time when the token expires."""
    fields = {
        "access_token": token.value,
        "token_type": token.token_type,
        "expires_in": int(token.expires_at.timestamp() - time.time()),
        "expires_at": token.expires_at.isoformat(timespec="seconds"),
        "scope": None if token.scope is None else " ".join(sorted(token.scope)),
    }
    return json.dumps(fields)
