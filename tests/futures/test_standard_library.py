"""CPython's own tests of executors, run on ours where the interpreter ships them (3.12+).

What we do otherwise on purpose, or cannot be asked by these tests, is in ``DEVIATIONS``.
"""

from __future__ import annotations

import unittest
from typing import Any

import pytest

from ringwalk import Executor

pytest.importorskip(
    "test.test_concurrent_futures.executor",
    reason="this interpreter comes without the standard library's tests of 3.12 or newer",
)

from test.test_concurrent_futures import (
    executor,
    test_as_completed,
    test_process_pool,
    test_shutdown,
    test_wait,
    util,
)

_PRIVATE = "looks into ProcessPoolExecutor's private attributes"
_BY_NAME = "its script imports the class from concurrent.futures by name"
_PER_CHILD = "max_tasks_per_child: not offered; a worker that leaks can end itself by os._exit"
DEVIATIONS = {
    "test_cancel_futures": "expects that some task runs at once; with our executor workers fork "
    "at the first submit and none is prefetched, so a shutdown that comes sooner cancels all",
    "test_context_manager_shutdown": _PRIVATE,
    "test_del_shutdown": _PRIVATE,
    "test_hang_gh83386": _BY_NAME,
    "test_idle_process_reuse_multiple": _PRIVATE,
    "test_idle_process_reuse_one": _PRIVATE,
    "test_interpreter_shutdown": _BY_NAME,
    "test_killed_child": "expects a broken pool; ours costs the task one attempt and goes on",
    "test_max_tasks_early_shutdown": _PER_CHILD,
    "test_max_tasks_per_child": _PER_CHILD,
    "test_max_tasks_per_child_defaults_to_spawn_context": _PER_CHILD,
    "test_processes_terminate": _PRIVATE,
    "test_python_finalization_error": "patches ProcessPoolExecutor's threads",
    "test_ressources_gced_in_workers": "wants a multiprocessing context and a manager process",
    "test_saturation": _PRIVATE,
    "test_shutdown_no_wait": _PRIVATE,
    "test_submit_after_interpreter_shutdown": _BY_NAME,
    "test_traceback": "expects the private class _RemoteTraceback as the cause; ours is "
    "ringwalk.errors.RemoteTraceback, with the same text",
}


class _Mixin(util.ExecutorMixin):  # type: ignore[misc]
    executor_type = Executor


def _suite(tests: type) -> type[unittest.TestCase]:
    known = {name: unittest.skip(reason) for name, reason in DEVIATIONS.items()}
    skipped: dict[str, Any] = {
        name: skip(getattr(tests, name)) for name, skip in known.items() if hasattr(tests, name)
    }
    return type(tests.__name__, (tests, _Mixin, util.BaseTestCase), skipped)


TestExecutor = _suite(executor.ExecutorTest)
TestWait = _suite(test_wait.WaitTests)
TestAsCompleted = _suite(test_as_completed.AsCompletedTests)
TestShutdown = _suite(test_shutdown.ProcessPoolShutdownTest)
TestProcessPool = _suite(test_process_pool.ProcessPoolExecutorTest)
