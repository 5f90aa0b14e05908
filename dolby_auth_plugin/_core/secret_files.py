"""
App key and app secret in files: JSON, dotenv, or a file for each, as Kubernetes and Docker mount them.

As in `credentials`, a function that may hold a secret returns its complaint and does not raise it.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

# Bytes. A file with a key and a secret has some hundred.
_LARGEST = 2**16

# The names in a file, besides those of the environment.
_NAMES = ("app_key", "app_secret")

_LINE = re.compile(r"\s*(?:export\s+)?(\w+)\s*=\s*(.*)")

# The values that shells, Docker and the dotenv libraries read alike. They differ about backslashes, dollars, and quotes or `#` inside
# a value, so a wrong guess would be a wrong secret.
_VALUE = re.compile(r"""(?:'([^'\\]*)'|"([^"\\$`]*)"|([^\s'"\\$`#]*))(?:\s+#.*)?\s*""")


def paths(path: str | os.PathLike[str], secret_path: str | os.PathLike[str] | None = None) -> list[Path]:
    # The method of Path raises an error if there is no home folder. Here, the path is then not found.
    return [Path(os.path.expanduser(given)) for given in (path, secret_path) if given is not None]  # noqa: PTH111 - see above


def read(files: list[Path], pairs: tuple[tuple[str, str], ...]) -> tuple[str, str] | Exception:
    """Key and secret in one file, under the first of the *pairs* of names that it has, or in a file each; or the complaint."""
    if len(files) == 1:
        return _pair(files[0], pairs)
    key, secret = map(read_value, files)
    if isinstance(key, Exception):
        return key
    return secret if isinstance(secret, Exception) else (key, secret)


def read_value(path: Path) -> str | Exception:
    """The text of a file that holds the key or the secret alone, without the newlines at its end; or the complaint."""
    text = _text(path)
    return text if isinstance(text, Exception) else text.rstrip("\r\n")


def doubts(files: list[Path]) -> Iterator[str]:
    """The reasons why other users could change the contents of the *files*, in sentences. On Windows, modes do not tell."""
    # Kubernetes mounts links. A link can be replaced too, by those who may write its folder. `Path.resolve` raises an error for a loop.
    real = [Path(os.path.realpath(path)) for path in files]
    places = dict.fromkeys([*real, *(path.parent for path in real), *(path.absolute().parent for path in files)])
    for place in places if hasattr(os, "geteuid") else ():
        with suppress(OSError):
            mode = place.stat().st_mode
            # In a sticky folder, such as /tmp, users can replace their own files only. Pipes and devices are not checked.
            is_checked = stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and not mode & stat.S_ISVTX)
            if is_checked and mode & (stat.S_IWGRP | stat.S_IWOTH):
                yield f"other users may change {place}, and so the app key or secret: chmod go-w {place}"


def _pair(path: Path, pairs: tuple[tuple[str, str], ...]) -> tuple[str, str] | Exception:
    text = _text(path)
    if isinstance(text, Exception):
        return text
    fields = _json(path, text) if text.lstrip().startswith("{") else _dotenv(path, text, pairs)
    if isinstance(fields, Exception):
        return fields
    for names in (*pairs, _NAMES):
        key, secret = (fields.get(name) or None for name in names)
        if key is None and secret is None:
            continue
        if key is None or secret is None:
            # As in the environment: a key is never combined with the secret of another application.
            missing = names[0] if key is None else names[1]
            return ValueError(f"{path} has no {missing}, but the other of {' and '.join(names)}")
        if not isinstance(key, str) or not isinstance(secret, str):
            return ValueError(f"{path}: {' and '.join(names)} must be strings")
        return key, secret
    wanted = " or ".join(map(" and ".join, (*pairs, _NAMES)))
    return ValueError(f"{path} has no app key and secret: give it {wanted}, in the form of JSON or dotenv")


def _text(path: Path) -> str | Exception:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            return ValueError(f"{path} has more than {_LARGEST} bytes: it is not a file with an app key and secret")
        return data.decode("utf-8-sig")
    except OSError as error:
        return error.with_traceback(None)
    except UnicodeDecodeError:
        return ValueError(f"{path} is not text in UTF-8")


def _json(path: Path, text: str) -> dict[str, Any] | Exception:
    try:
        fields: dict[str, Any] = json.loads(text)
    except json.JSONDecodeError as error:
        # Its own words may quote a character of the secret.
        return ValueError(f"{path} is not valid JSON: see line {error.lineno}")
    except (RecursionError, ValueError):
        return ValueError(f"{path} has JSON that Python refuses")
    return fields


def _dotenv(path: Path, text: str, pairs: tuple[tuple[str, str], ...]) -> dict[str, Any] | Exception:
    """The variables of ours in *text*. Other lines may be anything: the file may have other readers."""
    ours = {name for names in (*pairs, _NAMES) for name in names}
    fields = {}
    for number, line in enumerate(text.split("\n"), 1):
        if (match := _LINE.fullmatch(line)) and match[1] in ours:
            name, value = match[1], _VALUE.fullmatch(match[2])
            if value is None:
                return ValueError(
                    f"line {number} of {path}: programs read such a value of {name} differently."
                    " Put it in single quotes, or use JSON if it contains a backslash or a single quote"
                )
            fields[name] = next(group for group in (*value.groups(), "") if group is not None)
    return fields
