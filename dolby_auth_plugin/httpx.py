"""
`DolbyAuth` for httpx: an `httpx.Auth`, for `httpx.Client` and `httpx.AsyncClient` (asyncio and trio).

    client = httpx.Client(auth=DolbyAuth())
"""

from __future__ import annotations

from ._core.auth import missing_host
from ._core.errors import TokenError as _TokenError
from ._httpx.auth import FamilyAuth, RefusedBody
from ._httpx.sender import FamilySender

try:
    import httpx
except ImportError:
    raise missing_host("httpx") from None

__all__ = ["DolbyAuth", "TokenError"]


class TokenError(_TokenError, httpx.RequestError):
    """No token could be obtained; an `httpx.RequestError` too. The fields are the base class's."""


class _Sender(FamilySender):
    _host = httpx

    __slots__ = ()


class _RefusedBody(RefusedBody, httpx.SyncByteStream, httpx.AsyncByteStream):
    _host = httpx


class DolbyAuth(FamilyAuth, httpx.Auth):
    __doc__ = FamilyAuth.__doc__

    _host = httpx
    _sender = _Sender
    _refused_body = _RefusedBody
    _error = TokenError
