"""Programs started without a copy of this process: what they find, what a failure tells."""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ringwalk._core.spawn import Child, Strings, handled_signals, reap, snapshot

NOWHERE = (None, None, None)
SHELL = Strings([b"/bin/sh"])


def shell(
    script: str,
    *,
    environment: Strings | None = None,
    extra: tuple[bytes, ...] = (),
    folder: bytes | None = None,
    streams: tuple[int | bytes | None, ...] = NOWHERE,
    wait: bool = True,
) -> Child:
    argv = Strings([b"sh", b"-c", script.encode()])
    return Child(SHELL, argv, environment, list(extra), folder, streams, wait)


def await_end(pidfd: Any) -> None:
    ended = select.poll()
    ended.register(pidfd, select.POLLIN)
    assert ended.poll(10_000)


def code(child: Child) -> int:
    """Wait for the end, as a descriptor tells it; then reap."""
    await_end(child)
    _, status = os.waitpid(child.pid, 0)
    child.close()
    return os.waitstatus_to_exitcode(status)


@pytest.fixture(params=[True, False], ids=["waiting", "at once"])
def said(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., list[str]]:
    """Run a script; the words that it said."""

    def said(script: str, **options: Any) -> list[str]:
        path = tmp_path / "said"
        streams = (None, os.fsencode(path), None)
        assert code(shell(script, streams=streams, wait=request.param, **options)) == 0
        return path.read_text().split()

    return said


def test_it_leads_a_group_in_its_folder(said: Callable[..., list[str]]) -> None:
    pid, group, folder = said("echo $$; ps -o pgid= -p $$; pwd", folder=b"/")
    assert pid == group
    assert folder == "/"


def test_it_has_this_processs_environment_of_now_and_what_is_on_top(
    said: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEPT", "kept")
    monkeypatch.setenv("CHANGED", "before")
    monkeypatch.setenv("CHANGED_NOT", "kept, too")
    words = said("env", extra=(b"CHANGED=after", b"NEW=new"))
    found = sorted(word for word in words if word.startswith(("CHANGED=", "NEW=")))
    assert found == ["CHANGED=after", "NEW=new"]
    assert {"KEPT=kept", "CHANGED_NOT=kept,"} <= set(words)


def test_it_has_a_prepared_environment_and_no_other(said: Callable[..., list[str]]) -> None:
    prepared = Strings([b"PATH=/usr/bin:/bin", b"A=1", b"B=2"])
    words = said("exec env", environment=prepared, extra=(b"B=3",))
    found = sorted(word for word in words if not word.startswith("PWD="))
    assert found == ["A=1", "B=3", "PATH=/usr/bin:/bin"]


def test_no_descriptor_above_the_streams_is_passed_on(said: Callable[..., list[str]]) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    # The shell opens the folder itself, above the streams.
    words = said(f"test -e /proc/$$/fd/{writing} || echo closed")
    os.close(reading)
    os.close(writing)
    assert words == ["closed"]


def test_streams_may_change_places(tmp_path: Path) -> None:
    body = (
        "import os, sys\n"
        "from ringwalk._core.spawn import Child, Strings\n"
        "argv = Strings([b'/bin/sh', b'-c', b'echo out; echo err >&2; cat'])\n"
        "child = Child(Strings([b'/bin/sh']), argv, None, [], None, (0, 2, 1), True)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", body], input="in\n", capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("err\n", "out\nin\n")


@pytest.mark.parametrize("asked", [False, True], ids=["asked by it", "asked before"])
def test_signals_are_as_a_program_expects(tmp_path: Path, asked: bool) -> None:
    path = tmp_path / "status"
    before = signal.signal(signal.SIGUSR1, lambda *_: None), signal.signal(signal.SIGUSR2, 1)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        argv = Strings([b"cat", b"/proc/self/status"])
        streams = (None, os.fsencode(path), None)
        handled = handled_signals() if asked else None
        cat = Strings([b"/bin/cat"])
        child = Child(cat, argv, None, [], None, streams, wait=True, handled=handled)
        now = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGUSR1, before[0])
        signal.signal(signal.SIGUSR2, before[1])
    assert code(child) == 0
    assert now == mask | {signal.SIGHUP}
    fields = dict(line.split(":\t") for line in path.read_text().splitlines() if ":\t" in line)
    bits = {name: int(fields[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt")}
    assert bits["SigBlk"] == sum(1 << number - 1 for number in now)
    assert bits["SigCgt"] == 0
    assert bits["SigIgn"] & 1 << signal.SIGUSR2 - 1
    for number in (signal.SIGUSR1, signal.SIGPIPE, signal.SIGXFSZ):
        assert not bits["SigIgn"] & 1 << number - 1


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"paths": Strings([b"/nonexistent/a", b"/nonexistent/b"])}, "nothing"),
        ({"folder": b"/nonexistent"}, "/nonexistent"),
        ({"streams": (None, b"/nonexistent/out", None)}, "/nonexistent/out"),
        ({"streams": (None, None, b"/nonexistent/err")}, "/nonexistent/err"),
    ],
)
def test_a_failure_names_its_cause(change: dict[str, Any], name: str) -> None:
    options = {"paths": SHELL, "folder": None, "streams": NOWHERE, **change}
    options |= {"argv": Strings([b"nothing"]), "environment": None, "extra": []}
    with pytest.raises(FileNotFoundError) as refused:
        Child(**options, wait=True)
    assert refused.value.filename == name
    child = Child(**options, wait=False)
    assert code(child) == 127
    failure = child.failure()
    assert isinstance(failure, FileNotFoundError)
    assert failure.filename == name


def test_a_program_that_may_not_be_run_is_told_before_one_that_is_not_there(
    tmp_path: Path,
) -> None:
    (tmp_path / "data").write_text("")
    paths = Strings([os.fsencode(tmp_path / "data"), b"/nonexistent"])
    with pytest.raises(PermissionError):
        Child(paths, SHELL, None, [], None, NOWHERE, wait=True)


def test_no_process_to_be_had_is_an_error(fork: Any) -> None:
    def body() -> None:
        if os.getuid() == 0:  # the limit does not hold for root
            os.setuid(65534)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        for wait in (True, False):
            with pytest.raises(BlockingIOError):
                shell("true", wait=wait)

    assert fork(body).join() == 0


def test_what_no_program_can_be_given_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        Strings([b"a\0b"])
    with pytest.raises(ValueError, match="NUL"):
        shell("true", extra=(b"A=\0",))


def test_one_that_has_not_begun_can_be_ended_and_forgotten(tmp_path: Path) -> None:
    # Nobody reads the fifo, so the child waits in open, before its program.
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    child = shell("true", streams=(None, os.fsencode(fifo), None), wait=False)
    assert child.failure() is None
    pid = child.pid
    assert os.getpgid(pid) == pid
    del child
    os.killpg(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def ends_with_its_parent(body: str) -> bool:
    """Run a program that tells the pid of a child, kill it, and see whether the child ends, too."""
    owner = subprocess.Popen(
        [sys.executable, "-c", body], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    pidfd = os.pidfd_open(int(owner.stdout.readline()))
    owner.kill()
    ended = select.select([pidfd], [], [], 10)[0] == [pidfd]
    if not ended:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    owner.communicate()
    os.close(pidfd)
    return ended


def test_one_that_has_not_begun_ends_with_its_parent(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    body = (
        "import os, sys\n"
        "from ringwalk._core.spawn import Child, Strings\n"
        "argv = Strings([b'sh', b'-c', b'echo begun'])\n"
        f"streams = (None, {os.fsencode(fifo)!r}, None)\n"
        "child = Child(Strings([b'/bin/sh']), argv, None, [], None, streams, False)\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    assert ends_with_its_parent(body)


def test_one_that_was_not_waited_for_ends_with_its_parent_as_a_program_too() -> None:
    body = (
        "import sys\n"
        "from ringwalk._core.spawn import Child, Strings\n"
        "argv = Strings([b'sh', b'-c', b'echo $$; exec sleep 1000'])\n"
        "child = Child(Strings([b'/bin/sh']), argv, None, [], None, (None,) * 3, False)\n"
        "sys.stdin.read()\n"
    )
    assert ends_with_its_parent(body)


def test_reaping_tells_how_it_ended_and_what_it_used() -> None:
    child = shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 7", wait=False)
    await_end(child)
    status, (user, system, kibibytes) = reap(child.pid)
    child.close()
    assert os.waitstatus_to_exitcode(status) == 7
    assert user + system > 0
    assert kibibytes > 100
    with pytest.raises(ChildProcessError):
        reap(child.pid)


def test_reaping_ends_what_is_left_of_the_group(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    child = shell(f"sleep 1000 & echo $! > {path}", wait=False)
    await_end(child)
    left = os.pidfd_open(int(path.read_text()))
    reap(child.pid)
    child.close()
    await_end(left)
    os.close(left)


def test_a_known_environment_is_given_back_until_it_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = snapshot()
    assert snapshot(known) is known
    monkeypatch.setenv("RINGWALK_ADDED", "1")
    more = snapshot(known)
    assert more == [*known, b"RINGWALK_ADDED=1"]
    assert snapshot(more) is more
    monkeypatch.setenv("RINGWALK_ADDED", "2")
    assert snapshot(more)[-1] == b"RINGWALK_ADDED=2"
    monkeypatch.delenv("RINGWALK_ADDED")
    assert snapshot(more) == known
