"""
What the scripts of `test_process.py` share. They run in processes of their own, against a sandbox in the test's,
of which the environment tells.
"""

from __future__ import annotations

import asyncio
import faulthandler
import importlib
import json
import logging
import os
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

from dolby_auth_plugin import AppCredentials

# "requests", "httpx", "httpx-asyncio", "httpx2-trio" and so on.
LIBRARY, _, BACKEND = os.environ["CHILD_KIND"].partition("-")
URL = os.environ["CHILD_URL"]

library = importlib.import_module(LIBRARY)
adapter = importlib.import_module(f"dolby_auth_plugin.{LIBRARY}")

# In development mode asyncio warns of callbacks that take a tenth of a second: on a busy machine, making a client does.
logging.getLogger("asyncio").setLevel(logging.ERROR)


def credentials() -> AppCredentials:
    return AppCredentials(os.environ["DOLBYIO_APP_KEY"], os.environ["DOLBYIO_APP_SECRET"])


def make_auth(**options: Any) -> Any:
    """An auth object for the sandbox; its credentials come from the environment, unless *options* say otherwise."""
    return adapter.DolbyAuth(token_url=f"{URL}/v1/auth/token", allowed_hosts=[URL.partition("//")[2]], **options)


def auth_with_a_fetch_in_flight() -> Any:
    """An auth object whose first fetch is under way, with a thread that waits for it."""
    asked = threading.Event()

    def ask() -> AppCredentials:
        asked.set()
        return credentials()

    auth = make_auth(credentials=ask)
    threading.Thread(target=auth.token, daemon=True).start()
    assert asked.wait(10)
    return auth


def status(auth: Any) -> int:
    """The answer to a whole call with *auth*, sent in the way of this process's kind."""
    # `verify`, since most of the time would go into certificates that http does not need.
    if not BACKEND:
        return int(library.get(f"{URL}/media/jobs", auth=auth, timeout=20, verify=False).status_code)

    async def call() -> int:
        async with library.AsyncClient(auth=auth, timeout=20, verify=False) as client:
            return int((await client.get(f"{URL}/media/jobs")).status_code)

    return int(run(call))


def run(function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run an async *function* to its end, in an event loop of its own."""
    if BACKEND == "trio":
        import trio

        return trio.run(function)
    return asyncio.run(function())


def session_status(session: Any) -> int:
    return int(session.get(f"{URL}/media/jobs", timeout=20).status_code)


def status_and_token(auth: Any) -> tuple[int, str]:
    return status(auth), auth.token().value


def fork(work: Callable[[], bool]) -> int:
    """The id of a child that does *work*, and exits with 0 if it is true."""
    with warnings.catch_warnings():
        # From 3.12 on Python warns of forking a process that has threads: that is what is tested here.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    code = 1
    try:
        faulthandler.dump_traceback_later(15, exit=True)  # a child that is stuck tells where, and ends
        code = 0 if work() else 2
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def interrupt_main_thread(number: int) -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, number)


def tell(**facts: Any) -> None:
    """What the test is to know; once, in one line."""
    print(json.dumps(facts), flush=True)  # noqa: T201 - standard output is how the test hears of it
