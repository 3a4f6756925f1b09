"""The thread that tends an executor's tasks when nobody else does, and its way out."""

from __future__ import annotations

import os
import threading

import pytest

from ringwalk import Executor
from ringwalk.futures import dispatcher
from ringwalk.futures.dispatcher import Dispatcher


class Engine:
    """One whose last task the dispatcher finds untended: it leads, and all is over."""

    open = 1
    closing = False
    over = False

    def lead_alone(self) -> None:
        self.over = True


def test_a_kick_that_comes_as_it_ends_reaches_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatcher, "HEARTBEAT_S", 0.01)
    tended = Dispatcher(Engine())
    strangers: list[int] = []

    def write_late(fd: int, count: int) -> None:
        """The kicker was preempted before its system call, until the thread had gone."""
        tended.start()
        assert tended.thread is not None
        tended.thread.join()
        # Whoever opens a descriptor next gets the lowest number that is free.
        strangers.append(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        write(fd, count)

    write = os.eventfd_write
    monkeypatch.setattr(os, "eventfd_write", write_late)
    tended.kick()
    monkeypatch.undo()
    with pytest.raises(BlockingIOError):  # nothing was written there
        os.eventfd_read(strangers[0])
    os.close(strangers[0])
    tended.kick()  # of nobody
    tended.join()


def test_a_progress_function_that_raises_ends_no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Exception):
        """Of the user's function."""

    def progress(done: int, submitted: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise Broken

    told: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    with Executor(1, progress=progress) as executor:
        for _ in range(2):
            done = threading.Event()
            executor.submit(abs, -1).add_done_callback(lambda _, done=done: done.set())
            done.wait()
    assert {args.exc_type for args in told} == {Broken}
