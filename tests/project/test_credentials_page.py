"""
Each recipe of docs/credentials.md obtains a token of the sandbox.

The clients of AWS and Vault are fakes with the signatures of the real ones. `nox -s tools` runs the same recipes with the real ones.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from dolby_auth_plugin import AppCredentials
from dolby_auth_plugin._core import system_keyring
from dolby_auth_plugin.sandbox import Sandbox

from ..keyrings import MemoryKeyring, using
from .credentials_page import (
    BY_AWS,
    BY_DOCKER,
    BY_ENVIRONMENT,
    BY_FILE,
    BY_KEYRING,
    BY_KUBERNETES,
    BY_VAULT,
    PAGE,
    point_at,
    works,
)


@pytest.fixture(autouse=True)
def _environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(sandbox, monkeypatch)


def test_the_recipe_for_the_environment_works(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOLBYIO_APP_KEY", sandbox.app_key)
    monkeypatch.setenv("DOLBYIO_APP_SECRET", sandbox.app_secret)

    assert works(BY_ENVIRONMENT, sandbox)


def test_the_recipe_for_the_keyring_works(sandbox: Sandbox) -> None:
    with using(MemoryKeyring()):
        system_keyring.store(AppCredentials(sandbox.app_key, sandbox.app_secret))

        assert works(BY_KEYRING, sandbox)


def test_the_recipe_for_a_file_works(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the examples of JSON and dotenv on the page, and values in place of their dots."""
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o700)
    [as_json] = [line for line in PAGE.splitlines() if line.startswith('{"app_key"')]
    [as_dotenv] = [block for block in PAGE.split("```") if block.startswith("sh\n#")]

    for text in (as_json, as_dotenv.removeprefix("sh\n")):
        filled = text.replace("...", sandbox.app_key, 1).replace("...", sandbox.app_secret, 1)
        Path(".env").write_text(filled)
        Path(".env").chmod(0o600)

        assert works(BY_FILE, sandbox)


@pytest.mark.parametrize(
    ("block", "folder", "names"),
    [
        (BY_KUBERNETES, "/etc/dolby", ("app-key", "app-secret")),
        (BY_DOCKER, "/run/secrets", ("dolby_app_key", "dolby_app_secret")),
    ],
    ids=["Kubernetes", "Docker"],
)
def test_the_recipes_for_two_files_work(
    block: str, folder: str, names: tuple[str, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    tmp_path.chmod(0o700)
    for name, text in zip(names, (sandbox.app_key, sandbox.app_secret), strict=True):
        assert f"{folder}/{name}" in block
        (tmp_path / name).write_text(f"{text}\n")
        (tmp_path / name).chmod(0o444)

    assert works(block.replace(folder, tmp_path.as_posix()), sandbox)


class SecretsManager:
    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self, *, SecretId: str, VersionId: str = "", VersionStage: str = "") -> dict[str, Any]:  # noqa: N803 - the names of boto3
        assert SecretId == "dolby-io"
        return {"Name": SecretId, "SecretString": self._text}


class Vault:
    """An `hvac.Client` and what it leads to."""

    secret: dict[str, str]

    def __init__(self, url: str | None = None, token: str | None = None, *, timeout: int = 30) -> None:
        self.secrets = self.kv = self.v2 = self

    def read_secret_version(
        self,
        path: str,
        version: int | None = None,
        mount_point: str = "secret",
        raise_on_deleted_version: bool | None = None,
    ) -> dict[str, Any]:
        # Without it, hvac issues a DeprecationWarning.
        assert raise_on_deleted_version is not None
        assert (mount_point, path) == ("secret", "dolby-io")
        return {"data": {"data": self.secret, "metadata": {}}}


def test_the_recipe_for_aws_works(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps({"app_key": sandbox.app_key, "app_secret": sandbox.app_secret})

    def client(service_name: str, region_name: str | None = None, *, config: Any = None) -> SecretsManager:
        assert service_name == "secretsmanager"
        return SecretsManager(text)

    for name in ("boto3", "botocore", "botocore.config"):
        monkeypatch.setitem(sys.modules, name, module := types.ModuleType(name))
        vars(module).update(client=client, Config=dict)

    assert works(BY_AWS, sandbox)


def test_the_recipe_for_vault_works(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hvac", module := types.ModuleType("hvac"))
    vars(module).update(Client=Vault)
    monkeypatch.setattr(Vault, "secret", {"app_key": sandbox.app_key, "app_secret": sandbox.app_secret}, raising=False)

    assert works(BY_VAULT, sandbox)
