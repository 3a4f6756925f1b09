"""With more workers than cores: who is woken for a map, and when."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator

import pytest

from ringwalk import TaskMapper, WorkerMapper
from ringwalk.config import usable_cpus
from ringwalk.mappers import reserve
from ringwalk.mappers.reserve import Reserve
from ringwalk.workers.plan import WorkerSpace, Workspace

EPOCH, WORKERS, CORES, TASKS = 1, 8, 2, 100
MakeSpace = Callable[[], Workspace]


@pytest.mark.parametrize("mapper_type", [WorkerMapper, TaskMapper])
def test_segments_that_wait_get_all_workers(
    mapper_type: Callable[..., WorkerMapper | TaskMapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringwalk.mappers.transaction.HEARTBEAT_S", 10_000.0)
    workers = usable_cpus() + 3
    arrived, leave = os.pipe(), os.pipe()

    def meet(k: int) -> int:
        os.write(arrived[1], b"x")
        return k + len(os.read(leave[0], 1))

    def let_go_when_all_are_there() -> None:
        for _ in range(maps):
            for _ in range(workers):
                os.read(arrived[0], 1)
            os.write(leave[1], b"x" * workers)

    maps = 3
    watcher = threading.Thread(target=let_go_when_all_are_there)
    with mapper_type(meet, num_workers=workers) as mapper:
        watcher.start()
        for _ in range(maps):
            assert mapper.map(range(workers)) == list(range(1, workers + 1))
    watcher.join()
    for end in (*arrived, *leave):
        os.close(end)


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(reserve, "time", clock)
    return clock


@pytest.fixture
def make_space() -> Iterator[MakeSpace]:
    fds: list[int] = []

    def make() -> Workspace:
        space = Workspace.create(WORKERS)
        fds.append(space.wake_fd)
        space.board.most_woken = CORES
        space.board.arm_range(0, TASKS, EPOCH)
        space.board.push(EPOCH, range(TASKS))
        return space

    yield make
    for fd in fds:
        os.close(fd)


def run(space: Workspace, count: int) -> None:
    worker = WorkerSpace(space.plan, space.arena, space.wake_fd, 0).consumer
    for _ in range(count):
        worker.commit_inline(worker.take(), None)


def test_nobody_is_kept_where_there_are_cores_or_tasks_for_no_more(
    make_space: MakeSpace, clock: Clock
) -> None:
    space = make_space()
    few = Reserve(space, CORES)
    space.board.most_woken = WORKERS
    for kept in (few, Reserve(space, TASKS)):
        assert kept.patience == math.inf
        assert not kept.look()


def test_where_nothing_ends_all_are_woken_at_the_first_look(
    make_space: MakeSpace, clock: Clock
) -> None:
    space = make_space()
    kept = Reserve(space, TASKS)
    clock.now += kept.patience / 2
    assert kept.look()
    assert kept.patience < math.inf  # too early
    clock.now += kept.patience / 2
    assert kept.look()
    assert kept.patience == math.inf
    assert not kept.look()


def test_what_is_over_soon_is_left_to_those_who_are_awake(
    make_space: MakeSpace, clock: Clock
) -> None:
    space = make_space()
    kept = Reserve(space, TASKS)
    run(space, TASKS - 1)
    looks = 0
    while kept.patience < math.inf:
        clock.now += kept.patience
        assert kept.look()
        looks += 1
    # The last task takes its time: nobody says that it will be over soon, for ever.
    assert 3 <= looks <= 8
    assert clock.now < 0.3


def test_many_tasks_are_worth_a_waking(make_space: MakeSpace, clock: Clock) -> None:
    space = make_space()
    kept = Reserve(space, TASKS)
    run(space, TASKS // 10)
    clock.now += kept.patience
    assert kept.look()
    assert kept.patience == math.inf
