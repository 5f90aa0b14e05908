"""
A stand-in for `niquests.AsyncSession`. niquests itself replaces urllib3, so its tests run in an environment of their own.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import requests

from dolby_auth_plugin.requests import DolbyAuth

from ..contract import CLASSIC

SESSIONS = """
class Session:
    def send(self, auth, request):
        return auth(request)

class AsyncSession(Session):
    pass
"""


class Request(requests.PreparedRequest):
    """A request of another library with the same API."""


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = ModuleType("niquests.sessions")
    exec(SESSIONS, vars(module))
    monkeypatch.setitem(sys.modules, "niquests", module)
    return module


def foreign_request() -> Request:
    request = Request()
    request.prepare("GET", "https://storage.example/")
    return request


def test_an_async_session_is_a_type_error_that_says_what_to_use(sessions: Any) -> None:
    with pytest.raises(TypeError, match=r"use niquests\.Session, or httpx\.AsyncClient"):
        sessions.AsyncSession().send(DolbyAuth(**CLASSIC), foreign_request())


def test_a_sync_session_may_use_the_auth(sessions: Any) -> None:
    request = foreign_request()

    assert sessions.Session().send(DolbyAuth(**CLASSIC), request) is request


def test_a_subclass_of_a_request_may_use_the_auth_without_niquests() -> None:
    request = foreign_request()

    assert DolbyAuth(**CLASSIC)(request) is request
