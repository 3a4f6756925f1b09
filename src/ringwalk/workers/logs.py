"""Logging beside a fork: nobody may be inside a handler when it comes.

A handler's file has a lock in C, which a thread keeps while it waits to go on after a write. Python
makes logging's own locks new in a forked child, but not that one: it would be held for ever there,
and the first segment that logs would hang.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any

from ringwalk.errors import WorkerInitError

_PATIENCE_S = 1.0
# A thread that logs all the time takes its lock back at once, unless Python's switch to another
# thread, every 5 ms, finds it outside.
_TURN_S = 0.02


@contextlib.contextmanager
def quiet_logging() -> Iterator[None]:
    """Keep other threads out of logging's handlers. The child of a fork must not leave the block.

    Raises:
        WorkerInitError: one of them is inside for a second.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        # All or none: a handler may write to another one, whose lock its thread waits for.
        with contextlib.ExitStack() as held:
            locks = _locks()
            if all(_acquired(lock, held) for lock in locks):
                yield
                return
        if time.monotonic() > deadline:
            raise WorkerInitError(
                f"another thread has been inside a logging handler for {_PATIENCE_S:g} s: a fork "
                "now could leave the new process hanging when it logs. Map when it is done, or "
                "use WorkerMapper(start_method='spawn')"
            )


def _locks() -> list[Any]:
    """Of the logging module, which a fork takes itself, and of every handler in use."""
    loggers = [logging.root, *list(logging.root.manager.loggerDict.values())]
    handlers = {
        handler
        for logger in loggers
        if isinstance(logger, logging.Logger)
        for handler in list(logger.handlers)
    }
    own: Any = logging._lock  # type: ignore[attr-defined]
    return [own, *(handler.lock for handler in handlers if handler.lock is not None)]


def _acquired(lock: Any, held: contextlib.ExitStack) -> bool:
    if not lock.acquire(timeout=_TURN_S):
        return False
    held.callback(lock.release)
    return True
