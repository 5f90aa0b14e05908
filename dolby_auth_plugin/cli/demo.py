"""`dolby-auth demo`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from queue import Empty
from threading import BrokenBarrierError

import click

from .auth import account_options, make_auth
from .output import complaints_in_one_line, console


@click.command("demo")
@click.option("--live", is_flag=True, help="Only obtain a real token, and describe it.")
@account_options
@click.option(
    "--processes", type=click.IntRange(1, 64), help="Instead, this many processes share one token through a cache."
)
@click.option(
    "--cache",
    type=click.Choice(["file", "redis"]),
    help="The cache of --processes, by default file. REDIS_URL names the Redis; by default it is on this machine.",
)
@click.option("--seconds", type=click.FloatRange(1, 60), default=8.0, hidden=True)
@click.pass_context
def command(
    context: click.Context,
    live: bool,
    app_secret_file: str | None,
    token_url: str | None,
    processes: int | None,
    cache: str | None,
    seconds: float,
) -> None:
    """
    Run a complete workflow against a simulated Dolby.io on loopback.

    requests, httpx, httpx async and httpx2 each upload files, run jobs, download the results and read Monitor data.
    Tokens expire after three seconds, and all are revoked halfway. The exit status is 1 if a call fails or if the
    storage receives a token.

    \b
    Example:
      dolby-auth demo --processes 8
    """
    if not live and (app_secret_file or token_url):
        raise click.UsageError("--app-secret-file and --token-url need --live: the sandbox has its own")
    if live and processes is not None:
        raise click.UsageError("--live makes one token request: it has no --processes")
    if cache is not None and processes is None:
        raise click.UsageError("--cache needs --processes: they share it")
    if live:
        _live(app_secret_file, token_url)
        return
    # A proxy from the environment cannot reach loopback. All libraries prefer the lower-case variable.
    os.environ["no_proxy"] = "127.0.0.1"
    context.exit(_run(seconds) if processes is None else _share(processes, cache or "file", seconds))


@contextmanager
def _all_extras() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        missing = (error.name or "all extras").partition(".")[0]
        raise click.ClickException(f"the demo needs {missing}: pip install 'dolby-auth-plugin[all]'") from None


def _run(seconds: float) -> int:
    """Let each HTTP library run the workflow, and print the result. Returns the exit status."""
    output, progress = console(), console(stderr=True)
    with _all_extras():
        from . import demonstration, report
    trials = demonstration.trials(seconds)
    report.run(progress, trials, seconds)
    return report.report(output, trials)


def _share(count: int, cache: str, seconds: float) -> int:
    """Let *count* processes share one token, and print the result. Returns the exit status."""
    output, progress = console(), console(stderr=True)
    with _all_extras():
        from . import processes, report
    what = f"They call the API for {seconds:g} s. Tokens expire after 3 s; all are revoked halfway."
    progress.print(f"Starting {count} processes ...")
    with ExitStack() as stack:
        with complaints_in_one_line():
            shared = stack.enter_context(processes.empty_cache(cache))
        try:
            outcome = processes.run(count, shared, seconds, lambda: progress.print(what))
        except (BrokenBarrierError, Empty):
            raise click.ClickException("the processes did not start or answer in time: try fewer") from None
    return report.report_sharing(output, outcome)


def _live(app_secret_file: str | None, token_url: str | None) -> None:
    """Obtain a real token, and describe it."""
    auth = make_auth(app_secret_file, token_url)
    with console(stderr=True).status("Requesting a token ..."):
        token = auth.token()
    left = (token.expires_at - datetime.now(UTC)).total_seconds()
    scope = "unrestricted (the response names none)" if token.scope is None else " ".join(sorted(token.scope)) or "none"
    library = type(auth).__module__.rpartition(".")[2]
    console().print(f"Obtained an API token with {library}.", style="green")
    click.echo(f"It expires in {left:.0f} s, at {token.expires_at:%Y-%m-%d %H:%M:%S} UTC. Scopes: {scope}.")
