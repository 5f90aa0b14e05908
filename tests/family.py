"""Tests of behaviour that httpx and httpx2 share, in addition to the contract."""

from __future__ import annotations

import asyncio
import gc
import io
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar

import anyio
import pytest

from dolby_auth_plugin import TokenError
from dolby_auth_plugin import httpx as httpx_adapter
from dolby_auth_plugin import httpx2 as httpx2_adapter
from dolby_auth_plugin._httpx import waiting
from dolby_auth_plugin.sandbox import Sandbox

from .contract import CLASSIC, AuthContract, on_clock
from .drivers import AsyncHttpxDriver
from .fakes import FakeClock, Gate, wait_for_fetches
from .internals import authority, begin_fetch, read_refusals_by
from .servers import Reply, Server


class FamilyContract(AuthContract):
    # Hooks, timeouts and clients

    def test_a_401_to_a_header_from_an_event_hook_is_not_retried(
        self, sandbox: Sandbox, api: Server, client: Any
    ) -> None:
        api.answer = lambda _: Reply(401)

        self.on_request(client, lambda request: request.headers.update({"Authorization": "Bearer own"}))
        seen = client.get(api.url)

        assert (seen.status, len(api.log), sandbox.token_requests) == (401, 1, 1)

    def on_request(self, client: Any, hook: Any) -> None:
        client.client.event_hooks = {"request": [hook]}

    def on_response(self, client: Any, hook: Any) -> None:
        client.client.event_hooks = {"response": [hook]}

    def test_the_token_request_is_not_seen_by_the_callers_event_hooks(self, sandbox: Sandbox, client: Any) -> None:
        urls: list[str] = []
        self.on_request(client, lambda request: urls.append(str(request.url)))
        client.get(f"{sandbox.url}/media/jobs")

        assert urls == [f"{sandbox.url}/media/jobs"]

    def test_an_event_hook_that_raises_for_a_401_costs_one_call(self, sandbox: Sandbox, client: Any) -> None:
        """The auth object cannot rescue this call, but later calls use a new token."""
        client.get(f"{sandbox.url}/media/jobs")
        sandbox.revoke_all()
        self.on_response(client, lambda response: response.raise_for_status())

        with pytest.raises(self.driver.library.HTTPStatusError):
            client.get(f"{sandbox.url}/media/jobs")
        assert client.get(f"{sandbox.url}/media/jobs").status == 200

        assert sandbox.token_requests == 2

    @pytest.mark.parametrize("status", [403, 500])
    def test_an_event_hook_that_raises_for_anything_else_costs_no_token(
        self, sandbox: Sandbox, api: Server, client: Any, status: int
    ) -> None:
        api.answer = lambda _: Reply(status)
        self.on_response(client, lambda response: response.raise_for_status())

        with pytest.raises(self.driver.library.HTTPStatusError):
            client.get(api.url)
        with pytest.raises(self.driver.library.ConnectError):
            client.get("http://127.0.0.1:1/")
        self.on_response(client, lambda response: None)
        client.get(api.url)

        assert sandbox.token_requests == 1

    def test_a_foreign_401_that_an_event_hook_raises_for_costs_no_token(
        self, sandbox: Sandbox, api: Server, client: Any, other: Server
    ) -> None:
        api.answer = lambda _: Reply(302, {"Location": other.url})
        other.answer = lambda _: Reply(401)
        self.on_response(client, lambda response: response.is_redirect or response.raise_for_status())
        with pytest.raises(self.driver.library.HTTPStatusError):
            client.get(api.url)
        api.answer = lambda _: Reply()
        client.get(api.url)

        assert sandbox.token_requests == 1

    def test_a_requests_own_timeouts_shorten_its_wait(self, sandbox: Sandbox) -> None:
        """The shared fetch continues."""
        auth = self.auth(sandbox)
        sandbox.latency = 0.4
        with self.driver.open(auth) as client:
            with pytest.raises(TokenError, match=r"No token within 0\.2 s"):
                client.get(f"{sandbox.url}/media/jobs", timeout=0.1)
            assert client.get(f"{sandbox.url}/media/jobs").status == 200

        assert sandbox.token_requests == 1

    def test_a_request_without_timeouts_waits_as_long_as_the_auth_allows(self, sandbox: Sandbox, client: Any) -> None:
        assert client.get(f"{sandbox.url}/media/jobs", timeout=None).status == 200

    def test_the_check_uses_the_host_that_the_library_connects_to(self, sandbox: Sandbox) -> None:
        """`request.url.host` would be the decoded form of an xn-- name."""
        auth = self.auth(sandbox, allowed_hosts=["xn--bcher-kva.example"])
        request = self.driver.library.Request("GET", "https://bücher.example/")

        assert authority(auth, request) == "xn--bcher-kva.example:443"

    def test_a_lent_client_that_has_this_auth_itself_causes_no_recursion(self, sandbox: Sandbox) -> None:
        with self.driver.library.Client() as lent:
            auth = self.driver.adapter.DolbyAuth(**sandbox.options, client=lent)
            lent.auth = auth

            assert self.driver.token(auth).value
            assert lent.get(f"{sandbox.url}/media/jobs").status_code == 200

    @pytest.mark.parametrize("status", [401, 503])
    def test_a_lent_clients_hook_that_raises_does_not_hide_the_status(self, sandbox: Sandbox, status: int) -> None:
        sandbox.fail_token_requests(status=status, times=9)
        hooks = {"response": [lambda response: response.raise_for_status()]}
        with self.driver.library.Client(event_hooks=hooks) as lent:
            auth = on_clock(self.driver.adapter.DolbyAuth(**sandbox.options, client=lent), FakeClock())

            error = self.failure(auth)

        assert (status, status == 503) == (error.status_code, error.retryable)

    def test_an_async_client_cannot_be_lent(self) -> None:
        with pytest.raises(TypeError, match="Client, got AsyncClient"):
            self.driver.adapter.DolbyAuth(**CLASSIC, client=self.driver.library.AsyncClient())

    def test_an_auth_object_of_the_other_library_fails_at_the_first_call(self) -> None:
        adapters: dict[str, Any] = {"httpx": httpx2_adapter, "httpx2": httpx_adapter}
        auth = adapters[self.driver.name].DolbyAuth(**CLASSIC)

        with (
            pytest.raises(TypeError, match=f"from dolby_auth_plugin.{self.driver.name} import DolbyAuth"),
            self.driver.open(auth) as client,
        ):
            client.get("https://api.dolby.com/")

    # Refused bodies

    def test_an_endless_refusal_that_goes_on_after_its_close_is_not_read_to_its_end(self, sandbox: Sandbox) -> None:
        library = self.driver.library

        class Endless(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[misc, name-defined] # known at run time
            served = 0

            def __iter__(self) -> Endless:
                return self

            __aiter__ = __iter__

            def __next__(self) -> bytes:
                self.served += 1
                return b"x" * (1 << 14)

            async def __anext__(self) -> bytes:
                return next(self)

        body = Endless()
        answers = [library.Response(401, stream=body), library.Response(200)]

        assert self.on_mock(self.auth(sandbox), f"{sandbox.url}/x", lambda _: answers.pop(0)).status_code == 200
        assert body.served < 20

    def test_a_refused_body_is_read_for_five_seconds(self, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each piece takes one second, so the sixth is the last."""
        library, clock = self.driver.library, FakeClock()
        read_refusals_by(clock, monkeypatch)

        class Slow(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[misc, name-defined] # known at run time
            served = 0
            closed = False

            def __iter__(self) -> Iterator[bytes]:
                while not self.closed:
                    self.served += 1
                    clock.advance(1)
                    yield b"x"

            async def __aiter__(self) -> AsyncIterator[bytes]:
                for piece in self:
                    yield piece

            def close(self) -> None:
                self.closed = True

            async def aclose(self) -> None:
                self.closed = True

        body = Slow()
        answers = [library.Response(401, stream=body), library.Response(200)]

        assert self.on_mock(self.auth(sandbox), f"{sandbox.url}/x", lambda _: answers.pop(0)).status_code == 200
        assert body.served == 6

    def test_the_refused_request_in_history_has_its_body(self, api: Server, client: Any) -> None:
        api.refuse_old_tokens()

        seen = client.send("POST", api.url, content=b"content")

        assert seen.response.history[0].request.read() == b"content"

    def on_mock(self, auth: Any, url: str, answer: Any) -> Any:
        with self.driver.library.Client(auth=auth, transport=self.driver.library.MockTransport(answer)) as client:
            return client.get(url)

    def test_an_error_when_a_refused_body_is_closed_is_ignored(self, sandbox: Sandbox) -> None:
        library = self.driver.library

        class Stubborn(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[misc, name-defined] # known at run time
            def __iter__(self) -> Iterator[bytes]:
                yield b"refused"

            async def __aiter__(self) -> AsyncIterator[bytes]:
                yield b"refused"

            def close(self) -> None:
                raise library.ReadError("gone")

            async def aclose(self) -> None:
                raise library.ReadError("gone")

        answers = [library.Response(401, stream=Stubborn()), library.Response(200)]

        assert self.on_mock(self.auth(sandbox), f"{sandbox.url}/x", lambda _: answers.pop(0)).status_code == 200

    def test_a_mock_transport_works_as_in_the_readme(self) -> None:
        """The client and `client=` use the same transport."""
        library = self.driver.library

        def answer(request: Any) -> Any:
            if request.url.path == "/v1/auth/token":
                return library.Response(200, json={"access_token": "abc"})
            assert request.headers["Authorization"] == "Bearer abc"
            return library.Response(200, json={"jobs": []})

        auth = self.driver.adapter.DolbyAuth(**CLASSIC, client=library.Client(transport=library.MockTransport(answer)))

        assert self.on_mock(auth, "https://api.dolby.com/media/jobs", answer).json() == {"jobs": []}


class AsyncFamilyContract(FamilyContract):
    driver: ClassVar[AsyncHttpxDriver]

    def stream(self) -> Any:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"one"
            yield b"two"

        return chunks()

    def on_request(self, client: Any, hook: Any) -> None:
        async def call(request: Any) -> None:
            hook(request)

        client.client.event_hooks = {"request": [call]}

    def on_response(self, client: Any, hook: Any) -> None:
        async def call(response: Any) -> None:
            hook(response)

        client.client.event_hooks = {"response": [call]}

    def on_mock(self, auth: Any, url: str, answer: Any) -> Any:
        async def call() -> Any:
            library = self.driver.library
            async with library.AsyncClient(auth=auth, transport=library.MockTransport(answer)) as client:
                return await client.get(url)

        return self.run(call)

    def run(self, function: Any, *arguments: Any) -> Any:
        return anyio.run(function, *arguments, backend=self.driver.backend)

    def test_consecutive_event_loops_share_the_token(self, sandbox: Sandbox) -> None:
        """Scripts and notebooks call `asyncio.run` several times."""
        auth = self.auth(sandbox)

        async def main() -> str:
            return str((await auth.atoken()).value)

        assert len({self.run(main) for _ in range(3)}) == 1
        assert sandbox.token_requests == 1

    def test_a_loop_that_ends_before_the_fetch_leaves_nothing_behind(self, sandbox: Sandbox) -> None:
        """The fetch has no caller to wake. Its token is kept for the next call."""
        sandbox.latency = 0.1
        auth = self.auth(sandbox)

        async def main() -> None:
            with anyio.move_on_after(0.02):
                await auth.atoken()

        self.run(main)
        wait_for_fetches()
        gc.collect()

        assert auth.token().value
        assert sandbox.token_requests == 1

    def test_waking_a_cancelled_waiter_or_a_closed_loop_does_nothing(self, sandbox: Sandbox) -> None:
        wakers: list[Any] = []
        auth = self.auth(sandbox)

        async def main() -> None:
            wait = begin_fetch(auth)
            with anyio.move_on_after(0.001):
                await waiting.wait_in_task(Spy(wait, wakers))  # type: ignore[arg-type] # stands in for a Wait
            wakers[0]()
            await anyio.sleep(0.01)

        sandbox.latency = 0.05
        self.run(main)
        wait_for_fetches()

        wakers[0]()

    def test_the_event_loop_runs_while_a_token_is_fetched(self, sandbox: Sandbox) -> None:
        gate = Gate(sandbox.app_key, sandbox.app_secret)
        auth = self.driver.adapter.DolbyAuth(credentials=gate, token_url=sandbox.token_url)

        async def main() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(auth.atoken)
                for _ in range(20):
                    await anyio.sleep(0.001)
                # Only this task opens the gate. If the fetch blocked the loop, the test would hang.
                gate.open()

        self.run(main)

        assert sandbox.token_requests == 1

    def test_a_task_that_is_cancelled_during_a_call_leaves_no_unretrieved_error(self, sandbox: Sandbox) -> None:
        sandbox.latency = 0.2
        sandbox.fail_token_requests(status=401)
        auth = self.auth(sandbox)
        complaints: list[Any] = []

        async def main() -> None:
            if self.driver.backend == "asyncio":
                asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            async with self.driver.library.AsyncClient(auth=auth) as client:
                with anyio.move_on_after(0.02):
                    await client.get(f"{sandbox.url}/media/jobs")
                with pytest.raises(TokenError):
                    await client.get(f"{sandbox.url}/media/jobs")
            gc.collect()

        self.run(main)

        assert complaints == []


class Unseekable(io.BytesIO):
    def seekable(self) -> bool:
        return False


class HalfAFile:
    """A file that lacks most methods of a file object."""

    def __init__(self) -> None:
        self._file = io.BytesIO(b"content")
        self.read = self._file.read
        self.tell = self._file.tell
        self.seek = self._file.seek
        self.close = self._file.close


class AsyncFile:
    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    async def aread(self, size: int) -> bytes:
        return self._file.read(size)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._file.read()


class Spy:
    """A `Wait` that records the functions that wake its callers."""

    def __init__(self, wait: Any, wakers: list[Any]) -> None:
        self.fetch = self
        self.seconds = wait.seconds
        self._calling = wait.calling
        self._wakers = wakers

    def calling(self, wake: Any) -> Any:
        self._wakers.append(wake)
        return self._calling(wake)
