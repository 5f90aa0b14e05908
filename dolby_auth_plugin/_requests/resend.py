"""
Prepares a refused request of requests to be sent again: its body, its connection, its cookies. And reads redirects.
"""

from __future__ import annotations

import io
import socket
import time
from typing import Any
from urllib.parse import urljoin, urlparse, urlsplit

import requests
import urllib3
from requests.cookies import extract_cookies_to_jar
from requests.structures import CaseInsensitiveDict
from requests.utils import requote_uri, rewind_body, super_len

# Bytes and seconds for reading the body of a refused response. Then its connection can be used again, and the body can be read in
# `history`. Beyond that the connection is closed. A single read waits no longer than these seconds either.
_BODY_BYTES, _BODY_SECONDS = 1 << 16, 5.0


def why_not_resendable(request: requests.PreparedRequest) -> str | None:
    """Why the body can't be sent once more, as the end of a sentence. None: it can, and is back at its first position."""
    body: Any = request.body
    if body is None or isinstance(body, str | bytes | bytearray | memoryview):
        return None
    kind = type(body).__name__
    try:
        rewind_body(request)
        # Some files ignore `seek`. A file whose size has changed would leave the server waiting for the rest, or would be
        # read as two requests.
        moved: bool = body.tell() == request._body_position  # noqa: SLF001 - requests keeps it nowhere else
        length = request.headers.get("Content-Length")
        if moved and (length is None or int(length) == super_len(body)):
            return None
        return f"its body ({kind}) has changed its size, or did not return to its start"
    except Exception:  # noqa: BLE001 - a generator, a pipe, a closed file; a file of the user's may raise anything
        # Sending it again would make an empty or a hanging request.
        return f"its body ({kind}) can be read only once"


def is_from_a_mock(response: requests.Response) -> bool:
    """
    Whether a mock has answered, and not an adapter of requests.

    requests-mock holds a lock while response hooks run. So a fetch in another thread could not send its token request, and a
    hook that waits for that fetch would wait in vain.
    """
    connection = getattr(response, "connection", None)
    return connection is not None and all(base.__name__ != "HTTPAdapter" for base in type(connection).__mro__)


def read_body(response: requests.Response) -> None:
    """
    Read the body of a refused response, within limits.

    The body may be broken, endless, or never arrive. That must not prevent the retry, whatever timeout the call has.
    """
    raw = response.raw
    consumed: bool = response._content_consumed  # noqa: SLF001 - there is no public name for this
    if isinstance(raw, urllib3.BaseHTTPResponse) and not consumed:
        body = io.BytesIO()  # a traceback that shows local variables does not show its content
        until = time.monotonic() + _BODY_SECONDS
        try:
            _limit_reads(raw)
            # `read1` returns what has arrived. `read(n)` would wait for n bytes.
            while body.write(raw.read1(_BODY_BYTES, decode_content=True) or b""):
                if body.tell() > _BODY_BYTES or time.monotonic() > until:
                    raw.close()
                    break
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            raw.close()
        response._content = body.getvalue()  # noqa: SLF001 - where requests keeps a body that it has read
        response._content_consumed = True  # noqa: SLF001 - as above


def _limit_reads(raw: urllib3.BaseHTTPResponse) -> None:
    """Shorten the timeout of the socket. urllib3 sets it again for the next request on this connection."""
    # No public name leads to the socket of a connection that the server will close. A mock has no socket.
    sock = getattr(getattr(raw, "_sock_shutdown", None), "__self__", None)
    if isinstance(sock, socket.socket):
        sock.settimeout(min(sock.gettimeout() or _BODY_SECONDS, _BODY_SECONDS))


def take_cookies(request: requests.PreparedRequest, response: requests.Response) -> None:
    """Have *request* send the cookies that came with the refusal, as after a redirect."""
    jar: Any = request._cookies  # noqa: SLF001 - requests keeps the jar nowhere else
    if not response.cookies or jar is None:
        return
    probe = request.copy()
    probe.headers.pop("Cookie", None)
    probe.prepare_cookies(jar)
    if probe.headers.get("Cookie") == request.headers.get("Cookie"):
        # The header comes from the jar. The jar could not rebuild a header that the user wrote.
        extract_cookies_to_jar(jar, request, response.raw)
        request.headers.pop("Cookie", None)
        request.prepare_cookies(jar)


def next_url(response: requests.Response) -> str | None:
    """
    The URL of the next hop of a redirect, or None if it can't be read.

    Each step is one of `SessionRedirectMixin.resolve_redirects`: reading the header in another way would give another host.
    """
    try:
        url = response.headers["Location"].encode("latin-1").decode()
        if url.startswith("//"):
            url = f"{urlsplit(response.url).scheme}:{url}"
        parsed = urlparse(url)
        url = requote_uri(parsed.geturl())
        return url if parsed.netloc else urljoin(response.url, url)
    except (ValueError, requests.RequestException):
        return None


def without_secrets(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """A copy for an error to carry: without credentials, body and hooks."""
    copy = requests.PreparedRequest()
    copy.method, copy.url = request.method, request.url
    copy.headers = CaseInsensitiveDict(request.headers)
    copy.headers.pop("Authorization", None)
    return copy
