"""
Hand-made mutations of the package. Each breaks one rule, and some test must notice it.

    nox -s mutations                      all of them
    nox -s mutations -- state requests    those whose file or reason has one of these words

Add a mutation whenever a review or a bug shows a fault that no test would have caught.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import cache_from_source
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent

# Seconds for the tests of one mutation, at least twice what they take on two busy cores. A mutation that makes them hang
# is noticed too.
_TIMEOUT = 60

# pytest's exit status when a test failed, and when the run itself broke (a test file that can't be imported).
_FAILED = (1, 2)


class Mutation(NamedTuple):
    """Replace *old*, which occurs once in *file*, by *new*. The test files in *tests* must fail."""

    file: str
    old: str
    new: str
    why: str
    tests: str


# Test files, relative to `tests`.
_CORE = "core/test_state.py core/test_source.py core/test_explore.py"
_REQUESTS = "adapters/test_requests.py"
_HTTPX = "adapters/test_httpx.py"
_HTTPX2 = "adapters/test_httpx2.py"
_ADAPTERS = f"{_REQUESTS} {_HTTPX}"
_BODIES = "promises/test_bodies.py"
_COST = "promises/test_cost.py"
_FAULTS = "promises/test_faults.py"
_LOAD = "promises/test_load.py"
_FILE_CACHE = "caches/test_file.py"
_PROCESS = "promises/test_process.py"
_PROXIES = "promises/test_proxies.py"
_FIRST_DAY = "promises/test_first_day.py"
_REDIRECTS = "promises/test_redirects.py"
_SECRETS = "promises/test_secrets.py"
_URLS = "promises/test_urls.py"
_KEPT = "promises/test_kept.py"
_INJECTION = "promises/test_injection.py"
_REENTRANCE = "promises/test_reentrance.py"
_SHARED = "caches/test_shared.py"
_CACHES = "tools/test_caches.py"
_OPENTELEMETRY = "tools/test_opentelemetry.py"
_RECORDINGS = "tools/test_recordings.py"

# The test files for each module of the package, the most likely one to notice a mutation first. A mutation may name its own.
TESTS = {
    "_core/state.py": _CORE,
    "_core/wait.py": _CORE,
    "_core/entry.py": "core/test_entry.py core/test_source.py",
    "caches/_sealing.py": "caches/test_sealing.py caches/test_shared.py",
    "caches/_shared.py": "caches/test_shared.py",
    "_core/source.py": f"{_CORE} promises/test_cancellation.py {_PROCESS}",
    "_core/backoff.py": f"{_CORE} core/test_entry.py",
    "_core/refusals.py": "core/test_refusals.py",
    "_core/token.py": "core/test_token.py core/test_source.py",
    "_core/hosts.py": f"core/test_hosts.py {_URLS}",
    "_core/origins.py": "core/test_hosts.py",
    "_core/scope.py": "core/test_scope.py",
    "_core/credentials.py": f"core/test_credentials.py {_SECRETS}",
    "_core/secret_files.py": "core/test_secret_files.py",
    "_core/system_keyring.py": "core/test_system_keyring.py",
    "_core/endpoint.py": f"core/test_endpoint.py {_FAULTS}",
    "_core/redaction.py": f"core/test_endpoint.py {_SECRETS}",
    "_core/failures.py": f"core/test_failures.py {_FAULTS} {_SECRETS}",
    "_core/fetch.py": f"core/test_source.py {_FAULTS} {_SECRETS}",
    "_core/cutoff.py": f"core/test_cutoff.py {_FAULTS}",
    "_core/silence.py": f"core/test_silence.py {_SECRETS}",
    "_core/decoding.py": _FAULTS,
    "_core/forks.py": f"core/test_source.py {_PROCESS}",
    "_core/auth.py": _ADAPTERS,
    "_core/errors.py": f"core/test_errors.py core/test_endpoint.py {_REQUESTS}",
    "_requests/sender.py": _REQUESTS,
    "_requests/connections.py": _REQUESTS,
    "_requests/resend.py": _BODIES,
    "_httpx/sender.py": _HTTPX,
    "_httpx/resend.py": _BODIES,
    "_httpx/auth.py": f"{_HTTPX} {_BODIES}",
    "_httpx/waiting.py": f"{_HTTPX} {_HTTPX2} promises/test_cancellation.py",
    "requests.py": f"{_REQUESTS} {_BODIES}",
    "caches/redis.py": "caches/test_redis.py",
    "caches/redis_client.py": "caches/test_redis.py",
    "caches/file.py": _FILE_CACHE,
    "caches/lease.py": _FILE_CACHE,
    "httpie.py": "plugins/test_httpie.py",
    "pytest_plugin.py": "plugins/test_pytest_plugin.py",
    "cli/account.py": "cli/test_login.py",
    "cli/login.py": "cli/test_login.py",
    "caches/private.py": _FILE_CACHE,
    "sandbox/_observer.py": "sandbox/test_sandbox.py",
    "cli/output.py": "cli/test_token.py cli/test_cli.py",
    "cli/auth.py": "cli/test_token.py cli/test_cli.py",
    "cli/token.py": "cli/test_token.py",
    "cli/cache.py": "cli/test_token.py",
    "cli/check.py": "cli/test_check.py",
    "cli/checks.py": "cli/test_check.py",
    "cli/sandbox.py": "cli/test_sandbox.py",
    "cli/demo.py": "cli/test_cli.py",
}


def _flow(kind: str, signature: str, part: str, check: str) -> tuple[str, str, str]:
    """A flow of httpx that does not compare a *part* of the URL with the remembered origin."""
    head = f'''def {signature}:
        """Authorize *request*, if it goes to an allowed host. Called by the client."""
        url = request.url
        scheme, raw_host, port, host = self._last_allowed
        if '''
    checks = "url.scheme != scheme or url.raw_host != raw_host or url.port != port"
    return head + checks, head + checks.replace(check, "False"), f"another {part} than the remembered one, {kind}"


def _mutations(file: str, *changes: tuple[str, ...]) -> Iterator[Mutation]:
    """Each change is the old text, the new text, why a test must notice, and test files if not those of `TESTS`."""
    for old, new, why, *tests in changes:
        yield Mutation(file, old, new, why, " ".join(tests) or TESTS[file])


MUTATIONS = [
    *_mutations(
        "_core/state.py",
        (
            ", sent=fetch.credentials is not None",
            "",
            "the network is blamed for credentials that wait",
            _REENTRANCE,
        ),
        ("not token.is_fresh(now) and self.fetch is None and", "not token.is_fresh(now) and", "two fetches at once"),
        (
            "self.token is not None and self.token.is_good(now) else",
            "self.token is not None else",
            "expired tokens are handed out",
        ),
        ("return host not in self._refused_by and", "return", "a host gets the token that it refused"),
        ("return not self._refused_by\n", "return True\n", "no host named: any token"),
        ("            return self.fetch\n", "            pass\n", "callers do not join a fetch that runs"),
        ("if isinstance(joined.outcome, Failure):", "if False:", "waiters of a failed fetch fetch again"),
        ("self._backoff.forget_overdue()\n", "pass\n", "a child counts the overdue fetches of its parent"),
        ("joined.is_discarded and joined.outcome.is_good(now)", "False", "invalidate costs the waiters their token"),
        ("self._scope_reported = True\n", "pass\n", "scopes are reported again and again"),
        (
            "            self._backoff.remove_overdue(fetch)\n            return\n",
            "            pass\n",
            "a late token of an overdue fetch is kept",
        ),
        ("not outcome.is_good(now):\n            outcome =", "False:\n            outcome =", "expired on arrival"),
        ("if not fetch.is_discarded:\n            if", "if True:\n            if", "an invalidated token is kept"),
        ("if self.fetch is fetch:\n            self._forget_fetch()", "", "an ended fetch stays the running one"),
        (
            "self._backoff.postpone_renewal(now)\n            self.settle(fetch, None",
            "self.settle(fetch, None",
            "no pause after an overdue renewal",
        ),
        (
            "if fetch.is_renewal:\n            self._backoff.postpone_renewal(now)\n            self.settle",
            "if False:\n            self.settle",
            "an overdue renewal fails those who joined it",
        ),
        ("not self._is_charged and not self._is_shared:", "False:", "a mark stays without a replacement"),
        (
            "not self._is_charged and not self._is_shared:",
            "not self._is_charged:",
            "shared: a failed fetch drops the marks",
        ),
        ("self._next_look = now.monotonic + _LOOK_AGAIN", "pass", "shared: each refusal causes a look"),
        ("if self._is_shared and self._refused_by:", "if False:", "shared: a replacement by others costs nothing"),
        ("token.fingerprint not in known", "True", "shared: a refused token is taken again"),
        ("known = (self._dropped,", "known = (None,", "shared: an invalidated token is taken again"),
        ("return token.is_good(now) and token", "return token", "shared: an expired token is taken", _SHARED),
        ("return not fetch.is_renewal and", "return", "shared: a renewal is charged"),
        ("token.fingerprint != fingerprint:", "False:", "a late 401 marks a newer token"),
        ("self._is_charged or self._allowance.spend(now.monotonic)", "True", "no allowance"),
        ("self._is_charged or self._allowance", "self._allowance", "a token is charged twice"),
        (
            "if not self._may_replace(now) and self.fetch is None:",
            "if not self._may_replace(now):",
            "a running renewal is ignored",
        ),
        ("_refused_by |= {host}\n        self._update_ready()", "_refused_by |= {host}", "ready ignores refusals"),
        ("if len(self._refused_by) < _MAX_HOSTS:", "if True:", "any number of refusing hosts is remembered"),
        (" and len(self._refused_by) < _MAX_HOSTS", "", "a refusing host that is not remembered gets the token"),
        ("            self._refused_by |= {host}\n", "            pass\n", "a refusal leaves no mark"),
        (
            "_refused_by |= {host}\n        self._update_ready()\n        return True",
            "_refused_by |= {host}\n        self._update_ready()\n        return self.fetch is None",
            "a 401 that comes during a fetch is final",
            _LOAD,
        ),
        (
            "self._refused_by |= {host}",
            "self._refused_by = frozenset({host})",
            "a second refusal removes the first mark",
        ),
        ("self.fetch.is_discarded = True", "pass", "invalidate keeps the token of a running fetch"),
        ("or self._refused_by or self._unreported:", "or self._refused_by:", "a scope warning reaches nobody"),
        (
            "if fetch.is_renewal:\n                # Without",
            "if False:\n                # Without",
            "no pause after a renewal that left the token",
        ),
        ("                self._begin(now, is_renewal=True)", "                pass", "no renewals"),
        ("not self._is_charged and not self._is_shared:", "not self._is_shared:", "a failed fetch drops the marks"),
        ("return fetch\n\n    def postpone", "return None\n\n    def postpone", "an overdue fetch wakes nobody"),
        ("self._update_ready()\n        if self", "if self", "an invalidated token stays ready"),
    ),
    *_mutations(
        "_core/backoff.py",
        ("return now.monotonic >= self._next_renewal and", "return", "renewals without a pause"),
        ("self._remembered(now) is None and", "True and", "a renewal asks what has just failed"),
        ("and self._blocked(now) is None", "", "a renewal although too many fetches are overdue"),
        ("self._asks_credentials and self._failed", "self._failed", "a fixed pair that failed is asked again"),
        ("self._asks_credentials and self._failed_credentials is not None", "False", "new credentials wait"),
        ("and self._failed_credentials is not None", "", "a callable that fails is asked again"),
        ("and now.monotonic >= self._ask_again_at", "", "a callable is asked with each call"),
        (
            "if self._remembered(now) is not None:\n            self._ask",
            "if True:\n            self._ask",
            "the first failure delays others",
        ),
        ("alive >= MAX_OVERDUE and", "False and", "any number of overdue fetches"),
        ("self._overdue |= {fetch}", "pass", "overdue fetches are not counted"),
        ("self._overdue -= {fetch}", "pass", "an overdue fetch counts after its end"),
        ("if credentials == self._failed_credentials else", "if True else", "other credentials fail from memory"),
        ("if credentials == self._failed_credentials else", "if False else", "credentials that failed are sent again"),
        ("if now.monotonic < self._failure_until else", "if False else", "no failure is remembered"),
        ("2 ** min(self._failed_renewals, _PAUSE_DOUBLINGS)", "1", "pauses don't grow"),
        ("min(self._failed_renewals, _PAUSE_DOUBLINGS)", "self._failed_renewals", "pauses grow for ever"),
        ("if failure is self._remembered(now):", "if False:", "a remembered failure prolongs itself"),
        ("max(FAILURE_MEMORY, failure.retry_after or 0)", "FAILURE_MEMORY", "Retry-After is ignored"),
        ("retry_after or 0), FAILURE_MEMORY_MAX)", "retry_after or 0), 1e9)", "Retry-After without a limit"),
        ("if is_renewal:\n            self.postpone_renewal(now, memory)", "", "no pause after a failed renewal"),
        ("        self._failure = self._failed_credentials = None\n", "", "invalidate keeps the failure"),
    ),
    *_mutations(
        "_core/wait.py",
        ("            if self.fetch.ended:\n                wake()\n", "", "a caller that comes after the end sleeps"),
        ("            self.fetch.waiters.pop(wake, None)\n", "            pass\n", "waiters pile up"),
    ),
    *_mutations(
        "_core/source.py",
        (
            "context = contextvars.copy_context()",
            "context = contextvars.Context()",
            "a fetch lacks the context of the caller",
            _OPENTELEMETRY,
        ),
        (
            "context.run(sniffio.current_async_library_cvar.set, None)",
            "pass",
            "a callable can't start an event loop",
            _FIRST_DAY,
        ),
        ("if not step.is_discarded:", "if True:", "callers after invalidate get the old outcome"),
        ("            if now.monotonic >= give_up_at:\n", "            if False:\n", "a caller waits for ever"),
        ("min(self.fetcher.timeout, timeout)", "timeout", "a caller waits longer than the timeout"),
        ("Wait(step, min(give_up_at, step.deadline)", "Wait(step, step.deadline", "a caller waits beyond its own time"),
        ("        if self._would_wait_for_itself():\n", "        if False:\n", "a signal handler waits for itself"),
        (
            "in_caller and not self._would_wait_for_itself()",
            "in_caller",
            "a refused signal handler fetches inside the lock",
        ),
        ("if resend and in_caller:", "if False:", "others begin what a mock's hook must fetch"),
        ("            self._give_up(begun)\n", "            pass\n", "an interrupted hook strands the others"),
        ("        return holds or starts_or_runs\n", "        return holds\n", "a callable waits for its own fetch"),
        ("return holds or starts_or_runs", "return starts_or_runs", "a handler inside the lock waits"),
        ("self._give_up(begun or self._state.fetch)", "pass", "an interrupted start strands the others"),
        (
            "        if not fetch.is_renewal:\n            self._run(fetch, in_caller=True)",
            "        if False:\n            pass",
            "no threads, no token",
        ),
        (
            "                return\n            fetch.runner",
            "                pass\n            fetch.runner",
            "a given-up fetch asks",
        ),
        ("self._state.postpone_renewal(Instant.now(self.fetcher.clock))", "pass", "no thread: no pause"),
        (
            "                error.__context__ = None\n                raise error.with_traceback(None) from None\n",
            "                raise\n",
            "the frames of an interrupt show the token request",
            _SECRETS,
        ),
        (
            "        wake_callers(fetch)\n        if too_late:\n",
            "        if too_late:\n",
            "the end of a fetch wakes nobody",
        ),
        (" and fetch.outcome is not before:", ":", "shared: a token that stays is logged as new", _SHARED),
        ("if in_caller and not isinstance(error, Exception):", "if in_caller:", "a fault in a caller's fetch escapes"),
        ("is_renewal and not overdue.is_discarded", "is_renewal", "a discarded renewal that is overdue is logged"),
        (" and fetch.is_renewal and not fetch.is_discarded", " and fetch.is_renewal", "a discarded renewal is logged"),
        (
            "elif isinstance(fetch.outcome, Failure) and fetch.is_renewal and not fetch.is_discarded:",
            "elif False:",
            "no warning for a failed renewal",
            _REQUESTS,
        ),
        (
            "        self._lock = threading.RLock()\n        self._state.reset_after_fork()\n",
            "        self._state.reset_after_fork()\n",
            "a child inherits a held lock",
        ),
        ("RLock()\n        self._state.reset_after_fork()", "RLock()", "a child waits for the fetch of its parent"),
        ('name="dolby-auth-token", daemon=True', 'name="dolby-auth-token", daemon=False', "exit waits for a fetch"),
        ("            self._logged_refusal = refusal\n", "", "a log handler causes 401 after 401", _REENTRANCE),
        (
            "            if overdue is not None:\n                wake_callers(overdue)\n",
            "            if overdue is not None:\n                wake_callers(overdue)\n                log_renewal_failure(out_of_time(1))\n",
            "the log handler of an overdue renewal waits for itself",
            _REENTRANCE,
        ),
        (
            "        wake_callers(fetch)\n        if too_late:\n",
            '        log(logging.INFO, "token_obtained", "token")\n        wake_callers(fetch)\n        if too_late:\n',
            "a fetch and a log handler wait for each other",
            _REENTRANCE,
        ),
        (", sent=step.credentials is not None", "", "the network is blamed for slow credentials", _CORE),
        ("and wall() < renew_wall", "", "a token is ready after its end by the wall clock"),
        ("monotonic() < renew_monotonic and wall()", "wall()", "a token is ready after its end by the monotonic clock"),
    ),
    *_mutations(
        "_core/refusals.py",
        ("REPLACEMENTS_IN_A_ROW = 4", "REPLACEMENTS_IN_A_ROW = 5", "five in a row"),
        ("SECONDS_PER_REPLACEMENT = 20.0", "SECONDS_PER_REPLACEMENT = 19.0", "more than three a minute"),
        ("max(full_at, now)", "full_at", "a rest saves up without limit"),
    ),
    *_mutations(
        "_core/token.py",
        ("_TRAVEL_SHARE, _TRAVEL_MAX = 1 / 20, 5.0", "_TRAVEL_SHARE, _TRAVEL_MAX = 0, 0.0", "no travel margin"),
        ("_RENEWAL_SHARE, _RENEWAL_MAX = 1 / 5, 300.0", "_RENEWAL_SHARE, _RENEWAL_MAX = 1.0, 300.0", "fetch per call"),
        ("LATEST_RENEWAL = 1.0, 0.7", "LATEST_RENEWAL = 1.0, 1.0", "all renew together"),
        ("random.SystemRandom().random", "random.random", "one seed in all processes: all renew together"),
        ("now.monotonic < self._good_until.monotonic and now", "now", "a stepped wall clock prolongs a life"),
        ("and now.wall < self._good_until.wall", "", "a suspended machine prolongs a life"),
        ('raise TypeError("an AccessToken', 'return object, ()\n        raise TypeError("an AccessToken', "pickled"),
        ('return f"AccessToken(scope=', 'return f"AccessToken({self.value} scope=', "repr shows the token"),
        (
            "(self.value, self.scope, self.expires_at) == (",
            "(other.value, self.scope, self.expires_at) == (",
            "another token is equal",
        ),
    ),
    *_mutations(
        "_core/hosts.py",
        ("if not 0 < dialled <= 65_535:", "if False:", "an invalid port wraps around"),
        (
            "if scheme not in _SECURE and not loopback:\n            return None",
            "if False:\n            return None",
            "plain http",
        ),
        ("and (loopback or dialled == 443))", ")", "any port"),
        ("host.endswith(suffix) and", "suffix in host and", "a wildcard in the middle"),
        ("(443 if wanted is None else wanted)", "dialled", "wildcards on any port"),
        ('in target and "%" not in target and target.isprintable()', "in target", "other spellings of the token path"),
        ("unquote(path)", "path", "an encoded token path"),
        ('        if step == "..":\n', '        if step == "...":\n', "dot segments"),
        ('ipaddress.IPv4Network("127.0.0.0/8")', 'ipaddress.IPv4Network("126.0.0.0/7")', "loopback widened"),
        ("_OPENED_AS.get(scheme, scheme)", "scheme", "wss to the token endpoint"),
        ('re.split(r"[?#]", address, maxsplit=1)[0]', "address", "a query is shown", _SECRETS),
        ('malformed host or port") from None', 'malformed host or port")', "Python's words show a password", _SECRETS),
        ('if "@" in parts.netloc:', "if False:", "userinfo in the token URL"),
        ("= weakref.WeakValueDictionary()", "= {}  # type: ignore", "a long list of hosts is never freed", _COST),
    ),
    *_mutations(
        "_core/scope.py",
        ("    if not values:\n", "    if False:\n", "no scope in a list asks for an unrestricted token"),
        ("not _wildcards_over(scope) & granted", "True", "a granted wildcard covers nothing"),
    ),
    *_mutations(
        "_core/origins.py",
        ("return answer is None or answer[1]", "return False", "the path never matters"),
        ("        self._answers[origin] = answer\n", "", "a log handler causes its own records", _FIRST_DAY),
        ("self._endpoint_is_logged = True", "pass", "a log handler that asks the endpoint has no end", _FIRST_DAY),
        ("            self._answers.clear()\n", "            pass\n", "memory without a bound"),
        ("> _MAX_ORIGIN", "> 10**9", "a long scheme, host or port is remembered"),
        (
            "answer = (host, host is not None and self.policy.has_token_endpoint(origin))",
            "answer = (host, False)",
            "token to its endpoint",
        ),
        ("origin in self._explained or not self.may_explain or", "", "a 401 is explained each time"),
        ("or not self.may_explain", "", "explanations without a bound"),
        ("_log_no_token(origin, _TOKEN_ENDPOINT)", "pass", "a request to the token endpoint is not logged"),
    ),
    *_mutations(
        "_core/credentials.py",
        (
            "if any(map(os.environ.get, own)):",
            "if all(map(os.environ.get, own)):",
            "the keyring hides half a pair",
            "cli/test_login.py",
        ),
        ("app_key={shown_key(self.app_key)!r})", "{self.app_key}, {self.app_secret})", "repr shows the secret"),
        (
            '("", "") if complaint',
            "(app_key, app_secret) if complaint",
            "the frame of AppCredentials shows a pasted pair",
        ),
        ("        del value  # a", "        # a", "the error for a changed attribute shows the secret"),
        ("return error.with_traceback(None)", "return error", "the frames of a complaint show the secret"),
        ("char.isascii() and (char.isalnum() or char in _MARKS_OF_KEYS)", "True", "a complaint shows key:secret"),
        ("if pair.count(None) == 1:", "if False:", "half a pair of the environment"),
        (
            "iscoroutinefunction(type(credentials).__call__)",
            "iscoroutinefunction(None)",
            "an async object as credentials",
        ),
        (
            "str.__str__(app_key), str.__str__(app_secret)",
            "app_key, app_secret",
            "an Enum is sent by its other text",
            _INJECTION,
        ),
    ),
    *_mutations(
        "_core/secret_files.py",
        ('.rstrip("\\r\\n")', ".strip()", "blanks are no part of a secret"),
        ('"utf-8-sig"', '"utf-8"', "a byte order mark is part of a secret"),
        ("|([^\\s'\"\\\\$`#]*))", "|([^\\s]*))", "a value that programs read differently is guessed"),
        ("if key is None or secret is None:", "if False:", "half a pair of a file"),
        ("(stat.S_IWGRP | stat.S_IWOTH)", "stat.S_IWOTH", "no warning if the group may write"),
        (", *(path.absolute().parent for path in files)", "", "no warning if others may replace a link"),
        (" and not mode & stat.S_ISVTX", "", "a warning for each volume of Kubernetes"),
        ("return error.with_traceback(None)", "raise", "a missing file shows the other one"),
        ("see line {error.lineno}", "{error.doc}", "bad JSON is shown"),
    ),
    *_mutations(
        "_core/system_keyring.py",
        (
            " and read() != (credentials.app_key, credentials.app_secret)",
            " and False",
            "a keyring that keeps nothing is trusted",
        ),
        ("{type(error).__name__}", "{error}", "the text of a keyring's error is shown"),
    ),
    *_mutations(
        "httpie.py",
        ('self.raw_auth = username or ""', "pass", "a session of HTTPie keeps the secret"),
        ("if self._app_key not in (None, found.app_key):", "if False:", "a session of HTTPie changes the application"),
        ("    if variables():", "    if True:", "HTTPie does not ask the keyring"),
    ),
    *_mutations(
        "pytest_plugin.py",
        (
            "dolby_sandbox_server.start().reset()",
            "dolby_sandbox_server.start()",
            "a sandbox keeps what an earlier test did",
        ),
        ("    _bypass_proxies(monkeypatch)\n", "", "a proxy disturbs the fixtures"),
        ('if hosts.strip() != "*":', "if True:", "the fixtures undo NO_PROXY=*"),
    ),
    *_mutations(
        "cli/account.py",
        ("    if name == own_key:", "    if False:", "the keyring's key meets half a pair"),
    ),
    *_mutations(
        "cli/login.py",
        (", hide_input=True", "", "a terminal shows the secret"),
        ("token_url=token_url).token()", "token_url=token_url)", "a wrong pair is stored"),
        ("        delete_tokens()\n", "        pass\n", "cached tokens outlive a logout"),
    ),
    *_mutations(
        "_core/endpoint.py",
        ("if len(response.body) > MAX_BODY:", "if False:", "more than 1 MiB is a token"),
        ('=*\\Z")', '=*$")', "a final newline in the token"),
        ("or not given > 0:", "or given <= 0:", "a life of NaN"),
        ("return self.expires_in", "return MAX_LIFE", "a missing life is not the one asked for"),
        ("except (ValueError, RecursionError):", "except ValueError:", "deep nesting raises"),
        ('if answer.get("error") is not None:', "if False:", "an error with a token is a token"),
        ("retryable=status == 429 or status >= 500", "retryable=status >= 500", "429 is final"),
        ('return self.url.partition("?")[0]', "return self.url", "the URL's query is shown"),
        ('return self.url[:5].lower() == "http:"', "return False", "a plain token request takes a proxy", _PROXIES),
    ),
    *_mutations(
        "_core/redaction.py",
        (".replace(basic(credentials), _HIDDEN)", "", "a Basic header is shown"),
        ("        hidden.append(credentials.app_key)\n", "        pass\n", "an echoed app key is shown", _FIRST_DAY),
        ('"".join(char.lower()[0] for char in text)', "text", "percent-encoding in small letters"),
        (
            "= max(ends[at + len(form)], found.get(at, 0))",
            "= min(ends[at + len(form)], found.get(at, 9**9))",
            "the end of a secret is shown",
        ),
        ("        if start >= place:\n", "        if True:\n", "a secret that overlaps itself"),
        ('        f"&#{code:03};",\n', "", "a quote escaped by PHP"),
        ('        f"\\\\u{code:04x}",\n', "", "JSON of encoders that escape more than they must"),
        ("        quote_plus(char),\n", "", "form-encoded"),
        ('        quote(quote(char, safe=""), safe=""),\n', "", "encoded twice"),
        ("        json.dumps(char)[1:-1],\n", "", "JSON"),
        ('        char.encode().decode("latin-1"),\n', "", "read as Latin-1"),
        ("printable(_SECRET_LIKE.sub(_HIDDEN, text))", "printable(text)", "long runs are shown"),
        ("        return _HIDDEN\n", "        pass\n", "a secret that is too long to search for is shown"),
        ("text[: -_LONGEST_FORM * _SEARCHABLE_SECRET] or _HIDDEN", "text", "half a secret at the cut is shown"),
    ),
    *_mutations(
        "_core/failures.py",
        ("retryable=retryable and not refused_certificate", "retryable=retryable", "a bad certificate is tried again"),
        ("except OverflowError:", "except ZeroDivisionError:", "an error number that is unknown raises"),
        ("return _looked_up(number)\n    text", "return str(error)\n    text", "the exception's own text is shown"),
        ("except Exception:  # noqa: BLE001 - a", "except AttributeError:  # a", "a property of an exception raises"),
        ("waiting += [candidate.__cause__, candidate.__context__,", "waiting += [", "wrapped causes are not told"),
        ("== _WAITS_FOR_ITSELF:", '== "":', "code that waits for itself is not named", _REENTRANCE),
        ("return from_library or", "return True or", "a mock's own exception is a network error", _ADAPTERS),
    ),
    *_mutations(
        "_core/entry.py",
        ("\nTRIES = 4", "\nTRIES = 5", "five tries"),
        ("* 2 ** (tries - 1)", "", "pauses between tries don't grow"),
        (", failure.retry_after or 0)", ", 0)", "Retry-After does not lengthen a pause"),
        ("max(_FIRST_PAUSE", "failure.retry_after or (_FIRST_PAUSE", "a short Retry-After shortens a pause"),
        ("or pause >= seconds_left:", ":", "a pause beyond the deadline"),
        ("if not failure.retryable or", "if", "final failures are tried again"),
        ("self._is_continued(now, lease) else 0) + 1", "True else 0) + 1", "a stale sequence goes on"),
        ("now < next_try if self.tries >= TRIES else", "", "a failed sequence goes on"),
        ("next_try + lease + _STALE", "next_try + lease", "a sequence is stale too early"),
        ("or self.failed_at > now + _SKEW:", "or False:", "a wrong clock blocks everyone"),
        ("        if self.is_charged:\n            return self\n", "", "shared: a token is charged twice"),
        ("self.full_at if is_possible else _NEVER", "self.full_at", "a wrong clock uses up the allowance"),
        ("return Entry(token, full_at=self.full_at)", "return Entry(token)", "shared: a token resets the allowance"),
        ("if self.failed_at >= moment else", "if True else", "shared: a failure from before invalidate counts"),
        ("max(token_end, self.full_at,", "max(token_end,", "an entry is dropped with its allowance"),
        ("max(token_end, self", "max(now, self", "an entry is dropped before its token"),
        (
            "_replace(memory=min(seconds, FAILURE_MEMORY_MAX))",
            "_replace(memory=None)",
            "shared: a failure is remembered anew by each process",
        ),
        ("min(seconds, FAILURE_MEMORY_MAX)", "seconds", "shared: a failure is remembered for a minute"),
        ("return min(needed_until - now, MAX_LIFE)", "return needed_until - now", "shared: an entry is kept for ever"),
        ("self._replace(tries=0,", "self._replace(token=None, tries=0,", "shared: invalidate deletes the token"),
        ("if seconds > _CLOCK_TICK else", "if seconds > 0 else", "a rounding error is a pause"),
    ),
    *_mutations(
        "_core/fetch.py",
        ("except KeyboardInterrupt:", "except ZeroDivisionError:", "an interrupt of credentials() is swallowed"),
        (
            "retryable=True)\n        except Exception",
            "retryable=False)\n        except Exception",
            "a reset is final",
            _ADAPTERS,
        ),
        (
            "except BaseException as error:  # noqa: BLE001 - this",
            "except Exception as error:  # this",
            "a SystemExit of credentials() ends the fetch",
        ),
        (
            "return AppCredentials(credentials.app_key, credentials.app_secret)",
            "return credentials",
            "credentials that have changed since they were made are not checked",
            _INJECTION,
        ),
        (
            "except Exception as error:  # noqa: BLE001 - hooks",
            "except OSError as error:  # hooks",
            "an error of a hook ends the fetch",
            _ADAPTERS,
        ),
    ),
    *_mutations(
        "_core/fetch.py",
        ("self._fetcher.chance() + is_late", "is_late", "shared: all wait for the same moment", _SHARED),
        ("is_late = tries", "is_late = False and tries", "shared: one without time ends the sequence of all", _SHARED),
        ("tries < TRIES - 1 and", "", "shared: the last try is made late", _SHARED),
        ("entry.tries > tries", "False", "shared: a look at the right moment is a try", _SHARED),
        ("max(lock_at, now", "(now", "shared: a failed try makes all ask for the lock", _SHARED),
        ("tries = entry.tries\n", "tries = 0\n", "shared: the pause is prolonged twice", _SHARED),
        ("                tries += is_held\n", "", "shared: a process is late after its own try", _SHARED),
        ("min(look * _LOOK_GROWTH, _LOOK_MAX)", "look", "shared: processes look too often", _SHARED),
        ("look * _LOOK_GROWTH, _LOOK_MAX", "look * _LOOK_GROWTH, 99", "shared: processes look too seldom", _SHARED),
        ("_LOCK_AGAIN + _LOCK_AGAIN_SPREAD * chance()", "0", "shared: each look asks for the lock", _SHARED),
        (
            "            return self._terms.present()\n        self._last",
            "            pass\n        self._last",
            "shared: denied late",
            _SHARED,
        ),
        ("if not self._terms.charge():", "if False:", "shared: a process has no allowance of its own", _SHARED),
        ("entry.charged(self._store.time(asked_at)) or entry", "entry", "shared: no allowance in the entry", _SHARED),
        ("if step != 0:", "if False:", "shared: the holder does not look again", _SHARED),
        (
            "return entry.next_step(self._store.time(now), self._lease)",
            "return 0.0",
            "shared: no pause after a try",
            _SHARED,
        ),
        ("self._last = entry.failure or self._last", "pass", "shared: a time-out hides the failure", _SHARED),
        ("max(0.0, min(wait, left))", "wait", "shared: a wait beyond the deadline", _SHARED),
    ),
    *_mutations(
        "_core/source.py",
        ("min(state.invalidated_at, clock.time())", "state.invalidated_at", "shared: the clock was set back", _SHARED),
        (
            "is_accepted and token.asked_at >= self.since",
            "is_accepted",
            "shared: a token from before invalidate",
            _SHARED,
        ),
    ),
    *_mutations(
        "caches/_sealing.py",
        ("entry), self._associated())", "entry), None)", "sealing: entries are not bound to their key"),
        ("sorted(endpoint.scope)", "endpoint.scope", "sealing: the order of scopes matters"),
        ("endpoint.expires_in, endpoint.url]", "endpoint.url]", "sealing: lifetimes share an entry"),
        ("[credentials.app_key, sorted", "[sorted", "sealing: app keys share an entry"),
        ("endpoint.expires_in, endpoint.url]", "endpoint.expires_in]", "sealing: token URLs share an entry"),
        ("len(sealed) > _MAX_ENTRY or ", "", "sealing: a huge entry is opened"),
        ("OverflowError, RecursionError)", "OverflowError)", "sealing: nested entries raise"),
        ("if not is_token(value) or", "if", "sealing: a token is not checked"),
        ("isinstance(life, bool) or ", "", "sealing: true is a lifetime"),
        ("not 1 <= life <= MAX_LIFE", "False", "sealing: any lifetime"),
        ("max(0.0, now.wall -", "(now.wall -", "sealing: a token from the future lives longer"),
        ("granted_scope(scope)", "frozenset(scope or ())", "sealing: scopes are not checked"),
        ("if not all(map(isinstance, failure, _KINDS_IN_FAILURE)):", "if False:", "sealing: failures are not checked"),
        ("_MAX_PAUSE)),\n", "1e9)),\n", "sealing: a pause of years"),
        ("isinstance(value, bool) or not", "not", "sealing: true is a number"),
        ("os.urandom(_NONCE)", "bytes(_NONCE)", "sealing: equal nonces"),
        ("None if granted is None else _token(granted, now, chance())", "None", "sealing: no token is found"),
    ),
    *_mutations(
        "caches/_shared.py",
        ("now + _LEFT_ALONE", "now", "shared: a cache in trouble is asked again"),
        ("if not self._in_trouble:", "if True:", "shared: a warning with each failure"),
        ("        self._in_trouble = False\n\n\n", "        pass\n\n\n", "shared: one warning for ever"),
        ("(opened or self._entry)", "(opened or Entry())", "shared: a lost entry loses the sequence"),
        (".since(self._since)", "", "shared: a failure from before invalidate"),
        ("now.monotonic < self._held_until.monotonic and", "", "shared: an ended lease, monotonic"),
        ("and now.wall < self._held_until.wall", "", "shared: an ended lease, wall clock"),
        ("held.pop_all().close, always=True", "held.pop_all().close", "shared: a slow cache keeps the lock"),
        (
            "end if is_answered and is_held else _NEVER",
            "end if is_answered and is_held else self._held_until",
            "shared: an earlier lease",
        ),
        ("if is_answered else True", "if is_answered else False", "shared: without a cache nobody asks"),
        (
            "            raise\n        except BaseException",
            "            pass\n        except BaseException",
            "shared: interrupts are swallowed",
        ),
        ("except BaseException as error:", "except Exception as error:", "shared: odd exceptions end the fetch"),
        ("self._seconds_lost > _BUDGET", "False", "shared: a slow cache is used on"),
        (
            "self._seconds_lost += max(",
            "self._seconds_lost = max(",
            "shared: each operation has a second",
        ),
        ("now - began - _NORMAL", "now - began", "shared: a long wait uses up the time of the cache"),
        ("self._ask(self._announce_end, always=True)", "pass", "shared: the end is not announced"),
        ("if not self._had_trouble:", "if True:", "shared: a warning with each fetch"),
        ("and not isinstance(sealed, bytes)", "and False", "shared: an entry of another type"),
        (
            "(self._cache, self._endpoint, self._credentials)",
            "(self._cache, self._endpoint, self._seal and self._seal[0])",
            "shared: a pickle holds a vault's secret",
        ),
    ),
    *_mutations(
        "_core/cutoff.py",
        ("            self.passed = True\n", "", "an answer that was cut off is not called a time-out"),
        ("            wait = _INTERVAL\n", "            return\n", "a connection made at the deadline escapes"),
    ),
    *_mutations(
        "_core/decoding.py",
        ("decompress(body, limit)", "decompress(body)", "a bomb is decoded", _COST),
        ("result if decoder.eof or len(result) == limit else b", "result or b", "an answer that was cut off is read"),
        ('"deflate": (15, -15)', '"deflate": (15,)', "deflate without a header"),
    ),
    *_mutations(
        "_core/silence.py",
        ('name.partition(".")[0] in libraries', "name in libraries", "loggers below are not silenced"),
        ("_sending = threading.local()", "_sending = _Silence()", "other threads are silenced"),
    ),
    *_mutations(
        "_core/forks.py",
        ("unforkable.acquire,", "lambda: unforkable.acquire(blocking=False),", "a fork does not wait", _PROCESS),
        ("weakref.WeakSet[Resettable] = weakref.WeakSet()", "set[Resettable] = set()", "auth objects are never freed"),
    ),
    *_mutations(
        "_core/auth.py",
        ("stacklevel=3", "stacklevel=2", "the warning is not in the user's code", _ADAPTERS),
        ('"_source": self._source.without_token(), ', "", "a copy shares the token"),
        ("if name != self._memory", "", "a pickle has the origins that were met", _KEPT),
    ),
    *_mutations(
        "_core/errors.py",
        ("_rebuild, (type(self), str(self), self.__dict__", "type(self), (str(self),", "a pickled error has no fields"),
        ('char if char.isprintable() else "\\N{REPLACEMENT CHARACTER}"', "char", "control characters forge log lines"),
    ),
    *_mutations(
        "_requests/resend.py",
        (
            "body.write(raw.read1(",
            "body.write(chunk := raw.read1(",
            "a dump of the frame shows the body of a refusal",
            _SECRETS,
        ),
        ("            _limit_reads(raw)\n", "", "a body that never comes keeps the retry waiting", _REQUESTS),
        (
            "min(sock.gettimeout() or _BODY_SECONDS, _BODY_SECONDS)",
            "_BODY_SECONDS",
            "a call's own timeout is lengthened",
            _REQUESTS,
        ),
        (" and not consumed:", ":", "a body that an adapter has read is lost", _REQUESTS),
        ("requote_uri(parsed.geturl())", "requote_uri(url)", "a redirect is read without its last step", _URLS),
        ("if moved and (length is None or", "if (length is None or", "a file that does not move is sent again"),
        ("== super_len(body))", "<= super_len(body))", "a file that grew is sent again"),
        ("        rewind_body(request)\n", "        body.seek(0)\n", "files are rewound to their beginning"),
        ("except Exception:  # noqa: BLE001 - a generator", "except OSError:  # a generator", "a file's error escapes"),
        (
            "hanging request.\n        return f",
            "hanging request.\n        return None and f",
            "generators are sent again",
        ),
        ("_BODY_SECONDS = 1 << 16, 5.0", "_BODY_SECONDS = 1 << 16, 6.0", "a refused body is read for 6 s", _REQUESTS),
        ("read1(_BODY_BYTES, decode_content=True)", "read1(_BODY_BYTES)", "gzip in history is not decoded", _REQUESTS),
        (
            'if probe.headers.get("Cookie") == request.headers.get("Cookie"):',
            "if True:",
            "a Cookie header of the user is replaced",
            _REQUESTS,
        ),
    ),
    *_mutations(
        "_requests/sender.py",
        ("except OSError as error", "except ZeroDivisionError as error", "no CA bundle"),
        ("    if response.is_redirect:\n", "    if False:\n", "the body of a redirect is read", _FAULTS),
        ('with silenced("requests", "urllib3"):', 'with silenced("requests"):', "urllib3 logs the token URL", _SECRETS),
        ("session.trust_env = not request.is_plain", "session.trust_env = True", "a proxy reads the secret", _PROXIES),
        (
            "no_answer(TimeoutError(), retryable=True, settings=_OWN_SETTINGS) if cutoff.passed else outcome",
            "outcome",
            "an answer that was cut off is not called a time-out",
            _FAULTS,
        ),
        ("    urllib3.exceptions.TimeoutError,\n", "", "time-outs of the body are final", _FAULTS),
        ("except requests.HTTPError as error:", "except KeyError as error:", "a hook that raises hides the status"),
        ("auth=_prepared", "auth=None", ".netrc replaces the Basic credentials"),
        ("if consumed or not isinstance", "if not isinstance", "an answer that a hook has read is lost"),
        (
            'response.headers.get("Retry-After"),\n            _body',
            "None,\n            _body",
            "Retry-After is not read",
            _FAULTS,
        ),
        ("decode_content=False", "decode_content=True", "an answer is decoded twice", _FAULTS),
        ("body.write(raw.read1(", "body.write(chunk := raw.read1(", "a dump of the frame shows the answer", _SECRETS),
    ),
    *_mutations(
        "_requests/connections.py",
        ("    with unforkable:\n", "    if True:\n", "a fork while a TLS context is made", _PROCESS),
        ('if proxy.lower().startswith("https:"):', "if True:", "no token through a SOCKS proxy", _PROXIES),
        ("self.set_debuglevel(0)", "pass", "http.client prints the Basic header", _SECRETS),
        (
            "pool.ConnectionCls = _watched_class(pool.ConnectionCls, self._cutoff)",
            "plain = pool.ConnectionCls\n        pool.ConnectionCls = lambda **k: _watched_class(plain, self._cutoff)(**k)",
            "vcrpy needs a class of connections",
            _RECORDINGS,
        ),
        ("cutoff.watch(lambda: self.sock)", "pass", "a server that drips keeps the thread", _FAULTS),
        ("create_urllib3_context(", "create_urllib3_context(cert_reqs=ssl.CERT_NONE", "certificates are not verified"),
        (
            'proxy_kwargs["proxy_ssl_context"] = tls_context(ca_bundle())',
            "pass",
            "the certificate of a proxy is verified otherwise",
        ),
    ),
    *_mutations(
        "requests.py",
        (
            "app_secret, credentials, cache\n        self",
            "app_secret, cache\n        self",
            "the frame of the constructor shows a callable",
            _SECRETS,
        ),
        (
            "        del app_key, app_secret, credentials, cache\n",
            "",
            "the frame of the constructor shows the secret",
            _SECRETS,
        ),
        (
            ", credentials, cache\n",
            ", credentials\n",
            "the frame of the constructor shows the URL of a cache",
            _SECRETS,
        ),
        (
            "token = self._source.ready() if url",
            "token = self._source._state.ready[0] if url",
            "a token that is used up goes to a remembered origin",
        ),
        ("any(name is self._header_name for", "any(name == self._header_name for", "another's header counts as ours"),
        ("if not self._is_ours(request) or not", "if not", "a header of the user is replaced"),
        ("return is_present or any(", "return any(", "no 401 is healed in HTTPie", "plugins/test_httpie.py"),
        (
            '        if "Authorization" in request.headers:\n            token',
            '        if "Authorization" not in request.headers:\n            return False\n        else:\n            token',
            "no healing after a redirect to another allowed host",
            _BODIES,
        ),
        ("if not url[:1].isalpha():", "if False:", "control characters in front of the scheme", _URLS),
        ("[:3])}/", "[:3])}", "a host that begins like an allowed one gets the token"),
        ('and "@" not in prefix ', "", "a password is remembered", _KEPT),
        ("and not self._origins.path_matters(origin):", ":", "the path of the token endpoint is remembered"),
        ("            hooks.insert(0, self._hook)\n", "            hooks.append(self._hook)\n", "hooks see the 401"),
        (
            "            self._remove_hook(request, self._hook)\n",
            "",
            "the token comes back after a foreign host",
            _REDIRECTS,
        ),
        (
            "        self._remove_hook(request, self._hooks.answered_without_token)\n",
            "",
            "a 401 after a redirect is explained",
            _FIRST_DAY,
        ),
        (
            "in_caller=is_from_a_mock(response)",
            "in_caller=False",
            "the fetch of a hook waits for a mock's lock",
            "adapters/test_mocks.py",
        ),
        (
            'request.hooks = {**request.hooks, "response": others}',
            'request.hooks["response"] = others',
            "the user's request loses its hook",
        ),
        ("        if response.is_redirect:\n", "        if False:\n", "a redirect takes the token to its endpoint"),
        (
            "            response.request = request.copy()\n            del",
            "            del",
            "history shows a request without the token that it had",
            _REDIRECTS,
        ),
        ("error.request = without_secrets(", "error.request = (", "the request of an error has the body"),
        ("is token.authorization:\n", "is None:\n", "a token that stays is sent again"),
        ("response.close()\n        # `history`", "# `history`", "a streamed refusal keeps its connection"),
        ("        response.request = request.copy()\n        take", "        take", "history shows the new token"),
        ("[*response.history, response]", "[response]", "responses before the 401 are lost from history"),
        ("return _Hooks, (None,)", "return _Hooks, (self._act,)", "a pickled response has the secret", _SECRETS),
        (" or allow_redirects is not None:", ":", "hooks called again after redirects send a 401 again", _CACHES),
        (
            "if response.history and response.history[-1].status_code == 401:",
            "if False:",
            "hooks called again for a prepared request send a 401 again",
        ),
    ),
    *_mutations(
        "_httpx/resend.py",
        (
            "for _ in map(body.write, self._stream):\n",
            "for chunk in self._stream:\n                body.write(chunk)\n",
            "a dump of the frame shows the body of a refusal, sync",
            _SECRETS,
        ),
        (
            "body.write(await anext(stream))",
            "body.write(chunk := await anext(stream))",
            "a dump of the frame shows the body of a refusal, async",
            _SECRETS,
        ),
        *(
            (
                f"with suppress(Exception), self._limited_reads():\n            {loop}",
                f"with suppress(Exception):\n            {loop}",
                f"a body that never comes keeps the retry waiting, {flow}",
                _HTTPX,
            )
            for flow, loop in (("sync", "for _ in map"), ("async", "async with"))
        ),
        ("if read is None else min(read, _BODY_SECONDS)", "", "a call's own timeout is lengthened", _HTTPX),
        (
            '            self._extensions["timeout"] = timeout\n',
            "            pass\n",
            "the retry has the timeout of the refused body",
            _HTTPX,
        ),
        ("not isinstance(stream, multipart)", 'not hasattr(stream, "fields")', "a stream of the user is sent again"),
        ("not all(_rewound(", "not any(_rewound(", "one file that can be rewound is enough"),
        ('stream.get_headers().get("Content-Length") !=', "None and", "a file of another size is sent again"),
        ("return bool(file.tell() == 0)", "return True", "a file that does not move is sent again"),
        ("except Exception:  # noqa: BLE001 - an", "except OSError:  # an", "a file's error escapes"),
        (
            '{pair.partition("=")[0]: pair for pair in pairs}.values()',
            "pairs",
            "the old cookie is sent beside the new one",
            _HTTPX,
        ),
        ("_BODY_SECONDS = 1 << 16, 5.0", "_BODY_SECONDS = 1 << 16, 6.0", "a refused body is read for 6 s", _HTTPX),
        ("except self._library.DecodingError:", "except KeyError:", "a refusal that can't be decoded", _HTTPX),
        (
            "                        await self._stream.aclose()\n",
            "                        break\n",
            "trio warns of a suspended stream",
            _HTTPX2,
        ),
    ),
    *_mutations(
        "_httpx/auth.py",
        *(
            _flow(kind, signature, part, check)
            for kind, signature in (
                ("sync", "sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]"),
                ("async", "async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]"),
            )
            for part, check in (
                ("scheme", "url.scheme != scheme"),
                ("host", "url.raw_host != raw_host"),
                ("port", "url.port != port"),
            )
        ),
        (
            "again.history = [*before, *again.history]\n\n    def",
            "again.history = list(again.history)\n\n    def",
            "redirects before the 401 are lost from history, async",
            _BODIES,
        ),
        (
            "replacement = self._obtain(host, response.request)\n                if not (",
            "replacement = self._obtain(host, response.request)\n                if True or (",
            "a token that stays is sent again",
        ),
        (
            "sends again.\n                    again.history = [*before, *again.history]",
            "sends again.\n                    again.history = list(again.history)",
            "redirects before the 401 are lost from history",
            _BODIES,
        ),
        ("closing.__context__", "None", "a 401 for which a hook raises is not noted, sync"),
        ("self._note_raised_refusal(sys.exception(), token)", "", "a 401 for which a hook raises is not noted, async"),
        ('url.raw_host.decode("ascii")', "url.host", "another host than the one that is dialled"),
        ("and not self._origins.path_matters(origin):", ":", "the token endpoint gets the token", _URLS),
        ("None if connect is None or read is None else connect + read", "None", "timeouts of a request are ignored"),
        (
            "            if not all(self._allowed_host(hop.request) for hop in response.history):\n",
            "            if False:\n",
            "the token comes back after a foreign host",
            _REDIRECTS,
        ),
        ("elif not _carries(request, token) or not self", "elif not self", "a header of the user is replaced"),
        ("stream=request.stream, extensions", "stream=None, extensions", "the request in history has no body"),
        (") and error.response.status_code == 401:", "):", "a 500 for which a hook raises costs the token"),
        ('extensions.get("target", request.url.raw_path)', "url.raw_path", "a target of its own is ignored", _URLS),
    ),
    *_mutations(
        "_httpx/sender.py",
        (
            "    with unforkable:\n        return create(",
            "    return create(",
            "a fork while a TLS context is made",
            _PROCESS,
        ),
        (
            "is_https, *map(os.environ.get, _CA_VARIABLES))",
            "is_https)",
            "a CA bundle named later",
        ),
        ("verify=context, ", "verify=is_https and context, ", "a fork while a client makes a TLS context", _PROCESS),
        (
            "except OSError as error:\n            return",
            "except ZeroDivisionError as error:\n            return",
            "no CA bundle",
        ),
        ("response.iter_raw() if is_raw else", "", "an answer is decoded without a limit", _COST),
        ("trust_env=not request.is_plain", "trust_env=True", "a proxy reads the secret", _PROXIES),
        (
            'cutoff.watch(lambda: stream.get_extra_info("socket"))',
            "pass",
            "a server that drips keeps the thread",
            _FAULTS,
        ),
        ("except library.HTTPStatusError as error", "except KeyError as error", "a hook that raises hides the status"),
        ("if not is_network_error(error, library.__name__):", "if False:", "a mock's own exception is a network error"),
        ("retryable=not final,", "retryable=final,", "network errors are final", _FAULTS),
        (
            "params=type(client.params)(urlsplit(request.url).query) if client.params else None,",
            "",
            "parameters of a lent client replace those of the URL",
            _INJECTION,
        ),
        ("        auth=None,\n", "", "the auth of a lent client replaces the Basic credentials"),
        (
            "for _ in map(body.write, response.iter_raw() if is_raw else response.iter_bytes()):",
            "for chunk in response.iter_raw():\n        body.write(chunk)",
            "a dump of the frame shows the answer",
            _SECRETS,
        ),
        ("return create(verify=verify)", "return create(verify=False)", "certificates are not verified", _FAULTS),
    ),
    *_mutations(
        "_httpx/waiting.py",
        ("        trio.lowlevel.current_task()\n", "", "an asyncio task waits on the event of a trio guest"),
        ("trio.move_on_after(seconds)", "trio.move_on_after(1000)", "a task waits for ever, trio", _HTTPX2),
        ("loop.call_later(seconds, resolve)", "loop.call_later(1000, resolve)", "a task waits for ever, asyncio"),
        ("with suppress(RuntimeError):", "with suppress(KeyError):", "a closed loop breaks the fetch, asyncio"),
        ("with suppress(trio.RunFinishedError):", "with suppress(KeyError):", "a closed loop breaks the fetch, trio"),
    ),
    *_mutations(
        "caches/redis.py",
        (
            "return redis.call('DEL', KEYS[1]) end return 0",
            "return 0 end return redis.call('DEL', KEYS[1])",
            "a wrong holder",
        ),
        ("== ARGV[1]", "~= ''", "a holder whose lock has ended frees the next one"),
        (
            "            if is_held:\n",
            "            if True:\n",
            "a caller without the lock releases it",
            "caches/test_redis.py",
        ),
        ('"NX", "PX"', '"PX"', "a lock has two holders"),
        ('"NX", "PX", _milliseconds(seconds))', '"NX")', "a lock does not end"),
        (', entry, "PX", _milliseconds(seconds))', ", entry)", "an entry is kept for ever"),
        ("max(1, round(seconds * 1000))", "round(seconds * 1000)", "Redis refuses a short life"),
        ("with suppress(Exception):", "with suppress(KeyError):", "a failed release hides the exception of the holder"),
        (", NEVER_DECODE=True", "", "a lent client makes text of entries"),
        ("if entry is not None and not isinstance(entry, bytes):", "if False:", "a number is an entry"),
        ("if answer is not None and answer is not True:", "if False:", "any answer to SET is OK"),
        ("            del client_or_url\n", "", "a traceback with local variables shows the password"),
        ("        self._client.close()\n", "        pass\n", "a socket stays open between fetches"),
        ('if any(".asyncio." in', 'if False and any(".asyncio." in', "an async client is taken"),
        (
            "    if not isinstance(self._client, UrlClient):\n            raise TypeError(",
            "    if False:\n            raise TypeError(",
            "the message of pickle says nothing about the URL",
        ),
    ),
    *_mutations(
        "caches/redis_client.py",
        ("rpartition('@')[2]", "strip()", "repr shows the password"),
        ("if self._left <= 0:", "if False:", "a slow Redis slows down every operation"),
        ("Cutoff(self._left + _NORMAL)", "Cutoff(60)", "a drip has no end"),
        ("self._left -= max(0.0, time.monotonic() - began - _NORMAL)", "pass", "the time of operations is not summed"),
        ("time.monotonic() - began - _NORMAL)", "time.monotonic() - began)", "many fast operations use up the budget"),
        ("self._threads.__dict__.pop(", "self._threads.__dict__.get(", "the next fetch has no new budget"),
        (
            "self._threads = threading.local()",
            'self._threads = type("", (), {})()',
            "the end of a fetch disturbs other threads",
        ),
        (
            "connection.driver_info = connection.lib_name = connection.lib_version = None",
            "pass",
            "CLIENT SETINFO is sent",
        ),
        ('        "protocol": 2,\n', "", "the URL decides about the protocol"),
        ('        "retry": Retry(NoBackoff(), 0),\n', "", "the URL asks for a retry"),
        ('        "socket_timeout": _BUDGET + _NORMAL,\n', "", "a silent TLS handshake takes the time in the URL"),
        ('return self._connection and getattr(self._connection(), "_sock", None)', "return None", "no socket is found"),
        ('"@" not in parts.path + parts.query and "#" not in url', "True", "a part of a password becomes the host"),
        ("connection_pool.make_connection()", "connection_pool", "unknown options are found in the first fetch"),
        ("weakref.ref(connection)", "lambda: connection", "a thread that ended keeps its socket"),
    ),
    *_mutations(
        "caches/file.py",
        (
            "temporary(self.path)\n        try:",
            "self.path / key\n        remove([unfinished])\n        try:",
            "torn entries",
        ),
        ("            remove([unfinished])\n", "", "a full disk fills with temporary files"),
        ("file.read(_LARGEST_ENTRY + 1)", "file.read()[:0]", "entries are not read"),
        ("entry if len(entry) <= _LARGEST_ENTRY else None", "entry", "an entry of any size is read"),
        ("time.time() + seconds", "time.time()", "an entry is removed while it is needed"),
        ("age > _ABANDONED and is_temporary(path)", "is_temporary(path)", "a file that is being written is removed"),
        ("            if is_held:\n", "            if True:\n", "an entry is removed while its holder replaces it"),
        (
            "if time.time() - entry.lstat().st_mtime > _UNUSED:",
            "if True:",
            "a new entry is removed instead of the old one",
        ),
        ("if not stat.S_ISDIR(path.lstat().st_mode):", "if True:", "clear touches locks"),
        ("            self._tidy()\n        return", "        return", "clear leaves what killed processes left"),
        ("retry(path.unlink)", "path.resolve().unlink()", "clear follows links"),
        (
            "            check(self.path)\n            with open",
            "            with open",
            "the folder of another user is read",
        ),
    ),
    *_mutations(
        "caches/lease.py",
        ("float(started) <= time", "time", "a lease from before a restart holds"),
        ("not float(started) <= time.monotonic() < float(started) + float(seconds)", "False", "a lease never ends"),
        (
            "            if lock_descriptor(file.fileno(), blocking=False):\n                return True",
            "            pass",
            "killed",
        ),
        ("        held.lock()\n", "", "two holders of one lock"),
        (
            "lease.rename(lease",
            "lease.with_name(lease.name).exists() and lease.rename(lease",
            "a slow caller gets a lock too",
        ),
        ("        held.release()\n        raise", "        raise", "a lock that was not acquired leaves its file"),
        ("    remove(files)\n    return held", "    return held", "lock files pile up"),
        ("st_mtime < listed_at - _SETTLED:", "st_mtime:", "a lock is removed while its lease is renamed"),
        ("            remove([*files, folder])\n", "            pass\n", "a lock without a lease is never usable"),
        ("        if not folder.exists():\n            raise", "        pass", "a full disk looks like another holder"),
        ("        with unforkable:\n", "        if True:\n", "a fork before the child knows the file"),
        ("            reset_in_children(self)\n", "", "a child releases the lock of its parent"),
    ),
    *_mutations(
        "caches/private.py",
        ("if stat.S_ISLNK(status.st_mode):", "if False:", "a symbolic link is called something else"),
        ("status = path.lstat()", "status = path.stat()", "symbolic links are followed"),
        ("elif not is_expected(status.st_mode):", "elif False:", "a folder is not a folder"),
        ("status.st_uid != os.geteuid()", "False", "files of other users"),
        ("stat.S_IWGRP | stat.S_IWOTH", "stat.S_IWOTH", "files that a group may change"),
        ('getattr(os, "O_NOFOLLOW", 0), 0o600', 'getattr(os, "O_NOFOLLOW", 0), 0o666', "files are public at first"),
        ("path.mkdir(0o700)", "path.mkdir()", "folders are public at first"),
        ("path.chmod(0o600)", "pass", "the umask makes files unusable"),
        ("path.chmod(0o700)", "pass", "the umask makes folders unusable"),
        ("except PermissionError:", "except KeyError:", "a file that is open on Windows"),
    ),
    *_mutations(
        "sandbox/_observer.py",
        (" and not transport.is_closing()", "", "a dropped request is reported with a status"),
        ('path if path.startswith("/") else "-"', "path", "a report shows the password in a whole URL"),
    ),
    *_mutations(
        "cli/output.py",
        (
            "raise click.ClickException(str(error)) from None\n            except",
            "raise\n            except",
            "a traceback",
        ),
        ("{described(error)}. This", "{error!r}. This", "an unexpected error shows its text"),
        ("if sys.flags.dev_mode:", "if False:", "an unexpected error has no traceback ever"),
        (", BrokenPipeError):", "):", "the end of a pipe is an error"),
        (
            "        warnings.showwarning = lambda message, *_, **__: _warn(str(message))\n",
            "",
            "a warning has two lines",
        ),
        ("        logger.addHandler(handler)\n", "", "a cache in trouble says nothing"),
        ("            logger.removeHandler(handler)\n", "            pass\n", "warnings are shown twice"),
        ('f"Warning: {text}", err=True', 'f"Warning: {text}"', "a warning is taken for a token"),
        ('stream.reconfigure(errors="replace")', "pass", "an encoding without ticks is an error", "cli/test_check.py"),
        ("highlight=False, emoji=False, width=_WIDTH", "emoji=False, force_terminal=True", "a pipe gets colours"),
    ),
    *_mutations(
        "cli/auth.py",
        ('" ".join(scopes) if scopes else None', '" ".join(scopes) or None', "an empty scope is an unrestricted token"),
        ("            expires_in=expires_in,\n", "", "the lifetime is not asked for"),
        ("            token_url=token_url,\n", "", "the token URL is ignored"),
        ("account = find(app_secret_file)", "account = find()", "the file with the secret is ignored"),
        ('os.environ.get("REDIS_URL") or ', "", "REDIS_URL is ignored"),
    ),
    *_mutations(
        "cli/token.py",
        ("if not token.is_fresh(Instant.now(time)):", "if False:", "a token is printed that expires at once"),
        ("    auth._source.join_fetch(_PATIENCE)", "    pass", "the renewal ends with the process"),
        ("join_fetch(_PATIENCE)", "join_fetch(30)", "a silent endpoint delays a token that is still good"),
        ('"Authorization: {token.authorization}"', '"Authorization: {token.value}"', "a header without Bearer"),
    ),
    *_mutations(
        "cli/cache.py",
        ("    with complaints_in_one_line():\n", "    if True:\n", "a folder that is no cache is an error in code"),
        ("removed = cache.clear()", "removed = 1", "nothing is deleted"),
    ),
    *_mutations(
        "cli/check.py",
        ("context.exit(0 if passed else 1)", "context.exit(0)", "a failure does not change the exit status"),
        ("is not False for", "for", "what was not checked is a failure"),
        ("[output.options.ascii_only]", "[0]", "an encoding without ticks gets question marks"),
    ),
    *_mutations(
        "cli/checks.py",
        ("        outcome = code_error(error, ", "        raise SystemExit(", "an error in code ends the check"),
        ("    if is_no_answer(outcome):", "    if outcome:", "the check blames the network for an error in code"),
        ("exchange.before.wall - 1, exchange", "exchange.before.wall + 99, exchange", "a clock that agrees is ahead"),
        ("if abs(ahead) <= _CLOCK_TOLERANCE:", "if ahead <= _CLOCK_TOLERANCE:", "a clock that is behind agrees"),
        ("Check(name, None, ", "Check(name, False, ", "what was not checked has failed"),
        (
            "hosts_or_default(None), DEFAULT_TOKEN_URL",
            "(), DEFAULT_TOKEN_URL",
            "DOLBYIO_ALLOWED_HOSTS is not looked at",
        ),
        ("if account is not None:", "if False:", "no credentials are sent"),
        ("malformed or _scopes(asked, token)", "_scopes(asked, token)", "a malformed scope passes"),
        ("*unknown(absent)", "", "an unknown scope is not explained"),
    ),
    *_mutations(
        "cli/sandbox.py",
        ("(signal.SIGINT, signal.SIGTERM)", "(signal.SIGINT,)", "SIGTERM ends it without its last words"),
        ("        with complaints_in_one_line():\n", "        if True:\n", "a port in use is an error in code"),
        ("port=port, ", "", "the port is ignored"),
    ),
    *_mutations(
        "cli/demo.py",
        ("report.run(progress, trials, seconds)", "report.run(output, trials, seconds)", "stdout has the progress"),
        ("if not live and (app_secret_file or token_url):", "if False:", "a token URL without --live is ignored"),
    ),
]


def occurrences(mutation: Mutation) -> int:
    """How often the old text stands in its file: once, or the mutation must be adapted."""
    return (ROOT / "dolby_auth_plugin" / mutation.file).read_text().count(mutation.old)


def mutated(mutation: Mutation, folder: Path = ROOT) -> str:
    """The file with the mutation, in a copy of the project in *folder*."""
    return (folder / "dolby_auth_plugin" / mutation.file).read_text().replace(mutation.old, mutation.new)


def files_to_test(mutation: Mutation) -> list[Path]:
    """The test files of a mutation, those that there are."""
    return [file for name in mutation.tests.split() if (file := ROOT / "tests" / name).exists()]


def run_tests(
    folder: Path, files: Iterable[Path], *options: str, seconds: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run these test files in a copy of the project in *folder*, for at most *seconds*."""
    names = [str(file.relative_to(ROOT)) for file in files]
    command = [sys.executable, "-m", "pytest", "-x", "--tb=short", *options, *names]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)


def noticed_by(mutation: Mutation, folder: Path) -> str | None:
    """The test that fails with the mutation, in a copy of the project in *folder*. None: the tests pass, or none ran."""
    path = folder / "dolby_auth_plugin" / mutation.file
    original = path.read_text()
    path.write_text(mutated(mutation, folder))
    # Python compares the size of the source and its time in whole seconds: it might take this file for the last one.
    Path(cache_from_source(str(path))).unlink(missing_ok=True)
    try:
        done = run_tests(folder, files_to_test(mutation), "-n", "0", seconds=_TIMEOUT)
    except subprocess.TimeoutExpired:
        return "the time limit"
    finally:
        path.write_text(original)
    if done.returncode not in _FAILED:
        return None
    return next((line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))), "no test")


def run(mutations: list[Mutation], folders: list[Path]) -> list[Mutation]:
    """Those of the mutations that survive; one at a time in each of *folders*."""
    survivors: list[Mutation] = []

    def one(mutation: Mutation) -> None:
        folder = folders.pop()
        began = time.monotonic()
        test = noticed_by(mutation, folder)
        folders.append(folder)
        if test is None:
            survivors.append(mutation)
        verdict = f"noticed by {test}" if test else "SURVIVES"
        print(f"{time.monotonic() - began:5.1f} s  {mutation.file}: {mutation.why}: {verdict}", flush=True)

    with ThreadPoolExecutor(len(folders)) as pool:
        list(pool.map(one, mutations))
    return survivors


def main(words: list[str]) -> int:
    """Run the mutations that *words* choose. The exit status is 1 if one survives."""
    # A shell starts a background command with SIGINT ignored, and tests inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    chosen = [one for one in MUTATIONS if not words or any(word in f"{one.file} {one.why}" for word in words)]
    if not chosen:
        print("no such mutation")
        return 1
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary) / str(number) for number in range(os.cpu_count() or 1)]
        for folder in folders:
            shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info"))
        # Tests that fail without a mutation would seem to notice them all.
        unchanged = run_tests(folders[0], sorted({file for one in chosen for file in files_to_test(one)}))
        if unchanged.returncode:
            print(unchanged.stdout[-3000:], "some tests fail without a mutation", sep="\n")
            return 1
        survivors = run(chosen, folders)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutations noticed")
    for survivor in survivors:
        print(f"survives: {survivor.file}: {survivor.why}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
