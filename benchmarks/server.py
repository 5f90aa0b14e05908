"""
The server for all measurements: a token endpoint and an API, in a separate process.

    with Server(folder) as server:
        control(server.url, token_delay=0.3)

It accepts the credentials of any client, because the peers are not made for Dolby.io. The sandbox of this package is
not used: it is strict like the service, and too slow for benchmarks.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

# The number of characters, similar to a Dolby.io token.
TOKEN_LENGTH = 900

# The token of the constant header. It is always valid, without being issued.
CONSTANT = "x" * TOKEN_LENGTH


class App:
    """An ASGI application. `POST /control` changes its behaviour."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.token_delay = 0.0
        self.token_status = 200
        # The lifetime in seconds of the next token, and of all later ones.
        self.first_life, self.life = 1800, 1800
        self.refuse_all = False
        # The issued tokens and when they expire, by the monotonic clock.
        self.ends: dict[str, float] = {CONSTANT: float("inf")}
        self.issued = 0
        self.token_requests = self.requests = self.refused = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        status, answer = await self.answer(scope["path"], dict(scope["headers"]), body)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        if status == 401:
            headers.append((b"www-authenticate", b'Bearer error="invalid_token"'))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def answer(self, path: str, headers: dict[bytes, bytes], body: bytes) -> tuple[int, bytes]:
        if path == "/control":
            return 200, json.dumps(self.control(json.loads(body))).encode()
        if path == "/token":
            return await self.token()
        if path == "/elsewhere":
            return 200, json.dumps({"carried": b"authorization" in headers}).encode()
        self.requests += 1
        token = headers.get(b"authorization", b"").decode().removeprefix("Bearer ")
        if self.refuse_all or self.ends.get(token, 0.0) < time.monotonic():
            self.refused += 1
            return 401, b'{"message": "Unauthorized"}'
        return 200, body or b'{"ok": true}'

    async def token(self) -> tuple[int, bytes]:
        self.token_requests += 1
        status, life = self.token_status, self.life if self.issued else self.first_life
        if self.token_delay:
            await asyncio.sleep(self.token_delay)
        if status != 200:
            return status, b'{"error": "temporarily_unavailable"}'
        self.issued += 1
        token = f"{self.issued:0{TOKEN_LENGTH}}"
        self.ends[token] = time.monotonic() + life
        return 200, json.dumps({"access_token": token, "token_type": "Bearer", "expires_in": life}).encode()

    def control(self, settings: dict[str, Any]) -> dict[str, int]:
        if settings.pop("reset", False):
            self.reset()
        if settings.pop("revoke", False):
            self.ends = {CONSTANT: float("inf")}
        vars(self).update(settings)
        return {"token_requests": self.token_requests, "requests": self.requests, "refused": self.refused}


class Server:
    """
    The server process.

    Args:
        certificates: The folder for `ca.pem`, the CA certificate of its https port.
    """

    def __init__(self, certificates: Path) -> None:
        self._certificates = certificates

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.server", str(self._certificates)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        api, token, https = json.loads(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{api}"
        # Not the port of the API: with Dolby.io, too, the token endpoint has its own host.
        self.token_url = f"http://127.0.0.1:{token}/token"
        self.https_token_url = f"https://localhost:{https}/token"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def control(url: str, **settings: Any) -> dict[str, int]:
    """Change settings of the server at *url* (see `App.reset`), or `reset` or `revoke`. Returns its counters."""
    request = urllib.request.Request(f"{url}/control", json.dumps(settings).encode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        counts: dict[str, int] = json.load(answer)
    return counts


async def serve(certificates: Path) -> None:
    import trustme
    import uvicorn

    common: dict[str, Any] = {
        "app": App(),
        "host": "127.0.0.1",
        "port": 0,
        "http": "httptools",
        "ws": "none",
        "lifespan": "off",
        "log_level": "critical",
        "access_log": False,
        "backlog": 2048,
        "timeout_keep_alive": 300,
    }
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(certificates / "ca.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificates / "cert.pem"))
    configs = [uvicorn.Config(**common), uvicorn.Config(**common)]
    configs.append(uvicorn.Config(**common, ssl_certfile=str(certificates / "cert.pem")))
    sockets = [config.bind_socket() for config in configs]
    for listener in sockets:
        # Connections inherit TCP_NODELAY. asyncio sets it only on sockets with an explicit protocol number.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # From now on connections wait in the kernel until the event loop runs.
        listener.listen(common["backlog"])
    print(json.dumps([listener.getsockname()[1] for listener in sockets]), flush=True)
    servers = [uvicorn.Server(config) for config in configs]
    await asyncio.gather(
        *(server.serve([listener]) for server, listener in zip(servers, sockets, strict=True)),
        _until_orphaned(),
    )


async def _until_orphaned() -> None:
    # The pipe closes when the parent process ends for any reason.
    await asyncio.to_thread(sys.stdin.read)
    raise SystemExit


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
