"""Users' own workers and task processes, on wepy's own mappers and on Ringwalk's."""

from __future__ import annotations

import os
from typing import Any

import pytest
from wepy.walker import Walker
from wepy.work_mapper.mapper import Worker
from wepy.work_mapper.task_mapper import WalkerTaskProcess


class Labelled(Worker):
    """As users write them: a constructor, a name, and what wepy gives to look at."""

    NAME_TEMPLATE = "Labelled-{}"

    def __init__(self, *args: Any, label: str = "none", **kwargs: Any) -> None:
        super().__init__(*args, label=label, **kwargs)
        self.calls = 0

    def run_task(self, task: Any) -> Any:
        self.calls += 1
        assert self._worker_idx == self.worker_idx
        assert self.pid == os.getpid()
        return task(
            told=(
                self.name,
                self.attributes["label"],
                self.mapper_attributes["device_ids"][self.worker_idx],
                self.worker_idx,
                self.calls,
            )
        )


class Tasked(WalkerTaskProcess):
    NAME_TEMPLATE = "Tasked-{}"

    def run_task(self, task: Any) -> Any:
        assert self.pid == os.getpid()
        return task(told=(self.name, self.mapper_attributes["device_ids"][self._worker_idx]))


def what_it_was_told(walker: Walker, told: Any) -> tuple[int, Any, int]:
    return walker.state["num"], told, os.getpid()


def test_a_users_worker_runs_unmodified(host: Any, make_walkers: Any) -> None:
    if host.kind == "TaskMapper":
        pytest.skip("it has task processes")
    mapper = host.start(
        what_it_was_told,
        worker_type=Labelled,
        worker_attributes={"label": "mine"},
        device_ids=["a", "b"],
    )
    results = mapper.map(make_walkers(8))
    assert [number for number, _, _ in results] == list(range(8))
    for _, (name, label, device, index, calls), pid in results:
        assert name == f"Labelled-{index}"
        assert label == "mine"
        assert device == "ab"[index]
        assert calls >= 1  # the object lives as long as the worker
        assert pid != os.getpid()


def test_a_users_task_process_runs_unmodified(host: Any, make_walkers: Any) -> None:
    if host.kind == "WorkerMapper":
        pytest.skip("it has workers")
    mapper = host.start(what_it_was_told, walker_task_type=Tasked, device_ids=["a", "b"])
    results = mapper.map(make_walkers(8))
    assert [(number, told[0]) for number, told, _ in results] == [
        (k, f"Tasked-{k}") for k in range(8)
    ]
    assert {told[1] for _, told, _ in results} <= {"a", "b"}
    assert len({pid for _, _, pid in results}) == 8  # a process each


INHERITED: list[int] = []


def what_was_inherited(walker: Walker) -> list[int]:
    return INHERITED


@pytest.mark.differs("wepy forks whatever proc_start_method says")
def test_spawn_spawns(host: Any, make_walkers: Any) -> None:
    INHERITED.append(1)
    try:
        mapper = host.start(what_was_inherited, proc_start_method="spawn")
        assert mapper.map(make_walkers(3)) == [[]] * 3
    finally:
        INHERITED.clear()
