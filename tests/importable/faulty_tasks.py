"""What the fault tests of executors and work managers submit, and how they wait for it.

Test files cannot import one another, and a worker that was not forked finds a task by the name of
its module. This folder is on pytest's path, and given to programs as PYTHONPATH.
"""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ringwalk.futures.work_manager import FutureWatcher, WorkManager


class Unpicklable:
    def __reduce__(self) -> Any:
        raise pickle.PicklingError("not me")


class Unloadable:
    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise ValueError("refused to load")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt(parent: int, gate: str) -> str:
    """When told to, press Ctrl-C in the parent; go on when told once more."""
    Path(gate).read_bytes()
    os.kill(parent, signal.SIGINT)
    Path(gate).read_bytes()
    return "ended"


WAITS: dict[str, Callable[[WorkManager, Any], object]] = {
    "get_result": lambda manager, future: future.get_result(),
    "result": lambda manager, future: future.result,
    "wait": lambda manager, future: future.wait(),
    "get_exception": lambda manager, future: future.get_exception(),
    "get_traceback": lambda manager, future: future.get_traceback(),
    "as_completed": lambda manager, future: list(manager.as_completed([future])),
    "wait_any": lambda manager, future: manager.wait_any([future]),
    "wait_all": lambda manager, future: manager.wait_all([future]),
    "watcher": lambda manager, future: FutureWatcher([future]).wait(),
}
