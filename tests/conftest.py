"""Set-up for all tests."""

from __future__ import annotations

import pytest
import trustme

# Shared tests explain a failed assertion as those in test modules do.
pytest.register_assert_rewrite("tests.contract", "tests.drivers", "tests.fakes")


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that nobody trusts unless told to."""
    return trustme.CA()
