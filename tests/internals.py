"""
The only module of the tests that uses private names of the package.

After a rename in the package, only this module changes.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from dolby_auth_plugin import AccessToken
from dolby_auth_plugin._core import forks
from dolby_auth_plugin._core.fetch import Fetcher, Sender
from dolby_auth_plugin._core.source import TokenSource
from dolby_auth_plugin._core.state import TokenState
from dolby_auth_plugin._httpx import resend as httpx_resend
from dolby_auth_plugin._httpx import sender as httpx_sender
from dolby_auth_plugin._requests import connections
from dolby_auth_plugin._requests import resend as requests_resend
from dolby_auth_plugin.caches import redis_client

if TYPE_CHECKING:
    # Scripts import this module in separate processes. These two imports would triple their start time.
    import pytest

    from dolby_auth_plugin.sandbox import Sandbox


def source_of(auth: Any) -> TokenSource:
    """The token source of an auth object."""
    source: TokenSource = auth._source
    return source


def give_source(auth: Any, source: TokenSource) -> None:
    """Make *auth* use *source*."""
    auth._source = source


def fetcher_of(source: TokenSource) -> Any:
    """The fetcher of *source*."""
    return source.fetcher


def rebuild(auth: Any, *, send: Sender | None = None, clock: Any = None) -> Any:
    """*auth* with a new source: another sender or clock, no token, and renewals without chance."""
    source = source_of(auth)
    old = source.fetcher
    options = {} if clock is None else {"clock": clock}
    fetcher = Fetcher(
        old.endpoint, old.credentials, send or old.send, old.timeout, old.shared, **options, chance=lambda: 0.0
    )
    give_source(auth, TokenSource(fetcher, source._error))
    return auth


def send_with(auth: Any, send: Any) -> None:
    """Make *send* answer the token requests of *auth*."""
    source_of(auth).fetcher.send = send


def sender_of(auth: Any) -> Any:
    """The sender of *auth*."""
    return source_of(auth).fetcher.send


def set_timeout(auth: Any, seconds: float) -> None:
    """Change the timeout of a finished auth object."""
    source_of(auth).fetcher.timeout = seconds


def keep_token(auth: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every further fetch of *auth* end with the present token, as a shared cache could."""
    source = source_of(auth)
    monkeypatch.setattr(Fetcher, "obtain", lambda *_: source._state.token)


def waiting(source: TokenSource) -> int:
    """The number of callers that wait for the fetch that runs."""
    fetch = source._state.fetch
    return 0 if fetch is None else len(fetch.waiters)


def is_fetching(source: TokenSource) -> bool:
    """Whether a fetch runs."""
    return source._state.fetch is not None


def lock_of(source: TokenSource) -> Any:
    """The lock of *source*."""
    return source._lock


def holds_lock(source: TokenSource) -> bool:
    """Whether the calling thread holds the lock of *source*."""
    return bool(source._lock._is_owned())  # type: ignore[attr-defined] # as the source asks


def present_token(source: TokenSource) -> AccessToken:
    """The token that *source* has."""
    assert source._state.token is not None
    return source._state.token


def set_token(source: TokenSource, token: AccessToken | None) -> None:
    """Replace the present token by *token*."""
    source._state.token = token


def refuse(source: TokenSource, token: AccessToken, host: str) -> bool:
    """Tell *source* that *host* answered 401 to *token*."""
    return source.refuse(token.fingerprint, host)


def begin_fetch(auth: Any) -> Any:
    """Begin a fetch, and return the first step of its caller."""
    return next(source_of(auth).steps(None, None))


def authority(auth: Any, request: Any) -> str | None:
    """The `host:port` to which *request* may carry the token: a URL for requests, a request for the others."""
    host: str | None = auth._allowed_host(request)
    return host


def remembered_origins(auth: Any) -> Sequence[Any]:
    """The origins that *auth* remembers as allowed."""
    return auth._allowed_prefixes  # type: ignore[no-any-return] # an auth object of any library


def library_of(auth: Any) -> Any:
    """The HTTP library of an auth object, or of its class."""
    return auth._library


def parts_of(auth: Any) -> list[Any]:
    """All objects of the package that an auth object consists of."""
    source = source_of(auth)
    fetcher = source.fetcher
    return [
        auth,
        auth.token,
        auth._origins,
        source,
        source._state,
        source._state.token,
        source._state._backoff,
        source._state._backoff._failure,
        fetcher,
        fetcher.send,
        fetcher.endpoint,
        fetcher.credentials,
        fetcher.shared,
        *(getattr(fetcher.shared, "_seal", None) or ()),
    ]


def forget_tls_contexts() -> None:
    """Make each adapter load its CA bundle again."""
    httpx_sender.tls_context.cache_clear()
    connections.tls_context.cache_clear()


def fresh_tls_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    """For one test, give httpx and httpx2 a separate cache of TLS contexts."""
    monkeypatch.setattr(httpx_sender, "tls_context", functools.lru_cache(httpx_sender.tls_context.__wrapped__))


def read_refusals_by(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the adapters measure by *clock* how long they read the body of a refused response."""
    for module in (httpx_resend, requests_resend):
        monkeypatch.setattr(module, "time", clock)


def read_refusals_for(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the adapters read the body of a refused response for *seconds*, instead of 5 s."""
    for module in (httpx_resend, requests_resend):
        monkeypatch.setattr(module, "_BODY_SECONDS", seconds)


REDIS_BUDGET = redis_client._BUDGET


def set_redis_budget(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long the operations of one fetch may take, for new connections of `RedisTokenCache`."""
    monkeypatch.setattr(redis_client, "_BUDGET", seconds)


def read_redis_budget_by(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `RedisTokenCache` take the time of its operations from *clock*."""
    monkeypatch.setattr(redis_client, "time", clock)


def set_sandbox_clock(sandbox: Sandbox, clock: Callable[[], float]) -> None:
    """Make the sandbox use *clock* for the life of its tokens."""
    sandbox._state.clock = clock


def store_file(sandbox: Sandbox, path: str, content: bytes) -> None:
    """Put a file into the sandbox's storage."""
    sandbox._state.store(path, content)


def count_leak(sandbox: Sandbox) -> None:
    """Make the sandbox report that its storage got a token."""
    sandbox._state.count("storage_leaks")


def granted(sandbox: Sandbox) -> Any:
    """The tokens that the sandbox has granted."""
    return sandbox._state._grants


def seal_text(seal: Any, text: bytes) -> bytes:
    """*text* as the entry of a cache, sealed rightly."""
    # Not at the top: scripts in separate processes would import cryptography.
    from dolby_auth_plugin.caches import _sealing as sealing

    nonce = bytes(sealing._NONCE)
    return sealing._VERSION + nonce + seal._cipher.encrypt(nonce, text, seal._associated())  # type: ignore[no-any-return] # bytes


def sealed_text(seal: Any, sealed: bytes) -> bytes:
    """The text in an entry."""
    from dolby_auth_plugin.caches import _sealing as sealing

    nonce, sealed = (rest := sealed[len(sealing._VERSION) :])[: sealing._NONCE], rest[sealing._NONCE :]
    return seal._cipher.decrypt(nonce, sealed, seal._associated())  # type: ignore[no-any-return] # bytes


def thread_frames() -> dict[int, Any]:
    """The present frame of every thread."""
    import sys

    return sys._current_frames()


def run_fork_hook() -> None:
    """Run the fork hook that a forked child runs first."""
    forks._reset_all()


def is_forkable() -> bool:
    """Whether another thread could fork now."""
    with ThreadPoolExecutor(1) as pool:
        is_acquired = pool.submit(forks.unforkable.acquire, blocking=False).result()
        if is_acquired:
            pool.submit(forks.unforkable.release).result()
    return is_acquired


def is_reset_after_fork(source: TokenSource) -> bool:
    """Whether a forked child resets *source*."""
    return source in forks._resettable


_slots_of_state = operator.attrgetter(*TokenState.__slots__)


def copy_of_state(state: Any) -> Any:
    """A `TokenState`, of this class or of a changed one, that goes its own way. Both have the same fetch."""
    copy = object.__new__(type(state))
    for name, value in zip(TokenState.__slots__, _slots_of_state(state), strict=True):
        setattr(copy, name, value)
    for name in ("_allowance", "_backoff"):
        setattr(copy, name, _copy_of_slots(getattr(state, name)))
    return copy


def copy_of_fetch(fetch: Any) -> Any:
    """A `Fetch` that goes its own way. Nobody may wait for it."""
    return _copy_of_slots(fetch)


def _copy_of_slots(original: Any) -> Any:
    copy = object.__new__(type(original))
    for name in type(original).__slots__:
        setattr(copy, name, getattr(original, name))
    return copy


def memory_of(state: Any) -> tuple[Any, ...]:
    """What a `TokenState` remembers: times, whatever else can be compared, the hosts that refused the token."""
    backoff = state._backoff
    return (
        (state._allowance._full_at, backoff._failure_until, backoff._next_renewal),
        (
            state._is_charged,
            backoff._failed_renewals,
            backoff._failure is None,
            backoff._failed_credentials,
            state._unreported,
            state._scope_reported,
            state.ready[0] is None,
        ),
        state._refused_by,
    )


def set_file_cache_clock(monkeypatch: pytest.MonkeyPatch, clock: Any) -> None:
    """Have the locks and the pauses of every `FileTokenCache` use *clock*."""
    from dolby_auth_plugin.caches import lease, private

    for module in (lease, private):
        monkeypatch.setattr(module, "time", clock)


def before_the_lock_makes(monkeypatch: pytest.MonkeyPatch, what: str, action: Callable[[], object]) -> None:
    """Run *action* once, just before a `FileTokenCache` makes a "file" or a "folder" in order to acquire a lock."""
    from dolby_auth_plugin.caches import lease

    make = getattr(lease, f"create_{what}")

    def act_and_make(path: Any) -> Any:
        monkeypatch.setattr(lease, f"create_{what}", make)
        action()
        return make(path)

    monkeypatch.setattr(lease, f"create_{what}", act_and_make)
