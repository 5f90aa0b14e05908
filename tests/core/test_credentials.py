"""The sources of the app key and secret, and the values that are accepted."""

from __future__ import annotations

import functools
import pickle
import traceback
from typing import Any

import pytest

from dolby_auth_plugin import AppCredentials, CredentialsError
from dolby_auth_plugin._core.credentials import choose

NAMES = ("DOLBYIO_APP_KEY", "DOLBYIO_APP_SECRET", "APP_KEY", "APP_SECRET")


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def given(monkeypatch: pytest.MonkeyPatch, **environment: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


DOLBYIO_PAIR = {"DOLBYIO_APP_KEY": "k1", "DOLBYIO_APP_SECRET": "s1"}
PAIR = {"APP_KEY": "k2", "APP_SECRET": "s2"}
HALF = {"DOLBYIO_APP_SECRET": "s1"}


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        (("k", "s"), DOLBYIO_PAIR, ("k", "s")),
        (("k", "s"), HALF, ("k", "s")),
        ((None, None), DOLBYIO_PAIR | PAIR, ("k1", "s1")),
        ((None, None), PAIR, ("k2", "s2")),
        ((None, None), PAIR | {"DOLBYIO_APP_KEY": "", "DOLBYIO_APP_SECRET": ""}, ("k2", "s2")),
        (("k", None), DOLBYIO_PAIR | PAIR, ("k", "s1")),
        ((None, "s"), DOLBYIO_PAIR | PAIR, ("k1", "s")),
        (("k", None), {"APP_SECRET": "s2"}, ("k", "s2")),
        ((None, "s"), {"APP_KEY": "k2"}, ("k2", "s")),
    ],
)
def test_a_missing_argument_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str | None, str | None],
    environment: dict[str, str],
    expected: tuple[str, str],
) -> None:
    """The `DOLBYIO_*` names come first. Two arguments read nothing there."""
    given(monkeypatch, **environment)

    assert AppCredentials(*expected) == choose(*arguments, None)


@pytest.mark.parametrize("environment", [{}, {"APP_KEY": "k2"}, {"DOLBYIO_APP_KEY": "", "DOLBYIO_APP_SECRET": ""}])
def test_without_a_complete_pair_the_error_names_all_variables(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    given(monkeypatch, **environment)

    complaint = choose(None, None, None)

    assert isinstance(complaint, ValueError)
    assert all(name in str(complaint) for name in NAMES)


@pytest.mark.parametrize("missing", ["DOLBYIO_APP_KEY", "DOLBYIO_APP_SECRET"])
@pytest.mark.parametrize("arguments", [(None, None), ("k", None), (None, "s")])
def test_half_a_dolbyio_pair_is_a_value_error_wherever_the_environment_is_read(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str | None, str | None], missing: str
) -> None:
    """The other names don't help: a key is never combined with the secret of another application."""
    given(monkeypatch, **{**DOLBYIO_PAIR, **PAIR, missing: ""})

    complaint = choose(*arguments, None)

    assert isinstance(complaint, ValueError)
    assert f"has no {missing}" in str(complaint)


@pytest.mark.parametrize("arguments", [("k", None), (None, "s")])
def test_one_argument_alone_is_a_value_error_if_the_environment_lacks_the_other(
    arguments: tuple[str | None, str | None],
) -> None:
    assert isinstance(choose(*arguments, None), ValueError)


def test_from_env_reads_the_environment_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a constructor without arguments, which reads it once."""
    for pair in (PAIR, DOLBYIO_PAIR):
        given(monkeypatch, **pair)

        assert AppCredentials(*pair.values()) == AppCredentials.from_env()


@pytest.mark.parametrize(
    "environment", [{}, {"APP_KEY": "k2"}, HALF, PAIR | HALF, {"APP_KEY": "k", "APP_SECRET": "canary\n"}]
)
def test_from_env_raises_an_error_that_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    given(monkeypatch, **environment)

    with pytest.raises(CredentialsError, match=r"DOLBYIO_APP_KEY|newline") as caught:
        AppCredentials.from_env()

    assert isinstance(caught.value, ValueError)
    assert "canary" not in "".join(own_lines(caught.value))


def test_from_env_of_a_subclass_makes_one_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(AppCredentials):
        pass

    given(monkeypatch, **PAIR)

    assert type(Mine.from_env()) is Mine


def test_an_empty_argument_is_not_replaced_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty string is a value, and a bad one."""
    given(monkeypatch, APP_KEY="k2", APP_SECRET="s2")

    assert isinstance(choose("", "s", None), ValueError)


def test_a_callable_is_kept_and_not_called() -> None:
    def credentials() -> AppCredentials:
        raise AssertionError

    assert credentials is choose(None, None, credentials)


@pytest.mark.parametrize(("key", "secret"), [("k", None), (None, "s"), ("k", "s")])
def test_a_callable_together_with_a_key_or_secret_is_a_type_error(key: str | None, secret: str | None) -> None:
    assert isinstance(choose(key, secret, lambda: AppCredentials("k", "s")), TypeError)


def test_credentials_themselves_are_kept() -> None:
    credentials = AppCredentials("k", "s")

    assert credentials is choose(None, None, credentials)


class AsyncVault:
    async def __call__(self) -> AppCredentials:
        raise AssertionError

    async def method(self) -> AppCredentials:
        raise AssertionError


@pytest.mark.parametrize(
    "credentials",
    ["a text", ("k", "s"), AsyncVault(), AsyncVault().method, functools.partial(AsyncVault.method, AsyncVault())],
)
def test_what_gives_no_credentials_when_it_is_called_is_a_type_error(credentials: Any) -> None:
    assert isinstance(choose(None, None, credentials), TypeError)


@pytest.mark.parametrize("key", ["", "a:b", "a\n", "a\x00", "a\x7f", "a\ud800"])
def test_a_bad_key_is_a_value_error(key: str) -> None:
    with pytest.raises(ValueError, match="app key"):
        AppCredentials(key, "s")


@pytest.mark.parametrize("secret", ["", "canary\r\n", "canary\x00", "canary\x9f", "canary\udfff"])
def test_a_bad_secret_is_a_value_error_that_does_not_show_it(secret: str) -> None:
    """A traceback that shows local variables does not show it either."""
    with pytest.raises(ValueError, match="app secret") as caught:
        AppCredentials("k", secret)

    assert "canary" not in "".join(own_lines(caught.value))


def own_lines(error: BaseException) -> list[str]:
    """The traceback with local variables. The frames of this file are left out: they hold the secret."""
    rendered = traceback.TracebackException.from_exception(error, capture_locals=True)
    rendered.stack = traceback.StackSummary.from_list([f for f in rendered.stack if f.filename != __file__])
    return list(rendered.format())


@pytest.mark.parametrize(("key", "secret"), [(None, "s"), (b"k", "s"), ("k", None), ("k", 1)])
def test_anything_but_strings_is_a_type_error(key: str, secret: str) -> None:
    with pytest.raises(TypeError, match="must be a str"):
        AppCredentials(key, secret)


def test_the_secret_may_contain_a_colon() -> None:
    """RFC 7617 forbids it in the user id only."""
    assert AppCredentials("k", "a:b").app_secret == "a:b"


@pytest.mark.parametrize("secret", ["canary\n", "canary\r\n"])
def test_a_secret_from_a_file_that_ends_in_a_newline_is_explained(secret: str) -> None:
    with pytest.raises(ValueError, match="the app secret ends in a newline"):
        AppCredentials("k", secret)


@pytest.mark.parametrize("pasted", ["k:canary", "k\ncanary\n", "k\tcanary"])
def test_the_error_for_a_pasted_key_and_secret_shows_only_the_key(pasted: str) -> None:
    with pytest.raises(ValueError, match="got 'k…'"):
        AppCredentials(pasted, "s")


@pytest.mark.parametrize("key", ["k:canary", "k\ncanary", "canary\n", b"canary", ("canary",), {"k": "canary"}, None])
def test_a_traceback_with_local_variables_shows_no_bad_key(key: Any) -> None:
    """It renders half-made credentials too."""
    with pytest.raises((TypeError, ValueError), match="app key") as caught:
        AppCredentials(key, "canary")

    assert "canary" not in "".join(own_lines(caught.value))


def test_repr_shows_four_characters_of_the_key_and_not_the_secret() -> None:
    assert repr(AppCredentials("the-key", "canary")) == "AppCredentials(app_key='the-…')"


def test_credentials_can_be_pickled() -> None:
    """They are part of a pickled auth object."""
    assert AppCredentials("k", "s") == pickle.loads(pickle.dumps(AppCredentials("k", "s")))


def test_credentials_cannot_be_changed() -> None:
    """The values that were checked must be the values that are sent."""
    subject = AppCredentials("k", "s")

    with pytest.raises(AttributeError, match="create new ones"):
        subject.app_secret = "a\r\nb"
    with pytest.raises(AttributeError, match="create new ones"):
        del subject.app_secret


def test_equal_credentials_are_one_element_of_a_set() -> None:
    assert len({AppCredentials("k", "s"), AppCredentials("k", "s"), AppCredentials("k", "t")}) == 2
    assert AppCredentials("k", "s") != ("k", "s")
