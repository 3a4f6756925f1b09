"""An executor or work manager is ended while another thread waits for its tasks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ringwalk import BrokenExecutorError, Executor
from ringwalk.futures.work_manager import ProcessWorkManager


def sleep_for_ever(_: int) -> None:
    threading.Event().wait()


def wait_beside(wait: Callable[[], object], end: Callable[[], object]) -> Any:
    """What a wait in another thread gave, or raised."""
    with ThreadPoolExecutor(1) as thread:
        outcome = thread.submit(wait)
        end()
        return outcome.result()


def test_shutdown_lets_tasks_finish() -> None:
    executor = Executor(2)
    futures = [executor.submit(time.sleep, 0.05) for _ in range(6)]
    assert wait_beside(lambda: [future.result() for future in futures], executor.shutdown) == (
        [None] * 6
    )


def test_killed_workers_fail_what_is_waited_for() -> None:
    executor = Executor(2)
    futures = [executor.submit(sleep_for_ever, k) for k in range(4)]
    for future in futures:
        with pytest.raises(BrokenExecutorError):
            wait_beside(future.result, executor.kill_workers)


def test_a_manager_that_shuts_down_fails_what_is_waited_for() -> None:
    manager = ProcessWorkManager(2, shutdown_timeout=0.1)
    manager.startup()
    futures = [manager.submit(sleep_for_ever, (k,)) for k in range(4)]
    for future in futures:
        with pytest.raises(BrokenExecutorError):
            wait_beside(future.get_result, manager.shutdown)
