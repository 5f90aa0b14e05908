"""Set-up for all tests."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Generator, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from .servers import Server, serving

if TYPE_CHECKING:
    from dolby_auth_plugin.sandbox import Sandbox

# By default, Hypothesis makes a folder of its own in the checkout. The README's commands install beside this one, into a folder
# named `site-packages`: in any other, Hypothesis would parse all libraries, in search of constants, and take seconds for it.
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(Path(__file__).parent.parent / ".try" / ".hypothesis"))

# No test may read or change the keyring of the person who runs it.
os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"

# Make failed assertions in these modules as detailed as those in test modules.
pytest.register_assert_rewrite("tests.contract", "tests.drivers", "tests.fakes", "tests.matrix")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("soak", "soak tests: pytest -m soak")
    group.addoption("--soak-seconds", type=float, default=120.0, help="seconds that a soak test runs (default: 120)")
    group.addoption("--soak-seed", type=int, default=random.randrange(1_000_000), help="seed of the random numbers")
    group = parser.getgroup("fuzz", "properties with random input: nox -s fuzz -- --seconds 60 --seed 1")
    group.addoption("--fuzz-seconds", type=float, default=60.0, help="seconds that the rounds take (default: 60)")
    group.addoption("--fuzz-seed", type=int, default=1, help="seed of the first round (default: 1)")
    group = parser.getgroup("redis", "the cache in Redis")
    group.addoption(
        "--redis-server", action="store_true", help="fail if redis-server is missing, instead of using fakeredis"
    )
    group = parser.getgroup("explore", "the walk through all orders of events")
    group.addoption("--explore-states", type=int, default=54_000, help="how many states it visits (default: 54000)")


@pytest.hookimpl(optionalhook=True)  # `-p no:xdist` leaves no such hook
def pytest_xdist_auto_num_workers() -> int:
    """Three processes for two cores: many tests wait for a deadline, a server or a process."""
    return -(-(os.cpu_count() or 1) * 3 // 2)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector away from the tests and their modules: they are many, and none of them is garbage."""
    # At its import, Hypothesis registers the random numbers of other libraries, and warns if only frozen objects hold them.
    import_module("hypothesis")
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how far the walk came, and the reports of a soak test and of the fuzzing. Their seeds repeat a run."""
    for report in (*terminalreporter.stats.get("passed", ()), *terminalreporter.stats.get("failed", ())):
        for name, text in report.user_properties:
            if name in ("explore", "fuzz", "soak"):
                terminalreporter.write_line(f"{name}: {text}")


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that is trusted only if a test says so."""
    return trustme.CA()


@pytest.fixture
def trust(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each library trust the tests' own authority, with the library's environment variable."""
    from .internals import fresh_tls_contexts

    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "ca.pem"))
    # The TLS context that other tests made does not trust it.
    fresh_tls_contexts(monkeypatch)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    # Most tests of the core don't need it, and importing it takes longer than they do.
    from dolby_auth_plugin.sandbox import Sandbox

    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def api() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def other() -> Iterator[Server]:
    with serving() as server:
        yield server
