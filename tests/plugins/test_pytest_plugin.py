"""The fixtures for pytest, as the tests of an application use them."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests

# Here, and not in the runs of `pytester`: at their end it removes the modules that they have imported, and cryptography cannot be
# imported again.
from dolby_auth_plugin import pytest_plugin
from dolby_auth_plugin.requests import DolbyAuth
from dolby_auth_plugin.sandbox import Sandbox

ROOT = Path(__file__).parents[2]


def python_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def run(pytester: pytest.Pytester) -> pytest.RunResult:
    """Run pytest in this process, with the plugin and without those of the environment."""
    # With `-p`, pytest would warn that the module is imported already.
    return pytester.runpytest_inprocess("--disable-plugin-autoload", "-p", "no:cacheprovider", plugins=[pytest_plugin])


def test_a_plain_auth_object_uses_the_sandbox(dolby_auth_env: Sandbox) -> None:
    answer = requests.get(f"{dolby_auth_env.url}/media/jobs", auth=DolbyAuth(), timeout=20)

    assert (answer.status_code, dolby_auth_env.token_requests) == (200, 1)


def test_credentials_of_other_names_do_not_matter(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("APP_KEY", "key")
    monkeypatch.setenv("APP_SECRET", "secret")
    sandbox: Sandbox = request.getfixturevalue("dolby_auth_env")

    assert DolbyAuth().token().value
    assert sandbox.token_log[0].app_key == sandbox.app_key


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_gets_a_sandbox_like_new(turn: int, dolby_sandbox: Sandbox) -> None:
    """Each turn leaves it dirty and stopped for the other one."""
    answer = requests.get(f"{dolby_sandbox.url}/media/jobs", auth=DolbyAuth(**dolby_sandbox.options), timeout=20)

    assert (answer.status_code, dolby_sandbox.token_requests, dolby_sandbox.api_calls) == (200, 1, 1)

    dolby_sandbox.fail_token_requests(status=403)
    dolby_sandbox.stop()


def test_all_tests_use_one_server(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        urls = set()
        def test_one(dolby_sandbox): urls.add(dolby_sandbox.url)
        def test_two(dolby_sandbox_server): urls.add(dolby_sandbox_server.url)
        def test_three(dolby_sandbox): assert {dolby_sandbox.url} == urls
        """)

    run(pytester).assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "127.0.0.1,localhost"),
        ("example.com", "example.com,127.0.0.1,localhost"),
        ("*", "*"),
    ],
)
def test_loopback_is_added_to_the_hosts_without_a_proxy(
    given: str | None, expected: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    if given is not None:
        monkeypatch.setenv("NO_PROXY", given)

    request.getfixturevalue("dolby_sandbox")

    assert os.environ["NO_PROXY"] == expected
    assert os.environ.get("no_proxy", "*") == expected


def test_a_proxy_in_the_environment_does_not_disturb(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A proxy on port 1 refuses every connection."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    sandbox: Sandbox = request.getfixturevalue("dolby_auth_env")

    assert requests.get(f"{sandbox.url}/media/jobs", auth=DolbyAuth(), timeout=20).status_code == 200


def test_the_environment_is_restored_after_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import os
        before = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        def test_with(dolby_auth_env):
            assert os.environ["DOLBYIO_TOKEN_URL"] == dolby_auth_env.token_url
        def test_without():
            assert {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} == before
        """)

    run(pytester).assert_outcomes(passed=2)


def test_a_missing_extra_is_named_in_one_line(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jwt", None)
    monkeypatch.delitem(sys.modules, "dolby_auth_plugin.sandbox")
    pytester.makepyfile("def test_it(dolby_auth_env): pass")

    result = run(pytester)

    result.assert_outcomes(errors=1)
    # The lines between the headings of the error and of the summary: no traceback.
    [report] = re.findall(r"ERROR at setup of test_it _+\n(.*?)\n===", result.stdout.str(), re.DOTALL)
    assert report == "dolby_auth_plugin.sandbox needs jwt: pip install 'dolby-auth-plugin[sandbox]'"


def test_the_plugin_imports_nothing_but_the_package_and_the_standard_library() -> None:
    script = (
        "import sys, pytest\n"
        "before = set(sys.modules)\n"
        f"import {pytest_plugin.__name__}\n"
        "print({name.split('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)\n"
    )

    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout == "{'dolby_auth_plugin'}\n"


def test_a_program_may_import_the_package_before_it_runs_pytest(pytester: pytest.Pytester) -> None:
    """pytest marks the package of an installed plugin like this, and warns if it is too late to rewrite its asserts."""
    pytester.makeconftest("import pytest; pytest.register_assert_rewrite('dolby_auth_plugin')")
    pytester.makepyfile("def test_it(): pass")

    run(pytester).assert_outcomes(passed=1, warnings=0)


def test_pytest_finds_the_plugin_by_its_entry_point() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")

    assert setup["options.entry_points"]["pytest11"].split() == ["dolby_auth_plugin", "=", pytest_plugin.__name__]


def test_the_tests_of_the_page_pass(pytester: pytest.Pytester) -> None:
    app, tests, *_ = python_blocks("docs/testing.md")
    pytester.makepyfile(app=app, test_app=tests)

    run(pytester).assert_outcomes(passed=2)
