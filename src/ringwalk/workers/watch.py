"""What the parent of a pool sleeps on: its workers' wake-ups, their messages and their ends."""

from __future__ import annotations

import contextlib
import os
import select

Events = list[tuple[int, int]]


class Watch:
    """Descriptors of which each ends a sleep when it can be read.

    Args:
        wake_fd: the eventfd that workers write to; watched from the start.
    """

    def __init__(self, wake_fd: int) -> None:
        self._wake_fd = wake_fd
        self._asleep = False
        self.clear()
        self.add(wake_fd)

    def add(self, fd: int) -> None:
        self._fds.add(fd)
        self._poll.register(fd, select.POLLIN)

    def remove(self, fd: int) -> None:
        self._fds.discard(fd)
        self._poll.unregister(fd)

    def clear(self) -> None:
        """Watch nothing any more."""
        self._fds: set[int] = set()
        self._poll = select.poll()

    def sleep(self, timeout: float | None) -> Events:
        """Those that can be read, as soon as one can or so many seconds are over."""
        milliseconds = None if timeout is None else max(0.0, timeout) * 1000
        if self._asleep:
            # A signal handler came in that sleep, and sleeps itself: the library's object cannot
            # be asked again while it is asked.
            nested = select.poll()
            for fd in self._fds:
                nested.register(fd, select.POLLIN)
            return nested.poll(milliseconds)
        self._asleep = True
        try:
            return self._poll.poll(milliseconds)
        finally:
            self._asleep = False

    def take_wake(self) -> None:
        """Hear what woke us, so that it wakes nobody again."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake_fd)
