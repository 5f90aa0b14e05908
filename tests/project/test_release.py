"""The version, the changelog, the tag and the workflows agree."""

from __future__ import annotations

import configparser
import fnmatch
import re
from pathlib import Path

import pytest

from dolby_auth_plugin import __version__

from .tag import CHANGELOG, objections, versions

ROOT = Path(__file__).parents[2]
WORKFLOWS = {path.stem: path.read_text() for path in (ROOT / ".github" / "workflows").iterdir()}
DATED = "# Changelog\n\n## 1.2.3 - 2026-02-01\n\n### Added\n\n## 1.2.2 - 2026-01-01\n"


def test_the_changelog_begins_with_this_version_or_with_what_comes_after_it() -> None:
    headings = re.findall(r"^## (.*)$", CHANGELOG.read_text(), re.MULTILINE)
    if headings[0] == "Unreleased":
        del headings[0]

    assert headings == [f"{version} - {date}" for version, date in versions(CHANGELOG.read_text()).items()]
    assert headings[0].startswith(f"{__version__} - ")


def test_each_version_but_the_top_one_has_a_date() -> None:
    assert "unreleased" not in list(versions(CHANGELOG.read_text()).values())[1:]


def test_the_sections_of_the_changelog_are_in_the_order_in_which_a_reader_must_act() -> None:
    order = ["Security", "Removed", "Deprecated", "Added", "Changed", "Fixed"]
    for version in re.split(r"^## ", CHANGELOG.read_text(), flags=re.MULTILINE)[1:]:
        sections = re.findall(r"^### (.*)$", version, re.MULTILINE)

        assert sections == [section for section in order if section in sections]


def test_a_tag_of_the_version_with_a_date_may_be_released() -> None:
    assert objections("v1.2.3", "1.2.3", DATED) == []


@pytest.mark.parametrize("tag", ["1.2.3", "v1.2.4", "v1.2.3 ", "V1.2.3", "v1.2.3rc1", "v01.2.3"])
def test_any_other_tag_may_not_be_released(tag: str) -> None:
    assert objections(tag, "1.2.3", DATED) == [f"the tag of version 1.2.3 is v1.2.3, not {tag}"]


def test_a_version_without_a_date_may_not_be_released() -> None:
    changelog = DATED.replace("2026-02-01", "unreleased")

    assert objections("v1.2.3", "1.2.3", changelog) == ["CHANGELOG.md has no date for 1.2.3"]


@pytest.mark.parametrize(
    "changelog", [f"# Changelog\n\n## Unreleased\n\n{DATED[12:]}", DATED.replace("1.2.3", "1.3.0")]
)
def test_a_version_that_is_not_the_top_of_the_changelog_may_not_be_released(changelog: str) -> None:
    assert objections("v1.2.3", "1.2.3", changelog) == ["CHANGELOG.md does not begin with 1.2.3"]


def test_a_tag_of_the_version_starts_publishing() -> None:
    [pattern] = re.findall(r"^    tags: \[\"(.*)\"\]$", WORKFLOWS["publish"], re.MULTILINE)

    assert fnmatch.fnmatchcase(f"v{__version__}", pattern)


def test_publishing_checks_the_tag_and_tries_what_it_uploads() -> None:
    build, publish = WORKFLOWS["publish"].split("\n  publish:\n")

    assert 'run: nox -s release -- "$GITHUB_REF_NAME"' in build
    assert "needs: build" in publish
    assert "run:" not in publish


def test_only_the_job_that_uploads_may_ask_for_an_identity() -> None:
    publish = WORKFLOWS["publish"].split("\n  publish:\n")[1]

    assert re.findall(r"([a-z-]+): write", "".join(WORKFLOWS.values())) == ["id-token"]
    assert "id-token: write" in publish


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_a_workflow_begins_without_permissions_and_pins_each_action(workflow: str) -> None:
    text = WORKFLOWS[workflow]
    actions = re.findall(r"uses: (.*)", text)

    assert "\npermissions: {}\n" in text
    assert [] == [action for action in actions if not re.fullmatch(r"\S+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)]


def test_ci_runs_each_python_that_is_claimed() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    claimed = re.findall(r"Python :: (3\.\d+)$", setup["metadata"]["classifiers"], re.MULTILINE)
    [matrix] = re.findall(r"python: \[(.*)\]", WORKFLOWS["ci"])

    assert set(claimed) <= set(re.findall(r'"([\dt.]+)"', matrix))
