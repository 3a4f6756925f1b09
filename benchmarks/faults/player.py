"""One pool runs batches and says what came of the last: the program that ``under_fire`` shoots at.

    python -m benchmarks.faults.player CONTESTANT WORKLOAD PIDS

Each task appends the id of its process to the file PIDS. Standard output gets, a line each:
``calm SECONDS`` before the batch that counts, its outcome as JSON, and the end.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.contest import WORKERS
from benchmarks.rivals.multiprocessing_pool import MultiprocessingPool
from benchmarks.rivals.process_pool_executor import ProcessPoolExecutor
from ringwalk import MapError, TaskMapper, WorkerMapper

LARGE = 1 << 19  # float64 values: 4 MiB
LARGE_TASKS = 64
SMALL_TASKS = 1000
POISON = 500
SLOW_S = 3.0
PIDS = "RINGWALK_BENCH_PIDS"  # by environment: loky's workers are fresh interpreters


def _sign() -> None:
    file = os.open(os.environ[PIDS], os.O_WRONLY | os.O_APPEND)
    os.write(file, f"{os.getpid()}\n".encode())
    os.close(file)


def large(item: int) -> Any:
    _sign()
    return np.full(LARGE, float(item))


def small(item: int) -> int:
    if item == -POISON:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.disable()
        os.kill(os.getpid(), signal.SIGSEGV)
    return item


def _loky(func: Callable[[Any], Any]) -> Any:
    from benchmarks.rivals.loky_executor import LokyExecutor

    return LokyExecutor(func, WORKERS)


def _joblib(func: Callable[[Any], Any]) -> Any:
    from benchmarks.rivals.joblib_parallel import Joblib

    return Joblib(func, WORKERS)


def _wepy_worker(func: Callable[[Any], Any]) -> Any:
    from benchmarks.rivals.wepy_mappers import WepyWorkerMapper

    return WepyWorkerMapper(func, WORKERS)


def _wepy_task(func: Callable[[Any], Any]) -> Any:
    from benchmarks.rivals.wepy_mappers import WepyTaskMapper

    return WepyTaskMapper(func, WORKERS)


# Each imports what it needs: a rival's import hooks and helpers are not to be in the others' way.
CONTESTANTS: dict[str, Callable[[Callable[[Any], Any]], Any]] = {
    "ringwalk WorkerMapper": lambda func: WorkerMapper(func, WORKERS, on_error="finish"),
    "ringwalk TaskMapper": lambda func: TaskMapper(func, WORKERS, on_error="finish"),
    "ProcessPoolExecutor": lambda func: ProcessPoolExecutor(func, WORKERS),
    "loky": _loky,
    "joblib": _joblib,
    "multiprocessing.Pool": lambda func: MultiprocessingPool(func, WORKERS, chunksize=1),
    "wepy WorkerMapper": _wepy_worker,
    "wepy TaskMapper": _wepy_task,
}


def attempt(pool: Any, items: Sequence[int]) -> tuple[dict[int, Any], str]:
    """Whatever results a careful caller can get hold of, and the error that the batch ended in."""
    if hasattr(pool, "submit"):
        return _attempt_each(pool, items)
    try:
        return dict(enumerate(pool.map(items))), ""
    except MapError as error:
        return dict(error.results), type(error).__name__
    except Exception as error:  # every rival has errors of its own
        return {}, type(error).__name__


def _attempt_each(pool: Any, items: Sequence[int]) -> tuple[dict[int, Any], str]:
    futures, results, ended = [], {}, ""
    try:
        for item in items:
            futures.append(pool.submit(item))
    except Exception as error:  # a broken pool takes no more
        ended = type(error).__name__
    for k, future in enumerate(futures):
        error = future.exception()
        if error is None:
            results[k] = future.result()
        else:
            ended = type(error).__name__
    return results, ended


def _is_right(item: int, result: Any) -> bool:
    if isinstance(result, np.ndarray):
        return result.shape == (LARGE,) and bool((result == item).all())
    return bool(result == item)


def play(contestant: str, workload: str) -> None:
    func = large if workload == "large" else small
    calm_items = list(range(LARGE_TASKS if workload == "large" else SMALL_TASKS))
    items = list(calm_items)
    if workload == "poison":
        items[POISON] = -POISON
    with CONTESTANTS[contestant](func) as pool:
        calm = 0.0
        for _ in range(2):  # the second is that of a warm pool
            if calm < SLOW_S:
                start = time.monotonic()
                pool.map(calm_items)
                calm = time.monotonic() - start
        print("calm", calm, flush=True)
        results, ended = attempt(pool, items)
        outcome = {
            "missing": len(items) - len(results),
            "wrong": sum(not _is_right(items[k], result) for k, result in results.items()),
            "error": ended,
        }
        del results
        print(json.dumps(outcome), flush=True)
    print("end", flush=True)


if __name__ == "__main__":
    os.environ[PIDS] = sys.argv[3]
    play(sys.argv[1], sys.argv[2])
