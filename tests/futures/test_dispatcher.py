"""The thread that tends an executor's tasks when nobody else does: its way out."""

from __future__ import annotations

import os

import pytest

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
