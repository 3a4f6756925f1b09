"""A block has one writer at a time: a second map of it is refused, and nothing is left locked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ringwalk import BusyError, Mapper, SerialMapper, ThreadMapper, WalkerBlock, WorkerMapper


def add_one(row: Any) -> None:
    row.x += 1


def make_block(name: str | None = None) -> WalkerBlock:
    return WalkerBlock.create(2, {"x": ((), "f8")}, name=name)


class Held:
    """A map of a block that waits in another thread until it is released."""

    def __init__(self, block: WalkerBlock, mapper: type[Mapper] = SerialMapper) -> None:
        self._go, self._began = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._map, args=(block, mapper))

    def _wait(self, row: Any) -> None:
        self._began.set()
        self._go.wait()
        row.x += 1

    def _map(self, block: WalkerBlock, kind: type[Mapper]) -> None:
        with kind(self._wait, num_workers=1) as mapper:
            mapper.map(block)

    def __enter__(self) -> None:
        self._thread.start()
        self._began.wait()

    def __exit__(self, *_: object) -> None:
        self._go.set()
        self._thread.join()


def test_a_second_map_of_a_block_is_refused_and_changes_nothing(
    any_mapper: type[Mapper],
) -> None:
    with make_block() as block, any_mapper(add_one, num_workers=2) as mapper:
        with Held(block):
            with pytest.raises(BusyError, match=r"the block is being written by another map of"):
                mapper.map(block)
            with pytest.raises(BusyError):
                next(mapper.map_unordered(block))
            assert block["x"].tolist() == [0, 0]
            with make_block() as other:
                mapper.map(other)
                assert other["x"].tolist() == [1, 1]
        assert block["x"].tolist() == [1, 1]
        mapper.map(block)
        assert block["x"].tolist() == [2, 2]


def test_two_handles_on_one_memory_are_one_block(any_mapper: type[Mapper]) -> None:
    with make_block() as block, WalkerBlock.from_fd(block.fileno()) as same:
        with Held(block, ThreadMapper), any_mapper(add_one, num_workers=1) as mapper:
            with pytest.raises(BusyError):
                mapper.map(same)


def test_a_map_that_fails_or_is_closed_gives_the_block_back(any_mapper: type[Mapper]) -> None:
    def fails(row: Any) -> None:
        raise ValueError

    with make_block() as block:
        with any_mapper(fails, num_workers=1) as mapper:
            with pytest.raises(Exception, match="ValueError"):
                mapper.map(block)
            with pytest.raises(Exception, match="ValueError"):
                list(mapper.map_unordered(block))
        with any_mapper(add_one, num_workers=1) as mapper:
            run = mapper.map_unordered(block)
            next(run)
            run.close()  # type: ignore[attr-defined]
            mapper.map(block)
        assert block["x"].tolist() == [1, 1]


ATTACHED = """
import sys, time
from ringwalk import SerialMapper, WalkerBlock
def hold(row):
    print("holds", flush=True)
    time.sleep(600)
with WalkerBlock.attach(sys.argv[1]) as block, SerialMapper(hold) as mapper:
    mapper.map(block)
"""


def test_another_process_is_refused_until_the_writer_is_dead() -> None:
    name = f"writer-{os.getpid()}"
    with make_block(name) as block, WorkerMapper(add_one, num_workers=1) as mapper:
        command = [sys.executable, "-c", ATTACHED, name]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            match = rf"the block '{name}' is being written by a map of process {process.pid};"
            with pytest.raises(BusyError, match=match):
                mapper.map(block)
            process.send_signal(signal.SIGKILL)
            process.wait()
        mapper.map(block)
        assert block["x"].tolist() == [1, 1]


def in_child(check: Callable[[], bool]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if check() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_neither_has_nor_drops_what_its_parent_took() -> None:
    with make_block() as block:
        mapper = SerialMapper(add_one)
        mapper.init()
        run = mapper.map_unordered(block)
        next(run)

        def child() -> bool:
            run.close()  # type: ignore[attr-defined]
            with SerialMapper(add_one) as own, pytest.raises(BusyError, match="process"):
                own.map(block)
            return True

        assert in_child(child) == 0
        with SerialMapper(add_one) as other, pytest.raises(BusyError):
            other.map(block)
        run.close()  # type: ignore[attr-defined]
        mapper.cleanup()
