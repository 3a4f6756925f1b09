"""However the parent ends, nothing of a mapper is left: no process, no memory, no descriptor."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ringwalk import Mapper, SegmentError

PRELUDE = """
import os, signal, sys, threading, time
from pathlib import Path
from ringwalk import WalkerBlock, WorkerMapper, TaskMapper
Kind = {"WorkerMapper": WorkerMapper, "TaskMapper": TaskMapper}[sys.argv[1]]

def tell(*pids):
    sys.stdout.write(" ".join(map(str, pids)) + "\\n")
    sys.stdout.flush()

def forever(k):
    tell(os.getpid(), os.getppid())
    while True:
        signal.pause()

block = WalkerBlock(4, x=((1000,), "f8"))
mapper = Kind(forever, num_workers=2)
mapper.init()
"""
KINDS = pytest.mark.parametrize("kind", ["WorkerMapper", "TaskMapper"])


class Parent:
    """A program that runs a mapper in a process group of its own, and its mapper's processes."""

    def __init__(self, kind: str, script: str, tmp_path: Path) -> None:
        path = tmp_path / "program.py"
        path.write_text(PRELUDE + textwrap.dedent(script))
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", path, kind],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.pidfds: dict[int, int] = {}

    def learn(self, lines: int) -> None:
        """Read the pids that the program tells of and watch those that live."""
        assert self.process.stdout is not None
        for _ in range(lines):
            for pid in map(int, self.process.stdout.readline().split()):
                self._watch(pid)

    def _watch(self, pid: int) -> None:
        if pid not in self.pidfds:
            with contextlib.suppress(ProcessLookupError):  # it has ended already
                self.pidfds[pid] = os.pidfd_open(pid)

    def end(self) -> tuple[int, str]:
        """Wait for the program and for every process of its session; exit code and stderr.

        A process that would stay for ever is ended by the watchdog, with the test.
        """
        _, stderr = self.process.communicate()
        for pid in processes_of_session(self.process.pid):
            self._watch(pid)
        for pidfd in self.pidfds.values():
            select.select([pidfd], [], [])
            os.close(pidfd)
        return self.process.returncode, stderr


def processes_of_session(session: int) -> set[int]:
    """Python's resource tracker is among them; it ends when its pipe is closed by all others."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.add(int(entry.name))
    return found


@KINDS
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM], ids=lambda s: s.name)
def test_a_killed_parent_takes_all_along(kind: str, signum: signal.Signals, tmp_path: Path) -> None:
    parent = Parent(kind, "mapper.map(block)", tmp_path)
    parent.learn(2)
    parent.process.send_signal(signum)
    code, _ = parent.end()
    assert code == -signum


@KINDS
def test_a_parent_killed_while_a_helper_thread_maps(kind: str, tmp_path: Path) -> None:
    parent = Parent(
        kind,
        """
        thread = threading.Thread(target=mapper.map, args=(block,))
        thread.start()
        thread.join()
        """,
        tmp_path,
    )
    parent.learn(2)
    parent.process.kill()
    assert parent.end()[0] == -signal.SIGKILL


def test_workers_outlive_the_thread_that_made_them(tmp_path: Path) -> None:
    parent = Parent(
        "WorkerMapper",
        """
        mapper.cleanup()
        mapper = WorkerMapper(lambda k: os.getpid(), num_workers=2)
        thread = threading.Thread(target=mapper.init)
        thread.start()
        thread.join()
        pids = {pid for _ in range(20) for pid in mapper.map(range(50))}
        assert len(pids) <= 2, "workers were replaced"
        tell(os.getpid(), *pids)
        mapper.cleanup()
        """,
        tmp_path,
    )
    parent.learn(1)
    assert parent.end() == (0, "")


@KINDS
def test_the_whole_tree_killed_leaves_nothing(kind: str, tmp_path: Path) -> None:
    parent = Parent(kind, "mapper.map(block)", tmp_path)
    parent.learn(2)
    os.killpg(parent.process.pid, signal.SIGKILL)
    assert parent.end()[0] == -signal.SIGKILL


@KINDS
@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_is_prompt_and_quiet(kind: str, presses: int, tmp_path: Path) -> None:
    parent = Parent(
        kind, "with mapper.__class__(forever, num_workers=2) as m: m.map(block)", tmp_path
    )
    parent.learn(2)
    for _ in range(presses):
        os.killpg(parent.process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    code, stderr = parent.end()
    assert code in (-signal.SIGINT, 1)
    assert stderr.count("KeyboardInterrupt") >= 1
    # One program's traceback; chained ones appear when the second press met the first's handling.
    assert stderr.count("Traceback (most recent call last)") <= presses
    assert "leaked" not in stderr


@KINDS
def test_an_exception_in_the_parent(kind: str, tmp_path: Path) -> None:
    parent = Parent(
        kind,
        """
        def progress(done, total):
            raise RuntimeError("parent")
        with Kind(lambda k: tell(os.getpid()), num_workers=2, progress=progress) as m:
            m.map([1])
        """,
        tmp_path,
    )
    parent.learn(1)
    code, stderr = parent.end()
    assert code == 1
    assert stderr.count("Traceback") == 1
    assert "RuntimeError: parent" in stderr


@KINDS
@pytest.mark.parametrize("ending", ["pass", "sys.exit(0)", "del mapper"])
def test_a_forgotten_cleanup(kind: str, ending: str, tmp_path: Path) -> None:
    parent = Parent(
        kind,
        f"""
        mapper.cleanup()
        mapper = Kind(lambda k: tell(os.getpid(), os.getppid()), num_workers=2)
        mapper.init()
        mapper.map([1, 2])
        {ending}
        """,
        tmp_path,
    )
    parent.learn(2)
    assert parent.end() == (0, "")


@KINDS
def test_a_forked_child_cannot_use_the_mapper(kind: str, tmp_path: Path) -> None:
    parent = Parent(
        kind,
        """
        mapper.cleanup()
        mapper = Kind(lambda k: k, num_workers=2)
        mapper.init()
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12+: fork beside BLAS threads
        pid = os.fork()
        if pid == 0:
            from ringwalk import ForkedError
            try:
                mapper.map([1])
            except ForkedError:
                mapper.cleanup()  # not its own: does nothing
                sys.exit(7)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 7
        assert mapper.map([1, 2]) == [1, 2], "the child's exit ended the parent's workers"
        tell(os.getpid())
        """,
        tmp_path,
    )
    parent.learn(1)
    assert parent.end() == (0, "")


@KINDS
def test_output_is_written_once(kind: str, tmp_path: Path) -> None:
    parent = Parent(
        kind,
        """
        mapper.cleanup()
        sys.stdout.write("1\\n")  # buffered: a careless fork would write it again in each child
        mapper = Kind(lambda k: sys.stdout.write("2\\n") and None, num_workers=2)
        mapper.init()
        mapper.map([1, 2, 3])
        mapper.cleanup()
        """,
        tmp_path,
    )
    output, stderr = parent.process.communicate()
    assert sorted(output.split()) == ["1", "2", "2", "2"]
    assert stderr == ""


@KINDS
def test_an_idle_mapper_uses_no_processor_time(kind: str, tmp_path: Path) -> None:
    parent = Parent(
        kind,
        """
        mapper.cleanup()
        mapper = Kind(lambda k: (os.getpid(), os.getppid()), num_workers=2)
        mapper.init()
        pids = {pid for pair in mapper.map(range(50)) for pid in pair}
        if Kind is TaskMapper:
            pids = set()  # nothing but the parent lives between maps

        def used():
            # Not utime and stime of stat: whole ticks of 10 ms, of which the last instructions
            # before sleep may end one.
            times = [Path(f"/proc/{pid}/schedstat").read_text().split()[0] for pid in pids]
            return sum(map(int, times)) * 1e-9 + time.process_time()

        before = used()
        time.sleep(1.0)  # the idle time that is measured
        print(int((used() - before) * 100))
        mapper.cleanup()
        """,
        tmp_path,
    )
    output, stderr = parent.process.communicate()
    assert stderr == ""
    assert output == "0\n"


def test_a_stopped_map_does_not_wait_for_what_it_cancelled(
    process_mapper: type[Mapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing but a wake-up can end the wait now: where none comes, the watchdog ends the test.
    monkeypatch.setattr("ringwalk.mappers.transaction.HEARTBEAT_S", 10_000.0)

    def segment(k: int) -> int:
        if k == 0:
            raise ValueError(k)
        return k

    with process_mapper(segment, num_workers=2) as mapper:
        for _ in range(20):
            with pytest.raises(SegmentError):
                mapper.map(range(40))
