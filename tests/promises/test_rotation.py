"""Credentials that change while the program runs: a volume of Kubernetes, as each library meets it."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from dolby_auth_plugin import AppCredentials

from ..matrix import SYNC, Scene, each, serial_tokens
from ..servers import Received, Reply

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows lets few users make symbolic links")


class Volume:
    """
    A Secret, mounted as Kubernetes does it: files are links through the link `..data`, which is replaced at once.

    Attributes:
        asked: How often the credentials were asked for.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.asked = 0
        path.mkdir(0o700)
        for name in ("app-key", "app-secret"):
            (path / name).symlink_to(f"..data/{name}")

    def write(self, secret: str) -> None:
        version = self._path / f"..{secret}"
        version.mkdir(0o700)
        for name, text in (("app-key", "the-key"), ("app-secret", secret)):
            (version / name).write_text(f"{text}\n")
            (version / name).chmod(0o400)
        (self._path / "..new").symlink_to(version.name)
        (self._path / "..new").rename(self._path / "..data")

    def __call__(self) -> AppCredentials:
        self.asked += 1
        return AppCredentials.from_file(self._path / "app-key", self._path / "app-secret")


class Endpoint:
    """Accepts one secret."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.requests = 0
        self._grant = serial_tokens()

    def __call__(self, received: Received) -> Reply:
        self.requests += 1
        basic = base64.b64encode(f"the-key:{self.secret}".encode()).decode()
        return self._grant(received) if received.token == f"Basic {basic}" else Reply(401)


@pytest.fixture
def volume(scene: Scene, tmp_path: Path) -> Volume:
    volume = Volume(tmp_path / "volume")
    volume.write("first")
    scene.options |= {"app_key": None, "app_secret": None, "credentials": volume}
    return volume


@pytest.fixture
def endpoint(scene: Scene) -> Endpoint:
    scene.endpoint.answer = endpoint = Endpoint("first")
    return endpoint


@each(SYNC)
def test_the_files_are_read_before_each_token_request_and_at_no_other_time(
    scene: Scene, volume: Volume, endpoint: Endpoint
) -> None:
    for secret in ("first", "second", "third"):
        if secret != "first":
            volume.write(secret)
            endpoint.secret = secret
            scene.auth.invalidate()
        for _ in range(3):
            assert scene.send().status == 200

    assert (volume.asked, endpoint.requests) == (3, 3)


@each(SYNC)
def test_a_refused_pair_is_asked_again_with_the_next_call_and_then_once_a_second(
    scene: Scene, volume: Volume, endpoint: Endpoint
) -> None:
    """While the files are the old ones, no token request repeats them."""
    endpoint.secret = "second"

    asked = []
    for pause in (0, 0, 0.5, 0.4, 0.2, 0.5):
        scene.clock.advance(pause)
        assert scene.fail().status_code == 401
        asked.append(volume.asked)

    assert (asked, endpoint.requests) == ([1, 2, 2, 2, 3, 3], 1)


@each(SYNC)
def test_files_that_change_after_a_refusal_are_used_by_the_next_call(
    scene: Scene, volume: Volume, endpoint: Endpoint
) -> None:
    endpoint.secret = "second"
    scene.fail()
    volume.write("second")

    assert scene.send().status == 200
    assert endpoint.requests == 2


@each(SYNC)
def test_files_that_cannot_be_read_are_named_by_the_error(scene: Scene, volume: Volume, tmp_path: Path) -> None:
    (tmp_path / "volume" / "..data").unlink()

    error = scene.fail()

    assert f"No app key and secret: [Errno 2] No such file or directory: '{tmp_path}/volume/app-key'" in str(error)
