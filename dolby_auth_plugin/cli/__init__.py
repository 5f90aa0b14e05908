"""
The command `dolby-auth`. `__main__` starts it.

A module for each command. They import click and values of `_core` only: everything else is imported when a command runs, so that help
and completion are quick.
"""

from __future__ import annotations

from .._core.version import __version__

try:
    import click
except ImportError:
    raise ImportError("the command dolby-auth needs click: pip install 'dolby-auth-plugin[cli]'") from None

from . import cache, check, demo, login, sandbox, scopes, token
from .output import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dolby-auth")
def main() -> None:
    """
    Get API tokens of Dolby.io, and check what they need.

    The app key and secret come from the environment, DOLBYIO_APP_KEY and DOLBYIO_APP_SECRET, or from the system's keyring,
    where `dolby-auth login` stores them.

    \b
    Example:
      dolby-auth check
      dolby-auth token --header | curl -H @- https://api.dolby.com/media/jobs
    """


for _command in (
    token.command,
    check.command,
    login.login,
    login.logout,
    scopes.command,
    sandbox.command,
    cache.command,
    demo.command,
):
    main.add_command(_command)
