"""Whether a tag may be released. `nox -s release -- v1.2.3` runs this, and so does the workflow that publishes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import dolby_auth_plugin

CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"


def versions(changelog: str) -> dict[str, str]:
    """The versions of *changelog* from the top, each with its date, or with `unreleased`."""
    return dict(re.findall(r"^## (\d\S*) - (\d{4}-\d\d-\d\d|unreleased)$", changelog, re.MULTILINE))


def objections(tag: str, version: str, changelog: str) -> list[str]:
    """Why *tag* may not be released, in words."""
    found = []
    if tag != f"v{version}":
        found.append(f"the tag of version {version} is v{version}, not {tag}")
    [*headings] = re.findall(r"^## (.*)$", changelog, re.MULTILINE)
    date = versions(changelog).get(version)
    if date is None or not headings[0].startswith(f"{version} "):
        found.append(f"CHANGELOG.md does not begin with {version}")
    elif date == "unreleased":
        found.append(f"CHANGELOG.md has no date for {version}")
    return found


if __name__ == "__main__":
    [given] = sys.argv[1:]
    sys.exit("\n".join(objections(given, dolby_auth_plugin.__version__, CHANGELOG.read_text())) or None)
