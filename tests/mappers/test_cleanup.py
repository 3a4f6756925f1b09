"""``cleanup`` frees what there is, whoever calls it, whenever, and whatever is missing."""

from __future__ import annotations

import builtins
import contextlib
import os
import random
import resource
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from ringwalk import ClosedError, Mapper


def doze(k: int) -> int:
    time.sleep(0.01)
    return k


def sleep(k: int) -> None:
    select.select([], [], [], 600)


class Running:
    """What maps, in a thread of its own, until it raises."""

    def __init__(self, use: Callable[[], object]) -> None:
        self.errors: list[BaseException] = []
        self._use = use
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._use()
        except BaseException as error:
            self.errors.append(error)

    def error(self) -> BaseException:
        self._thread.join()
        (error,) = self.errors
        return error


def test_a_map_of_another_thread_ends_with_closed_error(any_mapper: type[Mapper]) -> None:
    begun = threading.Event()
    mapper = any_mapper(doze, num_workers=2, progress=lambda done, of: begun.set())
    mapper.init()
    running = Running(lambda: mapper.map(range(5_000)))
    begun.wait()
    mapper.cleanup()
    assert isinstance(running.error(), ClosedError)
    assert "cleanup() was called" in str(running.error())
    mapper.init()
    assert mapper.map(range(4)) == list(range(4))
    mapper.cleanup()


def test_segments_that_take_for_ever_are_not_waited_for(process_mapper: type[Mapper]) -> None:
    mapper = process_mapper(sleep, num_workers=2)
    mapper.init()
    running = Running(lambda: mapper.map(range(4)))
    mapper.cleanup()
    assert isinstance(running.error(), ClosedError)


def test_maps_that_wait_for_their_turn_end_too(any_mapper: type[Mapper]) -> None:
    begun = threading.Event()
    mapper = any_mapper(doze, num_workers=2, progress=lambda done, of: begun.set())
    mapper.init()
    running = [Running(lambda: mapper.map(range(5_000))) for _ in range(3)]
    begun.wait()
    mapper.cleanup()
    assert {type(one.error()) for one in running} == {ClosedError}


def test_cleanup_at_any_instant_of_maps_and_of_other_cleanups(any_mapper: type[Mapper]) -> None:
    mapper, chance = any_mapper(abs, num_workers=2), random.Random(5)

    def use() -> None:
        while True:
            assert mapper.map([-1, 2, -3]) == [1, 2, 3]

    for _ in range(10):
        mapper.init()
        running = [Running(use) for _ in range(2)]
        time.sleep(chance.uniform(0, 0.02))
        cleaning = [threading.Thread(target=mapper.cleanup) for _ in range(2)]
        for thread in cleaning:
            thread.start()
        assert [type(one.error()) for one in running] == [ClosedError] * 2
        for thread in cleaning:
            thread.join()


def test_a_progress_function_may_clean_up(any_mapper: type[Mapper]) -> None:
    mapper = any_mapper(doze, num_workers=2, progress=lambda done, of: mapper.cleanup())
    mapper.init()
    with pytest.raises(ClosedError, match="while the map ran"):
        mapper.map(range(1000))
    with pytest.raises(ClosedError, match="not running"):
        mapper.map(range(1))


def test_a_signal_handler_may_clean_up(any_mapper: type[Mapper]) -> None:
    def handle(number: int, frame: FrameType | None) -> None:
        mapper.cleanup()

    before = signal.signal(signal.SIGALRM, handle)
    mapper = any_mapper(doze, num_workers=2)
    try:
        mapper.init()
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(ClosedError, match="while the map ran"):
            mapper.map(range(5_000))
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_iterator_that_waits_ends_with_closed_error(any_mapper: type[Mapper]) -> None:
    mapper = any_mapper(doze, num_workers=2)
    mapper.init()
    iterator = mapper.map_unordered(range(1000))
    next(iterator)
    mapper.cleanup()
    mapper.init()
    with pytest.raises(ClosedError):
        list(iterator)
    assert mapper.map(range(4)) == list(range(4))
    mapper.cleanup()


def test_a_suspended_iterator_holds_no_cleanup_up(any_mapper: type[Mapper]) -> None:
    mapper = any_mapper(doze, num_workers=2)
    mapper.init()
    iterator: Any = mapper.map_unordered(range(1000))
    next(iterator)
    thread = threading.Thread(target=mapper.cleanup)
    thread.start()
    thread.join()
    iterator.close()


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(1)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 8, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(1))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in taken:
            os.close(fd)


@contextlib.contextmanager
def no_proc() -> Iterator[None]:
    original = builtins.open

    def refuse(path: Any, *args: Any, **options: Any) -> Any:
        if str(path).startswith("/proc"):
            raise FileNotFoundError(path)
        return original(path, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "open", refuse)
        yield


@pytest.mark.parametrize("missing", [no_descriptors, no_proc])
@pytest.mark.parametrize("monitor", [False, True])
def test_cleanup_where_something_is_missing(
    process_mapper: type[Mapper],
    missing: Callable[[], contextlib.AbstractContextManager[None]],
    monitor: bool,
) -> None:
    mapper = process_mapper(abs, num_workers=2, monitor=monitor)
    mapper.init()
    assert mapper.map([-1]) == [1]
    with missing():
        mapper.cleanup()
        assert len(mapper.timeline) == 1
    with pytest.raises(ClosedError):
        mapper.map([-1])


def test_what_informs_may_fail_and_the_pool_is_closed(
    process_mapper: type[Mapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    mapper: Any = process_mapper(abs, num_workers=2)
    mapper.init()
    pool = mapper._pool
    monkeypatch.setattr(mapper, "_memory", lambda: os.stat("/nowhere/at/all"))
    with pytest.raises(FileNotFoundError):
        mapper.cleanup()
    assert pool.closed
    mapper.cleanup()
