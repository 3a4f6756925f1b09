"""Ctrl-C at the worst instants of the parent's dealings with its processes.

Each instant is met on purpose: the signal is raised as one call returns, before its caller has
taken note of what came of it.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psutil
import pytest

from ringwalk import Mapper, TaskMapper, WorkerMapper
from ringwalk._core.heap import Heap
from ringwalk.mappers import process
from ringwalk.workers import messages, persistent, pool
from ringwalk.workers.messages import Kind, Message


@pytest.fixture
def interrupt_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str, Any], None]:
    """Have the next call of a function whose outcome is such a one end with a Ctrl-C."""

    def interrupt_after(module: Any, name: str, such: Callable[..., bool]) -> None:
        function = getattr(module, name)
        once: Iterator[int] = iter([1])

        def interrupted(*args: Any, **kwargs: Any) -> Any:
            outcome = function(*args, **kwargs)
            if such(outcome, *args) and next(once, None):
                signal.raise_signal(signal.SIGINT)
            return outcome

        monkeypatch.setattr(module, name, interrupted)

    return interrupt_after


def sent(kind: Kind) -> Callable[..., bool]:
    return lambda outcome, channel, message: message.kind == kind


def received(kind: Kind) -> Callable[..., bool]:
    return lambda outcome, *_: isinstance(outcome, Message) and outcome.kind == kind


@pytest.mark.parametrize(
    ("function", "such"),
    [
        pytest.param("send", sent(Kind.SPAWN), id="a worker was asked for"),
        pytest.param("receive", received(Kind.SPAWNED), id="a worker was forked"),
        pytest.param("receive", received(Kind.READY), id="a worker is ready"),
        pytest.param("receive", received(Kind.EXITED), id="a worker has ended"),
    ],
)
def test_each_worker_is_there_once(
    function: str,
    such: Callable[..., bool],
    interrupt_after: Callable[[Any, str, Any], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two processes in one slot would write to one heap, over each other's results."""
    came = set[str]()

    def prepare(device: object) -> None:
        """There for the map to wait until each worker has prepared itself."""

    with WorkerMapper(lambda k: (k, os.getpid()), num_workers=2, worker_init=prepare) as mapper:
        (template,) = (child for child in psutil.Process().children() if child.children())
        victim = template.children()[0]
        victim.kill()
        psutil.wait_procs([victim])
        interrupt_after(persistent, function, such)
        if function == "send":  # the template answers no sooner than the next map waits for it
            template.suspend()
            poll = persistent.PersistentCrew.poll

            def resume(crew: Any, timeout: float | None) -> persistent.Events:
                if timeout and "SIGINT" in came:
                    template.resume()
                return poll(crew, timeout)

            monkeypatch.setattr(persistent.PersistentCrew, "poll", resume)
        # More than one map: a worker may run a whole one before its template tells of it.
        with pytest.raises(KeyboardInterrupt):
            all(mapper.map([1]) for _ in itertools.count())
        came.add("SIGINT")
        for _ in range(3):
            results = mapper.map(range(100))
            assert [k for k, _ in results] == list(range(100))
        assert len(template.children()) == 2
        assert {pid for _, pid in results} <= {child.pid for child in template.children()}


@pytest.mark.parametrize(
    ("module", "function"),
    [
        pytest.param(messages, "pair", id="a worker's channel"),
        pytest.param(persistent, "pairs", id="all channels"),
        pytest.param(pool, "PersistentCrew", id="the crew"),
        pytest.param(process, "Pool", id="the pool"),
    ],
)
def test_a_pool_is_made_whole(
    module: Any, function: str, interrupt_after: Callable[[Any, str, Any], None]
) -> None:
    """Or what there is of it would be left to the garbage collector, which warns of it."""
    mapper = WorkerMapper(abs, num_workers=2)
    interrupt_after(module, function, lambda *_: True)
    with pytest.raises(KeyboardInterrupt):
        mapper.init()
    with mapper:
        assert mapper.map([-1, -2]) == [1, 2]


def test_a_lane_s_end_is_taken_in_whole(
    interrupt_after: Callable[[Any, str, Any], None],
) -> None:
    def segment(k: int, dies: bool) -> int:
        if dies and k == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return k

    with TaskMapper(segment, num_workers=2) as mapper:
        interrupt_after(os, "waitpid", lambda outcome, *_: outcome[0] > 0)
        with pytest.raises(KeyboardInterrupt):
            mapper.map(range(8), [True] * 8)
        assert mapper.map(range(8), [False] * 8) == list(range(8))


class PressedIn:
    """A heap; as one of its copies ends, a Ctrl-C is handled that came in the midst of it."""

    def __init__(self, heap: Heap, copy: int) -> None:
        self._heap = heap
        self._copies = itertools.count(-copy)

    def put(self, *arguments: Any) -> int:
        block = self._heap.put(*arguments)
        if next(self._copies) == 0:
            signal.raise_signal(signal.SIGINT)
        return block

    def __getattr__(self, name: str) -> Any:
        return getattr(self._heap, name)


@pytest.mark.parametrize("copy", [0, 1, 2], ids=["the header", "an array", "a payload"])
def test_arguments_that_were_being_copied_free_their_memory(copy: int) -> None:
    with WorkerMapper(lambda array: 1, num_workers=1) as mapper:
        space = mapper._pool.space  # type: ignore[union-attr]
        own, space.codec.own = space.codec.own, PressedIn(space.codec.own, copy)  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt):
            mapper.map([np.zeros(20_000)])
        assert [heap.usage()["held_blocks"] for heap in space.heaps] == [0, 0]
        space.codec.own = own


class Interrupting:
    """Unpickled in the parent, it is as if the user pressed Ctrl-C there and then."""

    def __reduce__(self) -> tuple[Any, ...]:
        return signal.raise_signal, (signal.SIGINT,)


def test_results_that_were_not_taken_in_free_their_memory(process_mapper: type[Mapper]) -> None:
    def segment(k: int, interrupting: bool) -> Any:
        return Interrupting() if interrupting and k == 0 else np.full(10_000, k)

    def held() -> int:
        return sum(heap.usage()["held_blocks"] for heap in mapper._pool.space.heaps)  # type: ignore[attr-defined]

    with process_mapper(segment, num_workers=2) as mapper:
        mapper.map(range(8), [False] * 8)
        before = held()
        with pytest.raises(KeyboardInterrupt):
            mapper.map(range(8), [True] * 8)
        assert held() == before
