"""
A simulated Dolby.io on loopback: token endpoint, Media, Communications and storage over real HTTP.

    with Sandbox() as sandbox:
        session = requests.Session()
        session.auth = DolbyAuth(**sandbox.options)
        session.get(f"{sandbox.url}/media/jobs")

Its responses follow the public documentation. They were never compared with the service itself;
comments mark what is unconfirmed. The sandbox is for tests: it uses plain HTTP and keeps all data
in memory. It imports nothing from the rest of the package, so it cannot repeat its mistakes.
"""

from __future__ import annotations

try:
    import jwt as _jwt  # noqa: F401 - checks that it is installed
    import starlette as _starlette  # noqa: F401 - as above
    import uvicorn as _uvicorn  # noqa: F401 - as above
except ImportError as _error:
    raise ImportError(
        f"dolby_auth_plugin.sandbox needs {_error.name}: pip install 'dolby-auth-plugin[sandbox]'"
    ) from _error

from dolby_auth_plugin.sandbox._observer import RequestRecord
from dolby_auth_plugin.sandbox._sandbox import Sandbox
from dolby_auth_plugin.sandbox._state import TokenRequestRecord

__all__ = ["RequestRecord", "Sandbox", "TokenRequestRecord"]
