"""The process that a WorkerMapper's workers are forked from: what signals mean to it."""

from __future__ import annotations

import math
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ringwalk import WorkerDied, WorkerMapper
from ringwalk.workers import persistent
from ringwalk.workers.launch import StartMethod
from ringwalk.workers.messages import Message


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


def test_nothing_is_awaited_of_a_template_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker's end is met first: the template's own came as the kernel was asked for both."""
    looks: list[int] = []
    receive = persistent.receive

    def counted(channel: socket.socket, *, wait: bool) -> Message | None:
        looks.append(channel.fileno())
        return receive(channel, wait=wait)

    with WorkerMapper(parent_of, num_workers=1) as mapper:
        (template,) = mapper.map([0])
        crew = mapper._pool.crew  # type: ignore[union-attr]
        assert isinstance(crew, persistent.PersistentCrew)
        while crew.pid(0) is None:  # it may run a map before the template tells of it
            crew.wait(None)
        worker = crew._pidfds[0]
        os.kill(template, signal.SIGSTOP)
        os.waitid(os.P_PID, template, os.WSTOPPED | os.WNOWAIT)
        signal.pidfd_send_signal(worker, signal.SIGKILL)
        select.select([worker], [], [])
        os.kill(template, signal.SIGKILL)
        os.waitid(os.P_PID, template, os.WEXITED | os.WNOWAIT)
        monkeypatch.setattr(persistent, "receive", counted)
        (death,) = crew.handle([(worker, select.POLLIN)])
        assert (death.slot, death.signal) == (0, signal.SIGKILL)
        assert len(looks) < 10
        assert mapper.map([0]) != [template]


def test_a_template_that_goes_on_answering_is_not_taken_for_stuck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where workers die all the time, there is always one that was asked for."""

    class Clock:
        ahead = 0.0

        def monotonic(self) -> float:
            return time.monotonic() + self.ahead

    with WorkerMapper(parent_of, num_workers=2) as mapper:
        (template,) = set(mapper.map(range(2)))
        crew = mapper._pool.crew  # type: ignore[union-attr]
        assert isinstance(crew, persistent.PersistentCrew)
        while crew.pid(0) is None or crew.pid(1) is None:
            crew.wait(None)
        crew.kill(0)
        crew.kill(1)
        while not (crew.vacant(0) and crew.vacant(1)):
            crew.wait(None)
        with monkeypatch.context() as patch:
            clock = Clock()
            patch.setattr(persistent, "time", clock)
            patch.setattr(persistent, "_ANSWER_TIMEOUT_S", math.inf)
            crew.fill(None)
            clock.ahead = persistent.START_TIMEOUT_S - 1
            while crew.pid(0) is None:  # one message at a time: the other's is still to come
                crew.wait(None)
            clock.ahead += 2
            assert crew.handle([]) == ()
        assert set(mapper.map(range(2))) == {template}
