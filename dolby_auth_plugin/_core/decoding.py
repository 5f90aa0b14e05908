"""
Decodes the body of an answer, with a limit.

The HTTP libraries decode without one: a few kilobytes can become gigabytes. Token requests ask for an answer without encoding.
"""

from __future__ import annotations

import zlib

# `wbits` of zlib for each encoding (RFC 9110 §8.4.1). Some servers send deflate without the header that the RFC asks for.
_FORMATS = {"gzip": (31,), "x-gzip": (31,), "deflate": (15, -15)}


def decoded(body: bytes, encoding: str, limit: int) -> bytes:
    """
    *body* without its encoding. Empty if it can't be decoded, or has another or more than one encoding.

    Args:
        body: As it was sent.
        encoding: The `Content-Encoding` header. Empty if there is none.
        limit: Bytes after which decoding stops.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    for wbits in _FORMATS.get(encoding, ()):
        decoder = zlib.decompressobj(wbits)
        try:
            result = decoder.decompress(body, limit)
        except zlib.error:
            continue
        # A body that was cut off is not a whole answer.
        return result if decoder.eof or len(result) == limit else b""
    return b""
