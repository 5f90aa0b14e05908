"""
App key and app secret: the client id and client secret of RFC 6749.

A traceback that shows local variables (`traceback.TracebackException` with `capture_locals`) must not show the secret. So a
function that may hold a bad secret returns its complaint and does not raise it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

# The names in the environment, in the order of search. The first pair is that of Dolby.io's Node.js library, the second that of
# Dolby.io's guides.
ENVIRONMENT = (("DOLBYIO_APP_KEY", "DOLBYIO_APP_SECRET"), ("APP_KEY", "APP_SECRET"))

# Control characters, and lone surrogates, which have no UTF-8 form.
_UNSENDABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

# The part of a text that looks like an app key.
_KEY_LIKE = re.compile(r"[\w\-+/=.]{0,32}", re.ASCII)


class AppCredentials:
    """
    An application's key and secret, as the Dolby.io dashboard shows them.

    Attributes:
        app_key: The "App key": the OAuth client id.
        app_secret: The "App secret": the OAuth client secret. Kept out of `repr`.

    Raises:
        ValueError: If either is empty or has control characters, or the key a colon (RFC 7617 §2).
        TypeError: If either is not a `str`.
    """

    app_key: str
    app_secret: str

    # The core has no dataclasses: a few of them take as long to import as all the rest.
    __slots__ = ("app_key", "app_secret")

    def __init__(self, app_key: str, app_secret: str) -> None:
        complaint = _complaint("app key", app_key, shown=True) or _complaint("app secret", app_secret)
        if complaint is None:
            # Keep the text that was checked. `format` of a subclass, such as an Enum, may give another one.
            app_key, app_secret = str.__str__(app_key), str.__str__(app_secret)
        object.__setattr__(self, "app_key", app_key)
        object.__setattr__(self, "app_secret", app_secret)
        del app_secret
        if complaint is not None:
            raise complaint

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("AppCredentials can't be changed: create new ones")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("AppCredentials can't be changed: create new ones")

    def __repr__(self) -> str:
        return f"AppCredentials(app_key={self.app_key!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AppCredentials):
            return NotImplemented
        return (self.app_key, self.app_secret) == (other.app_key, other.app_secret)

    def __hash__(self) -> int:
        return hash((self.app_key, self.app_secret))

    def __reduce__(self) -> tuple[type[AppCredentials], tuple[str, str]]:
        return AppCredentials, (self.app_key, self.app_secret)


CredentialsSource = Callable[[], AppCredentials]


def choose(
    app_key: str | None, app_secret: str | None, credentials: CredentialsSource | None
) -> AppCredentials | CredentialsSource | Exception:
    """
    The credentials that the arguments of an auth object give, or the complaint to raise.

    A missing argument is read from the environment, now and never again. If both are missing, names of different pairs are never
    combined.
    """
    if credentials is not None:
        if app_key is not None or app_secret is not None:
            return TypeError("give credentials=, or app_key and app_secret, not both")
        if not callable(credentials):
            return TypeError(
                f"credentials must be callable and return AppCredentials, got {type(credentials).__name__}"
            )
        return credentials
    if app_key is None and app_secret is None:
        for pair in ENVIRONMENT:
            app_key, app_secret = (os.environ.get(name) for name in pair)
            if app_key and app_secret:
                break
        else:
            pairs = " or ".join(" and ".join(pair) for pair in ENVIRONMENT)
            return ValueError(f"no app key and secret: give app_key and app_secret, or set {pairs}")
    app_key = _first_set(0) if app_key is None else app_key
    if app_key is None:
        return ValueError(f"an app_secret without an app_key: give app_key, or set {_names(0)}")
    app_secret = _first_set(1) if app_secret is None else app_secret
    if app_secret is None:
        return ValueError(f"an app_key without an app_secret: give app_secret, or set {_names(1)}")
    try:
        return AppCredentials(app_key, app_secret)
    except (TypeError, ValueError) as error:
        return error.with_traceback(None)


def _first_set(which: int) -> str | None:
    return next(filter(None, (os.environ.get(pair[which]) for pair in ENVIRONMENT)), None)


def _names(which: int) -> str:
    return " or ".join(pair[which] for pair in ENVIRONMENT)


def _complaint(what: str, value: str, *, shown: bool = False) -> Exception | None:
    if not isinstance(value, str):
        return TypeError(f"the {what} must be a str, got {type(value).__name__}")
    # Show the key only: people paste `key:secret`, or both in two lines.
    given = f", got {_KEY_LIKE.match(value)[0]!r} and more" if shown else ""  # type: ignore[index] # it always matches
    if not value:
        return ValueError(f"the {what} is empty")
    if _UNSENDABLE.search(value):
        return ValueError(f"the {what} must not contain control characters or lone surrogates{given}")
    if shown and ":" in value:
        return ValueError(f"the {what} must not contain a colon (RFC 7617 §2){given}")
    return None
