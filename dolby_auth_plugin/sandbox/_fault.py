"""Faults: the responses that tests can inject in place of a token."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from dolby_auth_plugin.sandbox._answers import communications_body


@dataclass(frozen=True, slots=True)
class Fault:
    """A response without a token. If *status* is None, the connection is reset instead."""

    status: int | None
    headers: Mapping[str, str]
    body: bytes


RESET = Fault(None, {}, b"")


def answer(
    *,
    status: int | None,
    retry_after: int | str | None,
    body: object,
    content_type: str,
    redirect: str | None,
) -> Fault:
    """The fault that `Sandbox.fail_token_requests` describes."""
    if status is None:
        status = 503 if redirect is None else 307
    if not 200 <= status <= 599:
        raise ValueError(f"status must be 200 to 599, got {status}")
    headers = {"content-type": content_type}
    if retry_after is not None:
        headers["retry-after"] = str(retry_after)
    if redirect is not None:
        headers["location"] = redirect
    return Fault(status, headers, _encoded(body, status))


def _encoded(body: object, status: int) -> bytes:
    # Responses with these statuses must not have a body (RFC 9110 §6.4.1).
    if status in (204, 304):
        return b""
    if body is None:
        body = communications_body(status, "The sandbox was configured to fail")
    if isinstance(body, bytes):
        return body
    return (body if isinstance(body, str) else json.dumps(body)).encode()
