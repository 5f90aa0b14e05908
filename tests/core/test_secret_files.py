"""App key and secret in files: what is read from them, what is refused, and what is warned about."""

from __future__ import annotations

import json
import os
import traceback
import warnings
from pathlib import Path

import pytest

from dolby_auth_plugin import AppCredentials, CredentialsError, CredentialsWarning

needs_modes = pytest.mark.skipif(os.name != "posix", reason="on Windows, modes do not tell who may write a file")

CREDENTIALS = AppCredentials("the-key==", "the-secret")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that only its owner may change, whatever the umask is."""
    folder = tmp_path / "secrets"
    folder.mkdir(0o700)
    return folder


def write(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


def error_of(*paths: Path) -> str:
    """The error that *paths* raise. It and its frames show no secret."""
    with pytest.raises(CredentialsError) as caught:
        AppCredentials.from_file(*paths)

    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "canary" not in "".join(shown.format())
    return str(caught.value)


# One file


@pytest.mark.parametrize(
    "names", [("DOLBYIO_APP_KEY", "DOLBYIO_APP_SECRET"), ("APP_KEY", "APP_SECRET"), ("app_key", "app_secret")]
)
@pytest.mark.parametrize("form", ["json", "dotenv"])
def test_json_and_dotenv_take_the_same_names(names: tuple[str, str], form: str, folder: Path) -> None:
    fields = dict(zip(names, ("the-key==", "the-secret"), strict=True))
    text = json.dumps(fields) if form == "json" else "".join(f"{name}={value}\n" for name, value in fields.items())

    assert AppCredentials.from_file(write(folder / "file", text)) == CREDENTIALS


@pytest.mark.parametrize(
    "text",
    [
        "DOLBYIO_APP_KEY='the-key=='\nDOLBYIO_APP_SECRET=\"the-secret\"",
        "export DOLBYIO_APP_KEY=the-key==\nexport DOLBYIO_APP_SECRET=the-secret\n",
        "# settings\r\n\r\nDOLBYIO_APP_KEY = the-key==  # of the dashboard\r\n  DOLBYIO_APP_SECRET=the-secret\t\r\n",
        "DOLBYIO_APP_KEY=old\nDOLBYIO_APP_KEY=the-key==\nDOLBYIO_APP_SECRET=the-secret",
        "OTHER=\"${HOME}\\n'\nnonsense\nDOLBYIO_APP_KEY=the-key==\nDOLBYIO_APP_SECRET=the-secret",
        "APP_KEY=laravel\nDOLBYIO_APP_KEY=the-key==\nDOLBYIO_APP_SECRET=the-secret",
        "DOLBYIO_APP_KEY=\nDOLBYIO_APP_SECRET=''\nAPP_KEY=the-key==\nAPP_SECRET=the-secret",
    ],
    ids=[
        "quotes",
        "export",
        "blanks and comments",
        "the last one counts",
        "other lines",
        "another application's",
        "empty",
    ],
)
def test_dotenv_is_read_as_shells_and_libraries_read_it(text: str, folder: Path) -> None:
    assert AppCredentials.from_file(write(folder / ".env", text)) == CREDENTIALS


def test_quotes_keep_what_they_enclose(folder: Path) -> None:
    """Single quotes keep all but themselves and a backslash, which programs read differently."""
    file = write(folder / ".env", "APP_KEY=\"a #'b\"\nAPP_SECRET=' $x`#\"y '  # comment")

    assert AppCredentials.from_file(file) == AppCredentials("a #'b", ' $x`#"y ')


@pytest.mark.parametrize(
    "value",
    ["canary$x", '"canary$x"', '"canary\\n"', "'canary\\'", "canary#x", "canary x", '"canary', "'ca'nary", "#canary"],
)
def test_a_value_that_programs_read_differently_is_an_error(value: str, folder: Path) -> None:
    message = error_of(write(folder / ".env", f"# canary\nAPP_KEY=canary\nAPP_SECRET={value}\n"))

    assert f"line 3 of {folder / '.env'}" in message
    assert "of APP_SECRET" in message


@pytest.mark.parametrize(
    "text", ["", "canary\n", "[]", "[1, 2]", "{}", '{"APP_KEY": "", "app_secret": null}', "APP_KEY canary"]
)
def test_a_file_without_key_and_secret_is_told_what_to_have(text: str, folder: Path) -> None:
    message = error_of(write(folder / "file", text))

    assert message.startswith(f"{folder / 'file'} has no app key and secret")
    assert "DOLBYIO_APP_KEY and DOLBYIO_APP_SECRET or APP_KEY and APP_SECRET or app_key and app_secret" in message


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("DOLBYIO_APP_KEY=canary\nAPP_KEY=canary\nAPP_SECRET=canary", "DOLBYIO_APP_SECRET"),
        ('{"DOLBYIO_APP_SECRET": "canary", "app_key": "canary", "app_secret": "canary"}', "DOLBYIO_APP_KEY"),
        ('{"app_key": "canary", "app_secret": ""}', "app_secret"),
    ],
)
def test_half_a_pair_is_an_error_that_names_the_other_half(text: str, missing: str, folder: Path) -> None:
    """A key is never combined with the secret of another application."""
    assert f"{folder / 'file'} has no {missing}, but the other of" in error_of(write(folder / "file", text))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{\n"app_key": "canary\\q"}', "not valid JSON: see line 2"),
        ('{"app_key": ' + "[" * 50_000, "JSON"),
        ('{"app_key": "canary", "app_secret": ["canary"]}', "must be strings"),
        ('{"app_key": "canary", "app_secret": "can\\nary"}', "the app secret must not contain control characters"),
        (b"APP_KEY=canary\nAPP_SECRET=\xff", "not text in UTF-8"),
        ("APP_KEY=canary\n" * 5000, "more than 65536 bytes"),
    ],
    ids=["bad JSON", "deep JSON", "no string", "control character", "not UTF-8", "too large"],
)
def test_a_bad_file_is_an_error_with_its_path_and_without_its_content(
    content: str | bytes, words: str, folder: Path
) -> None:
    message = error_of(write(folder / "file", content))

    assert words in message
    assert str(folder / "file") in message


def test_an_integer_of_many_digits_is_an_error(folder: Path) -> None:
    """Python refuses to convert it."""
    assert "JSON that Python refuses" in error_of(write(folder / "file", '{"other": ' + "1" * 5000 + "}"))


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf{}", b"\xef\xbb\xbfapp_key=k\napp_secret=s"])
def test_a_byte_order_mark_is_ignored(content: bytes, folder: Path) -> None:
    content = content.replace(b"{}", b'{"app_key": "k", "app_secret": "s"}')

    assert AppCredentials.from_file(write(folder / "file", content)) == AppCredentials("k", "s")


# Two files


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_newlines_at_the_end_are_no_part_of_a_key_or_secret(end: str, folder: Path) -> None:
    key, secret = (write(folder / name, f"{name}{end}") for name in ("the-key", "the-secret"))

    assert AppCredentials.from_file(key, secret) == AppCredentials("the-key", "the-secret")


def test_blanks_and_quotes_are_part_of_a_secret_in_a_file_of_its_own(folder: Path) -> None:
    key, secret = write(folder / "key", b"\xef\xbb\xbfk"), write(folder / "secret", " '{s} \n")

    assert AppCredentials.from_file(key, secret) == AppCredentials("k", " '{s} ")


@pytest.mark.parametrize(
    ("key", "secret", "words"),
    [
        ("canary", "\n", "the app secret is empty"),
        ("", "canary", "the app key is empty"),
        ("a\nb", "canary", "the app key"),
    ],
)
def test_a_bad_value_in_a_file_is_an_error_that_names_the_files(
    key: str, secret: str, words: str, folder: Path
) -> None:
    message = error_of(write(folder / "key", key), write(folder / "secret", secret))

    assert message.startswith(f"{folder / 'key'} and {folder / 'secret'}: {words}")


@pytest.mark.parametrize("missing", ["key", "secret"])
def test_a_missing_file_is_an_error_that_names_it(missing: str, folder: Path) -> None:
    """The other one may hold the secret: users swap the two."""
    for name in {"key", "secret"} - {missing}:
        write(folder / name, "canary")

    message = error_of(folder / "key", folder / "secret")

    assert f"No such file or directory: '{folder / missing}'" in message


@needs_modes
def test_a_link_to_itself_is_an_error_that_names_it(folder: Path) -> None:
    (folder / "loop").symlink_to("loop")

    assert str(folder / "loop") in error_of(folder / "loop")


def test_a_home_folder_that_does_not_exist_is_an_error() -> None:
    assert "'~no.such.user/file'" in error_of(Path("~no.such.user/file"))


def test_a_folder_is_an_error_that_names_it(folder: Path) -> None:
    assert str(folder) in error_of(folder)


def test_a_path_may_begin_in_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    write(folder / "file", "APP_KEY=k\nAPP_SECRET=s")

    assert AppCredentials.from_file("~/file") == AppCredentials("k", "s")


# Who may write


@pytest.fixture
def pair(folder: Path) -> tuple[Path, Path]:
    return write(folder / "key", "k"), write(folder / "secret", "s")


@needs_modes
@pytest.mark.parametrize("mode", [0o620, 0o602])
@pytest.mark.parametrize("which", [0, 1])
def test_a_file_that_others_may_write_is_a_warning(pair: tuple[Path, Path], which: int, mode: int) -> None:
    pair[which].chmod(mode)

    with pytest.warns(CredentialsWarning) as caught:
        assert AppCredentials.from_file(*pair) == AppCredentials("k", "s")

    assert [str(warning.message) for warning in caught] == [
        f"other users may change {pair[which]}, and so the app key or secret: chmod go-w {pair[which]}"
    ]
    assert caught[0].filename == __file__


@needs_modes
def test_a_folder_in_which_others_may_replace_the_files_is_one_warning(pair: tuple[Path, Path], folder: Path) -> None:
    folder.chmod(0o770)

    with pytest.warns(CredentialsWarning, match=f"other users may change {folder},") as caught:
        AppCredentials.from_file(*pair)

    assert len(caught) == 1


@needs_modes
def test_others_may_read(pair: tuple[Path, Path], folder: Path) -> None:
    """Kubernetes and Docker mount secrets so. Warnings are errors here."""
    for path in (*pair, folder):
        path.chmod(0o755)

    AppCredentials.from_file(*pair)


@needs_modes
def test_a_sticky_folder_is_no_warning(pair: tuple[Path, Path], folder: Path) -> None:
    """Everybody may write the top folder of a volume of Kubernetes, but replace only files of their own."""
    folder.chmod(0o1777)

    AppCredentials.from_file(*pair)


@needs_modes
@pytest.mark.parametrize("place", ["the file", "the folder of the file", "the folder of the link"])
def test_links_are_followed_and_what_they_name_is_checked(pair: tuple[Path, Path], place: str) -> None:
    link = pair[0].parent.parent / "volume" / "link"
    link.parent.mkdir(0o700)
    link.symlink_to(pair[0])
    places = {"the file": pair[0], "the folder of the file": pair[0].parent, "the folder of the link": link.parent}
    places[place].chmod(0o722)

    with pytest.warns(CredentialsWarning) as caught:
        AppCredentials.from_file(link, pair[1])

    assert [f"change {places[place]}," in str(warning.message) for warning in caught] == [True]


@needs_modes
def test_a_pipe_is_read_without_a_warning() -> None:
    """A shell makes one for `<(command)`."""
    reading, writing = os.pipe()
    try:
        os.write(writing, b"APP_KEY=k\nAPP_SECRET=s")
        os.close(writing)

        assert AppCredentials.from_file(f"/dev/fd/{reading}") == AppCredentials("k", "s")
    finally:
        os.close(reading)


def test_where_modes_do_not_tell_there_is_no_warning(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pair[0].chmod(0o666)
    monkeypatch.delattr(os, "geteuid", raising=False)

    AppCredentials.from_file(*pair)


def test_a_warning_as_an_error_shows_no_secret(pair: tuple[Path, Path]) -> None:
    """It is issued before the files are read."""
    write(pair[1], "canary", 0o666)

    with warnings.catch_warnings(action="error"), pytest.raises(CredentialsWarning) as caught:
        AppCredentials.from_file(*pair)

    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "canary" not in "".join(shown.format())
