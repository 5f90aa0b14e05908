"""Runs the code of the pages in docs/, and checks what all pages have in common."""

from __future__ import annotations

import importlib
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dolby_auth_plugin
from dolby_auth_plugin.sandbox import Sandbox

from ..pages import DOCS, blocks, environment, run

ROOT = DOCS.parent
PAGES = sorted(path.stem for path in DOCS.glob("*.md"))
REASONS = ("runs in `nox -s tools`: ", "runs in tests/plugins: ", "does not run: ")

# Pages whose code needs more than an environment, and the test that gives it.
ELSEWHERE = {
    "credentials": "project/test_credentials_page.py",
    "logging": "promises/test_logging.py",
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def log_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("dolby_auth_plugin")
    handlers, level = root.handlers[:], ours.level
    yield
    root.handlers[:], ours.level = handlers, level


@pytest.mark.usefixtures("log_as_before")
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page not in ELSEWHERE and any(not block.mark for block in blocks(page))]
)
def test_the_code_of_a_page_works(
    page: str,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The blocks of a page run one after another, as a reader would paste them. A comment after `print` says what it prints."""
    for name, value in {**environment(sandbox), "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    # A file for the pages that upload one. Jobs of the sandbox end after three looks, however soon they come.
    Path("noisy.wav").write_bytes(b"noise")
    monkeypatch.setattr(time, "sleep", lambda _: None)
    names: dict[str, Any] = {"__name__": "page"}

    codes = [block.code for block in blocks(page) if not block.mark]
    for code in codes:
        run(code, names, sandbox)

    assert sandbox.unauthorized == 0
    expected = [text for code in codes for text in re.findall(r"print\(.+\)  # (.+)", code)]
    assert set(expected) - set(capsys.readouterr().out.splitlines()) == set()


def test_code_that_does_not_run_here_says_why() -> None:
    marks = [block.mark for page in PAGES for block in blocks(page) if block.mark]

    assert [mark for mark in marks if not mark.startswith(REASONS)] == []


def test_no_block_of_python_is_overlooked() -> None:
    for page in PAGES:
        assert (DOCS / f"{page}.md").read_text().count("```python") == len(blocks(page)), page


def test_each_page_has_a_line_in_the_navigation() -> None:
    """The build of the site checks the other direction."""
    listed = re.findall(r'= "([\w-]+)\.md"', (ROOT / "website" / "zensical.toml").read_text())

    assert set(PAGES) - set(listed) == set()


def test_the_recipes_have_each_program_of_the_examples() -> None:
    """A line with such a link, and nothing else, becomes the program on the site."""
    shown = re.findall(r"^\[\w+\.py\]\(\.\./(examples/\w+\.py)\)$", (DOCS / "recipes.md").read_text(), re.MULTILINE)

    assert sorted(shown) == sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("examples/*.py"))


def test_the_reference_has_each_public_name() -> None:
    listed = set(re.findall(r"^::: dolby_auth_plugin\.(\S+)$", (DOCS / "reference.md").read_text(), re.MULTILINE))
    public = {*dolby_auth_plugin.__all__, "FileTokenCache", "RedisTokenCache", "TokenCache"} - {"__version__"}
    for module in ("requests", "httpx", "httpx2", "sandbox"):
        public |= {f"{module}.{name}" for name in importlib.import_module(f"dolby_auth_plugin.{module}").__all__}

    assert public - listed == set()


def test_a_page_begins_with_what_the_reader_can_do_after_it() -> None:
    pages = [*DOCS.glob("*.md"), ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"]

    assert [page.name for page in pages if "\n\nAfter this page" not in page.read_text()[:120]] == []
