"""Run tables: they grow under everybody's eyes, stay a .npy file, and have one owner."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ringwalk.errors import BusyError, ClosedError, ConfigError, ForkedError, HeapFullError
from ringwalk.memory import RunTable, Status, Table

FIELDS = {"u": "f8", "k": "i4", "f": ((3,), "f8")}


def in_child(work: object) -> int:
    """Run ``work`` in a forked child; its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()  # type: ignore[operator]
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture(params=["nameless", "file"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunTable]:
    path = tmp_path / "runs.npy" if request.param == "file" else None
    with RunTable(FIELDS, 2, path=path) as table:
        yield table


def test_rows_hold_what_was_appended_and_zeros(table: RunTable) -> None:
    assert len(table) == 0
    assert [table.append(u=k / 2, f=[k, k, k]) for k in range(5)] == list(range(5))
    assert table["u"].tolist() == [0, 0.5, 1, 1.5, 2]
    assert table[3]["f"].tolist() == [3, 3, 3]
    assert table["k"].tolist() == [0] * 5
    assert set(table["status"]) == {Status.NEW}


def test_growth_keeps_rows_and_old_views(table: RunTable) -> None:
    table.extend(2)
    old = table.rows
    old["u"] = [1, 2]
    table.resize(100_000)
    table.extend(50_000)
    assert np.shares_memory(old, table.rows)
    assert table["u"][:3].tolist() == [1, 2, 0]
    old["u"][0] = 7
    assert table["u"][0] == 7


def test_another_process_sees_growth_without_reopening(table: RunTable) -> None:
    table.append(u=1)
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            other = Table.from_fd(table.fileno())
            view = other.rows
            view["k"] = 11
            theirs.send(b"1")
            theirs.recv(1)  # grown meanwhile
            view["f"] = 3
            other["k"][40_000] = 13
            code = 0 if len(other) == 50_000 and len(table) == 50_000 else 2
        finally:
            os._exit(code)
    ours.recv(1)
    table.extend(49_999)
    ours.send(b"1")
    assert os.waitpid(pid, 0)[1] == 0
    assert table["k"][[0, 40_000]].tolist() == [11, 13]
    assert table["f"][0].tolist() == [3, 3, 3]
    ours.close()
    theirs.close()


def test_the_file_is_a_npy_at_any_length(tmp_path: Path) -> None:
    path = tmp_path / "runs.npy"
    with RunTable(FIELDS, 1, path=path) as table:
        for count in range(12):
            loaded = np.load(path)
            assert loaded.dtype.names == table.record.names
            assert loaded["u"].tolist() == list(range(count))
            table.append(u=count)
        mapped = np.load(path, mmap_mode="r+")
        table.resize(10_000)
        mapped["u"][3] = 33
        assert table["u"][3] == 33
        del mapped
    assert os.listdir(tmp_path) == ["runs.npy"]
    assert len(np.load(path)) == 12


def test_a_reader_never_meets_a_half_written_head(tmp_path: Path) -> None:
    path = tmp_path / "runs.npy"
    with Table(np.dtype([("u", "i8")]), 1, path=path) as table:
        ready, told = os.pipe()

        def read() -> None:
            lengths = [len(np.load(path, mmap_mode="r")) for _ in range(2)]
            os.write(told, b"1")
            while lengths[-1] < 3000:
                lengths.append(len(np.load(path, mmap_mode="r")))
                assert lengths[-2] <= lengths[-1] <= 3000

        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                read()
                code = 0
            finally:
                os._exit(code)
        os.read(ready, 1)
        for _ in range(3000):
            table.extend()
        assert os.waitpid(pid, 0)[1] == 0
        os.close(ready)
        os.close(told)


def test_a_second_owner_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / "runs.npy"
    with RunTable(FIELDS, 2, path=path) as table:
        table.append(u=5)

        def take() -> None:
            with pytest.raises(BusyError, match=rf"process {os.getppid()} on {HOST}, since \d"):
                RunTable(FIELDS, 2, path=path, replace=True)

        assert in_child(take) == 0
        assert table["u"].tolist() == [5]
        assert np.load(path)["u"].tolist() == [5]


def test_of_two_who_ask_at_once_one_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if they have one process id: two threads, or processes of two machines."""
    path = tmp_path / "runs.npy"
    link, first = os.link, list[RunTable]()

    def late(*names: Path) -> None:
        if not first:
            monkeypatch.setattr(os, "link", link)
            first.append(RunTable(FIELDS, 2, path=path))
        link(*names)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(BusyError, match=f"process {os.getpid()}"):
        RunTable(FIELDS, 2, path=path)
    first[0].close()
    assert os.listdir(tmp_path) == ["runs.npy"]


HOST = socket.gethostname()
OWNER = """
import os, sys
from ringwalk.memory import RunTable
table = RunTable({"u": "f8"}, 4, path=sys.argv[1])
table.append(u=5)
os.kill(os.getpid(), 9)
"""


def test_a_killed_owner_s_table_can_be_read_and_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "runs.npy"
    done = subprocess.run([sys.executable, "-c", OWNER, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert sorted(os.listdir(tmp_path)) == [".runs.npy.owner", "runs.npy"]
    with Table.attach(path) as left:
        assert left["u"].tolist() == [5]
        with RunTable(FIELDS, 2, path=path, replace=True) as table:
            assert len(table) == 0
            assert left["u"].tolist() == [5]
    assert os.listdir(tmp_path) == ["runs.npy"]


@pytest.mark.parametrize("step", ["write", "link"])
def test_what_a_killed_maker_left_is_reclaimed(tmp_path: Path, step: str) -> None:
    def make() -> None:
        # Before the step: the file has its first name alone then.
        setattr(os, step, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        RunTable(FIELDS, path=tmp_path / "runs.npy")

    assert in_child(make) == -signal.SIGKILL
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".runs.npy.owner-")
    elsewhere = left.replace(f"-{socket.gethostname()}-", "-another.machine-")
    assert elsewhere != left
    (tmp_path / elsewhere).touch()
    RunTable(FIELDS, path=tmp_path / "runs.npy").close()
    assert sorted(os.listdir(tmp_path)) == sorted([elsewhere, "runs.npy"])


def test_an_owner_on_another_machine_counts_as_alive(tmp_path: Path) -> None:
    claim = tmp_path / ".runs.npy.owner"
    claim.write_text(
        '{"pid": 1, "started": 1, "namespace": 1, "host": "elsewhere", "since": "monday"}'
    )
    with pytest.raises(BusyError, match=r"process 1 on elsewhere, since monday.*remove .*owner"):
        RunTable(FIELDS, 2, path=tmp_path / "runs.npy")
    claim.write_text("{}")
    with pytest.raises(ConfigError, match="does not say who owns"):
        RunTable(FIELDS, 2, path=tmp_path / "runs.npy")
    assert os.listdir(tmp_path) == [".runs.npy.owner"]


def test_only_the_owner_makes_rows(table: RunTable) -> None:
    def grow() -> None:
        for call in (table.extend, table.append, lambda: table.resize(10)):
            with pytest.raises(ForkedError, match="only the process"):
                call()

    assert in_child(grow) == 0
    with Table.from_fd(table.fileno()) as other, pytest.raises(ForkedError, match="only"):
        other.extend()


def test_mistakes_are_refused_before_anything_happens(tmp_path: Path, table: RunTable) -> None:
    with pytest.raises(ConfigError, match="'end' is taken"):
        RunTable({"end": "f8"})
    with pytest.raises(ConfigError, match="no such field: v"):
        table.append(v=1)
    assert len(table) == 0
    with pytest.raises(ConfigError, match="cannot shrink from 2 rows to 1"):
        table.resize(1)
    with pytest.raises(ConfigError, match="capacity is -1"):
        RunTable(FIELDS, -1)
    with pytest.raises(ConfigError, match="without objects"):
        Table(np.dtype([("a", "O")]), 1)
    with pytest.raises(HeapFullError, match="ends at"):
        table.resize(10**12)
    path = tmp_path / "other.npy"
    np.save(path, np.zeros(3))
    with pytest.raises(ConfigError, match=r"exists.*replace=True"):
        RunTable(FIELDS, 2, path=path)
    with pytest.raises(ConfigError, match="but not a run table's"):
        Table.attach(path)
    path.write_text("text")
    with pytest.raises(ConfigError, match="does not begin as a .npy"):
        Table.attach(path)
    with pytest.raises(ConfigError, match="cannot attach.*No such file"):
        Table.attach(tmp_path / "none")


def test_arrays_outlive_a_closed_table(table: RunTable) -> None:
    table.append(u=3)
    rows = table.rows
    table.close()
    table.close()
    assert rows["u"].tolist() == [3]
    for use in (lambda: table.rows, table.extend, table.fileno):
        with pytest.raises(ClosedError, match="was closed"):
            use()


def test_a_full_disk_is_an_error_and_the_table_goes_on(tmp_path: Path) -> None:
    def fill() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with Table(np.dtype([("u", "f8")]), 10, path=tmp_path / "small.npy") as small:
            small.extend(10)
            small["u"] = 4
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
            with pytest.raises(HeapFullError, match="no room"):
                small.extend(10_000)
            assert small["u"].tolist() == [4] * 10

    assert in_child(fill) == 0
    assert len(np.load(tmp_path / "small.npy")) == 10


def test_references_to_flags_that_numpy_loses_are_not_missed() -> None:
    """It loses one where a flag changes while it is read; see ``ringwalk.memory``."""
    script = """
import ctypes
import numpy as np
import ringwalk.memory
for flag in (np.True_, np.False_):
    for _ in range(1_000):
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(flag))
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
