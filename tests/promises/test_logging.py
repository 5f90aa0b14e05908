"""The events and fields of the log records, as docs/logging.md lists them, and in the hands of the formatters there."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

import dolby_auth_plugin
from dolby_auth_plugin._core.errors import Failure
from dolby_auth_plugin._core.hosts import HostPolicy
from dolby_auth_plugin._core.origins import KnownOrigins
from dolby_auth_plugin._core.records import Event
from dolby_auth_plugin._core.source import TokenSource
from dolby_auth_plugin.httpx import DolbyAuth

from ..fakes import TOKEN_URL, FakeClock, MemoryCache, ScriptedSender, answer, make_source, wait_for_fetches

PACKAGE = Path(dolby_auth_plugin.__file__).parent
PAGE = (PACKAGE.parent / "docs" / "logging.md").read_text()
WITH_JSON, WITH_STRUCTLOG = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

API = "api.dolby.com:443"
# "message", "asctime": a formatter of the standard library sets them.
USUAL = {*vars(logging.makeLogRecord({})), "message", "asctime"}


def rows(columns: int) -> list[list[str]]:
    """The rows of the page's table that has so many columns."""
    table = [
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line[:3] == "| `"
    ]
    return [row for row in table if len(row) == columns]


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in USUAL}


# Where each event comes from


def obtain_renew_and_fail() -> None:
    clock = FakeClock()
    source = make_source(ScriptedSender(None, None, Failure("it is down", reason="down")), clock)
    for _ in range(3):
        source.token()
        wait_for_fetches()
        clock.advance(1500)
    source.token()
    wait_for_fetches()


def refuse_until_the_limit() -> None:
    source = make_source(ScriptedSender())
    for _ in range(5):
        source.refuse(source.token(API).fingerprint, API)


def share(trouble: bool = False) -> None:
    clock = FakeClock()
    cache, sender = MemoryCache(clock), ScriptedSender()
    for source in (make_source(sender, clock, cache=cache), make_source(sender, clock, cache=cache)):
        if trouble:
            cache.trouble = {"load": lambda: 1 // 0}
        source.token()


def ask_for_a_foreign_host() -> None:
    origins = KnownOrigins(HostPolicy(["api.dolby.com"], TOKEN_URL))
    origins.allowed_host(("https", "files.test", None), "/")
    origins.explain(("https", "files.test", None), "/")


class Refusing(httpx.BaseTransport):
    """Answers 401. A `MockTransport` would read the body into memory, from where it can be sent again."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(401)


def send_a_generator_that_is_refused() -> None:
    endpoint = httpx.MockTransport(lambda _: httpx.Response(200, json={"access_token": "good"}))
    auth = DolbyAuth("key", "secret", client=httpx.Client(transport=endpoint))
    with httpx.Client(transport=Refusing(), auth=auth) as client:
        client.post("https://api.dolby.com/media/input", content=iter([b"part"]))


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """One record of each event, and perhaps more."""
    caplog.set_level(logging.DEBUG, "dolby_auth_plugin")
    obtain_renew_and_fail()
    refuse_until_the_limit()
    share()
    share(trouble=True)
    ask_for_a_foreign_host()
    send_a_generator_that_is_refused()
    wait_for_fetches()
    return [record for record in caplog.records if record.name == "dolby_auth_plugin"]


def test_each_event_has_the_level_message_and_fields_of_the_page(records: list[logging.LogRecord]) -> None:
    wrong = []
    for event, level, message, fields in rows(4):
        pattern = re.escape(message).replace("…", ".+")
        logged = [record for record in records if fields_of(record)["event"] == event]
        wrong += [] if logged else [event]
        wrong += [
            f"{record.levelname} {record.getMessage()} {fields_of(record)}"
            for record in logged
            if (record.levelname, {*fields_of(record)}) != (level, {"event", *fields.split(", ")})
            or not re.fullmatch(pattern, record.getMessage())
        ]

    assert wrong == []


def test_the_page_lists_all_events_and_fields(records: list[logging.LogRecord]) -> None:
    assert [event for event, *_ in rows(4)] == list(get_args(Event))
    assert {name for name, *_ in rows(3)} == {name for record in records for name in fields_of(record)}


def test_no_record_lacks_its_event() -> None:
    """All records are made by one function, which asks for the event."""
    loggers = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if "getLogger" in path.read_text()]

    # These make no records: the command shows warnings as lines, and the sandbox silences its server.
    others = ["cli/output.py", "sandbox/_server.py"]
    assert sorted(map(Path.as_posix, loggers)) == ["_core/records.py", *others]
    assert (PACKAGE / "_core" / "records.py").read_text().count("_logger.") == 1


def test_a_record_shows_the_line_that_logs(records: list[logging.LogRecord]) -> None:
    assert {record.funcName for record in records} >= {"refuse", "note_trouble", "explain"}
    assert "log" not in {record.funcName for record in records}


def test_the_values_of_a_token_are_numbers_and_a_list(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dolby_auth_plugin")
    clock = FakeClock()
    sender = ScriptedSender(lambda: clock.advance(0.25) or answer(access_token="good", scope="b a", expires_in=600))

    make_source(sender, clock).token()
    wait_for_fetches()

    [record] = caplog.records
    assert fields_of(record) == {"event": "token_obtained", "lifetime": 600, "scopes": ["a", "b"], "seconds": 0.25}


def test_the_field_of_the_scopes_is_short_and_printable(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dolby_auth_plugin")
    scopes = ["\x1b[31m" * 99, *(f"scope-{number}" for number in range(5000))]

    make_source(ScriptedSender(answer(access_token="good", scope=scopes))).token()
    wait_for_fetches()

    shown = fields_of(caplog.records[0])["scopes"]
    assert 50 == len(shown)
    assert all(scope.isprintable() and len(scope) <= 200 for scope in shown)


# Formatters


@pytest.fixture
def source() -> Iterator[TokenSource]:
    """A source, and a logger whose changes end with the test."""
    logger = logging.getLogger("dolby_auth_plugin")
    level, handlers = logger.level, [*logger.handlers]
    yield make_source(ScriptedSender(scope="comms:monitor:read"))
    logger.setLevel(level)
    logger.handlers[:] = handlers


def logged_by(source: TokenSource, code: str) -> dict[str, Any]:
    """The entry that the page's *code* writes for a new token."""
    names: dict[str, Any] = {}
    exec(code, names)
    written = names["handler"].stream = io.StringIO()
    source.token()
    wait_for_fetches()
    entry: dict[str, Any] = json.loads(written.getvalue())
    return entry


TOKEN_ENTRY = {
    "event": "token_obtained",
    "lifetime": 1800,
    "message": "token obtained: lives 1800 s, scopes comms:monitor:read, took 0.000 s",
    "scopes": ["comms:monitor:read"],
    "seconds": 0.0,
}


def test_the_json_formatter_of_the_page_writes_message_and_fields(source: TokenSource) -> None:
    entry = logged_by(source, WITH_JSON)

    assert entry == {**TOKEN_ENTRY, "level": "INFO", "time": entry["time"]}


def test_structlog_as_on_the_page_writes_message_and_fields(source: TokenSource) -> None:
    assert logged_by(source, WITH_STRUCTLOG) == {**TOKEN_ENTRY, "level": "info"}


def test_without_a_renamer_structlog_writes_the_name_of_the_event(source: TokenSource) -> None:
    code = WITH_STRUCTLOG.replace('structlog.processors.EventRenamer("message"),', "")

    entry = logged_by(source, code)

    assert (entry["event"], "message" in entry) == ("token_obtained", False)
