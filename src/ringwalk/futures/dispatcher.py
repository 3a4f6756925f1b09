"""Dispatcher: the thread that tends an engine's tasks when nobody else does.

It leads while somebody expects news without waiting for them: callbacks,
``concurrent.futures.wait``; when tasks were untended for a second; and to the end of an engine that
takes no more. Else it sleeps, without a time limit while no task is open.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable
from typing import Protocol

# How long tasks may go untended, or a lost hint unnoticed; see mappers/transaction.py.
HEARTBEAT_S = 1.0


class Led(Protocol):
    """The engine, as its dispatcher knows it."""

    @property
    def open(self) -> int: ...

    @property
    def closing(self) -> bool: ...

    @property
    def over(self) -> bool: ...

    def lead_alone(self) -> None: ...


class _Kick:
    """An eventfd that is closed when nobody uses it any more.

    A thread that is about to write when another closes would write to whatever got the number.
    """

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self.fd)


class Dispatcher:
    """Sleeps until it is kicked, and leads if it has to. Starts with the first task.

    Attributes:
        thread: None before the start.
        expected: it shall lead until no task is open.
        tended: somebody led since it last looked.
        resting: it sleeps without a time limit, and has to be kicked for a task.
    """

    def __init__(self, engine: Led) -> None:
        self._engine = engine
        self._kick: _Kick | None = _Kick()
        self.thread: threading.Thread | None = None
        self.expected = False
        self.tended = False
        self.resting = False

    def start(self) -> None:
        """Start the thread. Not for two threads at once."""
        thread = threading.Thread(target=self._run, name="ringwalk-dispatcher", daemon=True)
        thread.start()
        self.thread = thread

    def kick(self) -> None:
        """Have it look around."""
        # No lock: the garbage collector calls this, wherever it happens to run.
        kick = self._kick
        if kick is not None:
            os.eventfd_write(kick.fd, 1)

    def _run(self) -> None:
        engine, kick = self._engine, self._kick
        assert kick is not None
        poll = select.poll()
        poll.register(kick.fd, select.POLLIN)
        while not engine.over:
            self.resting = True
            if engine.open:  # after the store: who submits looks at it after the task was made
                self.resting = False
            kicked = poll.poll(None if self.resting else HEARTBEAT_S * 1000)
            self.resting = False
            if kicked:
                os.eventfd_read(kick.fd)
            untended = not kicked and engine.open and not self.tended
            self.tended = False
            if self.expected or untended or engine.closing:
                try:
                    engine.lead_alone()
                except Exception:  # a user's progress function; the tasks that are open go on
                    thread = threading.current_thread()
                    threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), thread)))
        self.close()

    def join(self) -> None:
        """Wait for its end, after the engine's; not for itself."""
        thread = self.thread
        if thread is not None and thread is not threading.current_thread():
            self.kick()
            thread.join()
        self.close()

    def close(self) -> None:
        """Let go of its descriptor. Idempotent."""
        self._kick = None
