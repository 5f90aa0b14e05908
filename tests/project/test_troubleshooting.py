"""The page about errors has an entry for everything that the package can emit. What it can emit is read from the source."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import dolby_auth_plugin

from .emitted import HOLE, Source

PACKAGE = Path(dolby_auth_plugin.__file__).parent
PAGE = (PACKAGE.parent / "docs" / "troubleshooting.md").read_text()

# The messages on the page, each in a block of its own.
SHOWN = re.findall(r"^```text\n(.*)\n```$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def source() -> Source:
    # Not the sandbox and the command line: they raise no `TokenError` of their own.
    return Source(PACKAGE, apart=("sandbox", "cli"))


def not_shown(templates: set[str]) -> set[str]:
    """The templates of which the page has no example."""
    # No example has two sentences in the place of one name or number.
    patterns = {each: ".*".join(map(re.escape, each.split(HOLE))) for each in templates}
    return {each for each, pattern in patterns.items() if not any(re.fullmatch(pattern, shown) for shown in SHOWN)}


def test_each_reason_has_an_entry_and_each_entry_a_reason(source: Source) -> None:
    """Reasons that are not in the source as text, such as words of the operating system, are in the comment of their section."""
    written = set(re.findall(r"^Reason: `(.+)`$", PAGE, re.MULTILINE))
    for comment in re.findall(r"<!-- reasons of this section: (.+) -->", PAGE):
        written |= set(comment.split(" | "))

    emitted = {reason for reasons, _ in source.failures() for reason in reasons}

    assert written == emitted


def test_each_message_of_a_token_error_is_shown(source: Source) -> None:
    assert not_shown({message for _, messages in source.failures() for message in messages}) == set()


def test_each_warning_is_shown(source: Source) -> None:
    assert source.warnings()
    assert not_shown(source.warnings()) == set()


def test_each_log_record_of_level_warning_is_shown(source: Source) -> None:
    assert source.records()
    assert not_shown(source.records()) == set()


def test_each_message_on_the_page_can_be_emitted(source: Source) -> None:
    """A message whose words were changed in the source is noticed by the tests above; one that was removed, by this one."""
    templates = {message for _, messages in source.failures() for message in messages}
    templates |= source.warnings() | source.records() | source.complaints()
    patterns = [".*".join(map(re.escape, each.split(HOLE))) for each in templates]

    assert [shown for shown in SHOWN if not any(re.fullmatch(pattern, shown) for pattern in patterns)] == []


def test_each_entry_says_the_cause_and_what_to_do() -> None:
    entries = re.split(r"^### ", PAGE.split("## No error, but a 401")[0], flags=re.MULTILINE)[1:]

    incomplete = [
        entry.splitlines()[0]
        for entry in entries
        if not all(part in entry for part in ("```text", "**Usual cause.**", "**What to do.**"))
    ]

    assert incomplete == []
