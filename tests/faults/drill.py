"""Run one scenario again and again, each time with another call failing: drill.py LIBRARY ...

    drill.py LIBRARY SCENARIO WHERE LASTING [FUNCTION ERROR]...

A program of its own, started with the injector (injector.c) in LD_PRELOAD. For each function it
forks a fresh process a call index, from 0 until the scenario ends before that call. Such a process
runs the scenario; if that raises, it ends the injection and proves that the mapper is usable, or
closes cleanly and starts again; and that no child, descriptor or shared memory is left. Prints a
line of JSON a run: function, index, outcome, and what is wrong with it (nothing).
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import gc
import json
import mmap
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from itertools import count
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import numpy as np

from ringwalk import ClosedError, Mapper, RingwalkError, TaskMapper, WalkerBlock, WorkerMapper

HANGS_AFTER_S = 60
WALKERS = 6


class Segment:
    """Makes a large result; kills its process the first time it is told to."""

    def __init__(self) -> None:
        self.deaths = mmap.mmap(-1, 1)  # shared with the processes that are forked

    def __call__(self, k: Any, size: int, dies: bool) -> Any:
        if dies and self.deaths[0] == 0:
            self.deaths[0] = 1
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(k, list):
            return np.full(size, float(k[0]))
        k.x += 1
        return None


def use(mapper: Mapper, *, size: int = 1, dies: bool = False) -> None:
    walkers = [[k] for k in range(WALKERS)]
    results = mapper.map(walkers, [size] * WALKERS, [dies and k == 3 for k in range(WALKERS)])
    assert [array.shape for array in results] == [(size,)] * WALKERS
    assert [array.min() for array in results] == list(range(WALKERS))
    assert [array.max() for array in results] == list(range(WALKERS))


def use_block(mapper: Mapper) -> None:
    with WalkerBlock(WALKERS, x="f8") as block:
        mapper.map(block, [1] * WALKERS, [False] * WALKERS)
        assert block["x"].tolist() == [1] * WALKERS


class MapperScenario:
    def __init__(self, kind: type[Mapper]) -> None:
        self.mapper = kind(Segment(), num_workers=2)

    def run(self) -> None:
        self.mapper.init()
        use(self.mapper)
        use_block(self.mapper)
        use(self.mapper, size=1 << 17)  # 1 MiB: the heaps grow
        use(self.mapper, dies=True)
        self.mapper.cleanup()

    def go_on(self) -> str:
        """Prove that the mapper is usable again; how."""
        try:
            use(self.mapper)
            use_block(self.mapper)
            return "usable"
        except ClosedError:
            self.mapper.cleanup()
            self.mapper.init()
            use(self.mapper)
            return "closed"
        finally:
            self.mapper.cleanup()


class BlockScenario:
    NAME = f"drill-{os.getpid()}"

    def run(self) -> None:
        with WalkerBlock.create(WALKERS, {"x": "f8"}, name=self.NAME) as block:
            block["x"] = 1
            with WalkerBlock.attach(self.NAME) as other:
                assert other["x"].sum() == WALKERS
            with WalkerBlock.from_fd(block.fileno()) as other:
                assert other["x"].sum() == WALKERS
            with block.take([0, 0, 1]) as copies:
                assert copies["x"].sum() == 3

    def go_on(self) -> str:
        self.run()
        return "usable"


SCENARIOS: dict[str, Callable[[], MapperScenario | BlockScenario]] = {
    "WorkerMapper": lambda: MapperScenario(WorkerMapper),
    "TaskMapper": lambda: MapperScenario(TaskMapper),
    "WalkerBlock": BlockScenario,
}


def left() -> tuple[set[str], set[str], list[str]]:
    """Children, descriptors and shared memory of this process."""
    gc.collect()
    children = set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
    descriptors = set(os.listdir("/proc/self/fd"))
    ours = (f"ringwalk-{os.getpid()}-", f"ringwalk.{BlockScenario.NAME}")
    return children, descriptors, [n for n in os.listdir("/dev/shm") if n.startswith(ours)]


def rehearse(make: Callable[[], Any], inject: Any, order: tuple[Any, ...]) -> dict[str, Any]:
    """One run with one injection, in a process of its own."""
    before = left()
    scenario = make()
    outcome, broken = "completed", ""
    inject.inject_arm(*order)
    try:
        scenario.run()
    except (OSError, MemoryError, RingwalkError) as error:
        outcome = type(error).__name__
        told = "".join(traceback.format_exception(error))
        failed = inject.inject_disarm()
        try:
            outcome += f", {scenario.go_on()}"
        except BaseException:
            broken = f"not usable: {traceback.format_exc()} after {told}"
    except BaseException as error:
        failed = inject.inject_disarm()
        outcome, broken = type(error).__name__, traceback.format_exc()
    else:
        failed = inject.inject_disarm()
    del scenario
    after = left()
    if not broken and after != before:
        broken = f"left behind: {before} became {after}"
    return {"failed": failed, "outcome": outcome, "broken": broken}


def watched(make: Callable[[], Any], inject: Any, order: tuple[Any, ...]) -> dict[str, Any]:
    """Fork, rehearse there, and take note of how that process ended."""
    ours, theirs = os.pipe()
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        faulthandler.dump_traceback_later(HANGS_AFTER_S, exit=True)
        os.write(theirs, json.dumps(rehearse(make, inject, order)).encode())
        os._exit(0)
    os.close(theirs)
    said = b""
    while chunk := os.read(ours, 1 << 16):  # ends with the last process that has the other end
        said += chunk
    os.close(ours)
    _, status = os.waitpid(pid, 0)
    result = json.loads(said) if said else {"failed": 1, "outcome": "none", "broken": "no report"}
    if status:
        result["broken"] += f" ended with status {status:#x}"
    result["seconds"] = round(time.monotonic() - began, 3)
    return result


def main() -> None:
    library, name, where, lasting, *points = sys.argv[1:]
    inject = ctypes.CDLL(library)
    number = ctypes.c_int
    inject.inject_arm.argtypes = [ctypes.c_char_p, number, ctypes.c_long, number, number]
    inject.inject_disarm.restype = ctypes.c_long
    resource_tracker.ensure_running()
    make = SCENARIOS[name]
    for point in points:
        function, error = point.split(":")
        for k in count():
            order = (
                function.encode(),
                getattr(errno, error),
                k,
                int(lasting),
                ["parent", "descendants"].index(where),
            )
            result = watched(make, inject, order)
            print(json.dumps({"function": function, "error": error, "k": k, **result}), flush=True)
            if result["failed"] == 0:
                break


if __name__ == "__main__":
    main()
