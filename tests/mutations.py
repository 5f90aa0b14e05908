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
_PROCESS = "promises/test_process.py"
_PROXIES = "promises/test_proxies.py"
_FIRST_DAY = "promises/test_first_day.py"
_REDIRECTS = "promises/test_redirects.py"
_SECRETS = "promises/test_secrets.py"
_URLS = "promises/test_urls.py"
_KEPT = "promises/test_kept.py"
_INJECTION = "promises/test_injection.py"
_REENTRANCE = "promises/test_reentrance.py"
_CACHES = "tools/test_caches.py"
_OPENTELEMETRY = "tools/test_opentelemetry.py"
_RECORDINGS = "tools/test_recordings.py"

# The test files for each module of the package, the most likely one to notice a mutation first. A mutation may name its own.
TESTS = {
    "_core/state.py": _CORE,
    "_core/source.py": f"{_CORE} promises/test_cancellation.py {_PROCESS}",
    "_core/backoff.py": _CORE,
    "_core/refusals.py": "core/test_refusals.py",
    "_core/token.py": "core/test_token.py core/test_source.py",
    "_core/hosts.py": f"core/test_hosts.py {_URLS}",
    "_core/origins.py": "core/test_hosts.py",
    "_core/scope.py": "core/test_scope.py",
    "_core/credentials.py": f"core/test_credentials.py {_SECRETS}",
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
        ("if token is None or not token.is_good(now):", "if token is None:", "expired tokens are handed out"),
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
        ("not self._is_charged:\n            # The", "False:\n            # The", "a mark stays without a replacement"),
        ("token.fingerprint != fingerprint:", "False:", "a late 401 marks a newer token"),
        ("self._is_charged = self._allowance.spend(now.monotonic)", "self._is_charged = True", "no allowance"),
        ("not self._is_charged:\n            self.", "True:\n            self.", "a token is charged twice"),
        ("if not self._is_charged and self.fetch is None:", "if not self._is_charged:", "a running renewal is ignored"),
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
        ("elif fetch.is_renewal:", "elif False:", "no pause after a renewal that left the token"),
        ("                self._begin(now, is_renewal=True)", "                pass", "no renewals"),
        ("not self._is_charged:\n            # The", "True:\n            # The", "a failed fetch drops the marks"),
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
        "_core/source.py",
        (
            "context = contextvars.copy_context()",
            "context = contextvars.Context()",
            "a fetch lacks the context of the caller",
            _OPENTELEMETRY,
        ),
        ("            if self.fetch.ended:\n                wake()\n", "", "a caller that comes after the end sleeps"),
        ("            self.fetch.waiters.pop(wake, None)\n", "            pass\n", "waiters pile up"),
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
        ("        _wake(fetch)\n        if too_late:\n", "        if too_late:\n", "the end of a fetch wakes nobody"),
        (
            "elif fetch.is_renewal and fetch.outcome is not None:",
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
            "            if overdue is not None:\n                _wake(overdue)\n",
            "            if overdue is not None:\n                _wake(overdue)\n                _warn_of_renewal(out_of_time(1))\n",
            "the log handler of an overdue renewal waits for itself",
            _REENTRANCE,
        ),
        (
            "        _wake(fetch)\n        if too_late:\n",
            '        logger.info("token")\n        _wake(fetch)\n        if too_late:\n',
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
        ("max(self._full_at, now)", "self._full_at", "a rest saves up without limit"),
    ),
    *_mutations(
        "_core/token.py",
        ("_TRAVEL_SHARE, _TRAVEL_MAX = 1 / 20, 5.0", "_TRAVEL_SHARE, _TRAVEL_MAX = 0, 0.0", "no travel margin"),
        ("_RENEWAL_SHARE, _RENEWAL_MAX = 1 / 5, 300.0", "_RENEWAL_SHARE, _RENEWAL_MAX = 1.0, 300.0", "fetch per call"),
        ("LATEST_RENEWAL = 1.0, 0.7", "LATEST_RENEWAL = 1.0, 1.0", "all renew together"),
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
    ),
    *_mutations(
        "_core/failures.py",
        ("retryable=retryable and not refused_certificate", "retryable=retryable", "a bad certificate is tried again"),
        ("return os.strerror(number)\n    text", "return str(error)\n    text", "the exception's own text is shown"),
        ("except Exception:  # noqa: BLE001 - a", "except AttributeError:  # a", "a property of an exception raises"),
        ("waiting += [candidate.__cause__, candidate.__context__,", "waiting += [", "wrapped causes are not told"),
        ("== _WAITS_FOR_ITSELF:", '== "":', "code that waits for itself is not named", _REENTRANCE),
        ("return from_library or", "return True or", "a mock's own exception is a network error", _ADAPTERS),
    ),
    *_mutations(
        "_core/fetch.py",
        ("_TRIES, _TRY_SHARE = 4, 1 / 3", "_TRIES, _TRY_SHARE = 5, 1 / 3", "five tries"),
        ("            pause *= 2\n", "", "pauses between tries don't grow"),
        (
            "max(pause * (1 - self.chance() / 2), outcome.retry_after or 0)",
            "outcome.retry_after or pause * (1 - self.chance() / 2)",
            "a short Retry-After shortens a pause",
        ),
        ("if self.clock.monotonic() + wait >= deadline:\n                break", "", "a pause beyond the deadline"),
        ("or not outcome.retryable or not tries_left", "or not tries_left", "final failures are tried again"),
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
        ('response.headers.get("Retry-After"), _body', "None, _body", "Retry-After is not read", _FAULTS),
        ("decode_content=False", "decode_content=True", "an answer is decoded twice", _FAULTS),
        ("body.write(raw.read1(", "body.write(chunk := raw.read1(", "a dump of the frame shows the answer", _SECRETS),
    ),
    *_mutations(
        "_requests/connections.py",
        ("self.set_debuglevel(0)", "pass", "http.client prints the Basic header", _SECRETS),
        (
            "pool.ConnectionCls = _watched_class(pool.ConnectionCls, self._cutoff)",
            "plain = pool.ConnectionCls\n        pool.ConnectionCls = lambda **k: _watched_class(plain, self._cutoff)(**k)",
            "vcrpy needs a class of connections",
            _RECORDINGS,
        ),
        ("cutoff.watch(lambda: self.sock)", "pass", "a server that drips keeps the thread", _FAULTS),
        ("create_urllib3_context(", "create_urllib3_context(cert_reqs=ssl.CERT_NONE", "certificates are not verified"),
        ("proxy_ssl_context=tls_context(ca_bundle()), ", "", "the certificate of a proxy is verified otherwise"),
    ),
    *_mutations(
        "requests.py",
        (
            "app_secret, credentials\n        self",
            "app_secret\n        self",
            "the frame of the constructor shows a callable",
            _SECRETS,
        ),
        (
            "        del app_key, app_secret, credentials\n",
            "",
            "the frame of the constructor shows the secret",
            _SECRETS,
        ),
        (
            "token = self._source.ready() if url",
            "token = self._source._state.ready[0] if url",
            "a token that is used up goes to a remembered origin",
        ),
        ("any(name is self._header_name for", "any(name == self._header_name for", "another's header counts as ours"),
        ("if not self._is_ours(request) or not", "if not", "a header of the user is replaced"),
        (
            '        if "Authorization" in request.headers:\n            if not self._is_ours',
            '        if "Authorization" not in request.headers:\n            return response\n        elif not self._is_ours',
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
        (", in_caller=is_mock)", ")", "the fetch of a hook waits for a mock's lock", "adapters/test_mocks.py"),
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
        ("return create()", "return create(verify=False)", "certificates are not verified", _FAULTS),
    ),
    *_mutations(
        "_httpx/waiting.py",
        ("        trio.lowlevel.current_task()\n", "", "an asyncio task waits on the event of a trio guest"),
        ("trio.move_on_after(seconds)", "trio.move_on_after(1000)", "a task waits for ever, trio", _HTTPX2),
        ("loop.call_later(seconds, resolve)", "loop.call_later(1000, resolve)", "a task waits for ever, asyncio"),
        ("with suppress(RuntimeError):", "with suppress(KeyError):", "a closed loop breaks the fetch, asyncio"),
        ("with suppress(trio.RunFinishedError):", "with suppress(KeyError):", "a closed loop breaks the fetch, trio"),
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
