"""Every front of the package, for programs that do the same to all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ringwalk import Executor, SerialMapper, TaskMapper, ThreadMapper, WorkerMapper
from ringwalk.distributors import CommandDistributor
from ringwalk.futures.work_manager import ProcessWorkManager, ThreadsWorkManager
from ringwalk.runners import ForkRunner, LocalRunner, PoolRunner

MAPPERS: dict[str, Any] = {
    kind.__name__: kind for kind in (SerialMapper, ThreadMapper, WorkerMapper, TaskMapper)
}
MANAGERS: dict[str, Any] = {
    kind.__name__: kind for kind in (ThreadsWorkManager, ProcessWorkManager)
}
RUNNERS: dict[str, Any] = {kind.__name__: kind for kind in (ForkRunner, PoolRunner)}
# Those that can start fresh interpreters.
SPAWNING = ("WorkerMapper", "Executor", "ProcessWorkManager")
FORKING = ("TaskMapper", *SPAWNING, "ForkRunner", "PoolRunner", "LocalRunner", "CommandDistributor")
ALL = ("SerialMapper", "ThreadMapper", "ThreadsWorkManager", *FORKING)


def identity(k: int) -> int:
    return k


def open_front(
    name: str,
    start_method: str = "fork",
    *,
    func: Callable[[int], Any] = identity,
    command: str = "true",
) -> tuple[Any, Callable[[], None]]:
    """A context manager, and what has it run ``func`` on some numbers, or ``command``, to the end.

    What comes back is checked.
    """
    methods = {"start_method": start_method} if name in SPAWNING else {}
    front: Any
    if name in MAPPERS:
        front = MAPPERS[name](func, num_workers=2, **methods)

        def use() -> None:
            assert front.map(range(8)) == list(range(8))

    elif name == "Executor":
        front = Executor(2, **methods)

        def use() -> None:
            assert list(front.map(func, range(8))) == list(range(8))

    elif name in MANAGERS:
        front = MANAGERS[name](2)
        front.start_method = start_method

        def use() -> None:
            futures = [front.submit(func, (k,)) for k in range(8)]
            assert [future.get_result() for future in futures] == list(range(8))

    elif name == "CommandDistributor":
        front = CommandDistributor(2)

        def use() -> None:
            ids = front.submit_array(command, 4)
            assert front.wait()
            assert all(front.exit_info(name).ok for name in ids)

    else:
        front = (
            LocalRunner(command, parallel=2)
            if name == "LocalRunner"
            else RUNNERS[name](func, parallel=2)
        )

        def use() -> None:
            for k in range(4):
                front.enqueue(k)
            assert front.wait_all()
            assert front.failed == {}

    return front, use
