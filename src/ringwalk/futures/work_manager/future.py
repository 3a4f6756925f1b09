"""WMFuture and FutureWatcher: the outcome of a work manager's task, and waiting for several.

A future is a slotted object without a lock of its own: making one costs less than a microsecond.
Whoever waits does so at the future's *hub*, which knows how its manager's tasks come along.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol

from ringwalk.futures.bell import Bell

log = logging.getLogger("ringwalk")

_numbers = itertools.count()
# Guards "done or not" of all futures, for the few instructions that this takes. Nothing is called
# with it held: a signal handler, which runs after a call only, may complete futures itself.
_LOCK = threading.Lock()

Callback = Callable[["WMFuture"], object]


class Hub(Protocol):
    """Where to wait until something is true of a manager's futures."""

    def wait(self, done: Callable[[], bool], timeout: float | None = None) -> None: ...

    def notify(self) -> None: ...


class ThreadHub:
    """A hub for futures that other threads complete."""

    def __init__(self) -> None:
        self._bell = Bell()

    def wait(self, done: Callable[[], bool], timeout: float | None = None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not done():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            self._bell.wait(done, left)

    def notify(self) -> None:
        self._bell.ring()


_hub = ThreadHub()


class WMFuture:
    """Work that was dispatched; its result or exception comes later.

    Attributes:
        task_id: a number of its own, or what the maker gave.
        task: for the engine of ``ProcessWorkManager``.
    """

    __slots__ = (
        "__weakref__",
        "_callbacks",
        "_done",
        "_exception",
        "_hub",
        "_result",
        "_seen",
        "_traceback",
        "task",
        "task_id",
    )

    def __init__(self, task_id: Any = None, hub: Hub = _hub) -> None:
        self.task_id = next(_numbers) if task_id is None else task_id
        self.task = -1
        self._hub = hub
        self._done = False
        self._exception: BaseException | None = None
        self._traceback: TracebackType | str | None = None
        self._callbacks: tuple[Callback, ...] = ()
        self._seen = False  # somebody has the outcome: nobody needs to be told of it

    def __repr__(self) -> str:
        return f"<WMFuture {self.task_id}: {'done' if self._done else 'pending'}>"

    @staticmethod
    @contextmanager
    def all_acquired(futures: Iterable[WMFuture]) -> Iterator[None]:
        """For code written for WESTPA's: while it lasts, no future becomes done."""
        with _LOCK:
            yield

    # --- completing ------------------------------------------------------------------------------

    def _set_result(self, result: Any) -> None:
        self._result = result
        self._complete()

    def _set_exception(
        self, exception: BaseException, traceback: TracebackType | str | None = None
    ) -> None:
        self._exception = exception
        self._traceback = traceback
        self._complete()

    def deliver(self, value: Any, error: BaseException | None) -> None:
        """Take the outcome in; for the engine."""
        if self._done:
            return
        if error is None:
            self._set_result(value)
        else:
            self._set_exception(error, error.__traceback__ or str(error.__cause__ or ""))

    def _complete(self) -> None:
        with _LOCK:
            self._done = True
            callbacks, self._callbacks = self._callbacks, ()
        for callback in callbacks:
            self._call(callback)
        self._hub.notify()

    def _call(self, callback: Callback) -> None:
        try:
            callback(self)
        except Exception:  # a user's callback may do anything; the task is not to blame
            log.exception("a callback of %r raised", self)

    def _add_callback(self, callback: Callback) -> None:
        """Have ``callback(self)`` called once done, at once if it is; errors are logged."""
        with _LOCK:
            if not self._done:
                self._callbacks = (*self._callbacks, callback)
                return
        self._call(callback)

    def _add_watcher(self, watcher: FutureWatcher) -> None:
        self._add_callback(watcher.signal)

    # --- asking ----------------------------------------------------------------------------------

    def wait(self) -> None:
        """Wait until there is a result or an exception."""
        if not self._done:
            self._hub.wait(self.is_done)

    def get_result(self, discard: bool = True) -> Any:
        """The result; waits for it, raises what the task raised.

        With ``discard`` the future forgets the result, so that kept futures do not keep all
        results alive; asking once more is an AttributeError.
        """
        self.wait()
        self._seen = True
        if self._exception is not None:
            raise self._exception
        try:
            result = self._result
        except AttributeError:
            raise AttributeError(
                f"the result of {self!r} was discarded by get_result(); ask with discard=False, "
                "or .result, as long as it is needed again"
            ) from None
        if discard:
            del self._result
        return result

    @property
    def result(self) -> Any:
        """The result, kept for the next time."""
        return self.get_result(discard=False)

    def get_exception(self) -> BaseException | None:
        """What the task raised, or None; waits."""
        self.wait()
        return self._exception

    @property
    def exception(self) -> BaseException | None:
        """What the task raised, or None; waits."""
        return self.get_exception()

    def get_traceback(self) -> TracebackType | str | None:
        """Where the task raised: a traceback, or its text if it was in another process; waits."""
        self.wait()
        return self._traceback

    @property
    def traceback(self) -> TracebackType | str | None:
        """Where the task raised: a traceback, or its text if it was in another process; waits."""
        return self.get_traceback()

    def is_done(self) -> bool:
        """Whether there is an outcome. Does not wait."""
        return self._done

    @property
    def done(self) -> bool:
        """Whether there is an outcome. Does not wait."""
        return self._done


class FutureWatcher:
    """Waits for ``threshold`` of some futures at once."""

    def __init__(self, futures: Iterable[WMFuture], threshold: int = 1) -> None:
        self.threshold = threshold
        self.futures: deque[WMFuture] = deque()
        self._hub: Hub = _hub
        self.add(futures)

    def add(self, futures: Iterable[WMFuture]) -> None:
        """Watch these, too."""
        for future in futures:
            self._hub = future._hub
            future._add_watcher(self)

    def signal(self, future: WMFuture) -> None:
        """Note that a future is done."""
        self.futures.append(future)

    def wait(self) -> None:
        """Wait until ``threshold`` futures are done since the last ``reset``."""
        self._hub.wait(lambda: len(self.futures) >= self.threshold)

    def reset(self) -> list[WMFuture]:
        """The futures that are done, in the order in which they were; forgets them."""
        return [self.futures.popleft() for _ in range(len(self.futures))]
