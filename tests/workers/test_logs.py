"""A fork waits for threads that are inside a logging handler, or is refused."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ringwalk import WorkerInitError, WorkerMapper
from ringwalk.workers.logs import HandlerLocks


@pytest.fixture
def handler() -> Iterator[logging.Handler]:
    handler = logging.NullHandler()
    handler.createLock()  # a NullHandler has none
    handler.lock = threading.RLock()
    logger = logging.getLogger("ringwalk.tests.logs")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def hold(handler: logging.Handler, inside: threading.Event, leave: threading.Event) -> None:
    handler.acquire()
    inside.set()
    leave.wait()
    handler.release()


def test_a_handler_that_stays_busy_is_a_reason_to_refuse(handler: logging.Handler) -> None:
    inside, leave = threading.Event(), threading.Event()
    thread = threading.Thread(target=hold, args=(handler, inside, leave))
    thread.start()
    inside.wait()
    try:
        with pytest.raises(WorkerInitError, match="inside a logging handler for 1 s"):
            WorkerMapper(abs, num_workers=1).init()
        with WorkerMapper(abs, num_workers=1, start_method="spawn") as mapper:  # the way out
            assert mapper.map([-1]) == [1]
    finally:
        leave.set()
        thread.join()
    with WorkerMapper(abs, num_workers=1) as mapper:
        assert mapper.map([-1]) == [1]


def is_free(handler: logging.Handler) -> bool:
    """Whether another thread could take its lock."""
    lock = handler.lock
    assert lock is not None

    def take() -> bool:
        taken = lock.acquire(blocking=False)
        if taken:
            lock.release()
        return taken

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(take).result()


def test_nobody_else_gets_in_meanwhile(handler: logging.Handler) -> None:
    locks = HandlerLocks()
    assert locks.acquire()
    assert not is_free(handler)
    locks.release()
    assert is_free(handler)


def test_one_busy_handler_leaves_the_others_free(handler: logging.Handler) -> None:
    logger = logging.getLogger("ringwalk.tests.other_logs")
    others = [logging.StreamHandler() for _ in range(8)]  # which of all is tried first is open
    inside, leave = threading.Event(), threading.Event()
    thread = threading.Thread(target=hold, args=(handler, inside, leave))
    thread.start()
    inside.wait()
    try:
        for other in others:
            logger.addHandler(other)
        assert not HandlerLocks().acquire()
        assert all(is_free(other) for other in others)
    finally:
        leave.set()
        thread.join()
        for other in others:
            logger.removeHandler(other)
