"""The sandbox as its user sees it: what to start, set and look at."""

from __future__ import annotations

import base64
import math
import secrets
import threading
from types import TracebackType
from typing import Any, Self

from dolby_auth_plugin.sandbox import _fault
from dolby_auth_plugin.sandbox._answers import TOKEN_PATH
from dolby_auth_plugin.sandbox._apis import dolby_app
from dolby_auth_plugin.sandbox._server import Servers
from dolby_auth_plugin.sandbox._state import State, TokenRequestRecord
from dolby_auth_plugin.sandbox._storage import storage_app


class Sandbox:
    """
    A Dolby.io that runs on loopback, in a thread of this process.

    As a context manager it starts and stops itself. All of it may be used from any thread, and any
    number of sandboxes may run side by side.

    Args:
        app_key: The app key it accepts. None: a random one of the usual shape.
        app_secret: The app secret it accepts. None: a random one of the usual shape.
    """

    def __init__(self, *, app_key: str | None = None, app_secret: str | None = None) -> None:
        if app_key is None:
            # 24 characters that end in "==", as in the documentation's own example.
            app_key = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode()
        if app_secret is None:
            app_secret = secrets.token_urlsafe(32)
        self._state = State(app_key, app_secret)
        self._servers = Servers([dolby_app(self._state), storage_app(self._state)])
        # Held while starting and stopping.
        self._lifecycle = threading.Lock()

    def __repr__(self) -> str:
        where = f"at {self.url}" if self._servers.running else "stopped"
        return f"<Sandbox {where}, app_key={self.app_key!r}>"

    def start(self) -> Self:
        """
        Start it, unless it runs; when this returns, both ports take connections.

        A sandbox that was stopped comes back on its ports, with its tokens, objects and counts.

        Raises:
            OSError: If the ports it had before are taken.
        """
        with self._lifecycle:
            if not self._servers.running:
                self._servers.start()
                self._state.storage_url = self.storage_url
        return self

    def stop(self) -> None:
        """Stop it, if it runs; requests under way are dropped, and its thread has ended."""
        with self._lifecycle:
            if self._servers.running:
                self._servers.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    # Where it is

    @property
    def app_key(self) -> str:
        """The app key it accepts."""
        return self._state.app_key

    @property
    def app_secret(self) -> str:
        """The app secret it accepts."""
        return self._state.app_secret

    @property
    def url(self) -> str:
        """The base URL of the token endpoint, Media and Communications."""
        return f"http://{self._host(0)}"

    @property
    def token_url(self) -> str:
        """The URL of the token endpoint."""
        return self.url + TOKEN_PATH

    @property
    def storage_url(self) -> str:
        """The base URL of the storage, which presigned URLs lead to."""
        return f"http://{self._host(1)}"

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        """The hosts that may have a token: the one of `url`, not the storage."""
        return (self._host(0),)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments that point a `DolbyAuth` at this sandbox; the app secret is among them."""
        return {
            "app_key": self.app_key,
            "app_secret": self.app_secret,
            "token_url": self.token_url,
            "allowed_hosts": self.allowed_hosts,
        }

    def _host(self, which: int) -> str:
        port = self._servers.ports[which]
        if port == 0:
            raise RuntimeError("a sandbox has no address before its first start: `with Sandbox() as sandbox:`")
        return f"127.0.0.1:{port}"

    # How it behaves

    @property
    def latency(self) -> float:
        """Seconds that each token request takes; it concerns those that arrive from now on."""
        return self._state.latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        self._state.latency = _duration(seconds)

    @property
    def api_latency(self) -> float:
        """Seconds that each Media and Communications request takes."""
        return self._state.api_latency

    @api_latency.setter
    def api_latency(self, seconds: float) -> None:
        self._state.api_latency = _duration(seconds)

    @property
    def refuse_tokens(self) -> bool:
        """Whether Media and Communications answer 401 whatever token comes."""
        return self._state.refuse_tokens

    @refuse_tokens.setter
    def refuse_tokens(self, refuse: bool) -> None:
        self._state.refuse_tokens = refuse

    def revoke_all(self) -> None:
        """Refuse every token issued so far."""
        self._state.revoke_all()

    def fail_token_requests(
        self,
        *,
        status: int | None = None,
        times: int = 1,
        retry_after: int | str | None = None,
        body: object = None,
        content_type: str = "application/json",
        drop: bool = False,
        redirect: str | None = None,
    ) -> None:
        """
        Spoil the next token requests, after those that are to be spoilt already.

        Args:
            status: The HTTP status to answer with, 200 to 599. None: 503, or 307 with *redirect*.
            times: How many token requests.
            retry_after: The `Retry-After` header: seconds, or a text as it is. None: no header.
            body: `bytes` or `str` as they are, else what is written as JSON. None: an error body in
                the shape of Dolby.io's.
            content_type: The `Content-Type` header.
            drop: Reset the connection instead of answering; all but *times* is ignored then.
            redirect: The `Location` header. None: no header.

        Raises:
            ValueError: If *status* or *times* is out of range.
            TypeError: If *body* cannot be written as JSON.
        """
        fault = _fault.RESET
        if not drop:
            fault = _fault.answer(
                status=status,
                retry_after=retry_after,
                body=body,
                content_type=content_type,
                redirect=redirect,
            )
        if times < 1:
            raise ValueError(f"times must be at least 1, got {times}")
        self._state.queue_fault(fault, times)

    def clear_faults(self) -> None:
        """Forget what `fail_token_requests` has queued."""
        self._state.clear_faults()

    # What it saw

    @property
    def token_requests(self) -> int:
        """How many token requests arrived, whatever became of them."""
        return self._state.counted("token_requests")

    @property
    def token_log(self) -> tuple[TokenRequestRecord, ...]:
        """The token requests that were answered or dropped, in that order; none still waiting."""
        return self._state.log()

    @property
    def api_calls(self) -> int:
        """How many requests arrived that need a token."""
        return self._state.counted("api_calls")

    @property
    def unauthorized(self) -> int:
        """How many of the `api_calls` were answered 401."""
        return self._state.counted("unauthorized")

    @property
    def storage_calls(self) -> int:
        """How many requests the storage got."""
        return self._state.counted("storage_calls")

    @property
    def storage_leaks(self) -> int:
        """How many of the `storage_calls` carried an `Authorization` header."""
        return self._state.counted("storage_leaks")

    @property
    def uploads(self) -> dict[str, bytes]:
        """A copy of what is stored, the output of jobs included, by its `dlb://` name."""
        objects = self._state.objects()
        return {f"dlb://{path[5:]}": data for path, data in objects.items() if path.startswith("/dlb/")}

    def reset_counters(self) -> None:
        """Count from zero again, with an empty log; tokens, faults and stored objects stay."""
        self._state.reset_counters()


def _duration(seconds: float) -> float:
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"a latency is a number of seconds, 0 or more, got {seconds!r}")
    return seconds
