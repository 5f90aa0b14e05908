"""
niquests has the API of requests, and an async session that takes the same auth objects. Here such a session is recognised.
"""

from __future__ import annotations

import sys
from types import FrameType


def refuse_async_session() -> None:
    """
    Complain if a `niquests.AsyncSession` calls. Waiting for a token would block its event loop.

    Raises:
        TypeError: If a method of an async session is among the callers.
    """
    niquests = sys.modules.get("niquests")
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the request does not tell its session
    while niquests is not None and frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("niquests.") and isinstance(frame.f_locals.get("self"), niquests.AsyncSession):
            raise TypeError(
                "this DolbyAuth would block the event loop of niquests.AsyncSession: use niquests.Session, or httpx.AsyncClient"
                " with dolby_auth_plugin.httpx"
            )
        if not module.startswith(("niquests.", "dolby_auth_plugin.")):
            return
        frame = frame.f_back
