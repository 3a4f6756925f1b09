"""A fork waits for threads that are inside a logging handler, or is refused."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from ringwalk import WorkerInitError, WorkerMapper
from ringwalk.workers.logs import quiet_logging


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


def test_nobody_else_gets_in_meanwhile(handler: logging.Handler) -> None:
    lock = handler.lock
    assert lock is not None
    got = []
    with quiet_logging():
        thread = threading.Thread(target=lambda: got.append(lock.acquire(blocking=False)))
        thread.start()
        thread.join()
    assert got == [False]
    assert lock.acquire(blocking=False)
    lock.release()
