"""Logging beside a fork: nobody may be inside a handler when it comes.

A handler's file has a lock in C, which a thread keeps while it waits to go on after a write, and
handlers of other packages have locks of their own. Python makes logging's own locks new in a forked
child, but not those: they would be held for ever there, and the first segment that logs would hang.
"""

from __future__ import annotations

import logging
from typing import Any

# A thread that logs all the time takes its lock back at once, unless Python's switch to another
# thread, every 5 ms, finds it outside; who waits for it in the kernel comes first.
_TURN_S = 0.02


class HandlerLocks:
    """The locks of all handlers, as one that can be tried. For the time of one fork."""

    def __init__(self) -> None:
        self._held: list[Any] = []

    def acquire(self) -> bool:
        """Take all, or none; waits for no lock longer than a turn, since it may hold others."""
        for lock in _locks():
            if not lock.acquire(timeout=_TURN_S):
                self.release()
                return False
            self._held.append(lock)
        return True

    def release(self) -> None:
        while self._held:
            self._held.pop().release()

    def __str__(self) -> str:
        return "a logging handler"


def _locks() -> list[Any]:
    """Of every handler that a logger has."""
    loggers = [logging.root, *list(logging.root.manager.loggerDict.values())]
    handlers = {
        handler
        for logger in loggers
        if isinstance(logger, logging.Logger)
        for handler in list(logger.handlers)
    }
    return [handler.lock for handler in handlers if handler.lock is not None]
