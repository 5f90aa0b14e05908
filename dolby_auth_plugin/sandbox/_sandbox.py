"""The public interface of the sandbox: start and stop, settings, counters."""

from __future__ import annotations

import base64
import math
import secrets
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from dolby_auth_plugin.sandbox import _fault
from dolby_auth_plugin.sandbox._answers import TOKEN_PATH
from dolby_auth_plugin.sandbox._apis import dolby_app
from dolby_auth_plugin.sandbox._observer import RequestRecord, observed
from dolby_auth_plugin.sandbox._server import Servers
from dolby_auth_plugin.sandbox._state import State, TokenRequestRecord
from dolby_auth_plugin.sandbox._storage import storage_app


class Sandbox:
    """
    A Dolby.io that runs on loopback, in a thread of this process.

    Use it as a context manager, or call `start` and `stop`. It is thread-safe, and several sandboxes
    can run at the same time.

    Args:
        app_key: The app key it accepts. None: a random one in the usual format.
        app_secret: The app secret it accepts. None: a random one in the usual format.
        port: The port of `url`, 0 to 65,535. 0: a free one. The storage always gets a free one.
        on_request: A function that is called at the end of each request, in the thread of the sandbox. It must
            return soon: no request is answered meanwhile.

    Raises:
        ValueError: If *port* is out of range.
    """

    def __init__(
        self,
        *,
        app_key: str | None = None,
        app_secret: str | None = None,
        port: int = 0,
        on_request: Callable[[RequestRecord], object] | None = None,
    ) -> None:
        if not 0 <= port <= 65_535:
            raise ValueError(f"port must be 0 to 65,535, got {port}")
        if app_key is None:
            # 24 characters that end in "==", like the example in the documentation.
            app_key = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode()
        if app_secret is None:
            app_secret = secrets.token_urlsafe(32)
        self._state = State(app_key, app_secret)
        apps = (dolby_app(self._state), storage_app(self._state))
        self._servers = Servers([observed(app, on_request) for app in apps], [port, 0])
        # Held by `start` and `stop`, so that they never overlap.
        self._lifecycle = threading.Lock()

    def __repr__(self) -> str:
        where = f"at {self.url}" if self._servers.running else "stopped"
        return f"<Sandbox {where}, app_key={self.app_key!r}>"

    def start(self) -> Self:
        """
        Start the sandbox, unless it is running. On return, both ports accept connections.

        After a stop, the sandbox starts again with the same ports, tokens, objects and counters.

        Raises:
            OSError: If it can't use its port, or one of its previous ports: another program uses it, or
                the operating system forbids it.
        """
        with self._lifecycle:
            if not self._servers.running:
                self._servers.start()
                self._state.storage_url = self.storage_url
        return self

    def stop(self) -> None:
        """Stop the sandbox, if it is running. Drops active requests and ends its thread."""
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

    # Addresses and credentials

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
        """The base URL of the storage. Presigned URLs point there."""
        return f"http://{self._host(1)}"

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        """The hosts that may receive a token: the host of `url`, without the storage."""
        return (self._host(0),)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of a `DolbyAuth` for this sandbox. They include the app secret."""
        return {
            "app_key": self.app_key,
            "app_secret": self.app_secret,
            "token_url": self.token_url,
            "allowed_hosts": self.allowed_hosts,
        }

    def _host(self, which: int) -> str:
        port = self._servers.ports[which]
        if port == 0:
            raise RuntimeError(
                "The sandbox has no address before its first start. Call start() or use `with Sandbox() as sandbox:`"
            )
        return f"127.0.0.1:{port}"

    # Settings

    @property
    def latency(self) -> float:
        """Seconds that each token request takes. A change affects later requests only."""
        return self._state.latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        self._state.latency = _checked("latency", seconds)

    @property
    def api_latency(self) -> float:
        """Seconds that each Media and Communications request takes."""
        return self._state.api_latency

    @api_latency.setter
    def api_latency(self, seconds: float) -> None:
        self._state.api_latency = _checked("api_latency", seconds)

    @property
    def refuse_tokens(self) -> bool:
        """Whether Media and Communications answer 401 to every token."""
        return self._state.refuse_tokens

    @refuse_tokens.setter
    def refuse_tokens(self, refuse: bool) -> None:
        self._state.refuse_tokens = refuse

    def revoke_all(self) -> None:
        """Revoke every token issued so far."""
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
        Make the next token requests fail. Faults queue up in the order of the calls.

        Args:
            status: The HTTP status of the response, 200 to 599. None: 503, or 307 with *redirect*.
            times: The number of token requests that fail.
            retry_after: The `Retry-After` header: seconds, or any text. None: no header.
            body: The response body. `bytes` and `str` are sent unchanged, other values as JSON.
                None: an error body in the format of Dolby.io.
            content_type: The `Content-Type` header.
            drop: Reset the connection instead. Only *times* applies then.
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
        """Remove the faults that `fail_token_requests` queued."""
        self._state.clear_faults()

    # Counters

    @property
    def token_requests(self) -> int:
        """The number of token requests that arrived, including failed ones."""
        return self._state.counted("token_requests")

    @property
    def token_log(self) -> tuple[TokenRequestRecord, ...]:
        """The completed token requests (answered or dropped), in the order of completion."""
        return self._state.log()

    @property
    def api_calls(self) -> int:
        """The number of requests that require a token."""
        return self._state.counted("api_calls")

    @property
    def unauthorized(self) -> int:
        """The number of `api_calls` that got a 401."""
        return self._state.counted("unauthorized")

    @property
    def storage_calls(self) -> int:
        """The number of requests to the storage."""
        return self._state.counted("storage_calls")

    @property
    def storage_leaks(self) -> int:
        """The number of `storage_calls` with an `Authorization` header."""
        return self._state.counted("storage_leaks")

    @property
    def uploads(self) -> dict[str, bytes]:
        """A copy of the stored objects by `dlb://` name, including the output of jobs."""
        objects = self._state.objects()
        return {f"dlb://{path[5:]}": data for path, data in objects.items() if path.startswith("/dlb/")}

    def reset(self) -> None:
        """
        Make it like new for the next test: remove faults, jobs and stored objects, restore settings and counters.

        Keeps addresses, credentials and valid tokens. An auth object that lives longer than one test may go on with its token:
        it replaces only a few revoked tokens in a short time. A request that is being answered meanwhile may still count.
        """
        self._state.reset()

    def reset_counters(self) -> None:
        """Set the counters to zero and clear the log. Keeps tokens, faults and stored objects."""
        self._state.reset_counters()


def _checked(name: str, seconds: float) -> float:
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{name} must be a number of seconds, 0 or more, got {seconds!r}")
    return seconds
