"""
The pages, made from the files of the checkout.

The files work where they are, on a code host, and on the site. So links lead from file to file, and are rewritten for the site.
A diagram is Mermaid text in the page, and becomes two images, for the light and the dark scheme. A line that is a link to a program in
`examples/` and nothing else becomes the program, folded up.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import merman

ROOT = Path(__file__).parent.parent

# Pages that have their file at the top of the checkout.
OUTSIDE = {"CHANGELOG.md": "changes.md", "SECURITY.md": "security.md"}

# Files for readers of the checkout, and the page that tells the same.
INSTEAD = {"README.md": "index.md"}

_LINK = re.compile(r"(\[[^\]]*\]\()(?!https?://|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")
_CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_PROGRAM = re.compile(r"^\[[^\]]+\]\((\S*examples/\w+\.py)\)$", re.MULTILINE)
_DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Per scheme of the site, the theme of Mermaid. The suffix tells the site when to show an image.
_THEMES = {"light": "default", "dark": "dark"}

# Narrow diagrams, whose text a reader can still read on a phone.
_SEQUENCE = {"actorMargin": 25, "width": 110, "height": 40, "messageMargin": 30, "mirrorActors": False, "wrap": True}
# Labels in HTML are as wide as in Mermaid's font, and leave their boxes with a wider one.
_SETTINGS = {"look": "classic", "htmlLabels": False, "flowchart": {"htmlLabels": False}, "sequence": _SEQUENCE}


class BrokenLinkError(Exception):
    """A link leads to a file that does not exist, or that the site does not have."""


def sources() -> dict[str, Path]:
    """Per path on the site, the file of the checkout."""
    inside = {path.relative_to(ROOT / "docs").as_posix(): path for path in (ROOT / "docs").rglob("*") if path.is_file()}
    return inside | {page: ROOT / name for name, page in OUTSIDE.items()}


def write_pages(folder: Path) -> None:
    """Write all pages, their images and their diagrams into *folder*."""
    for page, source in sources().items():
        target = folder / page
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            text = with_links(with_programs(source.read_text(), source), source, page)
            text, images = with_images(text, target.stem)
            target.write_text(text)
            for name, svg in images.items():
                target.with_name(name).write_text(svg)
        else:
            target.write_bytes(source.read_bytes())


def with_programs(text: str, source: Path) -> str:
    """*text* with the programs to which a line of the file *source* links."""

    def shown(link: re.Match[str]) -> str:
        program = source.parent / link[1]
        code = f"```python\n{program.read_text()}```"
        return f"<details markdown>\n<summary>examples/{program.name}</summary>\n\n{code}\n\n</details>"

    return _PROGRAM.sub(shown, text)


def with_links(text: str, source: Path, page: str) -> str:
    """*text* with the links of the file *source* as links of the page at *page*. Code stays as it is."""
    pages = {ROOT / name: place for name, place in INSTEAD.items()}
    pages |= {file.resolve(): place for place, file in sources().items()}

    def rewritten(link: re.Match[str]) -> str:
        target = (source.parent / link[2]).resolve()
        if target not in pages:
            raise BrokenLinkError(f"{source.name} links to {link[2]}, which the site does not have")
        place = os.path.relpath(pages[target], Path(page).parent)
        return f"{link[1]}{place}{link[3] or ''})"

    return "".join(part if is_code else _LINK.sub(rewritten, part) for is_code, part in _parts(text))


def with_images(text: str, stem: str) -> tuple[str, dict[str, str]]:
    """*text* with images instead of diagrams, and the images by name. A diagram's `accTitle` becomes the text of its image."""
    images: dict[str, str] = {}

    def drawn(diagram: re.Match[str]) -> str:
        title = re.search(r"accTitle: *(.+)", diagram[1])
        if title is None:
            raise ValueError(f"a diagram of {stem} needs an accTitle, which readers hear who do not see it")
        lines = []
        for scheme, theme in _THEMES.items():
            name = f"{stem}-{len(images) // 2 + 1}-{scheme}.svg"
            setting = json.dumps({"theme": theme, **_SETTINGS})
            images[name] = sized(merman.Merman().render_svg(f"%%{{init: {setting}}}%%\n{diagram[1]}", None))
            lines.append(f"![{title[1]}]({name}#only-{scheme})")
        return "\n".join(lines)

    return _DIAGRAM.sub(drawn, text), images


def sized(svg: str) -> str:
    """*svg* with its own size instead of that of the page."""
    box = re.search(r'viewBox="\S+ \S+ (\S+) (\S+)"', svg)
    assert box is not None, svg[:200]
    return svg.replace('width="100%"', f'width="{box[1]}" height="{box[2]}"', 1)


def _parts(text: str) -> Iterator[tuple[bool, str]]:
    """*text* in parts, and whether each is code."""
    place = 0
    for code in _CODE.finditer(text):
        yield False, text[place : code.start()]
        yield True, code[0]
        place = code.end()
    yield False, text[place:]
