"""Keyrings for tests: in memory, in a file that processes share, and broken ones. No test uses the keyring of the system."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keyring
from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError


class MemoryKeyring(KeyringBackend):
    # The package never chooses it by itself.
    priority = -1

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get(f"{service} {username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[f"{service} {username}"] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.entries.pop(f"{service} {username}", None) is None:
            raise PasswordDeleteError(service)


class FileKeyring(KeyringBackend):
    """Its file is named by `KEYRING_PROPERTY_PATH`."""

    priority = -1
    path: str

    def get_password(self, service: str, username: str) -> str | None:
        file = Path(self.path)
        entry: str | None = json.loads(file.read_text()).get(f"{service} {username}") if file.exists() else None
        return entry

    def set_password(self, service: str, username: str, password: str) -> None:
        Path(self.path).write_text(json.dumps({f"{service} {username}": password}))

    def delete_password(self, service: str, username: str) -> None:
        Path(self.path).unlink()


class BrokenKeyring(MemoryKeyring):
    """Raises errors that show all they know."""

    def get_password(self, service: str, username: str) -> str | None:
        raise OSError(f"can't read {self.entries}")


class LossyKeyring(MemoryKeyring):
    """Like a keyring that the user has turned off."""

    def set_password(self, service: str, username: str, password: str) -> None:
        pass


@contextmanager
def using(backend: KeyringBackend) -> Iterator[KeyringBackend]:
    before = keyring.get_keyring()
    keyring.set_keyring(backend)
    try:
        yield backend
    finally:
        keyring.set_keyring(before)
