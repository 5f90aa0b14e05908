"""Checks the built site: every link and anchor leads somewhere, and no page needs a network."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser loads by itself. A link is followed by the reader only.
_LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}


class _Page(HTMLParser):
    """The anchors of a page, and what it refers to: tag, attribute, address."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.references: list[tuple[str, str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name"):
                self.anchors.add(value or "")
            elif name in ("href", "src") and value is not None:
                self.references.append((tag, name, value))


def complaints(site: Path) -> Iterator[str]:
    """A sentence for each broken link or anchor, and for each thing that a page loads from a network."""
    pages = {path.resolve(): _Page(path.read_text()) for path in site.rglob("*.html")}
    for path, page in pages.items():
        # The page for addresses that do not exist is served at any address.
        if path.name == "404.html":
            continue
        for tag, attribute, address in page.references:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                if (tag, attribute) in _LOADED and parts.scheme != "data":
                    yield f"{path.name} loads {address}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                yield f"{path.name} links to {address}, which does not exist"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{path.name} links to {address}, which has no such anchor"
