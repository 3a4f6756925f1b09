"""Bell: threads wait until another thread has news.

No lock is held while anything is called, so a signal handler may come anywhere in here and wait,
ring, or join a thread that rings. Each waiting thread has a lock of its own, its gate.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable


class Bell:
    """A bell for any number of waiting threads."""

    def __init__(self) -> None:
        self._gates: deque[threading.Lock] = deque()

    def wait(self, ready: Callable[[], bool], timeout: float | None = None) -> None:
        """Wait for one ring, but not if ``ready()``.

        It is asked after this thread can be rung for: who makes it true, and rings then, is not
        missed.
        """
        gate = threading.Lock()
        gate.acquire()
        self._gates.append(gate)
        try:
            if not ready():
                gate.acquire(timeout=-1 if timeout is None else max(0.0, timeout))
        finally:
            with contextlib.suppress(ValueError):  # it was rung for
                self._gates.remove(gate)

    def ring(self) -> None:
        """Wake every thread that waits."""
        gates = self._gates
        while gates:
            try:
                gate = gates.popleft()
            except IndexError:  # another thread rings, too
                return
            gate.release()
