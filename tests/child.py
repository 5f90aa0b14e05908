"""
Shared code for the scripts of `test_process.py`. Each script runs in a separate process and uses the sandbox of the
test process. The environment contains the address of the sandbox.
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

# A process that runs in the background may ignore interrupts, and its children inherit that. These scripts need them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# "requests", "httpx", "httpx-asyncio", "httpx2-trio" and so on.
LIBRARY, _, BACKEND = os.environ["CHILD_KIND"].partition("-")
URL = os.environ["CHILD_URL"]

library = importlib.import_module(LIBRARY)
adapter = importlib.import_module(f"dolby_auth_plugin.{LIBRARY}")

# In development mode asyncio logs slow callbacks (0.1 s). On a busy machine, creating a client is that slow.
logging.getLogger("asyncio").setLevel(logging.ERROR)


def credentials() -> AppCredentials:
    return AppCredentials(os.environ["DOLBYIO_APP_KEY"], os.environ["DOLBYIO_APP_SECRET"])


def make_auth(**options: Any) -> Any:
    """An auth object for the sandbox. By default its credentials come from the environment."""
    return adapter.DolbyAuth(token_url=f"{URL}/v1/auth/token", allowed_hosts=[URL.partition("//")[2]], **options)


def auth_with_a_fetch_in_flight() -> Any:
    """An auth object with a running fetch, and a thread that waits for it."""
    asked = threading.Event()

    def ask() -> AppCredentials:
        asked.set()
        return credentials()

    auth = make_auth(credentials=ask)
    threading.Thread(target=auth.token, daemon=True).start()
    assert asked.wait(10)
    return auth


def status(auth: Any) -> int:
    """The status of a complete call with *auth*, sent with the library of this process."""
    # verify=False, because loading certificates takes most of the time and http does not need them.
    if not BACKEND:
        return int(library.get(f"{URL}/media/jobs", auth=auth, timeout=20, verify=False).status_code)

    async def call() -> int:
        async with library.AsyncClient(auth=auth, timeout=20, verify=False) as client:
            return int((await client.get(f"{URL}/media/jobs")).status_code)

    return int(run(call))


def run(function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run an async *function* to its end, in a new event loop."""
    if BACKEND == "trio":
        import trio

        return trio.run(function)
    return asyncio.run(function())


def session_status(session: Any) -> int:
    return int(session.get(f"{URL}/media/jobs", timeout=20).status_code)


def status_and_token(auth: Any) -> tuple[int, str]:
    return status(auth), auth.token().value


def fork(work: Callable[[], bool]) -> int:
    """Fork a child that runs *work* and exits with 0 if the result is true. Returns its process id."""
    with warnings.catch_warnings():
        # Python 3.12 and later warn about a fork with running threads. This test does that on purpose.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    code = 1
    try:
        faulthandler.dump_traceback_later(15, exit=True)  # a stuck child prints its stack and exits
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
    """Report results to the test. Call it once per script; it prints one line."""
    print(json.dumps(facts), flush=True)  # noqa: T201 - the test reads standard output
