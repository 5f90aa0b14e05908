"""
Builds the package with setuptools, from a temporary copy.

In the checkout, setuptools leaves an egg-info folder and `build/`. It puts all of `build/` into the next wheel, even modules
that were removed since.

The same source gives the same bytes for everyone, if `SOURCE_DATE_EPOCH` is set: no user, time or umask is left in what is built.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from setuptools import build_meta

# An editable install refers to the checkout, so it is not built from a copy.
from setuptools.build_meta import build_editable

__all__ = ["build_editable", "build_sdist", "build_wheel"]

Settings: TypeAlias = Mapping[str, str | list[str] | None] | None

# What setup.cfg and MANIFEST.in name. A checkout may hold anything else, even virtual environments.
_NEEDED = {
    ".ci",
    ".github",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "SECURITY.md",
    "backend",
    "benchmarks",
    "docs",
    "dolby_auth_plugin",
    "examples",
    "noxfile.py",
    "pyproject.toml",
    "setup.cfg",
    "tests",
    "website",
}


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    with _in_a_copy():
        return str(build_meta.build_wheel(wheel_directory, config_settings, metadata_directory))


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    with _in_a_copy():
        name = str(build_meta.build_sdist(sdist_directory, config_settings))
    _pack_again(Path(sdist_directory) / name)
    return name


@contextlib.contextmanager
def _in_a_copy() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        # Some editors mark an open file with a link to nowhere.
        shutil.copytree(".", folder, ignore=_not_needed, ignore_dangling_symlinks=True, dirs_exist_ok=True)
        # Archives keep the modes of files, which depend on the umask of whoever made the checkout.
        before = os.umask(0o022)
        for path in Path(folder).rglob("*"):
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        try:
            with contextlib.chdir(folder):
                yield
        finally:
            os.umask(before)


def _not_needed(folder: str, names: list[str]) -> set[str]:
    return set(names) - _NEEDED if folder == "." else {name for name in names if name == "__pycache__"}


def _pack_again(sdist: Path) -> None:
    """Pack *sdist* without the user, the times and the order of files that setuptools puts into it."""
    moment = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    packed = sdist.with_suffix(".new")
    with (
        tarfile.open(sdist) as old,
        packed.open("wb") as file,
        # Without a name: gzip writes it into its header.
        gzip.GzipFile("", "wb", fileobj=file, mtime=moment) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            content = old.extractfile(member)
            member.mtime, member.pax_headers = moment, {}
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            new.addfile(member, content)
    packed.replace(sdist)
