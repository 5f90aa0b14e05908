"""The output of `dolby-auth demo`: its progress on stderr, its tables on stdout."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

if TYPE_CHECKING:
    from .demonstration import Trial
    from .processes import Outcome

# The number of failures listed below the table. Further failures are only counted.
_FAILURES_SHOWN = 5


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
