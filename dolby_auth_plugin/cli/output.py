"""
The output of all commands: results on stdout, everything else on stderr, errors and warnings in one line.

rich is imported when it is needed: `dolby-auth token` does without it.
"""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from .._core.errors import DolbyAuthError, ScopeWarning

if TYPE_CHECKING:
    from rich.console import Console

# The width without a terminal: enough for the tables, and short enough for a log.
_WIDTH = 100


class Commands(click.Group):
    """A group of commands that show no traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        with warnings_in_one_line():
            try:
                return super().invoke(ctx)
            except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
                # click knows what to do with these.
                raise
            except (DolbyAuthError, ScopeWarning, ImportError) as error:
                raise click.ClickException(str(error)) from None
            except Exception as error:
                if sys.flags.dev_mode:
                    raise
                from .._core.failures import described  # imports OpenSSL

                raise click.ClickException(
                    f"{described(error)}. This is an error in dolby-auth. Set PYTHONDEVMODE=1 to see where it comes from."
                ) from None


@contextmanager
def complaints_in_one_line() -> Iterator[None]:
    """Show the library's complaints about arguments, and about files, as errors of the command."""
    try:
        yield
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        # A RuntimeError means that there is no home folder.
        raise click.ClickException(str(error)) from None


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Show warnings, and what the library logs as one, as lines on stderr. Nothing else that it logs is shown."""
    handler, logger = _Lines(logging.WARNING), logging.getLogger("dolby_auth_plugin")
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: _warn(str(message))
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _warn(record.getMessage())


def _warn(text: str) -> None:
    click.echo(f"Warning: {text}", err=True)


def console(*, stderr: bool = False) -> Console:
    """A console with colours on a terminal only. It follows NO_COLOR."""
    try:
        from rich.console import Console
    except ImportError:
        raise ImportError("the command dolby-auth needs rich: pip install 'dolby-auth-plugin[cli]'") from None

    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        # A pipe may have an encoding without ticks. A question mark in their place is better than an error.
        stream.reconfigure(errors="replace")
    found = Console(stderr=stderr, highlight=False, emoji=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, emoji=False, width=_WIDTH)
