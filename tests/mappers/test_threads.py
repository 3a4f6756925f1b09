"""Ctrl-C while segments run in threads of this process, which nobody can end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from ringwalk import ThreadMapper


@pytest.mark.parametrize("line", range(1, 25))
def test_an_interrupted_wait_keeps_no_lock_that_a_thread_needs(
    line: int, ctrl_c_in_wait: Callable[..., Any]
) -> None:
    """At each line of the wait, wherever its code is from: the threads have to come to an end."""
    submitted = 0

    def segment(walker: int) -> int:
        threading.Event().wait(0.01)  # so that the wait comes before the end of what it waits for
        return walker

    class Counting(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            nonlocal submitted
            future = super().submit(fn, *args, **kwargs)
            submitted += 1
            return future

    with ThreadMapper(segment, 2) as mapper:
        mapper._executor.__class__ = Counting
        pressed = ctrl_c_in_wait("mappers/thread.py", line, lambda: submitted == 4)
        with pytest.raises(KeyboardInterrupt), pressed:
            mapper.map(range(4))
        assert mapper.map(range(4)) == [0, 1, 2, 3]


def test_what_was_submitted_is_over_when_the_map_is(monkeypatch: pytest.MonkeyPatch) -> None:
    futures: list[Future[Any]] = []
    interrupted = threading.Event()

    def segment(walker: int) -> int:
        interrupted.wait()
        return walker

    def submit(self: Any, fn: Any, /, *args: Any) -> Future[Any]:
        futures.append(original(self, fn, *args))
        if len(futures) == 3:
            interrupted.set()
            signal.raise_signal(signal.SIGINT)
        return futures[-1]

    with ThreadMapper(segment, 1) as mapper:
        original = ThreadPoolExecutor.submit
        monkeypatch.setattr(ThreadPoolExecutor, "submit", submit)
        with pytest.raises(KeyboardInterrupt):
            mapper.map(range(5))
        assert all(future.done() for future in futures)
        monkeypatch.undo()
        assert mapper.map(range(5)) == [0, 1, 2, 3, 4]
