"""The deadline of a token request, on real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from dolby_auth_plugin._core.cutoff import Cutoff


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(10)
        yield ours, theirs


def wait_until_passed(subject: Cutoff) -> None:
    until = time.monotonic() + 5
    while not subject.passed and time.monotonic() < until:
        time.sleep(0.001)


def test_a_read_ends_at_the_deadline(ends: tuple[socket.socket, socket.socket]) -> None:
    with Cutoff(0.01) as subject:
        subject.watch(lambda: ends[0])

        assert ends[0].recv(1) == b""
    assert subject.passed


def test_no_connection_is_shut_down_before_the_deadline(ends: tuple[socket.socket, socket.socket]) -> None:
    with Cutoff(60) as subject:
        subject.watch(lambda: ends[0])
    ends[1].send(b"x")

    assert ends[0].recv(1) == b"x"
    assert not subject.passed


def test_the_thread_ends_with_the_block() -> None:
    with Cutoff(60):
        pass

    assert "dolby-auth-cutoff" not in {thread.name for thread in threading.enumerate()}


def test_a_connection_that_is_watched_after_the_deadline_is_shut_down_at_once(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    with Cutoff(0) as subject:
        wait_until_passed(subject)
        subject.watch(lambda: ends[0])

        assert ends[0].recv(1) == b""


def test_a_connection_that_was_being_made_at_the_deadline_is_shut_down(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    connected: list[socket.socket] = []
    with Cutoff(0) as subject:
        subject.watch(lambda: connected[0] if connected else None)
        wait_until_passed(subject)
        time.sleep(0.01)
        connected.append(ends[0])

        assert ends[0].recv(1) == b""


def test_a_closed_or_missing_connection_is_ignored(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].close()
    with Cutoff(0) as subject:
        wait_until_passed(subject)
        subject.watch(lambda: ends[0])
        subject.watch(lambda: None)

    assert subject.passed


def test_if_no_thread_can_be_started_the_block_runs_without_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with Cutoff(0) as subject:
        pass

    assert not subject.passed
