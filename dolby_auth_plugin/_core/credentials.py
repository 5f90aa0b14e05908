"""
App key and app secret: the client id and client secret of RFC 6749.

A traceback that shows local variables (`traceback.TracebackException` with `capture_locals`) must not show the secret. So a
function that may hold a bad secret returns its complaint and does not raise it.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from itertools import takewhile
from typing import Any, Self, TypeVar

from .errors import CredentialsError, CredentialsWarning

# The names in the environment, in the order of search. The first pair is that of Dolby.io's Node.js library, the second that of
# Dolby.io's guides.
ENVIRONMENT = (("DOLBYIO_APP_KEY", "DOLBYIO_APP_SECRET"), ("APP_KEY", "APP_SECRET"))

# Control characters, and lone surrogates, which have no UTF-8 form. Compiled when a text needs it: that takes as long as an import.
_UNSENDABLE = r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]"

# Characters of an app key that messages show, and which ones, up to the first that no key has. People swap key and secret, or
# paste both with a colon or a newline between.
SHOWN_OF_KEY = 4
_MARKS_OF_KEYS = frozenset("_-+/=.")


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
        complaint = _complaint("app key", app_key, is_key=True) or _complaint("app secret", app_secret)
        # Keep the text that was checked: `format` of a subclass, such as an Enum, may give another one. Keep no text with a
        # complaint: this frame and this object are in its traceback.
        app_key, app_secret = ("", "") if complaint else (str.__str__(app_key), str.__str__(app_secret))
        object.__setattr__(self, "app_key", app_key)
        object.__setattr__(self, "app_secret", app_secret)
        if complaint is not None:
            raise complaint

    @classmethod
    def from_env(cls) -> Self:
        """
        The app key and secret in the environment: `DOLBYIO_APP_KEY` and `DOLBYIO_APP_SECRET`, else `APP_KEY` and `APP_SECRET`.

        Raises:
            CredentialsError: If neither pair is set, or half of the first.
        """
        return _returned(_made(cls, _completed(None, None)))

    @classmethod
    def from_keyring(cls) -> Self:
        """
        The app key and secret that `dolby-auth login` has stored in the system's keyring. It needs the extra `keyring`.

        The system may ask the user to unlock the keyring.

        Raises:
            CredentialsError: If nothing is stored there, or the keyring can't be used.
        """
        from . import system_keyring

        return _returned(_made(cls, system_keyring.read() or system_keyring.nothing()))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], secret_path: str | os.PathLike[str] | None = None) -> Self:
        """
        The app key and secret in one file, or in two.

        One file has JSON or dotenv, with the names of the environment, or `app_key` and `app_secret`. With *secret_path*, *path* holds
        the app key alone and *secret_path* the app secret alone. The newlines at their ends are no part of them.

        Raises:
            CredentialsError: If a file can't be read, or something is missing in it.

        Warns:
            CredentialsWarning: If other users may write a file, or replace it.
        """
        # Imported here: most users have no such file.
        from . import secret_files

        paths = secret_files.paths(path, secret_path)
        for sentence in secret_files.doubts(paths):
            warnings.warn(sentence, CredentialsWarning, stacklevel=2)
        return _returned(_made(cls, secret_files.read(paths, ENVIRONMENT), f"{' and '.join(map(str, paths))}: "))

    def __setattr__(self, name: str, value: Any) -> None:
        del value  # a traceback that shows local variables must not show it
        raise AttributeError("AppCredentials can't be changed: create new ones")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("AppCredentials can't be changed: create new ones")

    def __repr__(self) -> str:
        return f"AppCredentials(app_key={shown_key(self.app_key)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AppCredentials):
            return NotImplemented
        return (self.app_key, self.app_secret) == (other.app_key, other.app_secret)

    def __hash__(self) -> int:
        return hash((self.app_key, self.app_secret))

    def __reduce__(self) -> tuple[type[AppCredentials], tuple[str, str]]:
        return AppCredentials, (self.app_key, self.app_secret)


C = TypeVar("C", bound=AppCredentials)
T = TypeVar("T")

CredentialsSource = Callable[[], AppCredentials]


def choose(
    app_key: str | None, app_secret: str | None, credentials: CredentialsSource | AppCredentials | None
) -> AppCredentials | CredentialsSource | Exception:
    """
    The credentials that the arguments of an auth object give, or the complaint to raise.

    A missing argument is read from the environment, now and never again.
    """
    if credentials is not None:
        if app_key is not None or app_secret is not None:
            return TypeError("give credentials=, or app_key and app_secret, not both")
        return _credentials_complaint(credentials) or credentials
    if app_key is None or app_secret is None:
        completed = _completed(app_key, app_secret)
        if isinstance(completed, Exception):
            return completed
        app_key, app_secret = completed
    try:
        return AppCredentials(app_key, app_secret)
    except (TypeError, ValueError) as error:
        return error.with_traceback(None)


def variables() -> tuple[str, str] | None:
    """The names of the variables that hold the app key and secret. One of the first pair is enough: the other is then missing."""
    own, others = ENVIRONMENT
    if any(map(os.environ.get, own)):
        return own
    return others if all(map(os.environ.get, others)) else None


def shown_key(app_key: str) -> str:
    """The part of an app key that messages show."""
    # Not a regular expression: compiling one takes as long as importing a module.
    shown = takewhile(
        lambda char: char.isascii() and (char.isalnum() or char in _MARKS_OF_KEYS), app_key[:SHOWN_OF_KEY]
    )
    return f"{''.join(shown)}…"


def _made(cls: type[C], pair: tuple[str, str] | Exception, where: str = "") -> C | CredentialsError:
    """An instance of *cls*, or the complaint. *where* is put before one about a value."""
    if isinstance(pair, Exception):
        return CredentialsError(str(pair))
    try:
        return cls(*pair)
    except ValueError as error:
        return CredentialsError(f"{where}{error}")


def _returned(outcome: T | CredentialsError) -> T:
    if isinstance(outcome, CredentialsError):
        raise outcome
    return outcome


def _credentials_complaint(credentials: object) -> Exception | None:
    if isinstance(credentials, AppCredentials):
        return None
    if not callable(credentials):
        given = type(credentials).__name__
        return TypeError(f"credentials must be AppCredentials, or a function that returns them, got {given}")
    import inspect  # takes long to import, and is needed here only

    if inspect.iscoroutinefunction(credentials) or inspect.iscoroutinefunction(type(credentials).__call__):
        return TypeError("credentials must be a plain function, not an async one: a thread without event loop calls it")
    return None


def _completed(app_key: str | None, app_secret: str | None) -> tuple[str, str] | Exception:
    """Key and secret, what is missing taken from the environment; or the complaint. It prefers the first pair of names."""
    names, other_names = ENVIRONMENT
    pair = [os.environ.get(name) or None for name in names]
    if pair.count(None) == 1:
        missing = names[pair.index(None)]
        return ValueError(f"the environment has no {missing}, but the other of {' and '.join(names)}: set both or none")
    if None in pair:
        pair = [os.environ.get(name) or None for name in other_names]
        if app_key is None and app_secret is None and None in pair:
            pairs = " or ".join(map(" and ".join, ENVIRONMENT))
            return ValueError(f"no app key and secret: give app_key and app_secret, or set {pairs}")
    key = pair[0] if app_key is None else app_key
    secret = pair[1] if app_secret is None else app_secret
    if key is None:
        return ValueError(f"an app_secret without an app_key: give app_key, or set {names[0]} or {other_names[0]}")
    if secret is None:
        return ValueError(f"an app_key without an app_secret: give app_secret, or set {names[1]} or {other_names[1]}")
    return key, secret


def _complaint(what: str, value: str, *, is_key: bool = False) -> Exception | None:
    if not isinstance(value, str):
        return TypeError(f"the {what} must be a str, got {type(value).__name__}")
    given = f", got {shown_key(value)!r}" if is_key else ""
    if not value:
        return ValueError(f"the {what} is empty")
    if value.endswith(("\n", "\r")) and not _is_unsendable(value.rstrip("\r\n")):
        return ValueError(
            f"the {what} ends in a newline, as files with secrets often do: remove it, as in text.rstrip()"
        )
    if _is_unsendable(value):
        return ValueError(f"the {what} must not contain control characters or lone surrogates{given}")
    if is_key and ":" in value:
        return ValueError(f"the {what} must not contain a colon (RFC 7617 §2){given}")
    return None


def _is_unsendable(text: str) -> bool:
    return not str.isprintable(text) and re.search(_UNSENDABLE, text) is not None
