"""
The cache in files: its contract, what it refuses, and processes that are killed or suspended at any moment.

Code that forks, kills or suspends a process runs in separate processes.
"""

from __future__ import annotations

import copy
import errno
import importlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from dolby_auth_plugin.caches.contract import TokenCacheContract
from dolby_auth_plugin.caches.file import FileTokenCache
from dolby_auth_plugin.caches.protocol import TokenCache
from dolby_auth_plugin.requests import DolbyAuth
from dolby_auth_plugin.sandbox import Sandbox

from ..fakes import FakeClock
from ..internals import before_the_lock_makes, is_forkable, run_fork_hook, set_file_cache_clock

KEY = "0123456789abcdef" * 4

DAY = 86_400.0

needs_posix = pytest.mark.skipif(os.name != "posix", reason="modes, owners, signals and forks of POSIX")

PRELUDE = f"""
import os, random, signal, sys, time
from contextlib import ExitStack
from threading import Thread
from dolby_auth_plugin.caches.file import FileTokenCache

KEY = "{KEY}"
cache = FileTokenCache(sys.argv[1])

def fork(work):
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException as error:
            print(repr(error), flush=True)
        finally:
            os._exit(0)
    return child

def in_threads(count, work):
    threads = [Thread(target=work) for _ in range(count)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
"""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    set_file_cache_clock(monkeypatch, clock)
    return clock


@pytest.fixture
def cache(tmp_path: Path) -> FileTokenCache:
    return FileTokenCache(tmp_path / "cache")


@contextmanager
def script(cache: FileTokenCache, code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-W", "error", "-c", PRELUDE + code, str(cache.path), *map(str, arguments)]
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def output(cache: FileTokenCache, code: str, *arguments: object) -> str:
    with script(cache, code, *arguments) as process:
        return process.communicate(timeout=60)[0]


def is_free(cache: FileTokenCache) -> bool:
    with cache.lock(KEY, 60) as is_held:
        return is_held


def files(cache: FileTokenCache) -> list[Path]:
    return sorted(path for path in cache.path.rglob("*") if path.is_file())


def lock_folder(cache: FileTokenCache) -> Path:
    return cache.path / f"{KEY}.lock"


def grow_old(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


class TestContract(TokenCacheContract):
    @pytest.fixture(autouse=True)
    def _one_store(self, tmp_path: Path, clock: FakeClock) -> None:
        self.path, self.clock = tmp_path / "cache", clock

    def make_cache(self) -> TokenCache:
        return FileTokenCache(self.path)

    def sleep(self, seconds: float) -> None:
        self.clock.advance(seconds)


# Where it is, and what others can see.


def test_the_default_is_a_folder_in_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert FileTokenCache().path == tmp_path / "dolby-auth-plugin"


@needs_posix
def test_without_a_home_folder_the_default_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some containers have a user without a name. A folder that is called "~" in the current one helps nobody."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)

    with pytest.raises(RuntimeError, match="home directory"):
        FileTokenCache()


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    monkeypatch.delitem(sys.modules, "dolby_auth_plugin.caches.file")

    with pytest.raises(ImportError, match=r"needs platformdirs: pip install 'dolby-auth-plugin\[file\]'"):
        importlib.import_module("dolby_auth_plugin.caches.file")


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))])
def test_a_copy_shares_the_folder(duplicate: Callable[[FileTokenCache], FileTokenCache], cache: FileTokenCache) -> None:
    cache.store(KEY, b"entry", 60)

    assert duplicate(cache).load(KEY) == b"entry"


def test_repr_shows_the_folder(cache: FileTokenCache) -> None:
    assert repr(cache) == f"FileTokenCache('{cache.path}')"


@needs_posix
@pytest.mark.parametrize("umask", [0, 0o777])
def test_folders_and_files_are_private_whatever_the_umask(umask: int, cache: FileTokenCache) -> None:
    before = os.umask(umask)
    try:
        with cache.lock(KEY, 60):
            cache.store(KEY, b"entry", 60)
            modes = {path.stat().st_mode & 0o777 for path in files(cache)}
    finally:
        os.umask(before)

    assert modes == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (cache.path, lock_folder(cache))} == {0o700}


@needs_posix
def test_folders_and_files_are_never_public(cache: FileTokenCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody could open them before their mode is corrected."""
    monkeypatch.setattr(Path, "chmod", lambda *_: None)

    test_folders_and_files_are_private_whatever_the_umask(0, cache)


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def open_to_others(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o020)


def replace_by_other_kind(path: Path) -> None:
    """A file by a folder, a folder by a file."""
    is_file = path.is_file()
    path.rename(path.with_name("elsewhere"))
    path.mkdir() if is_file else path.touch()


@needs_posix
@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (link, "is a symbolic link"),
        (open_to_others, "may be changed by"),
        (replace_by_other_kind, "is not a (folder|regular)"),
    ],
)
@pytest.mark.parametrize("what", ["folder", "entry", "lock", "lock file"])
def test_what_others_may_have_made_is_refused(
    what: str, spoil: Callable[[Path], None], found: str, cache: FileTokenCache
) -> None:
    cache.store(KEY, b"entry", 60)
    with cache.lock(KEY, 60):
        [lock_file] = [path for path in lock_folder(cache).iterdir() if "_" not in path.name]
        spoil(
            {"folder": cache.path, "entry": cache.path / KEY, "lock": lock_folder(cache), "lock file": lock_file}[what]
        )

        with pytest.raises(PermissionError, match=f"{found}.* remove it, or choose another folder"):
            cache.load(KEY) if what in ("folder", "entry") else is_free(cache)


@needs_posix
def test_nothing_is_stored_in_a_folder_that_others_may_change(cache: FileTokenCache) -> None:
    cache.path.mkdir(0o700)
    open_to_others(cache.path)

    with pytest.raises(PermissionError, match="may be changed by other users"):
        cache.store(KEY, b"entry", 60)

    assert files(cache) == []


@needs_posix
def test_files_of_another_user_are_refused(cache: FileTokenCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.store(KEY, b"entry", 60)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    with pytest.raises(PermissionError, match="belongs to another user"):
        cache.load(KEY)


# Entries.


def test_an_entry_of_more_than_a_mebibyte_is_ignored(cache: FileTokenCache) -> None:
    cache.store(KEY, bytes(2**20 + 1), 60)

    assert cache.load(KEY) is None


@needs_posix
def test_on_a_full_disk_store_raises_and_the_entry_stays(cache: FileTokenCache) -> None:
    cache.store(KEY, b"entry", 60)

    told = output(
        cache,
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try:\n    cache.store(KEY, bytes(10_000), 60)\n"
        "except OSError as error:\n    print(error.strerror)",
    )

    assert told == "File too large\n"
    assert files(cache) == [cache.path / KEY]
    assert cache.load(KEY) == b"entry"


def test_on_a_read_only_disk_entries_are_loaded(cache: FileTokenCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.store(KEY, b"entry", 60)
    open_file = os.open

    def open_to_read(path: str, flags: int, *mode: int) -> int:
        if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        return open_file(path, flags, *mode)

    monkeypatch.setattr(os, "open", open_to_read)

    with pytest.raises(OSError, match="Read-only"):
        cache.store(KEY, b"new", 60)
    with pytest.raises(OSError, match="Read-only"):
        is_free(cache)
    assert cache.load(KEY) == b"entry"


def test_a_file_that_is_in_use_for_an_instant_is_replaced(
    cache: FileTokenCache, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses to replace a file that is open."""
    replace = Path.replace

    def replace_later(path: Path, target: Path) -> Path:
        if len(clock.slept) < 3:
            raise PermissionError
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", replace_later)
    cache.store(KEY, b"entry", 60)

    assert cache.load(KEY) == b"entry"
    assert sum(clock.slept) < 0.2


def test_clear_removes_entries_and_leaves_locks(cache: FileTokenCache) -> None:
    cache.clear()
    with cache.lock(KEY, 60):
        cache.store(KEY, b"entry", 60)
        cache.clear()

        assert cache.load(KEY) is None
        assert not is_free(cache)


def test_clear_tells_how_many_entries_it_removed(cache: FileTokenCache) -> None:
    assert cache.clear() == 0
    assert not cache.path.exists()

    for key in (KEY, KEY[::-1]):
        cache.store(key, b"entry", 60)

    assert [cache.clear(), cache.clear()] == [2, 0]


def test_clear_removes_nothing_that_the_cache_has_not_made(cache: FileTokenCache) -> None:
    cache.store(KEY, b"entry", 60)
    (cache.path / "notes.txt").write_text("mine")
    (cache.path / KEY[::-1]).mkdir()

    assert cache.clear() == 1
    assert {"notes.txt", KEY[::-1]} == {path.name for path in cache.path.iterdir()}


def test_clear_removes_what_killed_processes_left(cache: FileTokenCache) -> None:
    """It holds a token too."""
    cache.store(KEY, b"entry", 60)
    left = cache.path / f"{'a' * 16}.tmp"
    left.write_bytes(b"entry")
    grow_old(left, 700)

    cache.clear()

    assert files(cache) == []


@needs_posix
def test_clear_follows_no_symbolic_link(cache: FileTokenCache, tmp_path: Path) -> None:
    """A link in the folder is removed. A link in place of the folder is refused."""
    cache.store(KEY[::-1], b"entry", 60)
    mine = tmp_path / KEY
    mine.write_text("mine")
    (cache.path / KEY).symlink_to(mine)

    assert cache.clear() == 2

    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="is a symbolic link"):
        FileTokenCache(tmp_path / "link").clear()
    assert mine.read_text() == "mine"


def test_clear_goes_on_after_an_entry_that_another_process_removed_first(
    cache: FileTokenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.store(KEY, b"entry", 60)
    monkeypatch.setattr(Path, "iterdir", lambda _: iter([cache.path / KEY[::-1], cache.path / KEY]))

    assert cache.clear() == 1


WRITER = """
entries = [letter * 20_000 for letter in (b"a", b"b")]

def write():
    while True:
        for entry in entries:
            with cache.lock(KEY, 60):
                cache.store(KEY, entry, 60)

cache.store(KEY, entries[0], 60)
for _ in range(int(sys.argv[2])):
    child = fork(write)
    time.sleep(random.random() * 0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with cache.lock(KEY, 60) as is_held:
        print(cache.load(KEY) in entries, is_held)
"""


@needs_posix
@pytest.mark.parametrize("kills", [20, pytest.param(500, marks=pytest.mark.slow)])
def test_a_killed_process_leaves_an_entry_and_a_free_lock(kills: int, cache: FileTokenCache) -> None:
    assert output(cache, WRITER, kills) == "True True\n" * kills


# What is removed.


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_temporary_files_of_killed_processes_are_removed(make: Callable[[Path], None], cache: FileTokenCache) -> None:
    cache.store(KEY, b"entry", 60)
    old, new = (cache.path / f"{letter * 16}.tmp" for letter in "ab")
    for path in (old, new):
        make(path)
    grow_old(old, 700)
    cache.store(KEY, b"entry", 60)

    assert (old.exists(), new.exists()) == (False, True)


@pytest.mark.parametrize(("seconds", "stays"), [(-DAY - 60, False), (-DAY + 60, True)])
def test_an_entry_that_expired_long_ago_is_removed(seconds: float, stays: bool, cache: FileTokenCache) -> None:
    cache.store(KEY, b"entry", seconds)
    cache.store("f" * 64, b"other", 60)

    assert (cache.load(KEY) is not None) is stays


def test_an_entry_whose_lock_is_held_is_not_removed(cache: FileTokenCache) -> None:
    """The holder may be about to replace it."""
    with cache.lock(KEY, 60):
        cache.store(KEY, b"entry", -2 * DAY)

        assert cache.load(KEY) == b"entry"


def test_an_entry_that_was_replaced_meanwhile_is_not_removed(
    cache: FileTokenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_the_lock_makes(monkeypatch, "folder", lambda: FileTokenCache(cache.path).store(KEY, b"new", 60))
    cache.store(KEY, b"entry", -2 * DAY)

    assert cache.load(KEY) == b"new"


def test_a_lock_that_was_not_used_for_long_is_removed_and_can_be_made_again(cache: FileTokenCache) -> None:
    assert is_free(cache)
    grow_old(lock_folder(cache), 2 * DAY)
    cache.store("f" * 64, b"other", 60)

    assert not lock_folder(cache).exists()
    assert is_free(cache)


def test_the_files_of_a_lock_do_not_pile_up(cache: FileTokenCache) -> None:
    assert is_free(cache)
    for number in range(10):
        # A process that was killed before it could rename the lease leaves such a file.
        (lock_folder(cache) / f"{number:016x}").touch(0o600)
        assert is_free(cache)

    assert len(files(cache)) == 1


# Locks.


def test_holders_whose_leases_have_ended_free_nothing(cache: FileTokenCache, clock: FakeClock) -> None:
    with cache.lock(KEY, 60) as last:
        pass
    with cache.lock(KEY, 1) as first:
        clock.advance(1)
        with cache.lock(KEY, 1) as second:
            clock.advance(1)
            held = cache.lock(KEY, 60)
            last = held.__enter__()

    assert (first, second, last) == (True, True, True)
    assert not is_free(cache)
    held.__exit__(None, None, None)
    assert is_free(cache)


def test_a_lease_from_before_a_restart_of_the_machine_has_ended(cache: FileTokenCache, clock: FakeClock) -> None:
    with cache.lock(KEY, 60):
        clock.advance(-10)

        assert is_free(cache)


def test_a_caller_that_finds_the_lock_free_too_late_does_not_get_it(
    cache: FileTokenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_free(cache)
    other = FileTokenCache(cache.path).lock(KEY, 60)
    before_the_lock_makes(monkeypatch, "file", other.__enter__)

    assert not is_free(cache)
    assert len(files(cache)) == 2  # the lease and the lock file of the other


def test_a_lock_file_that_the_next_holder_removes_at_once_is_closed(
    cache: FileTokenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is not closed causes a ResourceWarning, which fails this test."""
    assert is_free(cache)
    chmod = Path.chmod

    def remove_and_chmod(path: Path, mode: int) -> None:
        path.unlink()
        chmod(path, mode)

    monkeypatch.setattr(Path, "chmod", remove_and_chmod)

    assert not is_free(cache)


def test_a_lock_that_another_process_makes_meanwhile_is_used(
    cache: FileTokenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = FileTokenCache(cache.path).lock(KEY, 60)
    before_the_lock_makes(monkeypatch, "folder", other.__enter__)

    assert not is_free(cache)
    assert list(cache.path.iterdir()) == [lock_folder(cache)]


def test_a_lock_that_cannot_be_made_is_an_error(cache: FileTokenCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it looked as if another process held it, the caller would wait for nothing."""

    def fail(path: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "rename", fail)

    with pytest.raises(OSError, match="No space left"):
        is_free(cache)


def test_a_lock_without_a_lease_is_made_again(cache: FileTokenCache) -> None:
    """A program that removes old files may have removed the lease."""
    assert is_free(cache)
    for path in lock_folder(cache).iterdir():
        path.unlink()
    grow_old(lock_folder(cache), 60)

    assert (is_free(cache), is_free(cache)) == (False, True)


def test_a_lock_whose_lease_is_renamed_at_this_instant_stays(cache: FileTokenCache) -> None:
    """A listing may contain neither the old name nor the new one."""
    with cache.lock(KEY, 60):
        [lease] = lock_folder(cache).glob("*_*")
        lease.rename(cache.path / "lease")
        assert not is_free(cache)
        (cache.path / "lease").rename(lease)

        assert not is_free(cache)


HOLDER = """
with cache.lock(KEY, 60) as is_held:
    print(is_held, flush=True)
    sys.stdin.readline()
print("released", flush=True)
"""


def test_the_lock_of_a_killed_process_is_free_at_once(cache: FileTokenCache) -> None:
    with script(cache, HOLDER) as holder:
        assert holder.stdout and holder.stdout.readline() == "True\n"
        assert not is_free(cache)
        holder.kill()
        holder.wait(60)

        assert is_free(cache)


class LaterClock(FakeClock):
    """The clock of this machine, and some seconds."""

    ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@needs_posix
def test_the_lock_of_a_suspended_process_is_free_after_its_lease(
    cache: FileTokenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = LaterClock()
    set_file_cache_clock(monkeypatch, clock)
    with script(cache, HOLDER) as holder:
        assert holder.stdin and holder.stdout and holder.stdout.readline() == "True\n"
        holder.send_signal(signal.SIGSTOP)
        clock.ahead = 30
        assert not is_free(cache)
        clock.ahead = 60
        with cache.lock(KEY, 60) as is_held:
            assert is_held
            holder.send_signal(signal.SIGCONT)
            holder.stdin.write("\n")
            holder.stdin.flush()
            assert holder.stdout.readline() == "released\n"

            assert not is_free(cache)


@needs_posix
def test_a_forked_child_does_not_release_the_lock(cache: FileTokenCache) -> None:
    code = """
with cache.lock(KEY, 60):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        with cache.lock(KEY, 60) as is_held:
            print(is_held)
"""

    assert output(cache, code) == "False\n"


def test_no_fork_happens_while_a_lock_file_is_made(cache: FileTokenCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would close it in the child."""
    assert is_free(cache)
    forkable = []
    before_the_lock_makes(monkeypatch, "file", lambda: forkable.append(is_forkable()))

    assert is_free(cache)
    assert (forkable, is_forkable()) == ([False], True)


def test_leaving_the_lock_in_a_forked_child_removes_nothing(cache: FileTokenCache) -> None:
    with cache.lock(KEY, 60):
        run_fork_hook()
        before = files(cache)

    assert files(cache) == before


@needs_posix
def test_a_forked_child_does_not_keep_the_lock_of_a_killed_parent(cache: FileTokenCache) -> None:
    code = """
done, ready = os.pipe()
with cache.lock(KEY, 60):
    if os.fork():
        os.read(done, 1)
        os.kill(os.getpid(), signal.SIGKILL)
    os.write(ready, b"x")
    sys.stdin.readline()
"""
    with script(cache, code) as parent:
        parent.wait(60)

        assert is_free(cache)


# A crowd.


START = """
processes, threads, rounds = map(int, sys.argv[2:])
start = time.monotonic() + 0.2

def take_part():
    def in_thread():
        for number in range(rounds):
            time.sleep(max(0, start + number * 0.02 - time.monotonic()))
            if kept.enter_context(cache.lock(f"{number:064x}", 600)):
                os.write(1, f"{number}\\n".encode())
    with ExitStack() as kept:
        in_threads(threads, in_thread)
        os.write(ready, b"x")
        time.sleep(600)

# In every second round, somebody holds the lock whose lease has ended.
with ExitStack() as ended:
    for number in range(0, rounds, 2):
        ended.enter_context(cache.lock(f"{number:064x}", 0))
    done, ready = os.pipe()
    children = [fork(take_part) for _ in range(processes)]
    for child in children:
        os.read(done, 1)
    [os.kill(child, signal.SIGKILL) for child in children]
"""

full_size = pytest.param(8, 8, marks=pytest.mark.slow)


@needs_posix
@pytest.mark.parametrize(("processes", "threads"), [(3, 3), full_size])
def test_of_many_threads_and_processes_one_gets_the_lock(processes: int, threads: int, cache: FileTokenCache) -> None:
    rounds = 10 if processes < 8 else 100

    told = output(cache, START, processes, threads, rounds)

    assert sorted(map(int, told.split())) == list(range(rounds))


CROWD = """
processes, threads, attempts = map(int, sys.argv[2:5])
lease = float(sys.argv[5])

def take_part():
    def in_thread():
        for _ in range(attempts):
            began = time.monotonic()
            with cache.lock(KEY, lease) as is_held:
                entered = time.monotonic()
                if is_held:
                    time.sleep(random.choice([0, 0.001, lease * 1.2]))
                    left = min(time.monotonic(), began + lease)
                    os.write(1, f"{entered!r} {left!r}\\n".encode())
            time.sleep(random.random() * lease / 5)
    in_threads(threads, in_thread)

children = [fork(take_part) for _ in range(processes)]
os.kill(children[0], signal.SIGSTOP)
time.sleep(0.05)
os.kill(children[0], signal.SIGCONT)
os.kill(children[1], signal.SIGKILL)
[os.waitpid(child, 0) for child in children]
"""


@needs_posix
@pytest.mark.parametrize("lease", [0.05, 0.005])
@pytest.mark.parametrize(("processes", "threads"), [(3, 3), full_size])
def test_leases_that_end_all_the_time_have_one_holder(
    processes: int, threads: int, lease: float, cache: FileTokenCache
) -> None:
    """Some holders hold the lock for longer than their lease. One process is suspended for a while, one is killed."""
    told = output(cache, CROWD, processes, threads, 30 if processes < 8 else 1000, lease)
    times = sorted(tuple(map(float, line.split())) for line in told.splitlines())
    held = [(entered, left) for entered, left in times if entered < left]

    assert len(held) > 1
    assert [] == [(left, entered) for (_, left), (entered, _) in pairwise(held) if entered < left]


@needs_posix
def test_a_folder_that_others_may_change_costs_one_warning_that_says_so(
    sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o777)
    auth = DolbyAuth(**sandbox.options, cache=FileTokenCache(tmp_path))

    for _ in range(3):
        auth.token()
        auth.invalidate()

    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"{tmp_path} may be changed by other users" in warning
    assert "choose another folder" in warning
    assert sandbox.token_requests == 3
