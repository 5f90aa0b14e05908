"""OpenTelemetry with its SDK: token requests belong to the trace of the caller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest
import requests
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import dolby_auth_plugin.httpx
import dolby_auth_plugin.requests
from dolby_auth_plugin.sandbox import Sandbox

from .observers import instrumented

Call = Callable[[Sandbox], None]


def with_requests(sandbox: Sandbox) -> None:
    auth = dolby_auth_plugin.requests.DolbyAuth(**sandbox.options)
    for _ in range(2):
        assert requests.get(f"{sandbox.url}/media/jobs", auth=auth, timeout=20).status_code == 200
        sandbox.revoke_all()


def with_httpx(sandbox: Sandbox) -> None:
    with httpx.Client(auth=dolby_auth_plugin.httpx.DolbyAuth(**sandbox.options)) as client:
        for _ in range(2):
            assert client.get(f"{sandbox.url}/media/jobs").status_code == 200
            sandbox.revoke_all()


def with_async_httpx(sandbox: Sandbox) -> None:
    async def call() -> None:
        async with httpx.AsyncClient(auth=dolby_auth_plugin.httpx.DolbyAuth(**sandbox.options)) as client:
            for _ in range(2):
                assert (await client.get(f"{sandbox.url}/media/jobs")).status_code == 200
                sandbox.revoke_all()

    asyncio.run(call())


# The third request of the API repeats the second one. With requests it is a part of the second `Session.send`, inside of which
# OpenTelemetry suppresses spans: that of the second token request too.
@pytest.mark.parametrize(
    ("call", "token_spans", "api_spans"), [(with_requests, 1, 2), (with_httpx, 2, 3), (with_async_httpx, 2, 3)]
)
def test_a_token_request_is_a_child_of_the_callers_span(
    call: Call, token_spans: int, api_spans: int, sandbox: Sandbox
) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with instrumented(RequestsInstrumentor(), HTTPXClientInstrumentor(), tracer_provider=provider):
        with provider.get_tracer("tests").start_as_current_span("caller") as caller:
            call(sandbox)

    spans = [span for span in exporter.get_finished_spans() if span.name != "caller"]
    urls = [span.attributes["http.url"] for span in spans]
    assert (urls.count(sandbox.token_url), len(urls)) == (token_spans, token_spans + api_spans)
    assert {span.parent.span_id for span in spans} == {caller.get_span_context().span_id}
    assert sandbox.token_requests == 2
