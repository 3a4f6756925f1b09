"""Run one scenario again and again, each time with another shortage: drill.py SCENARIO POINT...

A point is what runs short:

    FUNCTION:ERROR:once|lasting:parent|descendants
        call k of a function fails, or all from there on; needs the injector (injector.c) in
        LD_PRELOAD and, by its path, in INJECTOR
    LIMIT:STEP
        a soft resource limit of what is in use now and k steps

For each point it forks a fresh process for each k, from 0 until the scenario does not meet the
shortage. Such a process runs the scenario; if that raises, it ends the shortage and proves that the
mapper is usable, or closes cleanly and starts again; and that no child, descriptor or shared memory
is left. Prints a line of JSON a run: point, k, outcome, and what is wrong with it (nothing).
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import gc
import json
import mmap
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from itertools import count
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import numpy as np

from ringwalk import ClosedError, Mapper, RingwalkError, TaskMapper, WalkerBlock, WorkerMapper

HANGS_AFTER_S = 100
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

    def go_on(self, closes: type[Exception]) -> str:
        """Prove that the mapper is usable again; how. ``closes``: what may make a restart due."""
        try:
            use(self.mapper)
            use_block(self.mapper)
            return "usable"
        except closes:
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

    def go_on(self, closes: type[Exception]) -> str:
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


class FailingCalls:
    """Call k of a function fails."""

    closes = ClosedError

    def __init__(self, function: str, error: str, how: str, where: str) -> None:
        self._library = ctypes.CDLL(os.environ["INJECTOR"])
        self._function = function.encode()
        self._error = getattr(errno, error)
        self._lasting = ["once", "lasting"].index(how)
        self._where = ["parent", "descendants"].index(where)

    def begin(self, k: int) -> None:
        order = self._error, ctypes.c_long(k), self._lasting, self._where
        self._library.inject_arm(self._function, *order)

    def end(self) -> bool:
        """Whether there was a shortage, as far as one knows."""
        return bool(self._library.inject_disarm())


class Limit:
    """A resource limit that leaves k steps more than what is used before the scenario."""

    closes = RingwalkError  # persistent workers keep the limit that they were forked under
    UNPRIVILEGED = 54321  # a user with no process yet: root has no limit of processes

    def __init__(self, name: str, step: str) -> None:
        self._kind: int = getattr(resource, name)
        self._step = int(step)

    def begin(self, k: int) -> None:
        self._before, most = resource.getrlimit(self._kind)
        used = 0
        if self._kind == resource.RLIMIT_NPROC:
            os.setuid(self.UNPRIVILEGED)
        elif self._kind == resource.RLIMIT_NOFILE:
            used = len(os.listdir("/proc/self/fd"))
        elif self._kind == resource.RLIMIT_AS:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
        resource.setrlimit(self._kind, (used + k * self._step, most))

    def end(self) -> bool:
        _, most = resource.getrlimit(self._kind)
        resource.setrlimit(self._kind, (self._before, most))
        return False


Shortage = FailingCalls | Limit


def shortage_of(point: str) -> Shortage:
    parts = point.split(":")
    return Limit(*parts) if point.startswith("RLIMIT") else FailingCalls(*parts)


def rehearse(make: Callable[[], Any], shortage: Shortage, k: int) -> dict[str, Any]:
    """One run, in a process of its own."""
    before = left()
    scenario = make()
    broken = ""
    shortage.begin(k)
    try:
        scenario.run()
    except (OSError, MemoryError, RingwalkError) as error:
        outcome = type(error).__name__
        told = "".join(traceback.format_exception(error))
        shortage.end()
        try:
            outcome += f", {scenario.go_on(shortage.closes)}"
        except BaseException:
            broken = f"not usable: {traceback.format_exc()} after {told}"
        met = True
    except BaseException as error:
        shortage.end()
        met, outcome, broken = True, type(error).__name__, traceback.format_exc()
    else:
        met, outcome = shortage.end(), "completed"
    del scenario
    after = left()
    if not broken and after != before:
        broken = f"left behind: {before} became {after}"
    return {"met": met, "outcome": outcome, "broken": broken}


def watched(make: Callable[[], Any], shortage: Shortage, k: int) -> dict[str, Any]:
    """Fork, rehearse there, and take note of how that process ended."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        faulthandler.dump_traceback_later(HANGS_AFTER_S, exit=True)
        os.write(theirs, json.dumps(rehearse(make, shortage, k)).encode())
        os._exit(0)
    os.close(theirs)
    said = b""
    while chunk := os.read(ours, 1 << 16):  # ends with the last process that has the other end
        said += chunk
    os.close(ours)
    _, status = os.waitpid(pid, 0)
    result = json.loads(said) if said else {"met": True, "outcome": "none", "broken": "no report"}
    if status:
        result["broken"] += f" ended with status {status:#x}"
    return result


def main() -> None:
    name, *points = sys.argv[1:]
    resource_tracker.ensure_running()
    for point in points:
        shortage = shortage_of(point)
        for k in count():
            result = watched(SCENARIOS[name], shortage, k)
            print(json.dumps({"point": point, "k": k, **result}), flush=True)
            if not result["met"]:
                break


if __name__ == "__main__":
    main()
