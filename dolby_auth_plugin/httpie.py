"""
`http -A dolby`: the auth plugin for HTTPie.

HTTPie imports this module in each of its runs, so the rest of the library is imported when a request needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import requests
from requests.auth import AuthBase

from ._core.credentials import ENVIRONMENT, AppCredentials, shown_key, variables
from ._core.errors import CredentialsError

if TYPE_CHECKING:

    class _AuthPlugin:
        """HTTPie has no types. These are the attributes that this module sets."""

        name: str
        description: str
        auth_type: str
        auth_require: bool
        raw_auth: str | None
else:
    from httpie.plugins import AuthPlugin as _AuthPlugin


class DolbyAuthPlugin(_AuthPlugin):
    """
    Authorizes a request of HTTPie with a Dolby.io API token.

    `-a KEY` asks for the secret. Without `-a`, key and secret come from the environment, or else from the system's keyring.
    """

    name = "Dolby.io API token"
    description = "-a is the app key; without it, the environment or the keyring has key and secret"
    auth_type = "dolby"
    auth_require = False
    raw_auth: str | None = None

    def get_auth(self, username: str | None = None, password: str | None = None) -> AuthBase:
        # A session file keeps `raw_auth`, which has the secret here. Keep the key only. HTTPie can't read a file with None.
        self.raw_auth = username or ""
        return _Auth(username or None, password)


class _Auth(AuthBase):
    """
    Makes the auth object when a request needs it.

    HTTPie shows an error of that moment in one line. While it reads its arguments, it would show a traceback.
    """

    def __init__(self, app_key: str | None, app_secret: str | None) -> None:
        self._app_key = app_key
        self._app_secret = app_secret

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        from .requests import DolbyAuth

        return DolbyAuth(credentials=self._credentials())(r)

    def _credentials(self) -> AppCredentials:
        if self._app_secret is not None:
            return AppCredentials(self._app_key or "", self._app_secret)
        found = _stored_credentials()
        if self._app_key not in (None, found.app_key):
            raise ValueError(
                f"the session uses the app key {shown_key(self._app_key)}, and the environment or the keyring has"
                f" {shown_key(found.app_key)}: give -a with the key, to be asked for its secret"
            )
        return found


def _stored_credentials() -> AppCredentials:
    """The credentials of the environment, or else of the keyring. Half a pair in the environment is an error."""
    if variables():
        return AppCredentials.from_env()
    try:
        return AppCredentials.from_keyring()
    except CredentialsError as error:
        names = " and ".join(ENVIRONMENT[0])
        why = str(error)
    raise ValueError(f"no app key and secret: give -a KEY, set {names}, or run dolby-auth login (the keyring: {why})")
