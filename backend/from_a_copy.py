"""
Builds the package with setuptools, from a temporary copy.

In the checkout, setuptools leaves an egg-info folder and `build/`. It puts all of `build/` into the next wheel, even modules
that were removed since.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from setuptools import build_meta

# An editable install refers to the checkout, so it is not built from a copy.
from setuptools.build_meta import build_editable

__all__ = ["build_editable", "build_sdist", "build_wheel"]

Settings: TypeAlias = Mapping[str, str | list[str] | None] | None

# What setup.cfg and MANIFEST.in name. A checkout may hold anything else, even virtual environments.
_NEEDED = {
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "backend",
    "dolby_auth_plugin",
    "examples",
    "pyproject.toml",
    "setup.cfg",
}


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    with _in_a_copy():
        return str(build_meta.build_wheel(wheel_directory, config_settings, metadata_directory))


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    with _in_a_copy():
        return str(build_meta.build_sdist(sdist_directory, config_settings))


@contextlib.contextmanager
def _in_a_copy() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        # Some editors mark an open file with a link to nowhere.
        shutil.copytree(".", folder, ignore=_not_needed, ignore_dangling_symlinks=True, dirs_exist_ok=True)
        with contextlib.chdir(folder):
            yield


def _not_needed(folder: str, names: list[str]) -> set[str]:
    return set(names) - _NEEDED if folder == "." else set()
