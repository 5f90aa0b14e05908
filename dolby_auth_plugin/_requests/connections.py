"""
The connections of a token request: one TLS context per process, and a deadline.
"""

from __future__ import annotations

import functools
import os
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.ssl_ import create_urllib3_context

from .._core.cutoff import Cutoff
from .._core.forks import unforkable


class TokenAdapter(HTTPAdapter):
    """
    Connects with one TLS context per process, and has its connections shut down at the deadline.

    The adapter of requests loads the CA bundle for each connection. That takes tens of milliseconds, and blocks all threads, even
    that of an event loop.
    """

    def __init__(self, cutoff: Cutoff) -> None:
        self._cutoff = cutoff
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        # This changes one pool, which lives as long as the token request.
        pool.ConnectionCls = _watched_class(pool.ConnectionCls, self._cutoff)
        return pool

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: bool | str, cert: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        target, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return target, {"ssl_context": tls_context(ca_bundle())} if target["scheme"] == "https" else {}

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        # A proxy may itself speak https. The manager for SOCKS proxies does not know this option.
        if proxy.lower().startswith("https:"):
            proxy_kwargs["proxy_ssl_context"] = tls_context(ca_bundle())
        return super().proxy_manager_for(proxy, **proxy_kwargs)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        # The TLS context does this.
        pass


def ca_bundle() -> str:
    # The sessions of requests use the same names, in the same order.
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or DEFAULT_CA_BUNDLE_PATH


@functools.lru_cache(maxsize=1)
def tls_context(bundle: str) -> ssl.SSLContext:
    is_folder = Path(bundle).is_dir()
    with unforkable:
        context = create_urllib3_context()
        context.load_verify_locations(cafile=None if is_folder else bundle, capath=bundle if is_folder else None)
    return context


def _watched_class(connection_class: Any, cutoff: Cutoff) -> Any:
    """A subclass, since some tools check that a pool's connections are instances of `ConnectionCls`."""

    class WatchedConnection(connection_class):  # type: ignore[misc] # known at run time only
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            # `http.client.HTTPConnection.debuglevel` may be set for the whole process. It prints all headers. The connections
            # of urllib3-future never print.
            with suppress(AttributeError):
                self.set_debuglevel(0)
            cutoff.watch(lambda: self.sock)

    return WatchedConnection
