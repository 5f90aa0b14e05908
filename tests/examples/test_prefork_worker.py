"""The Celery worker, with two forked processes and a broker that is a folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import celery
import pytest

from dolby_auth_plugin.sandbox import Sandbox

from ..fakes import eventually
from ..internals import store_file

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Celery forks only where the system can")

# Settings that need no server.
SETTINGS = """
broker_url = "filesystem://"
broker_transport_options = {{
    "data_folder_in": {queue!r}, "data_folder_out": {queue!r}, "control_folder": {control!r}, "polling_interval": 0.05
}}
result_backend = "file://{results}"
"""


class Worker:
    """
    A worker with two processes.

    Attributes:
        app: What sends tasks to it.
        log: The file with its log.
    """

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        folders = {name: str(folder / name) for name in ("queue", "control", "results")}
        for path in folders.values():
            Path(path).mkdir()
        settings = SETTINGS.format(**folders)
        (folder / "settings.py").write_text(settings)
        self.app = celery.Celery("sender", set_as_current=False)
        names: dict[str, object] = {}
        exec(settings, names)
        self.app.conf.update({name: value for name, value in names.items() if name[0] != "_"})
        self.log = folder / "log"
        environment = {**environment, "CELERY_CONFIG_MODULE": "settings"}
        environment["PYTHONPATH"] += f"{os.pathsep}{folder}"
        command = [sys.executable, "-m", "celery", "-A", "prefork_worker", "worker", "--pool", "prefork", "-c", "2"]
        options = ["--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, *options], cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
            )

    def enhance(self, count: int) -> list[str]:
        """Have so many files enhanced, and return the statuses."""
        tasks = [self.app.send_task("prefork_worker.enhance", ("dlb://noisy.wav", f"dlb://{n}")) for n in range(count)]
        return [task.get(timeout=60) for task in tasks]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture
def worker(environment: dict[str, str], tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(environment, tmp_path)
    try:
        eventually(lambda: " ready." in worker.log.read_text())
        yield worker
    finally:
        worker.stop()


def test_forked_processes_share_one_token_and_one_replacement(worker: Worker, sandbox: Sandbox) -> None:
    store_file(sandbox, "/dlb/noisy.wav", b"noise")
    # Tasks that take so long are done by both processes.
    sandbox.api_latency = 0.2

    before = worker.enhance(4)
    sandbox.revoke_all()
    after = worker.enhance(4)

    assert ["Success"] * 8 == before + after
    log = worker.log.read_text()
    assert {"1", "2"} == set(re.findall(r"ForkPoolWorker-(\d+)\] Task \S+ succeeded", log))
    assert sandbox.app_secret not in log
    assert 2 == sandbox.token_requests
