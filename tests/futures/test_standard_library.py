"""CPython's own tests of executors, run on ours where the interpreter ships them.

What we do otherwise on purpose, or cannot be asked by these tests, is in ``DEVIATIONS``.
"""

from __future__ import annotations

import importlib
import multiprocessing
import unittest
from typing import Any

import pytest

from ringwalk import Executor

_NAME = "test.test_concurrent_futures"
_TESTS = ("as_completed", "deadlock", "init", "process_pool", "shutdown", "wait")
_PARTS = ("executor", "util", *(f"test_{part}" for part in _TESTS))

shipped = pytest.importorskip(_NAME, reason="this interpreter comes without the library's tests")
# One module up to Python 3.11, then a package.
_modules = (
    [importlib.import_module(f"{_NAME}.{part}") for part in _PARTS]
    if hasattr(shipped, "__path__")
    else [shipped]
)
_found = {name: value for module in _modules for name, value in vars(module).items()}

_PRIVATE = "looks into ProcessPoolExecutor's private attributes"
_BY_NAME = "its script imports the class from concurrent.futures by name"
_NOT_BROKEN = "expects a broken pool; ours gives the future what unpickling raised, and goes on"
_PER_CHILD = "max_tasks_per_child: not offered; a worker that leaks can end itself by os._exit"
_KILLS = "kill_workers and terminate_workers, of Python 3.14: not offered"
DEVIATIONS = {
    "test_broken_process_pool_traceback": _PRIVATE,
    "test_cancel_futures": "expects that some task runs at once; with our executor workers fork "
    "at the first submit and none is prefetched, so a shutdown that comes sooner cancels all",
    "test_context_manager_shutdown": _PRIVATE,
    "test_del_shutdown": _PRIVATE,
    "test_error_at_task_unpickle": _NOT_BROKEN,
    "test_error_during_result_unpickle_in_result_handler": _NOT_BROKEN,
    "test_exit_during_result_unpickle_in_result_handler": _NOT_BROKEN,
    "test_failed_worker_replacement_breaks_pool": _PRIVATE,
    "test_force_shutdown_during_max_tasks_worker_exit": _KILLS,
    "test_force_shutdown_workers": _KILLS,
    "test_force_shutdown_workers_dead_workers": _KILLS,
    "test_force_shutdown_workers_invalid_op": _KILLS,
    "test_force_shutdown_workers_not_started_yet": _KILLS,
    "test_force_shutdown_workers_stops_pool": _KILLS,
    "test_gc_during_max_tasks_worker_exit_gh152967": _PER_CHILD,
    "test_hang_gh83386": _BY_NAME,
    "test_idle_process_reuse_multiple": _PRIVATE,
    "test_idle_process_reuse_one": _PRIVATE,
    "test_interpreter_shutdown": _BY_NAME,
    "test_killed_child": "expects a broken pool; ours costs the task one attempt and goes on",
    "test_kill_workers": _KILLS,
    "test_max_tasks_early_shutdown": _PER_CHILD,
    "test_max_tasks_per_child_pending_tasks_gh115634": _PER_CHILD,
    "test_max_tasks_per_child": _PER_CHILD,
    "test_max_tasks_per_child_defaults_to_spawn_context": _PER_CHILD,
    "test_processes_terminate": _PRIVATE,
    "test_python_finalization_error": "patches ProcessPoolExecutor's threads",
    "test_ressources_gced_in_workers": "wants a multiprocessing context and a manager process",
    "test_saturation": _PRIVATE,
    "test_shutdown_deadlock_pickle": _PRIVATE,
    "test_shutdown_gh_132969_case_1": _BY_NAME,
    "test_shutdown_gh_132969_case_2": _BY_NAME,
    "test_shutdown_no_wait": _PRIVATE,
    "test_shutdown_no_wait_max_tasks_gh119592": _PER_CHILD,
    "test_submit_after_interpreter_shutdown": _BY_NAME,
    "test_terminate_workers": _KILLS,
    "test_traceback": "expects the private class _RemoteTraceback as the cause; ours is "
    "ringwalk.errors.RemoteTraceback, with the same text",
}


class _Mixin(_found["ExecutorMixin"]):  # type: ignore[misc]
    executor_type = Executor
    manager: Any = None

    def create_event(self) -> Any:
        """An event that can be sent to a worker; from 3.13.5 on the tests ask for it."""
        if self.manager is None:  # which tearDown shuts down
            self.manager = multiprocessing.get_context("spawn").Manager()
        return self.manager.Event()


class _ContextMixin(_found["ExecutorMixin"]):  # type: ignore[misc]
    ctx = "fork"

    @staticmethod
    def executor_type(max_workers: int, mp_context: Any, **options: Any) -> Executor:
        return Executor(max_workers, start_method=mp_context.get_start_method(), **options)


def _suite(tests: type, mixin: type = _Mixin) -> type[unittest.TestCase]:
    known = {name: unittest.skip(reason) for name, reason in DEVIATIONS.items()}
    skipped: dict[str, Any] = {
        name: skip(getattr(tests, name)) for name, skip in known.items() if hasattr(tests, name)
    }
    return type(tests.__name__, (tests, mixin, _found["BaseTestCase"]), skipped)


TestExecutor = _suite(_found["ExecutorTest"])
TestWait = _suite(_found["WaitTests"])
TestAsCompleted = _suite(_found["AsCompletedTests"])
TestShutdown = _suite(_found["ProcessPoolShutdownTest"])
TestProcessPool = _suite(_found["ProcessPoolExecutorTest"])
TestDeadlock = _suite(_found["ExecutorDeadlockTest"], _ContextMixin)
TestInitializer = _suite(_found["InitializerMixin"])
# FailingInitializerMixin's one test looks into private attributes.
