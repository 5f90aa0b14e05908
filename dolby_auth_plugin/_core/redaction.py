"""
The error texts of the token endpoint, without the app key and the app secret. No I/O.

A server may repeat the request in its error text, in one of many encodings. So the text is searched for both in the forms that
URLs, HTML forms, HTML, JSON and Python give them. A user may have swapped the two, so the key may be a secret.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any
from urllib.parse import quote, quote_plus

from .credentials import SHOWN_OF_KEY, AppCredentials
from .errors import printable

# Characters of a secret to search for, and of a text to search. More would take long, and a text is cut to much less when it is
# shown. Dolby.io's secrets have about 43.
_SEARCHABLE_SECRET, _SEARCHED_TEXT = 256, 8192

# The longest form of a character: four bytes, percent-encoded twice.
_LONGEST_FORM = len("%25F0") * 4

# The module `html` has two thousand names, and takes a fifth of the package's import time.
_HTML_NAMES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"}

# A long unbroken run in an error text may be a secret in another encoding. Error names are shorter.
_SECRET_LIKE = re.compile(r"[A-Za-z0-9\-._~+/=%]{24,}")

_HIDDEN = "[hidden]"


def error_texts(answer: dict[str, Any], credentials: AppCredentials) -> tuple[str, str | None]:
    """
    The short name and the explanation of an error, safe to show.

    The members are those of the Communications API (`error_reason`, `error_description`), of RFC 6749 §5.2 (`error`), of the
    Media API (`title`, `detail`), and others (`message`), in this order. No source says which of them the token endpoint uses.
    """
    names = [answer.get(name) for name in ("error_reason", "error", "title")]
    texts = [answer.get(name) for name in ("error_description", "detail", "message")]
    name, text = (
        next((_redacted(value, credentials) for value in values if isinstance(value, str) and value), None)
        for values in (names, texts)
    )
    return name or "", text


def basic(credentials: AppCredentials) -> str:
    """
    The Basic credentials (RFC 7617 §2, in UTF-8).

    RFC 6749 §2.3.1 asks for percent-encoding first. Dolby.io does not decode it, so it is left out.
    """
    return base64.b64encode(f"{credentials.app_key}:{credentials.app_secret}".encode()).decode()


def _redacted(text: str, credentials: AppCredentials) -> str:
    is_cut = len(text) > _SEARCHED_TEXT
    text = text[:_SEARCHED_TEXT].replace(basic(credentials), _HIDDEN)
    # A key that messages show whole is no secret. The longer one first: the other may be a part of it.
    hidden = [credentials.app_secret]
    if len(credentials.app_key) > SHOWN_OF_KEY:
        hidden.append(credentials.app_key)
    for secret in sorted(hidden, key=len, reverse=True):
        if len(secret) <= _SEARCHABLE_SECRET:
            text = text.replace(base64.b64encode(secret.encode()).decode(), _HIDDEN)
            text = _without(secret, text)
        elif len(text) > _SEARCHABLE_SECRET:
            # The text is long enough to hold a secret that is too long to search for.
            return _HIDDEN
    if is_cut:
        # The cut may have left the first part of a secret at the end, where no search finds it.
        text = text[: -_LONGEST_FORM * _SEARCHABLE_SECRET] or _HIDDEN
    return printable(_SECRET_LIKE.sub(_HIDDEN, text))


def _without(secret: str, text: str) -> str:
    """*text* without *secret*, each of its characters in any of its forms."""
    # A regular expression could take for ever: a form of one character may look like two characters, as two backslashes do. So
    # search for the last character first. `ends` says where the characters so far end, by the place where they begin.
    folded = _folded(text)
    ends = {place: place for place in range(len(text) + 1)}
    for char in reversed(secret):
        found: dict[int, int] = {}
        for form in set(map(_folded, _forms(char))):
            at = folded.find(form)
            while at >= 0:
                if at + len(form) in ends:
                    found[at] = max(ends[at + len(form)], found.get(at, 0))
                at = folded.find(form, at + 1)
        ends = found
        if not ends:
            return text
    shown, place = "", 0
    for start in sorted(ends):
        if start >= place:
            shown += text[place:start] + _HIDDEN
        place = max(place, ends[start])
    return shown + text[place:]


def _folded(text: str) -> str:
    """In small letters, and as long as *text*: some capitals become two."""
    return "".join(char.lower()[0] for char in text)


def _forms(char: str) -> tuple[str, ...]:
    code = ord(char)
    return (
        char,
        quote(char, safe=""),
        quote_plus(char),
        quote(quote(char, safe=""), safe=""),
        _HTML_NAMES.get(char, char),
        f"&#{code};",
        # PHP writes a quote in this way.
        f"&#{code:03};",
        f"&#x{code:x};",
        json.dumps(char)[1:-1],
        # Some encoders of JSON, JavaScript and Python escape more than they must.
        f"\\u{code:04x}",
        f"\\x{code:02x}",
        f"\\U{code:08x}",
        # UTF-8 read as Latin-1: for Basic credentials a common mistake.
        char.encode().decode("latin-1"),
        char if char.isalnum() else f"\\{char}",
    )
