"""App key and secret in the keyring of the system. The keyring is one of the tests."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator

import pytest

from dolby_auth_plugin import AppCredentials, CredentialsError
from dolby_auth_plugin._core import system_keyring

from ..keyrings import BrokenKeyring, LossyKeyring, MemoryKeyring, using

CREDENTIALS = AppCredentials("the-key", "canary")


@pytest.fixture
def backend() -> Iterator[MemoryKeyring]:
    with using(backend := MemoryKeyring()):
        yield backend


def error() -> str:
    """The error of a program that asks the keyring. It and its frames show no secret."""
    with pytest.raises(CredentialsError) as caught:
        AppCredentials.from_keyring()

    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "canary" not in "".join(shown.format())
    return str(caught.value)


@pytest.mark.usefixtures("backend")
def test_what_was_stored_is_found() -> None:
    assert system_keyring.store(AppCredentials("old", "old")) is None
    assert system_keyring.store(CREDENTIALS) is None

    assert AppCredentials.from_keyring() == CREDENTIALS


def test_key_and_secret_are_one_entry(backend: MemoryKeyring) -> None:
    """Two entries could come from two logins."""
    system_keyring.store(CREDENTIALS)
    system_keyring.store(AppCredentials("another-key", "another"))

    [entry] = backend.entries.values()
    assert json.loads(entry) == {"app_key": "another-key", "app_secret": "another"}


@pytest.mark.usefixtures("backend")
def test_an_empty_keyring_is_an_error_that_names_the_command() -> None:
    assert error() == "the system's keyring has no app key and secret: store them with `dolby-auth login`"


@pytest.mark.parametrize(
    "entry", ["canary", '"canary"', '{"app_key": "canary"}', '{"app_key": "k", "app_secret": 1}', "[" * 50_000]
)
def test_a_damaged_entry_is_an_error_that_does_not_show_it(backend: MemoryKeyring, entry: str) -> None:
    system_keyring.store(CREDENTIALS)
    backend.entries = dict.fromkeys(backend.entries, entry)

    assert "are damaged" in error()
    assert system_keyring.unusable() is None


def test_a_value_that_cannot_be_sent_is_an_error_that_does_not_show_it(backend: MemoryKeyring) -> None:
    system_keyring.store(CREDENTIALS)
    backend.entries = dict.fromkeys(backend.entries, '{"app_key": "k", "app_secret": "canary\\u0000"}')

    assert "the app secret must not contain control characters" in error()


@pytest.mark.usefixtures("backend")
def test_deleting_says_whether_anything_was_stored() -> None:
    system_keyring.store(CREDENTIALS)

    assert [system_keyring.delete(), system_keyring.delete()] == [True, False]
    assert "has no app key" in error()


def test_a_system_without_a_keyring_is_told_so() -> None:
    """The suite has turned the keyring of the system off."""
    assert error() == "this system has no keyring that can be used: servers and containers often have none"
    assert str(system_keyring.unusable()) == str(system_keyring.delete()) == error()


def test_an_error_of_a_keyring_is_named_and_not_shown() -> None:
    """It may have any text."""
    broken = BrokenKeyring()
    broken.entries["it"] = "canary"
    with using(broken):
        assert error() == "the system's keyring can't be used: OSError"


def test_a_keyring_that_keeps_nothing_is_an_error() -> None:
    with using(LossyKeyring()):
        assert "has not kept" in str(system_keyring.store(CREDENTIALS))


def test_without_its_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)

    assert error() == "the system's keyring needs keyring: pip install 'dolby-auth-plugin[keyring]'"
    assert str(system_keyring.store(CREDENTIALS)) == error()
