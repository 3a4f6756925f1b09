"""Future: the standard library's, whose waiting thread tends the tasks itself."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import Any

from ringwalk._core.process import Undisturbed
from ringwalk.futures.engine import Engine

_OPEN = ("PENDING", "RUNNING")
_FINISHED = "FINISHED"
# Held while a future gets its condition or does without. Nothing is called with it held: a signal
# handler, which runs after a call only, may want it.
_MAKING = threading.Lock()


class Future(concurrent.futures.Future[Any]):
    """The outcome of ``Executor.submit``. Made by an executor only.

    Attributes:
        task: number of its record on the board, -1 when it has none. For the engine.
    """

    def __init__(self, engine: Engine) -> None:
        # What the base class sets, but for the condition: making it costs more than all else.
        self._engine = engine
        self._made: threading.Condition | None = None
        self._state = _OPEN[0]
        self._result: Any = None
        self._exception: BaseException | None = None
        self._noticed: list[Any] = []
        self._done_callbacks: list[Any] = []
        self.task = -1

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        """The base class's lock, made when it is first asked for."""
        if self._made is None:
            fresh = threading.Condition()
            with _MAKING:
                if self._made is None:
                    self._made = fresh
        return self._made

    @property
    def _waiters(self) -> list[Any]:
        """Where ``wait`` and ``as_completed`` register: a sign that news are expected."""
        if self._state in _OPEN:
            self._engine.expect()
        return self._noticed

    @_waiters.setter
    def _waiters(self, value: list[Any]) -> None:
        self._noticed = value

    def deliver(self, value: Any, error: BaseException | None) -> None:
        """Take the outcome in; for the engine."""
        if self._state not in _OPEN:
            return
        if error is None:
            with _MAKING:
                if self._made is None:  # and so nobody waits or has a callback
                    self._result = value
                    self._state = _FINISHED
                    return
            self.set_result(value)
        else:
            self.set_exception(error)

    def _is_over(self) -> bool:
        return self._state not in _OPEN

    def result(self, timeout: float | None = None) -> Any:
        """The task's result; waits for it. Raises what the task raised, TimeoutError."""
        if self._state in _OPEN:
            self._engine.wait(self._is_over, timeout)
        if self._state == _FINISHED and self._exception is None:
            return self._result
        try:
            return super().result(0)
        finally:
            del self  # what is raised refers to this frame, and the future to what is raised

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the task raised, or None; waits for it. Raises TimeoutError."""
        if self._state in _OPEN:
            self._engine.wait(self._is_over, timeout)
        return super().exception(0)

    def done(self) -> bool:
        """Whether there is an outcome. Does not wait."""
        if self._state in _OPEN:
            self._engine.look()
        return super().done()

    def running(self) -> bool:
        """Whether a worker has the task."""
        return self._state in _OPEN and self._engine.running(self)

    def cancel(self) -> bool:
        """Take the task back, if no worker has it yet. True if it will not run."""
        if self._state not in _OPEN:
            return self.note_cancelled()
        if not self._engine.cancel(self):
            return False
        cancelled = self.note_cancelled()
        self._engine.nudge()  # not sooner: who looks too early would sleep again
        return cancelled

    def note_cancelled(self) -> bool:
        """The engine runs the task no more: tell whoever waits. For the executor."""
        with Undisturbed():  # a signal handler must not come while this holds the future's lock
            if not super().cancel():
                return False
            if self._state == "CANCELLED":
                self.set_running_or_notify_cancel()
        return True

    def add_done_callback(self, fn: Any) -> None:
        """Have ``fn(self)`` called once there is an outcome; from whichever thread notices."""
        with Undisturbed():
            super().add_done_callback(fn)
        if self._state in _OPEN:
            self._engine.expect()
