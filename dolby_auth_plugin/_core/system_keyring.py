"""
App key and app secret in the keyring of the operating system. `dolby-auth login` stores them there.

One entry holds both: two could come from two logins. As in `credentials`, a function that may hold a secret returns its complaint
and does not raise it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .credentials import AppCredentials

T = TypeVar("T")

# Service and user, by which a keyring finds an entry. Its owner sees them.
ENTRY = ("dolby-auth-plugin", "app key and secret")


def nothing() -> Exception:
    """The complaint when nothing is stored."""
    return ValueError("the system's keyring has no app key and secret: store them with `dolby-auth login`")


def unusable() -> Exception | None:
    """Why the keyring can't be used, or None."""
    outcome = _use(lambda keyring: keyring.get_password(*ENTRY))
    return outcome if isinstance(outcome, Exception) else None


def read() -> tuple[str, str] | Exception | None:
    """Key and secret, or the complaint. None: nothing is stored."""
    entry = _use(lambda keyring: keyring.get_password(*ENTRY))
    if entry is None or isinstance(entry, Exception):
        return entry
    try:
        fields = json.loads(entry)
    except (RecursionError, ValueError):
        fields = None
    match fields:
        case {"app_key": str(key), "app_secret": str(secret)}:
            return key, secret
    return ValueError("the app key and secret in the system's keyring are damaged: repeat `dolby-auth login`")


def store(credentials: AppCredentials) -> Exception | None:
    """Store the *credentials* in place of those before. Returns the complaint."""
    complaint = _use(lambda keyring: keyring.set_password(*ENTRY, _text_of(credentials)))
    if complaint is None and read() != (credentials.app_key, credentials.app_secret):
        # A keyring that is turned off takes everything and keeps nothing.
        return ValueError("the system's keyring has not kept the app key and secret")
    return complaint


def delete() -> bool | Exception:
    """Delete the credentials. Returns whether there were any, or the complaint."""
    found = _use(lambda keyring: keyring.get_password(*ENTRY) is not None)
    return (_use(lambda keyring: keyring.delete_password(*ENTRY)) or True) if found is True else found


def _text_of(credentials: AppCredentials) -> str:
    return json.dumps({"app_key": credentials.app_key, "app_secret": credentials.app_secret})


def _use(action: Callable[[Any], T]) -> T | Exception:
    """The result of *action*, or the complaint. It calls functions of the package `keyring`."""
    try:
        import keyring  # in an extra, and slow to import
        from keyring.errors import NoKeyringError
    except ImportError:
        return ValueError("the system's keyring needs keyring: pip install 'dolby-auth-plugin[keyring]'")
    try:
        return action(keyring)
    except NoKeyringError:
        return ValueError("this system has no keyring that can be used: servers and containers often have none")
    except Exception as error:  # noqa: BLE001 - a backend may raise anything, with any text
        return ValueError(f"the system's keyring can't be used: {type(error).__name__}")
