"""`dolby-auth sandbox`."""

from __future__ import annotations

import signal
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import click

from .output import complaints_in_one_line

if TYPE_CHECKING:
    from ..sandbox import RequestRecord, Sandbox

# They protect nothing. They stay the same, so that a program keeps its configuration when the sandbox starts again. The key has the
# format of real ones: 24 characters that end in "==".
_APP_KEY = "c2FuZGJveC1hcHAta2V5MQ=="
_APP_SECRET = "sandbox-secret-that-protects-nothing"  # noqa: S105 - see above

# Seconds. On Windows, Ctrl-C does not interrupt a wait that has no limit.
_WAIT = 1.0


@click.command("sandbox")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=0,
    metavar="PORT",
    help="The port of the token endpoint, Media and Communications. By default a free one.",
)
def command(port: int) -> None:
    """
    Run a simulated Dolby.io, for programs in any language.

    It runs on loopback, with plain HTTP. It prints the environment variables to set, then one line for each request. Ctrl-C ends it.

    \b
    Example:
      dolby-auth sandbox --port 8080
    """
    # Process managers send SIGTERM. A shell makes a process in the background ignore SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        from ..sandbox import Sandbox

        records: SimpleQueue[RequestRecord] = SimpleQueue()
        sandbox = Sandbox(app_key=_APP_KEY, app_secret=_APP_SECRET, port=port, on_request=records.put)
        with complaints_in_one_line():
            sandbox.start()
        with sandbox:
            print_variables(sandbox)
            while True:
                with suppress(Empty):
                    print_request(records.get(timeout=_WAIT))
    click.echo("The sandbox has ended.", err=True)


def print_variables(sandbox: Sandbox) -> None:
    """Print the environment variables for programs that use *sandbox*."""
    click.echo(f"export DOLBYIO_APP_KEY={sandbox.app_key}")
    click.echo(f"export DOLBYIO_APP_SECRET={sandbox.app_secret}")
    click.echo(f"export DOLBYIO_TOKEN_URL={sandbox.token_url}")
    click.echo(f"export DOLBYIO_ALLOWED_HOSTS={','.join(sandbox.allowed_hosts)}")
    click.echo(f"The sandbox answers at {sandbox.url} in place of Dolby.io. Ctrl-C ends it.", err=True)


def print_request(record: RequestRecord) -> None:
    """Print the line for one request, in local time."""
    status = "no answer" if record.status is None else record.status
    click.echo(f"{record.at.astimezone():%H:%M:%S} {record.method} {record.path} {status}")
