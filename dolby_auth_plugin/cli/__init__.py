"""The command `dolby-auth`: its options and terminal output. `__main__` starts it."""

from __future__ import annotations

import importlib
import os
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .._core.errors import TokenError
from .._core.version import __version__

try:
    import click
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn
    from rich.table import Table
except ImportError as _error:
    _missing = (_error.name or "click").partition(".")[0]
    raise ImportError(f"the command dolby-auth needs {_missing}: pip install 'dolby-auth-plugin[cli]'") from None

if TYPE_CHECKING:
    from .demonstration import Trial
    from .processes import Outcome

# No URL as an option: it may hold a password, and the system shows all users the arguments of a process.
_CACHE_HELP = "The cache of --processes. REDIS_URL names the Redis; by default it is on this machine."

# The number of failures listed below the table. Further failures are only counted.
_FAILURES_SHOWN = 5

# The output width without a terminal: wide enough for the table, and short enough for a log.
_WIDTH = 100


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dolby-auth")
def main() -> None:
    """Try out the authentication for the Dolby.io REST APIs."""


@main.command()
@click.option("--live", is_flag=True, help="Only obtain a real token, with credentials from the environment.")
@click.option(
    "--processes", type=click.IntRange(1, 64), help="Instead, this many processes share one token through a cache."
)
@click.option(
    "--cache", default="file", show_default=True, help="The cache of --processes: file, redis, or a URL of Redis."
)
@click.option("--seconds", type=click.FloatRange(1, 60), default=8.0, hidden=True)
@click.pass_context
def demo(context: click.Context, live: bool, processes: int | None, cache: str, seconds: float) -> None:
    """
    Run a complete workflow against a simulated Dolby.io on loopback.

    requests, httpx, httpx async and httpx2 each upload files, run jobs, download the results and read Monitor data.
    Tokens expire after three seconds, and all are revoked halfway. The exit status is 1 if a call fails or if the
    storage receives a token.
    """
    console = Console(width=None if Console().is_terminal else _WIDTH, highlight=False)
    if live:
        context.exit(_live(console))
    try:
        from . import demonstration
    except ImportError as error:
        missing = (error.name or "all extras").partition(".")[0]
        raise click.ClickException(f"the demo needs {missing}: pip install 'dolby-auth-plugin[all]'") from None
    # A proxy from the environment cannot reach loopback. All libraries prefer the lower-case variable.
    os.environ["no_proxy"] = "127.0.0.1"
    if processes is not None:
        context.exit(_share(console, processes, cache, seconds))
    trials = demonstration.trials(seconds)
    run(console, trials, seconds)
    context.exit(report(console, trials))


def _share(console: Console, count: int, cache: str, seconds: float) -> int:
    """Let *count* processes share one token, and print the result. Returns the exit status."""
    from . import processes

    try:
        console.print(f"Starting {count} processes ...")
        outcome = processes.run(
            count,
            cache,
            seconds,
            lambda: console.print(
                f"They call the API for {seconds:g} s. Tokens expire after 3 s; all are revoked halfway."
            ),
        )
    except (ImportError, ValueError) as error:
        console.print(str(error), markup=False, style="red", soft_wrap=True)
        return 1
    return report_sharing(console, outcome)


def report_sharing(console: Console, outcome: Outcome) -> int:
    """Print what the processes did. Returns the exit status."""
    table = Table(title="One token for all processes")
    for heading in ("process", "calls", "cache\noperations", "failures"):
        table.add_column(heading, justify="right")
    for number, work in enumerate(outcome.works, 1):
        table.add_row(str(number), str(work.calls), str(work.operations), _must_be_zero(len(work.failures)))
    console.print(table)
    failures = [failure for work in outcome.works for failure in work.failures]
    _print_failures(console, failures)
    calls, operations = (sum(column) for column in list(zip(*outcome.works, strict=True))[:2])
    console.print(
        f"{len(outcome.works)} processes made {calls} calls with {outcome.token_requests} token requests"
        f" and {operations} cache operations.",
        style="bold red" if failures else "green",
    )
    return 1 if failures else 0


def _print_failures(console: Console, lines: list[str]) -> None:
    for line in lines[:_FAILURES_SHOWN]:
        console.print(line, markup=False, style="red", soft_wrap=True)
    if len(lines) > _FAILURES_SHOWN:
        console.print(f"... and {len(lines) - _FAILURES_SHOWN} more")


def run(console: Console, trials: list[Trial], seconds: float) -> None:
    """Run the trials at the same time and show their progress."""
    threads = [threading.Thread(target=trial.run, daemon=True) for trial in trials]
    for thread in threads:
        thread.start()
    try:
        if console.is_terminal:
            _show_progress(console, trials, threads)
        else:
            for trial in trials:
                console.print(f"{trial.name}: running for {seconds:g} s")
            for trial, thread in zip(trials, threads, strict=True):
                thread.join()
                console.print(f"{trial.name}: {trial.calls} calls, {trial.token_requests} token requests")
    finally:
        # After a KeyboardInterrupt the trials are still running.
        for trial in trials:
            trial.stopped.set()
        for thread in threads:
            thread.join()


def _show_progress(console: Console, trials: list[Trial], threads: list[threading.Thread]) -> None:
    columns = (TextColumn("{task.description:<12}"), BarColumn(), TextColumn("{task.fields[state]}"))
    with Progress(*columns, console=console, transient=True) as progress:
        bars: list[TaskID] = [progress.add_task(trial.name, total=trial.seconds, state="") for trial in trials]
        working = True
        while working:
            working = any(thread.is_alive() for thread in threads)
            for bar, trial in zip(bars, trials, strict=True):
                state = f"{trial.calls:>4} calls, {trial.token_requests} tokens"
                progress.update(bar, completed=progress.tasks[bar].elapsed, state=state)
            time.sleep(0.1)


def report(console: Console, trials: list[Trial]) -> int:
    """Print the table and the conclusion. Returns the exit status."""
    table = Table(title="One auth object per client. Tokens expire after 3 s; all are revoked halfway.")
    table.add_column("client")
    for heading in ("calls", "token\nrequests", "early\nrenewals", "401s\nretried", "leaks to\nstorage", "failures"):
        table.add_column(heading, justify="right")
    rows = [
        (
            trial.name,
            trial.calls,
            trial.token_requests,
            trial.early_renewals,
            trial.retried,
            trial.storage_leaks,
            len(trial.failures),
        )
        for trial in trials
    ]
    total = ("all", *(sum(column) for column in list(zip(*rows, strict=True))[1:]))
    for name, *numbers, leaks, failures in (*rows, total):
        table.add_row(
            str(name),
            *map(str, numbers),
            _must_be_zero(leaks),
            _must_be_zero(failures),
            end_section=name == rows[-1][0],
        )
    console.print(table)
    _print_failures(console, [f"{trial.name}: {failure}" for trial in trials for failure in trial.failures])
    *_, leaks, failures = total
    if leaks or failures:
        console.print(
            f"The demo failed. Failures: {failures}. Requests that sent a token to storage: {leaks}.", style="bold red"
        )
        return 1
    console.print("All calls succeeded, and no token was sent to storage.", style="green")
    return 0


def _must_be_zero(number: Any) -> str:
    return f"[bold red]{number}[/]" if number else "[green]0[/]"


def _live(console: Console) -> int:
    """Obtain a real token and print the result. Returns the exit status."""
    try:
        library, auth = live_auth()
        with console.status("Requesting a token ..."):
            token = auth.token()
    except (TokenError, ImportError, TypeError, ValueError) as error:
        console.print(str(error), markup=False, style="red", soft_wrap=True)
        return 1
    left = (token.expires_at - datetime.now(UTC)).total_seconds()
    scope = "unrestricted (the response names none)" if token.scope is None else " ".join(sorted(token.scope)) or "none"
    console.print(f"Obtained an API token with {library}.", style="green")
    console.print(
        f"It expires in {left:.0f} s, at {token.expires_at:%Y-%m-%d %H:%M:%S} UTC. Scopes: {scope}.",
        markup=False,
        soft_wrap=True,
    )
    return 0


def live_auth() -> tuple[str, Any]:
    """An auth object of the first installed HTTP library, with credentials from the environment."""
    for library in ("requests", "httpx", "httpx2"):
        try:
            adapter = importlib.import_module(f"dolby_auth_plugin.{library}")
        except ImportError:
            continue
        return library, adapter.DolbyAuth()
    raise ImportError(
        "no HTTP library is installed: pip install 'dolby-auth-plugin[requests]', or [httpx], or [httpx2]"
    )


from .login import login, logout  # noqa: E402 - after the group

main.add_command(login)
main.add_command(logout)
