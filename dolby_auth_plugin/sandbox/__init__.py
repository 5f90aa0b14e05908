"""
A Dolby.io to run on loopback: token endpoint, Media, Communications and storage over real HTTP.

    with Sandbox() as sandbox:
        session = requests.Session()
        session.auth = DolbyAuth(**sandbox.options)
        session.get(f"{sandbox.url}/media/jobs")

What it answers follows public documentation and was never compared with the service itself;
comments say where the real answer is unconfirmed. It is for tests: it speaks plain HTTP and keeps
everything in memory. Nothing here imports the rest of the package, so that no mistake there is
repeated here.
"""

from __future__ import annotations

try:
    import jwt as _jwt  # noqa: F401 - only to see whether it is there
    import starlette as _starlette  # noqa: F401 - as above
    import uvicorn as _uvicorn  # noqa: F401 - as above
except ImportError as error:
    raise ImportError(
        f"dolby_auth_plugin.sandbox needs {error.name}: pip install 'dolby-auth-plugin[sandbox]'"
    ) from error

from dolby_auth_plugin.sandbox._sandbox import Sandbox
from dolby_auth_plugin.sandbox._state import TokenRequestRecord

__all__ = ["Sandbox", "TokenRequestRecord"]
