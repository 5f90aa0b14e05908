"""
Seals the entries of a cache, and names them. No I/O.

A cache may be read, and written, by others. So it gets nothing that is readable, and nothing from it is believed that was not sealed
with the same app secret for the same key. Replaying an old entry is possible. It costs one 401, which is healed.

Keys come from the app secret with HKDF (RFC 5869). Entries are sealed with AES-256-GCM, the key of the cache as associated data. A key of
the cache is an HMAC of everything that one token depends on.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import os
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .._core.credentials import AppCredentials
from .._core.endpoint import TokenEndpoint, granted_scope, is_token
from .._core.entry import TRIES, Entry
from .._core.errors import Failure
from .._core.token import MAX_LIFE, AccessToken, Instant

# The version of the format, in clear. Entries of other versions are ignored.
_VERSION = b"dolby-auth-plugin 1\n"

# Bytes of the nonce of AES-GCM.
_NONCE = 12

# Bytes of an entry. A token has about 2 KiB; a longer entry is not one of ours.
_MAX_ENTRY = 1 << 20

# The types of the fields of a Failure. How long it is remembered is not in an entry.
_KINDS_IN_FAILURE = (str, str, int | None, str | None, int | float | None, bool, type(None))

# Seconds. A process that waits for a longer pause would have given up.
_MAX_PAUSE = 60.0


class Seal:
    """
    The keys that seal the entry of one token.

    Attributes:
        name: The key in the cache: 64 hexadecimal digits. It depends on app key, app secret, scope, lifetime and token URL, and
            reveals none of them.

    Args:
        credentials: Their app secret gives the keys.
        endpoint: The rest of what the token depends on.
    """

    __slots__ = ("_cipher", "name")

    def __init__(self, credentials: AppCredentials, endpoint: TokenEndpoint) -> None:
        self._cipher = AESGCM(_derived(credentials, b"entry"))
        asked = [credentials.app_key, sorted(endpoint.scope), endpoint.expires_in, endpoint.url]
        self.name = hmac.new(_derived(credentials, b"key"), json.dumps(asked).encode(), hashlib.sha256).hexdigest()

    def seal(self, entry: Entry) -> bytes:
        """*entry* as opaque bytes."""
        nonce = os.urandom(_NONCE)
        return _VERSION + nonce + self._cipher.encrypt(nonce, _to_json(entry), self._associated())

    def open(self, sealed: bytes, now: Instant, chance: Callable[[], float]) -> Entry | None:
        """
        The entry in *sealed*. None if it was not sealed with this seal, or is not an entry.

        Args:
            sealed: What the cache has.
            now: The present time.
            chance: Decides when the token's renewal opens, in this process.
        """
        if len(sealed) > _MAX_ENTRY or not sealed.startswith(_VERSION):
            return None
        sealed = sealed[len(_VERSION) :]
        try:
            opened = self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], self._associated())
            return _from_json(json.loads(opened), now, chance)
        except (InvalidTag, ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None

    def _associated(self) -> bytes:
        return _VERSION + self.name.encode()


def _derived(credentials: AppCredentials, purpose: bytes) -> bytes:
    key = HKDF(SHA256(), 32, salt=None, info=b"dolby-auth-plugin " + purpose)
    return key.derive(credentials.app_secret.encode())


def _to_json(entry: Entry) -> bytes:
    token, failure = entry.token, entry.failure
    granted = token and {
        "value": token.value,
        "scope": None if token.scope is None else sorted(token.scope),
        "life": token.life,
        "asked_at": token.asked_at,
    }
    sequence = failure and {
        "tries": entry.tries,
        "failed_at": entry.failed_at,
        "pause": entry.pause,
        "failure": failure._replace(memory=None),
    }
    full_at = entry.full_at if math.isfinite(entry.full_at) else 0.0
    members = {"token": granted, "is_charged": entry.is_charged, "full_at": full_at, "sequence": sequence}
    return json.dumps(members, separators=(",", ":")).encode()


def _from_json(members: dict[str, Any], now: Instant, chance: Callable[[], float]) -> Entry:
    granted, sequence = members["token"], members["sequence"]
    entry = Entry(
        None if granted is None else _token(granted, now, chance()),
        is_charged=members["is_charged"] is True,
        full_at=_number(members["full_at"]),
    )
    if sequence is None:
        return entry
    return entry._replace(
        tries=max(1, min(int(_number(sequence["tries"])), TRIES)),
        failed_at=_number(sequence["failed_at"]),
        pause=max(0.0, min(_number(sequence["pause"]), _MAX_PAUSE)),
        failure=_failure(sequence["failure"]),
    )


def _token(granted: dict[str, Any], now: Instant, chance: float) -> AccessToken | None:
    """The token, with its end on this machine's clocks. None if the endpoint could not have granted it."""
    value, scope, life = granted["value"], granted["scope"], granted["life"]
    if not is_token(value) or isinstance(life, bool) or not isinstance(life, int) or not 1 <= life <= MAX_LIFE:
        return None
    # The clock of the machine that asked for it may be ahead. It never lives longer than it was granted.
    age = min(max(0.0, now.wall - _number(granted["asked_at"])), MAX_LIFE)
    return AccessToken.issued(value, granted_scope(scope), life, now.after(-age), chance)


def _failure(values: Any) -> Failure:
    failure = Failure._make(values)
    if not all(map(isinstance, failure, _KINDS_IN_FAILURE)):
        raise TypeError("not a failure")
    return failure


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a number")
    return float(value)
