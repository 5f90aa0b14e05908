"""
`DolbyAuth` for httpx2: an `httpx2.Auth`, for `httpx2.Client` and `httpx2.AsyncClient` (asyncio and trio).

    client = httpx2.Client(auth=DolbyAuth())
"""

from __future__ import annotations

from ._core.auth import missing_host
from ._core.errors import TokenError as _TokenError
from ._httpx.auth import FamilyAuth, RefusedBody
from ._httpx.sender import FamilySender

try:
    import httpx2
except ImportError:
    raise missing_host("httpx2") from None

__all__ = ["DolbyAuth", "TokenError"]


class TokenError(_TokenError, httpx2.RequestError):
    """No token could be obtained; an `httpx2.RequestError` too. The fields are the base class's."""


class _Sender(FamilySender):
    _host = httpx2

    __slots__ = ()


class _RefusedBody(RefusedBody, httpx2.SyncByteStream, httpx2.AsyncByteStream):
    _host = httpx2


class DolbyAuth(FamilyAuth, httpx2.Auth):
    __doc__ = FamilyAuth.__doc__

    _host = httpx2
    _sender = _Sender
    _refused_body = _RefusedBody
    _error = TokenError
