"""A worker that waits for a lock which nobody can release is named, and nobody else is."""

from __future__ import annotations

import asyncio
import concurrent.futures
import fcntl
import multiprocessing
import os
import queue
import select
import signal
import socket
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ringwalk import (
    Executor,
    Mapper,
    RingwalkWarning,
    SegmentTimeout,
    WorkerMapper,
)
from ringwalk.futures import dispatcher, engine
from ringwalk.mappers import transaction
from ringwalk.observe.attach import find
from ringwalk.workers import persistent, stuck
from ringwalk.workers.native_threads import PROC, OtherThreads

WATCHDOG_S = 60.0
fork = multiprocessing.get_context("fork")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look after half a second instead of half a minute."""
    for module in (transaction, engine, dispatcher):
        monkeypatch.setattr(module, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(persistent, "_START_LOOK_S", 0.1)
    monkeypatch.setattr(stuck, "FIRST_LOOK_S", 0.3)
    monkeypatch.setattr(stuck, "BETWEEN_LOOKS_S", 0.1)


@pytest.fixture
def held() -> Iterator[threading.Lock]:
    """A lock that a thread of the parent has while the workers are forked."""
    lock, taken, done = threading.Lock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            done.wait(WATCHDOG_S)

    thread = threading.Thread(target=hold, name="holder")
    thread.start()
    taken.wait()
    yield lock
    done.set()
    thread.join()


@pytest.fixture
def warning_ends_the_wait() -> Iterator[None]:
    """What would be waited for until the watchdog ends it comes back with the warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RingwalkWarning)
        yield


@pytest.mark.usefixtures("impatient", "warning_ends_the_wait")
def test_segment_that_waits_for_an_inherited_lock_is_named(
    process_mapper: type[Mapper], held: threading.Lock
) -> None:
    def segment(k: int) -> int:
        if k == 2:
            held.acquire()
        return k

    with process_mapper(segment, 2) as mapper:
        with pytest.raises(RingwalkWarning) as caught:
            mapper.map(range(4))
        found = mapper.timeline.stuck
    message = str(caught.value)
    assert message.startswith("The segment of walker 2 can never go on")
    assert "in Python" in message
    assert "holder" in message
    assert 'start_method="spawn"' in message
    assert f"pid {found[0].pid}" in message
    assert [(one.certain, one.libraries) for one in found] == [(True, ("Python",))]


@pytest.mark.usefixtures("impatient")
def test_worker_is_named_once_and_never_killed(
    process_mapper: type[Mapper], held: threading.Lock
) -> None:
    released = threading.Timer(1.2, signal.raise_signal, (signal.SIGINT,))

    def segment(k: int) -> None:
        held.acquire()

    with process_mapper(segment, 1, max_retries=0) as mapper:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            released.start()
            with pytest.raises(KeyboardInterrupt):
                mapper.map(range(1))
        released.join()
    assert [w.category for w in caught if w.category is RingwalkWarning] == [RingwalkWarning]


@pytest.mark.usefixtures("impatient", "warning_ends_the_wait")
def test_task_of_the_executor_is_named() -> None:
    with Executor(1, max_retries=0) as executor:
        pid = executor.submit(os.getpid).result()
        future = executor.submit(_deadlock)
        try:
            with pytest.raises(RingwalkWarning, match="A task of the executor can never go on"):
                future.result(WATCHDOG_S)
        finally:
            os.kill(pid, signal.SIGKILL)


def _deadlock() -> None:
    lock = threading.Lock()
    lock.acquire()
    threading.Thread(target=lock.acquire, daemon=True).start()
    lock.acquire()


@pytest.mark.usefixtures("impatient", "warning_ends_the_wait")
def test_worker_init_that_waits_for_ever_is_named(held: threading.Lock) -> None:
    def prepare(device: object) -> None:
        held.acquire()

    mapper = WorkerMapper(abs, 1, worker_init=prepare)
    with pytest.raises(RingwalkWarning, match="The start of a worker can never go on"):
        mapper.init()
    mapper.cleanup()


def test_timeout_says_that_the_segment_could_never_go_on(
    process_mapper: type[Mapper], held: threading.Lock
) -> None:
    def segment(k: int) -> None:
        held.acquire()

    with (
        process_mapper(segment, 1, timeout=0.5) as mapper,
        pytest.raises(SegmentTimeout, match=r"timeout=0.5 s.*can never go on.*holder"),
    ):
        mapper.map(range(1))


def test_timeout_of_a_segment_that_sleeps_says_no_more(process_mapper: type[Mapper]) -> None:
    with (
        process_mapper(time.sleep, 1, timeout=0.5) as mapper,
        pytest.raises(SegmentTimeout, match=r"process was killed$"),
    ):
        mapper.map([WATCHDOG_S])


@pytest.mark.usefixtures("impatient", "warning_ends_the_wait")
def test_report_and_monitor_name_it(held: threading.Lock, tmp_path: Path) -> None:
    def segment(k: int) -> None:
        held.acquire()

    seen: list[str] = []

    def look(found: Any) -> None:
        show(found)
        for attached in find():
            seen.extend(worker.stuck for worker in attached.sample().workers)
            attached.close()

    with WorkerMapper(segment, 1, monitor=True) as mapper:
        show = mapper._show_stuck
        mapper._show_stuck = look  # type: ignore[method-assign]
        with pytest.raises(RingwalkWarning):
            mapper.map(range(1))
        mapper.timeline.report(tmp_path / "report.html")
    assert seen == ["in Python"]
    assert "The segment of walker 0 can never go on" in (tmp_path / "report.html").read_text()


# --- legitimate waits ------------------------------------------------------------------------


def _lock_of_a_busy_thread() -> None:
    lock = threading.Lock()
    lock.acquire()
    threading.Timer(WATCHDOG_S, lock.release).start()
    lock.acquire()


def _child_of_a_child() -> None:
    process = fork.Process(target=time.sleep, args=(WATCHDOG_S,))
    process.start()
    process.join()


def _process_pool() -> None:
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=fork) as pool:
        pool.submit(time.sleep, WATCHDOG_S).result()


def _thread_pool() -> None:
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(time.sleep, [WATCHDOG_S] * 2))


def _queue_fed_by_a_pipe() -> None:
    fed: queue.Queue[bytes] = queue.Queue()
    reader, _ = os.pipe()
    threading.Thread(target=lambda: fed.put(os.read(reader, 1))).start()
    fed.get()


def _signal_in_a_set() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    signal.sigwait({signal.SIGUSR1})


def _nested_mapper() -> None:
    with WorkerMapper(time.sleep, 1) as mapper:
        mapper.map([WATCHDOG_S])


def _busy() -> None:
    while True:
        pass


def _again_and_again() -> None:
    event = threading.Event()
    while not event.wait(0.02):
        pass


def _accept() -> None:
    with socket.socket() as listening:
        listening.listen()
        listening.accept()


shared_lock = fork.Lock()
shared_event = fork.Event()

WAITS: dict[str, Callable[[], object]] = {
    "sleep": lambda: time.sleep(WATCHDOG_S),
    "pipe": lambda: os.read(os.pipe()[0], 1),
    "socket": _accept,
    "select": lambda: select.select([], [], [], WATCHDOG_S),
    "multiprocessing lock": lambda: (shared_lock.acquire(), shared_lock.acquire()),
    "multiprocessing event": lambda: shared_event.wait(),
    "multiprocessing queue": lambda: fork.Queue().get(),
    "child": _child_of_a_child,
    "program": lambda: subprocess.run(["sleep", str(WATCHDOG_S)], check=False),
    "process pool": _process_pool,
    "thread pool": _thread_pool,
    "asyncio": lambda: asyncio.run(asyncio.sleep(WATCHDOG_S)),
    "event with a timeout": lambda: threading.Event().wait(WATCHDOG_S),
    "lock that a timer releases": _lock_of_a_busy_thread,
    "queue fed by a pipe": _queue_fed_by_a_pipe,
    "signal": signal.pause,
    "sigwait": _signal_in_a_set,
    "nested mapper": _nested_mapper,
    "loop": _busy,
    "polling": _again_and_again,
}


@pytest.fixture
def start() -> Iterator[Callable[[Callable[[], object]], int]]:
    """Runs a function in a forked process, which ends with the test and takes its own along."""
    leaders: list[int] = []

    def run(function: Callable[[], object]) -> int:
        pid = os.fork()
        if pid == 0:
            try:
                os.setpgid(0, 0)
                function()
            finally:
                os._exit(1)
        os.setpgid(pid, pid)
        leaders.append(pid)
        return pid

    yield run
    for pid in leaders:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


class Alone:
    """A crew with one process."""

    beside = OtherThreads()

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def pid(self, slot: int) -> int:
        return self._pid


def waits_for_ever(pid: int) -> bool:
    first = stuck._asleep(Alone(pid), 0)
    return first is not None and stuck._asleep(Alone(pid), 0) == first


def test_legitimate_waits_are_not_accused(start: Callable[..., int], tmp_path: Path) -> None:
    file = tmp_path / "lock"
    file.touch()
    locked = os.open(file, os.O_RDWR)
    fcntl.flock(locked, fcntl.LOCK_EX)

    def wait_for_file() -> None:
        fcntl.flock(os.open(file, os.O_RDWR), fcntl.LOCK_EX)

    started = {name: start(wait) for name, wait in {**WAITS, "flock": wait_for_file}.items()}
    accused = set()
    for _ in range(10):
        time.sleep(0.1)
        accused |= {name for name, pid in started.items() if waits_for_ever(pid)}
    ended = {name for name, pid in started.items() if not (PROC / str(pid) / "maps").read_text()}
    os.close(locked)
    assert accused == set()
    assert ended == set()


def test_lock_that_a_signal_handler_releases_is_only_suspected(start: Callable[..., int]) -> None:
    def wait() -> None:
        lock = threading.Lock()
        lock.acquire()
        signal.signal(signal.SIGALRM, lambda *_: lock.release())
        signal.setitimer(signal.ITIMER_REAL, WATCHDOG_S)
        lock.acquire()

    for function, handlers in ((_deadlock, ()), (wait, ("SIGALRM",))):
        pid = start(function)
        deadline = time.monotonic() + WATCHDOG_S
        while not waits_for_ever(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        sleeping = stuck._asleep(Alone(pid), 0)
        assert sleeping is not None
        found = stuck._describe(sleeping, 0, "A task", OtherThreads())
        assert found.handlers == handlers
        assert found.certain == (handlers == ())
        assert ("may be stuck" in found.text) == (handlers != ())


@pytest.mark.usefixtures("warning_ends_the_wait")
def test_stuck_worker_is_named_within_45_s(
    process_mapper: type[Mapper], held: threading.Lock, request: pytest.FixtureRequest
) -> None:
    """With the intervals that users have."""
    if not request.config.getoption("--campaign"):
        pytest.skip("takes half a minute each: runs with --campaign")
    hangs = threading.Timer(45, signal.raise_signal, (signal.SIGINT,))
    hangs.start()
    with (
        process_mapper(lambda k: held.acquire(), 1) as mapper,
        pytest.raises(RingwalkWarning),
    ):
        mapper.map(range(1))
    hangs.cancel()
    hangs.join()
