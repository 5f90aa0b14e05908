"""The recipes of docs/credentials.md with boto3, which talks to moto, and hvac, which talks to a server with Vault's answers."""

from __future__ import annotations

import json

import boto3
import pytest
from moto import mock_aws

from dolby_auth_plugin.sandbox import Sandbox

from ..project.credentials_page import BY_AWS, BY_VAULT, point_at, works
from ..servers import Received, Reply, serving


@pytest.fixture(autouse=True)
def _environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(sandbox, monkeypatch)


def fields(sandbox: Sandbox) -> dict[str, str]:
    return {"app_key": sandbox.app_key, "app_secret": sandbox.app_secret}


def test_the_recipe_for_aws_works_with_boto3(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    # moto answers for AWS alone. The sandbox gets its own requests.
    with mock_aws(config={"core": {"mock_credentials": True, "passthrough": {"urls": [r"http://127\.0\.0\.1.*"]}}}):
        client = boto3.client("secretsmanager")
        client.create_secret(Name="dolby-io", SecretString=json.dumps(fields(sandbox)))

        assert works(BY_AWS, sandbox)


def test_the_recipe_for_vault_works_with_hvac(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(received: Received) -> Reply:
        asked = (received.method, received.path, received.headers["X-Vault-Token"])
        if asked != ("GET", "/v1/secret/data/dolby-io", "a-token"):
            return Reply(404)
        body = {"data": {"data": fields(sandbox), "metadata": {"version": 1}}}
        return Reply(headers={"Content-Type": "application/json"}, body=json.dumps(body).encode())

    with serving() as server:
        server.answer = answer
        monkeypatch.setenv("VAULT_ADDR", server.url)
        monkeypatch.setenv("VAULT_TOKEN", "a-token")

        assert works(BY_VAULT, sandbox)
