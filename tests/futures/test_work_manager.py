"""The work managers' contract, the same for all that run without another package."""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import os
import pickle
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faulty_tasks import Unpicklable

from ringwalk import BrokenExecutorError, ClosedError, ConfigError, TaskDied
from ringwalk.futures.work_manager import (
    DaskWorkManager,
    FutureWatcher,
    ProcessWorkManager,
    SerialWorkManager,
    ThreadsWorkManager,
    WMEnvironment,
    WMFuture,
    WorkManager,
)

MAKERS: dict[str, Callable[[], WorkManager]] = {
    "serial": SerialWorkManager,
    "threads": lambda: ThreadsWorkManager(2),
    "processes": lambda: ProcessWorkManager(2),
}


@pytest.fixture(params=MAKERS)
def manager(request: pytest.FixtureRequest) -> Iterator[WorkManager]:
    with MAKERS[request.param]() as manager:
        yield manager


@pytest.fixture
def processes() -> Iterator[ProcessWorkManager]:
    with ProcessWorkManager(2) as manager:
        yield manager


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


def identity(value: Any) -> Any:
    return value


def fail(text: str) -> None:
    raise LookupError(text)


def test_results_in_order(manager: WorkManager) -> None:
    futures = manager.submit_many([(identity, (k,), None) for k in range(300)])
    assert [future.get_result() for future in futures] == list(range(300))
    assert manager.submit(divmod, kwargs=None, args=[7, 2]).result == (3, 1)
    assert manager.running
    assert manager.is_master


def test_a_discarded_result_is_gone_and_a_kept_one_stays(manager: WorkManager) -> None:
    future = manager.submit(identity, (5,))
    assert (future.result, future.result, future.get_result()) == (5, 5, 5)
    with pytest.raises(AttributeError, match="discarded"):
        future.get_result()


def test_a_task_that_raises(manager: WorkManager) -> None:
    future = manager.submit(fail, ("as expected",))
    for _ in range(2):
        with pytest.raises(LookupError, match="as expected"):
            future.get_result()
    assert isinstance(future.get_exception(), LookupError)
    assert future.get_traceback()
    assert manager.submit(identity, (1,)).get_exception() is None


@pytest.mark.parametrize("kind", [SystemExit])
def test_a_task_that_exits_fails_and_its_worker_lives(
    manager: WorkManager, kind: type[BaseException]
) -> None:
    def leave() -> None:
        raise kind(3)

    for _ in range(4):
        assert isinstance(manager.submit(leave).get_exception(), kind)
    assert manager.submit(identity, (1,)).get_result() == 1


def test_as_completed_yields_each_future_once(manager: WorkManager) -> None:
    futures = [manager.submit(identity, (k,)) for k in range(300)]
    seen = list(manager.as_completed(futures))
    assert len(seen) == 300
    assert set(seen) == set(futures)
    assert list(manager.as_completed([])) == []


def test_submit_as_completed_is_lazy(manager: WorkManager) -> None:
    taken: list[int] = []

    def tasks() -> Iterator[Any]:
        for k in range(50):
            taken.append(k)
            yield identity, (k,), {}

    futures = manager.submit_as_completed(tasks(), queue_size=4)
    results = {next(futures).get_result()}
    assert len(taken) <= 8
    results |= {future.get_result() for future in futures}
    assert results == set(range(50))
    more = manager.submit_as_completed([(identity, (k,), {}) for k in range(9)])
    assert {future.get_result() for future in more} == set(range(9))


def test_wait_any_drains_a_set(manager: WorkManager) -> None:
    futures = {manager.submit(identity, (k,)) for k in range(300)}
    results = set()
    while futures:
        future = manager.wait_any(futures)
        futures.remove(future)
        results.add(future.get_result())
    assert results == set(range(300))
    with pytest.raises(ValueError, match="no futures"):
        manager.wait_any(futures)


def test_wait_any_of_sets_in_turns(manager: WorkManager) -> None:
    ones = {manager.submit(identity, (1,)) for _ in range(20)}
    twos = {manager.submit(identity, (2,)) for _ in range(20)}
    while ones or twos:
        for value, group in ((1, ones), (2, twos)):
            future = manager.wait_any(group)
            assert future in group
            assert manager.wait_any(iter([future])) is future
            assert future.get_result() == value
            group.remove(future)


def test_wait_any_of_a_set_that_grows(manager: WorkManager) -> None:
    first = manager.submit(identity, (0,))
    group = {first}
    assert manager.wait_any(group) is first
    for k in range(1, 50):
        group.add(manager.submit(identity, (k,)))
        group.remove(manager.wait_any(group))
    assert len(group) == 1
    assert manager.wait_any(group) in group


def test_wait_all_raises_the_first_error(manager: WorkManager) -> None:
    futures = [manager.submit(identity, (k,)) for k in range(10)]
    assert manager.wait_all(iter(futures)) == futures
    with pytest.raises(LookupError):
        manager.wait_all([manager.submit(fail, ("x",))])


def test_callbacks_before_and_after(manager: WorkManager) -> None:
    called: list[WMFuture] = []
    future = manager.submit(identity, (1,))
    future._add_callback(called.append)
    future.wait()
    future._add_callback(called.append)
    assert called == [future, future]


def test_arrays_come_back_writeable(manager: WorkManager) -> None:
    array = np.arange(200_000.0)
    result = manager.submit(identity, (array,)).get_result()
    assert (result == np.arange(200_000.0)).all()
    result += 1


def test_threads_submit_at_once(manager: WorkManager) -> None:
    sums: list[int] = []

    def work() -> None:
        futures = {manager.submit(identity, (k,)) for k in range(100)}
        total = 0
        while futures:
            future = manager.wait_any(futures)
            futures.remove(future)
            total += future.get_result()
        sums.append(total)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [sum(range(100))] * 3


def test_start_and_end_as_often_as_one_likes(manager: WorkManager) -> None:
    manager.startup()
    for _ in range(2):
        manager.shutdown()
        manager.shutdown()
        assert not manager.running
        manager.startup()
        assert manager.submit(identity, (1,)).get_result() == 1


@pytest.mark.parametrize("make", [MAKERS["threads"], MAKERS["processes"]])
def test_a_manager_that_does_not_run_refuses(make: Callable[[], WorkManager]) -> None:
    manager = make()
    with pytest.raises(ClosedError):
        manager.submit(identity, (1,))
    with manager:
        assert manager.submit(identity, (1,)).get_result() == 1
    with pytest.raises(ClosedError):
        manager.submit(identity, (1,))


def test_a_watcher_waits_for_several() -> None:
    futures = [WMFuture() for _ in range(5)]
    watcher = FutureWatcher(futures, threshold=3)
    thread = threading.Thread(target=lambda: [f._set_result(None) for f in futures[:3]])
    thread.start()
    watcher.wait()
    thread.join()
    assert watcher.reset() == futures[:3]
    assert watcher.reset() == []


# --- processes -------------------------------------------------------------------------------


def test_each_worker_knows_its_number(processes: ProcessWorkManager, gate: Path) -> None:
    def number() -> str:
        with gate.open("rb", buffering=0) as held:
            held.read(1)
        return os.environ["WM_PROCESS_INDEX"]

    held = os.open(gate, os.O_RDWR)  # also to read, so that nobody waits for the other end
    try:
        futures = [processes.submit(number) for _ in range(2)]
        while not all(processes._engine.running(f) for f in futures):  # type: ignore[union-attr]
            os.sched_yield()
        os.write(held, b"go")  # a byte each
        assert {future.get_result() for future in futures} == {"0", "1"}
    finally:
        os.close(held)
    assert "WM_PROCESS_INDEX" not in os.environ


def segfault() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()
    ctypes.string_at(0)


@pytest.mark.parametrize(
    "die", [lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: os._exit(3), segfault]
)
def test_a_death_fails_its_task_alone(
    processes: ProcessWorkManager, die: Callable[[], None]
) -> None:
    futures = [processes.submit(identity, (k,)) for k in range(50)]
    assert isinstance(processes.submit(die).get_exception(), TaskDied)
    assert [future.get_result() for future in futures] == list(range(50))


def test_what_cannot_be_pickled_is_refused_at_once(processes: ProcessWorkManager) -> None:
    with pytest.raises(pickle.PicklingError, match="not me"):
        processes.submit(identity, (Unpicklable(),))
    with pytest.raises(pickle.PicklingError, match="not me"):
        processes.submit(Unpicklable).get_result()
    assert processes.submit(lambda: 5).get_result() == 5


def busy() -> None:
    while True:
        pass


def test_shutdown_ends_what_never_ends() -> None:
    manager = ProcessWorkManager(2, shutdown_timeout=0.1)
    with manager:
        futures = [manager.submit(busy) for _ in range(5)]
        assert all(worker.is_alive() for worker in manager.workers)
    assert not any(worker.is_alive() for worker in manager.workers)
    for future in futures:
        assert isinstance(future.get_exception(), BrokenExecutorError)


def test_ctrl_c_shuts_down_first() -> None:
    before = signal.getsignal(signal.SIGINT)
    manager = ProcessWorkManager(2, shutdown_timeout=0.1)
    with manager:
        manager.install_sigint_handler()
        try:
            future = manager.submit(busy)
            timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
            with pytest.raises(KeyboardInterrupt):  # noqa: PT012  it may come before start ends
                timer.start()
                future.get_result()
            timer.join()
            assert not manager.running
        finally:
            signal.signal(signal.SIGINT, before)


# --- environment -----------------------------------------------------------------------------


def parse(env: WMEnvironment, *flags: str) -> WMEnvironment:
    parser = argparse.ArgumentParser()
    env.add_wm_args(parser)
    env.process_wm_args(parser.parse_args(flags))
    return env


def test_flag_beats_variable_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(WMEnvironment().make_work_manager(), SerialWorkManager)
    monkeypatch.setenv("WM_WORK_MANAGER", "Threads")
    monkeypatch.setenv("WM_N_WORKERS", "3")
    manager = WMEnvironment().make_work_manager()
    assert isinstance(manager, ThreadsWorkManager)
    assert manager.n_workers == 3
    manager = parse(WMEnvironment(), "--work-manager=processes").make_work_manager()
    assert isinstance(manager, ProcessWorkManager)
    assert manager.n_workers == 3
    manager = parse(WMEnvironment(), "--parallel", "--n-workers=2").make_work_manager()
    assert isinstance(manager, ProcessWorkManager)
    assert manager.n_workers == 2
    assert isinstance(parse(WMEnvironment(), "--serial").make_work_manager(), SerialWorkManager)


def test_prefixed_flags() -> None:
    env = parse(WMEnvironment(use_arg_prefixes=True), "--wm-work-manager=threads")
    assert isinstance(env.make_work_manager(), ThreadsWorkManager)


def test_dask_is_set_as_westpa_s_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WM_DASK_SCHEDULER_ADDRESS", "tcp://here:1")
    monkeypatch.setenv("WM_DASK_N_RETRIES", "2")
    env = parse(WMEnvironment(), "--dask-scheduler-address=tcp://there:2")
    manager = DaskWorkManager.from_environ(env)
    assert manager._cluster == {"address": "tcp://there:2"}
    assert manager._retries == 2
    prefixed = WMEnvironment(use_arg_prefixes=True)
    monkeypatch.delenv("WM_DASK_SCHEDULER_ADDRESS")
    parse(prefixed, "--wm-dask-memory-limit=1GiB", "--wm-n-workers=3", "--wm-dask-shutdown-on-exit")
    manager = DaskWorkManager.from_environ(prefixed)
    assert (manager._cluster["n_workers"], manager._cluster["memory_limit"]) == (3, "1GiB")
    assert manager._shutdown_on_exit
    with pytest.raises(ConfigError, match="give one"):
        DaskWorkManager(scheduler="tcp://here:1", scheduler_file="there")


def test_a_value_that_nobody_gave_is_not_converted() -> None:
    assert WMEnvironment().get_val("n_workers", type_=int) is None


def test_bad_settings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WM_WORK_MANAGER", "quantum")
    with pytest.raises(ValueError, match="invalid or unavailable"):
        WMEnvironment().make_work_manager()
    monkeypatch.setenv("WM_WORK_MANAGER", "threads")
    monkeypatch.setenv("WM_N_WORKERS", "many")
    with pytest.raises(ValueError, match="WM_N_WORKERS"):
        WMEnvironment().make_work_manager()
