"""
One line authenticates requests, httpx and httpx2 against the Dolby.io REST APIs.

    from dolby_auth_plugin.requests import DolbyAuth     # or .httpx, or .httpx2

Nothing here imports an HTTP library; `dolby_auth_plugin.DolbyAuth` is the requests one, imported on first use. So are the caches.

PYTEST_DONT_REWRITE: a program may import this before it runs pytest, which loads our plugin and would warn about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._core.credentials import AppCredentials
from ._core.errors import CredentialsError, CredentialsWarning, DolbyAuthError, ScopeWarning, TokenError
from ._core.hosts import DOLBY_HOSTS
from ._core.scope import Scope
from ._core.token import AccessToken
from ._core.version import __version__

# Without DolbyAuth: a star import must work where requests is not installed.
__all__ = [
    "DOLBY_HOSTS",
    "AccessToken",
    "AppCredentials",
    "CredentialsError",
    "CredentialsWarning",
    "DolbyAuthError",
    "Scope",
    "ScopeWarning",
    "TokenError",
    "__version__",
]


if TYPE_CHECKING:
    # A type checker would take every name for one that `__getattr__` knows.
    from .caches.file import FileTokenCache as FileTokenCache
    from .caches.protocol import TokenCache as TokenCache
    from .caches.redis import RedisTokenCache as RedisTokenCache
    from .requests import DolbyAuth as DolbyAuth
else:
    # Imported on first use: they need other packages, or time.
    _MODULES = {
        "DolbyAuth": ".requests",
        "FileTokenCache": ".caches.file",
        "RedisTokenCache": ".caches.redis",
        "TokenCache": ".caches.protocol",
    }

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            from importlib import import_module

            return getattr(import_module(_MODULES[name], __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
