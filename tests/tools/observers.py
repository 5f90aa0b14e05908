"""Tools that observe the requests of any library, set up so that they send and keep nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import sentry_sdk
import vcr
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport


@contextmanager
def sentry(sent: list[Envelope]) -> Iterator[None]:
    """Sentry with its default integrations, in a transaction. It puts its reports into *sent*."""

    # Not a class statement: where Sentry is not installed, mypy would reject the base class.
    local = type("Local", (Transport,), {"capture_envelope": lambda _, envelope: sent.append(envelope)})
    sentry_sdk.init("http://key@127.0.0.1:9/1", transport=local, traces_sample_rate=1.0)
    try:
        with sentry_sdk.start_transaction(name="a job"):
            yield
    finally:
        sentry_sdk.init()


@contextmanager
def instrumented(*instrumentors: Any, **options: Any) -> Iterator[None]:
    """OpenTelemetry for a library."""
    for instrumentor in instrumentors:
        instrumentor.instrument(**options)
    try:
        yield
    finally:
        for instrumentor in instrumentors:
            instrumentor.uninstrument()


@contextmanager
def recorded() -> Iterator[None]:
    """vcrpy, which records."""
    with TemporaryDirectory() as folder, vcr.use_cassette(f"{folder}/calls.yaml", record_mode="all"):
        yield
