"""Silence about token requests, in the thread that sends one and nowhere else."""

from __future__ import annotations

import logging
import threading

import pytest

from dolby_auth_plugin._core.silence import silenced

LOGGER = logging.getLogger("a_library.connection")


def test_a_librarys_loggers_log_nothing_inside_the_block(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        with silenced("a_library"):
            LOGGER.error("meanwhile")
            # A signal handler may send a token request too.
            with silenced("a_library"):
                LOGGER.error("meanwhile")
            LOGGER.error("meanwhile")
        LOGGER.error("afterwards")

    assert ["afterwards"] == caplog.messages


def test_other_threads_and_other_loggers_still_log(caplog: pytest.LogCaptureFixture) -> None:
    with silenced("a_library"):
        other = threading.Thread(target=LOGGER.error, args=["another thread"])
        other.start()
        other.join()
        logging.getLogger("another_library").error("another library")

    assert ["another thread", "another library"] == caplog.messages
