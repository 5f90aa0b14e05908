"""
Hand-made mutations of the package. Each breaks one rule, and some test must notice it.

    nox -s mutations                      all of them
    nox -s mutations -- state requests    those whose file or reason has one of these words

Add a mutation whenever a review or a bug shows a fault that no test would have caught.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent

# Seconds for the tests of one mutation. A mutation that makes them hang is noticed too.
_TIMEOUT = 120


class Mutation(NamedTuple):
    """Replace *old*, which occurs once in *file*, by *new*. The test files in *tests* must fail."""

    file: str
    old: str
    new: str
    why: str
    tests: str


# The test files for each module of the package, relative to `tests`.
_CORE = "core/test_state.py core/test_source.py core/test_explore.py"
TESTS = {
    "_core/state.py": _CORE,
    "_core/source.py": f"{_CORE} promises/test_cancellation.py promises/test_process.py",
    "_core/refusals.py": "core/test_refusals.py",
    "_core/token.py": "core/test_token.py core/test_source.py",
    "_core/hosts.py": "core/test_hosts.py promises/test_urls.py",
    "_core/scope.py": "core/test_scope.py",
    "_core/credentials.py": "core/test_credentials.py promises/test_secrets.py",
    "_core/endpoint.py": "core/test_endpoint.py promises/test_faults.py promises/test_secrets.py",
    "_core/redaction.py": "core/test_endpoint.py promises/test_secrets.py",
    "_core/failures.py": "core/test_failures.py promises/test_faults.py promises/test_secrets.py",
    "_core/fetch.py": "core/test_source.py promises/test_faults.py",
    "_core/cutoff.py": "core/test_cutoff.py promises/test_faults.py",
    "_core/silence.py": "core/test_silence.py promises/test_secrets.py",
    "_core/forks.py": "core/test_source.py promises/test_process.py",
    "_core/auth.py": "adapters/test_requests.py adapters/test_httpx.py promises/test_secrets.py",
    "_core/errors.py": "core/test_errors.py adapters/test_requests.py promises/test_injection.py",
    "_requests/sender.py": "adapters/test_requests.py promises/test_faults.py promises/test_secrets.py promises/test_proxies.py",
    "_requests/connections.py": "adapters/test_requests.py promises/test_faults.py promises/test_secrets.py",
    "_requests/resend.py": "adapters/test_requests.py promises/test_bodies.py promises/test_secrets.py",
    "_httpx/sender.py": "adapters/test_httpx.py promises/test_faults.py promises/test_secrets.py promises/test_proxies.py",
    "_httpx/resend.py": "adapters/test_httpx.py adapters/test_httpx2.py promises/test_bodies.py",
    "_httpx/auth.py": "adapters/test_httpx.py promises/test_bodies.py promises/test_redirects.py promises/test_secrets.py",
    "_httpx/waiting.py": "adapters/test_httpx.py promises/test_cancellation.py",
    "requests.py": "adapters/test_requests.py promises/test_bodies.py promises/test_redirects.py promises/test_secrets.py",
    "httpx.py": "adapters/test_httpx.py promises/test_secrets.py",
    "httpx2.py": "adapters/test_httpx2.py promises/test_secrets.py",
}


def _mutations(file: str, *changes: tuple[str, str, str]) -> Iterator[Mutation]:
    for old, new, why in changes:
        yield Mutation(file, old, new, why, TESTS[file])


MUTATIONS = [
    *_mutations(
        "_core/state.py",
        (
            "if not token.is_fresh(now) and self.fetch is None and",
            "if not token.is_fresh(now) and",
            "two fetches at once",
        ),
        ("and now.monotonic >= self._next_renewal:", "and True:", "renewals without a pause"),
        ("if token is None or not token.is_good(now):", "if token is None:", "expired tokens are handed out"),
        ("else host not in self._refused_by", "else True", "a host gets the token that it refused"),
        ("return not self._refused_by if host is None", "return True if host is None", "no host named: any token"),
        (
            "if self.fetch is not None:\n            return self.fetch",
            "if False:\n            return self.fetch",
            "no joining",
        ),
        ("(self._failed_credentials is None or not self._asks_credentials)", "True", "new credentials wait"),
        ("(self._failed_credentials is None or not self._asks_credentials)", "False", "a failure is not remembered"),
        ("if isinstance(joined.outcome, Failure):", "if False:", "waiters of a failed fetch fetch again"),
        ("joined.is_discarded and joined.outcome.is_good(now)", "False", "invalidate costs the waiters their token"),
        ("self._scope_reported = True\n", "pass\n", "scopes are reported again and again"),
        ("not fetch.is_renewal and credentials ==", "credentials ==", "renewals fail from memory"),
        (
            "not fetch.is_renewal and credentials == self._failed_credentials",
            "not fetch.is_renewal",
            "any credentials fail",
        ),
        ("        if fetch.ended:\n            return\n", "", "a late token of an overdue fetch is kept"),
        (
            "not outcome.is_good(now):\n            outcome = expired",
            "False:\n            outcome = expired",
            "expired on arrival",
        ),
        (
            "if not fetch.is_discarded:\n            if isinstance",
            "if True:\n            if isinstance",
            "an invalidated token is kept",
        ),
        (
            "        if self.fetch is fetch:\n            self.forget_fetch()\n",
            "",
            "an ended fetch stays the running one",
        ),
        (
            "            self.postpone_renewal(now)\n            self.settle(fetch, None",
            "            self.settle(fetch, None",
            "no pause",
        ),
        (
            "if fetch.is_renewal:\n            self.postpone_renewal(now)\n",
            "if False:\n            self.postpone_renewal(now)\n",
            "kept waiting",
        ),
        ("2 ** min(self._failed_renewals, _PAUSE_DOUBLINGS)", "1", "pauses don't grow"),
        ("min(self._failed_renewals, _PAUSE_DOUBLINGS)", "self._failed_renewals", "pauses grow for ever"),
        (
            "        if not self._is_charged:\n            # The allowance",
            "        if False:\n            # The allowance",
            "stuck mark",
        ),
        (
            "        self._refused_by = _NO_HOSTS\n        self._is_charged = False\n        self._forget_failures()\n        self._update_ready()\n\n",
            "        self._is_charged = False\n        self._forget_failures()\n        self._update_ready()\n\n",
            "marks outlive their token",
        ),
        (
            "        if failure is self._remembered(now):\n",
            "        if False:\n",
            "a remembered failure prolongs itself",
        ),
        (
            "min(max(FAILURE_MEMORY, failure.retry_after or 0), FAILURE_MEMORY_MAX)",
            "FAILURE_MEMORY",
            "Retry-After is ignored",
        ),
        (
            "failure.retry_after or 0), FAILURE_MEMORY_MAX)",
            "failure.retry_after or 0), 1e9)",
            "Retry-After without a limit",
        ),
        (
            "        if fetch.is_renewal:\n            self.postpone_renewal(now, memory)\n",
            "",
            "no pause after a failed renewal",
        ),
        ("        self._failure = self._failed_credentials = None\n", "", "invalidate keeps the failure"),
        ("self.token.fingerprint != fingerprint:", "False:", "a late 401 marks a newer token"),
        (
            "            self._is_charged = self._allowance.spend(now.monotonic)\n",
            "            self._is_charged = True\n",
            "no allowance",
        ),
        (
            "if not self._is_charged:\n            self._is_charged",
            "if True:\n            self._is_charged",
            "a token is charged twice",
        ),
        ("if not self._is_charged and self.fetch is None:", "if not self._is_charged:", "a running renewal is ignored"),
        (
            "        self._refused_by |= {host}\n        self._update_ready()\n",
            "        self._refused_by |= {host}\n",
            "ready ignores refusals",
        ),
        ("        self._refused_by |= {host}\n", "", "a refusal leaves no mark"),
        (
            "            self.fetch.is_discarded = True\n",
            "            pass\n",
            "invalidate keeps the token of a running fetch",
        ),
        ("or self._refused_by or self._unreported:", "or self._refused_by:", "a scope warning reaches nobody"),
    ),
    *_mutations(
        "_core/source.py",
        ("            if self.fetch.ended:\n                wake()\n", "", "a caller that comes after the end sleeps"),
        ("            self.fetch.waiters.pop(wake, None)\n", "            pass\n", "waiters pile up"),
        (
            "            if not step.is_discarded:\n",
            "            if True:\n",
            "callers after invalidate get the old outcome",
        ),
        ("            if now.monotonic >= give_up_at:\n", "            if False:\n", "a caller waits for ever"),
        ("min(self._fetcher.timeout, timeout)", "timeout", "a caller waits longer than the timeout"),
        (
            "Wait(step, min(give_up_at, step.deadline) - now.monotonic)",
            "Wait(step, step.deadline - now.monotonic)",
            "own deadline",
        ),
        ("        if self._would_wait_for_itself():\n", "        if False:\n", "a signal handler waits for itself"),
        ("        return holds or starts_or_runs\n", "        return holds\n", "a callable waits for its own fetch"),
        (
            "        return holds or starts_or_runs\n",
            "        return starts_or_runs\n",
            "a handler inside the lock waits",
        ),
        (
            "            self._give_up(begun or self._state.fetch)\n",
            "            pass\n",
            "an interrupted start strands the others",
        ),
        (
            "        _wake(fetch)\n        if fetch.is_renewal:\n",
            "        if fetch.is_renewal:\n",
            "an overdue fetch wakes nobody",
        ),
        (
            "        if not fetch.is_renewal:\n            self._run(fetch, in_caller=True)\n            return\n",
            "",
            "no threads, no token",
        ),
        (
            "            if fetch.ended:\n                return\n            fetch.runner",
            "            fetch.runner",
            "a given-up fetch asks",
        ),
        (
            "            self._state.postpone_renewal(Instant.now(self._fetcher.clock))\n",
            "            pass\n",
            "no thread: no pause",
        ),
        (
            "                error.__context__ = None\n                raise error.with_traceback(None) from None\n",
            "                raise\n",
            "frames",
        ),
        ("        _wake(fetch)\n        if too_late:\n", "        if too_late:\n", "the end of a fetch wakes nobody"),
        (
            "        elif fetch.is_renewal and fetch.outcome is not None:\n",
            "        elif False:\n",
            "no warning for a failed renewal",
        ),
        (
            "        self._lock = threading.RLock()\n        self._state.forget_fetch()\n",
            "        self._state.forget_fetch()\n",
            "locked child",
        ),
        (
            "        self._lock = threading.RLock()\n        self._state.forget_fetch()\n",
            "        self._lock = threading.RLock()\n",
            "child waits",
        ),
        ('name="dolby-auth-token", daemon=True', 'name="dolby-auth-token", daemon=False', "exit waits for a fetch"),
        (
            "self._monotonic() < renew_monotonic and self._wall() < renew_wall",
            "self._monotonic() < renew_monotonic",
            "wall clock",
        ),
        (
            "self._monotonic() < renew_monotonic and self._wall() < renew_wall",
            "self._wall() < renew_wall",
            "monotonic clock",
        ),
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
        (
            "EARLIEST_RENEWAL, LATEST_RENEWAL = 1.0, 0.7",
            "EARLIEST_RENEWAL, LATEST_RENEWAL = 1.0, 1.0",
            "all renew together",
        ),
        ("now.monotonic < self._good_until.monotonic and now", "now", "a stepped wall clock prolongs a life"),
        ("and now.wall < self._good_until.wall", "", "a suspended machine prolongs a life"),
        (
            "        raise TypeError(\"an AccessToken can't be pickled",
            "        return object, ()\n        raise TypeError(\"an AccessToken can't be pickled",
            "pickled",
        ),
    ),
    *_mutations(
        "_core/hosts.py",
        ("if not 0 < dialled <= 65_535:", "if False:", "an invalid port wraps around"),
        ("if scheme not in _SECURE and not loopback:", "if False:", "plain http"),
        ("and (loopback or dialled == 443))", ")", "any port"),
        ("host.endswith(suffix) and", "suffix in host and", "a wildcard in the middle"),
        ("(443 if wanted is None else wanted)", "dialled", "wildcards on any port"),
        (
            'if self._token_word not in target and "%" not in target and target.isprintable():',
            "if self._token_word not in target:",
            "spelt",
        ),
        ("unquote(path)", "path", "an encoded token path"),
        ('        if step == "..":\n', '        if step == "...":\n', "dot segments"),
        ('ipaddress.IPv4Network("127.0.0.0/8")', 'ipaddress.IPv4Network("126.0.0.0/7")', "loopback widened"),
        ("            self._answers.clear()\n", "            pass\n", "memory without a bound"),
        (
            "answer = (host, host is not None and self.policy.has_token_endpoint(origin))",
            "answer = (host, False)",
            "token to its endpoint",
        ),
        ("_OPENED_AS.get(scheme, scheme)", "scheme", "wss to the token endpoint"),
    ),
]


def occurrences(mutation: Mutation) -> int:
    """How often the old text stands in its file: once, or the mutation must be adapted."""
    return (ROOT / "dolby_auth_plugin" / mutation.file).read_text().count(mutation.old)


def survives(mutation: Mutation, folder: Path) -> bool:
    """Whether the tests pass with the mutation, in a copy of the project in *folder*."""
    path = folder / "dolby_auth_plugin" / mutation.file
    original = path.read_text()
    path.write_text(original.replace(mutation.old, mutation.new) if mutation.old else original)
    tests = [f"tests/{name}" for name in mutation.tests.split() if (folder / "tests" / name).exists()]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return False
    finally:
        path.write_text(original)
    if done.returncode and not mutation.old:
        print(done.stdout.decode()[-3000:])
    return done.returncode == 0


def run(mutations: list[Mutation]) -> list[Mutation]:
    """Those of the mutations that survive; several run at once, each in a copy of its own."""
    survivors: list[Mutation] = []
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary) / str(number) for number in range(os.cpu_count() or 1)]
        for folder in folders:
            shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info"))

        def one(mutation: Mutation) -> None:
            folder = folders.pop()
            began = time.monotonic()
            survived = survives(mutation, folder)
            folders.append(folder)
            if survived:
                survivors.append(mutation)
            verdict = "passes" if survived else "fails "
            print(f"{verdict} {time.monotonic() - began:5.1f} s  {mutation.file}: {mutation.why}", flush=True)

        with ThreadPoolExecutor(len(folders)) as pool:
            list(pool.map(one, mutations))
    return survivors


def main(words: list[str]) -> int:
    """Run the mutations that *words* choose. The exit status is 1 if one survives."""
    chosen = [one for one in MUTATIONS if not words or any(word in f"{one.file} {one.why}" for word in words)]
    # Tests that fail without a mutation would seem to catch them all.
    unchanged = [
        Mutation(file, "", "", "without a mutation", tests)
        for tests, file in {one.tests: one.file for one in chosen}.items()
    ]
    if len(run(unchanged)) < len(unchanged):
        print("some tests fail without a mutation")
        return 1
    survivors = run(chosen)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutations caught")
    return 1 if survivors or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
