"""The public names, the direction of imports, and behaviour without an HTTP library."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import dolby_auth_plugin

from ..fakes import FakeClock, MemoryCache

PACKAGE = Path(dolby_auth_plugin.__file__).parent
ROOT = PACKAGE.parent

# Each layer may import only earlier layers. Adapters do not import each other.
LAYERS = [
    [
        "_core.version",
        "_core.errors",
        "_core.cutoff",
        "_core.silence",
        "_core.forks",
        "_core.refusals",
        "_core.decoding",
        "_core.secret_files",
        "_requests.niquests",
        "caches.protocol",
    ],
    [
        "_core.token",
        "_core.scope",
        "_core.credentials",
        "_core.system_keyring",
        "_core.hosts",
        "_core.failures",
        "caches.contract",
        "caches.private",
        "caches.redis_client",
    ],
    ["_core.records"],
    ["_core.redaction", "_core.backoff", "_core.origins", "caches.lease", "caches.redis"],
    ["_core.endpoint", "_core.state", "_core.entry", "caches.file"],
    ["_core.ports", "_core.wait", "caches._sealing"],
    ["_core.fetch"],
    ["caches._shared"],
    ["_core.source"],
    ["_core.auth", "_httpx.sender", "_httpx.waiting", "_httpx.resend", "_requests.connections", "_requests.resend"],
    ["_httpx.auth", "_requests.sender"],
    ["requests", "httpx", "httpx2"],
    ["httpie", "pytest_plugin"],
]


def test_public_names() -> None:
    assert sorted(dolby_auth_plugin.__all__) == [
        "AccessToken",
        "AppCredentials",
        "CredentialsError",
        "CredentialsWarning",
        "DOLBY_HOSTS",
        "DolbyAuthError",
        "Scope",
        "ScopeWarning",
        "TokenError",
        "__version__",
    ]
    assert all(hasattr(dolby_auth_plugin, name) for name in dolby_auth_plugin.__all__)


def test_dolby_auth_is_the_class_for_requests() -> None:
    assert dolby_auth_plugin.DolbyAuth is importlib.import_module("dolby_auth_plugin.requests").DolbyAuth


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        dolby_auth_plugin.nothing  # type: ignore[attr-defined]  # noqa: B018 - the lookup is the test


def test_public_names_have_docstrings() -> None:
    for name in (*dolby_auth_plugin.__all__, "DolbyAuth"):
        if isinstance(getattr(dolby_auth_plugin, name), type):
            assert getattr(dolby_auth_plugin, name).__doc__, name
    for name in ("requests", "httpx", "httpx2"):
        adapter = importlib.import_module(f"dolby_auth_plugin.{name}")
        assert adapter.DolbyAuth.__doc__
        assert adapter.TokenError.__doc__


def path_of(module: str) -> Path:
    return PACKAGE / f"{module.replace('.', '/')}.py"


def imports_of(module: str) -> set[str]:
    """The modules of the package that *module* imports at the top level, named as in `LAYERS`."""
    folder = module.rpartition(".")[0]
    found = set()
    for node in ast.parse(path_of(module).read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            inside = f"{folder}." if folder and node.level == 1 else ""
            found.add(f"{inside}{node.module}")
    return found


def test_every_module_has_a_layer() -> None:
    """The command line, the sandbox and the entry points are not layers: no layer imports them."""
    apart = {"__init__", "__main__"}
    modules = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] not in ("sandbox", "cli") and path.stem not in apart
    }

    assert modules == {module for layer in LAYERS for module in layer}


@pytest.mark.parametrize("module", [module for layer in LAYERS for module in layer])
def test_a_module_imports_only_lower_layers(module: str) -> None:
    [level] = [number for number, layer in enumerate(LAYERS) if module in layer]
    below = {name for layer in LAYERS[:level] for name in layer}

    assert imports_of(module) <= below


@pytest.mark.parametrize(
    "module", [module for layer in LAYERS for module in layer if module.startswith(("_core.", "_httpx.", "caches."))]
)
def test_nothing_below_an_adapter_imports_an_http_library(module: str) -> None:
    """`_requests` may import requests, because only the adapter for requests imports it."""
    text = path_of(module).read_text()

    assert not re.search(r"^\s*(import|from) (requests|urllib3|httpx2?|httpcore2?|trio|anyio)\b", text, re.MULTILINE)


@pytest.mark.parametrize("library", ["requests", "httpx", "httpx2"])
def test_a_missing_http_library_names_its_extra(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"dolby_auth_plugin.{library}", raising=False)

    with pytest.raises(ImportError, match=rf"pip install 'dolby-auth-plugin\[{library}\]'") as caught:
        importlib.import_module(f"dolby_auth_plugin.{library}")

    assert caught.value.__cause__ is None


def test_a_cache_without_cryptography_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    for module in ("_shared", "_sealing"):
        monkeypatch.delitem(sys.modules, f"dolby_auth_plugin.caches.{module}", raising=False)

    with pytest.raises(
        ImportError, match=r"cache= needs cryptography: pip install 'dolby-auth-plugin\[cache\]'"
    ) as caught:
        dolby_auth_plugin.DolbyAuth("k", "s", cache=MemoryCache(FakeClock()))

    assert caught.value.__cause__ is None


def test_httpx_1_is_refused_with_the_version_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pre-releases have no `Auth`, no `AsyncClient` and no `RequestError`."""
    stub = types.ModuleType("httpx")
    stub.__dict__.update(__version__="1.0.dev6", Client=object, Request=object, Response=object)
    monkeypatch.setitem(sys.modules, "httpx", stub)
    monkeypatch.delitem(sys.modules, "dolby_auth_plugin.httpx", raising=False)

    with pytest.raises(ImportError, match=r"needs httpx<1, but httpx 1\.0\.dev6 is .* pip install 'httpx<1'") as caught:
        importlib.import_module("dolby_auth_plugin.httpx")

    assert caught.value.name == "httpx"


def constructor(library: str) -> inspect.Signature:
    return inspect.signature(importlib.import_module(f"dolby_auth_plugin.{library}").DolbyAuth)


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_all_adapters_have_the_same_options(library: str) -> None:
    """They differ in what the user may lend: a session or a client."""
    [*ours, lent] = constructor(library).parameters.values()
    [*others, session] = constructor("requests").parameters.values()

    assert ours == others
    assert (lent.name, lent.annotation) == ("client", f"{library}.Client | None")
    assert (session.name, session.annotation) == ("session", "requests.Session | None")


@pytest.mark.parametrize("library", ["requests", "httpx", "httpx2"])
def test_every_option_is_documented(library: str) -> None:
    # Python 3.13 removes the indentation of docstrings, earlier releases keep it; `getdoc` always removes it.
    documentation = inspect.getdoc(importlib.import_module(f"dolby_auth_plugin.{library}").DolbyAuth) or ""

    assert [] == [name for name in constructor(library).parameters if f"\n    {name}: " not in documentation]


def test_every_test_that_contributing_names_exists() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    named = re.findall(r"`(test_\w+)`", (ROOT / "CONTRIBUTING.md").read_text())

    assert len(named) > 15
    assert [] == [name for name in named if f"def {name}(" not in tests]


def names_in(path: Path) -> set[str]:
    """The functions and classes of a module and of its classes, and the latter's slots, as `class.name` or `module.name`."""
    names = set()
    for outer in ast.walk(ast.parse(path.read_text())):
        if isinstance(outer, ast.ClassDef | ast.Module):
            prefix = outer.name if isinstance(outer, ast.ClassDef) else path.stem
            slots = (value for node in outer.body if isinstance(node, ast.Assign) for value in ast.walk(node.value))
            names |= {f"{prefix}.{slot.value!s}" for slot in slots if isinstance(slot, ast.Constant)}
            for node in outer.body:
                if isinstance(node, ast.Assign):
                    names |= {f"{prefix}.{target.id}" for target in node.targets if isinstance(target, ast.Name)}
                elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                    names.add(f"{prefix}.{node.name}")
    return names


def test_the_code_for_rare_cases_that_contributing_names_exists() -> None:
    names = set[str]().union(*(names_in(path) for path in PACKAGE.rglob("*.py")))
    names |= {name.partition(".")[2] for name in names}
    table = (ROOT / "CONTRIBUTING.md").read_text().split("## Code for rare cases")[1].split("\n## ")[0]
    rows = [row.split(" | ")[0] for row in table.splitlines() if row.startswith("| ")][2:]
    named = [match[1] if (match := re.match(r"\| `([\w.]+)`", row)) else row for row in rows]

    assert len(named) > 15
    assert [] == [name for name in named if name not in names]


def test_each_exception_from_a_check_states_its_reason() -> None:
    """In `tests/typing_errors.py`, the whole file is for the errors that type checkers must find."""
    found, exception = [], re.compile(r"(^|\s)# (noqa|type: ignore|pragma|pyright|fmt|ruff|mypy)\b")
    explained = re.compile(
        r"# (noqa: [A-Z\d, ]+|type: ignore\[[a-z, -]+\]|pragma: no (cover|branch)) (-|#) (?!noqa|type:|pragma)\S"
    )
    for folder in ("backend", "benchmarks", "dolby_auth_plugin", "examples", "tests", "website", "noxfile.py"):
        for path in [*(ROOT / folder).rglob("*.py"), ROOT / folder]:
            # The mutations are code in texts.
            if path.is_file() and path.name not in ("typing_errors.py", "mutations.py"):
                lines = path.read_text().splitlines()
                found += [(path.name, line) for line in lines if exception.search(line) and not explained.search(line)]

    assert [] == found


def test_modules_and_functions_stay_short() -> None:
    """A reader sees a function at once, and a module in a few screens."""
    long = []
    for layer in LAYERS:
        for module in layer:
            text = path_of(module).read_text()
            long += [module] if len(text.splitlines()) > 350 else []
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    lines = (node.end_lineno or 0) - node.lineno + 1
                    long += [f"{module}.{node.name}: {lines} lines"] if lines > 35 else []

    assert long == []


def test_the_package_imports_no_http_library() -> None:
    script = (
        "import sys, dolby_auth_plugin as p\n"
        "from dolby_auth_plugin import *\n"
        "hosts = {'requests', 'httpx', 'httpx2', 'trio', 'anyio', 'click', 'rich', 'starlette', 'asyncio'}\n"
        "print(sorted(hosts & set(sys.modules)))\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)

    assert done.stdout == "[]\n"


@pytest.mark.parametrize("library", ["requests", "httpx", "httpx2"])
def test_an_adapter_imports_asyncio_only_if_its_library_does(library: str) -> None:
    """Importing asyncio takes longer than importing the adapter."""
    script = (
        f"import sys, {library}\n"
        "before = 'asyncio' in sys.modules\n"
        f"import dolby_auth_plugin.{library}\n"
        "print(before == ('asyncio' in sys.modules))\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)

    assert done.stdout == "True\n"


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
