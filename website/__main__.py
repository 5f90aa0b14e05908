"""
Builds the site of the documentation into `.site`. Any warning, broken link or broken anchor is an error.

The pages are written to a temporary folder first, so that the checkout gets nothing but the result.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .check import complaints
from .pages import ROOT, sources, write_pages

OUTPUT = ROOT / ".site"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        write_pages(project / "docs")
        here = Path(__file__).parent
        shutil.copy(here / "zensical.toml", project)
        for name in ("extra.css", "extra.js"):
            shutil.copy(here / name, project / "docs")
        found = list(without_navigation((project / "zensical.toml").read_text()))
        command = (sys.executable, "-m", "zensical", "build", "--strict")
        subprocess.run(command, cwd=project, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        found += complaints(project / "site")
        if found:
            sys.exit("\n".join(found))
        shutil.rmtree(OUTPUT, ignore_errors=True)
        shutil.copytree(project / "site", OUTPUT)


def without_navigation(settings: str) -> list[str]:
    """A sentence for each page that no line of the navigation leads to."""
    listed = set(re.findall(r'= "([\w/-]+\.md)"', settings))
    return [
        f"{page} has no line in website/zensical.toml"
        for page in sources()
        if page[-3:] == ".md" and page not in listed
    ]


if __name__ == "__main__":
    main()
