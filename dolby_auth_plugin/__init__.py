"""
One line authenticates requests, httpx and httpx2 against the Dolby.io REST APIs.

    from dolby_auth_plugin.requests import DolbyAuth     # or .httpx, or .httpx2

Nothing here imports an HTTP library; `dolby_auth_plugin.DolbyAuth` is the requests one, imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._core.credentials import AppCredentials
from ._core.errors import DolbyAuthError, ScopeWarning, TokenError
from ._core.hosts import DOLBY_HOSTS
from ._core.scope import Scope
from ._core.token import AccessToken
from ._core.version import __version__

# Without DolbyAuth: a star import must work where requests is not installed.
__all__ = [
    "DOLBY_HOSTS",
    "AccessToken",
    "AppCredentials",
    "DolbyAuthError",
    "Scope",
    "ScopeWarning",
    "TokenError",
    "__version__",
]


if TYPE_CHECKING:
    # A type checker would take every name for one that `__getattr__` knows.
    from .requests import DolbyAuth as DolbyAuth
else:

    def __getattr__(name: str) -> Any:
        if name == "DolbyAuth":
            from .requests import DolbyAuth

            return DolbyAuth
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
