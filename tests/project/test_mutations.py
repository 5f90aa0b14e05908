"""The list of mutations: each one still fits the package. `nox -s mutations` tries them."""

from __future__ import annotations

import pytest

from ..mutations import MUTATIONS, Mutation, files_to_test, mutated, occurrences


def name(mutation: Mutation) -> str:
    return f"{mutation.file}: {mutation.why}"


def test_the_old_text_of_each_mutation_occurs_once_in_its_file() -> None:
    assert [] == [(name(mutation), count) for mutation in MUTATIONS if (count := occurrences(mutation)) != 1]


def test_each_mutation_changes_its_file() -> None:
    assert [] == [name(mutation) for mutation in MUTATIONS if mutation.old == mutation.new]


@pytest.mark.slow
def test_each_mutation_leaves_valid_python() -> None:
    """A syntax error would fail any test."""
    for mutation in MUTATIONS:
        compile(mutated(mutation), name(mutation), "exec")


def test_each_mutation_has_tests() -> None:
    assert [] == [name(mutation) for mutation in MUTATIONS if not files_to_test(mutation)]


def test_each_mutation_has_its_own_name() -> None:
    names = [name(mutation) for mutation in MUTATIONS]

    assert [] == [one for one in names if names.count(one) > 1]
