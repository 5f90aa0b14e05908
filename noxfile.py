"""The project's checks: `nox` runs them all, `nox -s lint` one."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import nox

nox.options.error_on_missing_interpreters = False

# An extra, and what works with it alone.
EXTRAS = {
    "requests": "import dolby_auth_plugin; dolby_auth_plugin.DolbyAuth('key', 'secret')",
    "httpx": "from dolby_auth_plugin.httpx import DolbyAuth; DolbyAuth('key', 'secret')",
    "httpx2": "from dolby_auth_plugin.httpx2 import DolbyAuth; DolbyAuth('key', 'secret')",
    "cli": "import dolby_auth_plugin.cli",
    "sandbox": "from dolby_auth_plugin.sandbox import Sandbox; Sandbox().start().stop()",
}


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff's rules and format."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict, of the package, its tests and its public API."""
    session.install("-e", ".[dev]")
    session.run("mypy")


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def tests(session: nox.Session) -> None:
    """The suite, against the checkout, on every Python found."""
    session.install("-e", ".[test]")
    session.run("coverage", "run", "-m", "pytest", "-n", "0", *session.posargs)
    session.run("coverage", "report")


@nox.session
def instructions(session: nox.Session) -> None:
    """The hot path's instruction counts against the recorded ones, where valgrind is found."""
    session.install("-e", ".", "-r", "benchmarks/hosts.txt")
    session.run("python", "-m", "benchmarks.instructions", *session.posargs)


@nox.session
def audit(session: nox.Session) -> None:
    """Known vulnerabilities in what the package brings along, where a registry answers."""
    session.install("-e", ".[all]", "pip-audit")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "audit.json"
        # 1 is for vulnerabilities found, and for a registry that does not answer: the report tells which.
        command = ("pip-audit", "--skip-editable", "--progress-spinner=off", "--format=json", "--output", str(report))
        session.run(*command, success_codes=[0, 1])
        text = report.read_text() if report.exists() else ""
    if not text:
        session.skip("no registry answered: not audited")
    # What the virtual environment itself is made of is no business of the package's users.
    found = {
        package["name"]: [known["id"] for known in package["vulns"]]
        for package in json.loads(text)["dependencies"]
        if package.get("vulns") and package["name"] not in ("pip", "setuptools", "wheel")
    }
    if found:
        session.error(f"known vulnerabilities: {found}")


@nox.session
def wheel(session: nox.Session) -> None:
    """Build both distributions, and try the wheel with each extra alone."""
    session.install("build", "twine")
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "--outdir", folder)
        built = sorted(str(path) for path in Path(folder).iterdir())
        session.run("twine", "check", "--strict", *built)
        [wheel_file] = [path for path in built if path.endswith(".whl")]
        for extra, statement in {"": "", **EXTRAS}.items():
            venv = Path(folder) / f"venv-{extra or 'none'}"
            session.run("python", "-m", "venv", str(venv))
            python = str(venv / ("Scripts" if sys.platform == "win32" else "bin") / "python")
            requirement = f"dolby-auth-plugin[{extra}] @ {Path(wheel_file).as_uri()}" if extra else wheel_file
            session.run(python, "-m", "pip", "install", "--quiet", requirement, external=True)
            # Away from the checkout, so that it is the wheel that is imported.
            session.chdir(folder)
            session.run(python, "-W", "error", "-c", f"import dolby_auth_plugin; {statement}", external=True)
            for missing in {"requests", "httpx", "httpx2"} - {extra}:
                session.run(python, "-c", MISSING.format(host=missing), external=True)


# Run where a host is not installed: its adapter names the extra.
MISSING = """
try:
    import dolby_auth_plugin.{host}
except ImportError as error:
    assert "dolby-auth-plugin[{host}]" in str(error), error
else:
    raise SystemExit("dolby_auth_plugin.{host} was imported without {host}")
"""
