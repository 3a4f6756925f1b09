"""A full memory cgroup: the worker is the victim and is told apart; what is foreseen is refused.

Each test runs a program in a cgroup of its own, made below the one that the tests run in.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

LIMIT = 256 << 20

PRELUDE = """
import os, sys
from multiprocessing import resource_tracker
from pathlib import Path
resource_tracker.ensure_running()  # outside: it may outlive this program by a moment
Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
import numpy as np
from ringwalk import HeapFullError, MapError, TaskMapper, WalkerBlock, WorkerDied, WorkerMapper
from ringwalk._core import headroom
Kind = {"WorkerMapper": WorkerMapper, "TaskMapper": TaskMapper}[sys.argv[2]]
score = Path("/proc/self/oom_score_adj").read_text()
ballast = np.ones(100 << 17)  # the parent is the larger process: 100 MiB and its libraries
"""


def own_cgroup() -> Path:
    """The folder of this process's memory cgroup, where a hierarchy is mounted as usual."""
    base = Path("/sys/fs/cgroup")
    paths = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))
    if "memory" in paths:
        return base / "memory" / paths["memory"].lstrip("/")
    return base / paths.get("", "").lstrip("/")


@pytest.fixture
def cgroup() -> Iterator[Path]:
    folder = own_cgroup() / f"ringwalk-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    try:
        limits = {"memory.limit_in_bytes", "memory.max"} & {f.name for f in folder.iterdir()}
        if not limits:
            pytest.skip(f"{folder.parent} does not hand the memory controller down")
        (folder / limits.pop()).write_text(str(LIMIT))
        yield folder
    finally:
        folder.rmdir()


def run(cgroup: Path, kind: str, program: str) -> None:
    arguments = [sys.executable, "-c", PRELUDE + textwrap.dedent(program), str(cgroup), kind]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "as promised\n", "")


def kinds() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", ["WorkerMapper", "TaskMapper"])


@kinds()
def test_the_worker_that_eats_memory_is_the_victim(
    cgroup: Path, kind: str, rounds: Callable[[int, int], int]
) -> None:
    program = f"""
    def segment(k):
        if k == 3:
            eaten = []
            while True:
                eaten.append(bytearray(8 << 20))
        return k, Path("/proc/self/oom_score_adj").read_text()

    for _ in range({rounds(3, 100)}):
        with Kind(segment, num_workers=2, on_error="finish") as mapper:
            try:
                mapper.map(range(12))
            except WorkerDied as error:
                assert (error.walker, error.signal, error.attempts) == (3, 9, 2), error
                assert error.out_of_memory
                assert "out of memory" in str(error)
                assert error.results == {{k: (k, "1000\\n") for k in range(12) if k != 3}}
            else:
                raise AssertionError("nothing was killed")
            assert [k for k, _ in mapper.map([0, 1, 2])] == [0, 1, 2]
    assert Path("/proc/self/oom_score_adj").read_text() == score
    print("as promised")
    """
    run(cgroup, kind, program)


@kinds()
def test_another_s_sigkill_is_not_taken_for_it(cgroup: Path, kind: str) -> None:
    program = """
    import signal

    def segment(k):
        os.kill(os.getpid(), signal.SIGKILL)

    with Kind(segment, num_workers=1, max_retries=0) as mapper:
        try:
            mapper.map([0])
        except WorkerDied as error:
            assert error.signal == 9 and not error.out_of_memory
            assert "memory" not in str(error)
            print("as promised")
    """
    run(cgroup, kind, program)


@kinds()
def test_what_cannot_fit_is_refused_before_anybody_is_killed(cgroup: Path, kind: str) -> None:
    program = """
    def refused(call):
        try:
            call()
        except MemoryError as error:
            return str(error)
        except MapError as error:
            assert isinstance(error.__cause__, MemoryError), error
            return str(error.__cause__)
        raise AssertionError("not refused")

    def large(k):
        return np.broadcast_to(1.0, 1 << 22) + k if k > 1 else float(k)

    with Kind(large, num_workers=2) as mapper:
        mapper.map([0, 1])
        # A worker first makes its piece, then asks for as much. However much is in use by now,
        # this leaves 24 MiB when the last piece is made: nothing else comes to its limit.
        uneven = np.ones((headroom.available()[0] - (24 << 20)) % (32 << 20) >> 3)
        # In one piece, and in pieces of 32 MiB each: results that somebody keeps.
        kept = []
        for told in (
            refused(lambda: WalkerBlock(16, x=((1 << 20,), "f8"))),
            refused(lambda: [kept.append(mapper.map([2])) for _ in range(8)]),
        ):
            assert sys.argv[1] in told, told
        assert kept
        assert (kept[0][0] == 3).all()
        del kept
        assert mapper.map([0, 1]) == [0, 1]
    assert headroom.kills() == 0
    print("as promised")
    """
    run(cgroup, kind, program)
