"""The process that a WorkerMapper's workers are forked from: what signals mean to it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ringwalk import WorkerDied, WorkerMapper
from ringwalk.workers.launch import StartMethod


@contextmanager
def handled(number: signal.Signals, handler: Callable[..., object] | int) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def parent_of(k: int) -> int:
    return os.getppid()


def end(k: int) -> Any:
    os._exit(7)


def test_signals_of_the_program_leave_the_template_alone() -> None:
    """A batch system sends them to all processes; the handlers are this one's."""
    heard: list[int] = []
    with handled(signal.SIGUSR1, lambda *_: heard.append(1)):
        with WorkerMapper(parent_of, num_workers=2) as mapper:
            (template,) = set(mapper.map(range(2)))
            for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP):
                os.kill(template, number)
            mapper.renew(end)
            with pytest.raises(WorkerDied):
                mapper.map([0])
            mapper.renew(parent_of)
            assert set(mapper.map(range(2))) == {template}
    assert heard == []


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_deaths_are_told_where_the_program_ignores_its_children(method: StartMethod) -> None:
    with handled(signal.SIGCHLD, signal.SIG_IGN):
        with WorkerMapper(end, num_workers=1, max_retries=0, start_method=method) as mapper:
            with pytest.raises(WorkerDied) as caught:
                mapper.map([0])
    assert caught.value.exitcode == 7
