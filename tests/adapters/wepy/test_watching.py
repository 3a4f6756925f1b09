"""Progress, a timeline and ``ringwalk top`` through wepy's mappers."""

from __future__ import annotations

import copy
import json
import os
from typing import Any

import pytest
from wepy.walker import Walker
from wepy.work_mapper.mapper import TaskException

import ringwalk.adapters.wepy as ours
from ringwalk.cli import main

COUNT = 5


def same(walker: Walker) -> Walker:
    return walker


def fail_at_two(walker: Walker) -> Walker:
    if walker.state["num"] == 2:
        raise ValueError("no soup")
    return walker


class Calls(list[tuple[int, int]]):
    def __call__(self, finished: int, all_: int) -> None:
        self.append((finished, all_))


def test_progress_is_told(ringwalk_host: Any, make_walkers: Any) -> None:
    calls = Calls()
    mapper = ringwalk_host.start(same, progress=calls)
    for _ in range(2):
        mapper.map(make_walkers(COUNT))
        assert calls[-1] == (COUNT, COUNT)
        assert calls == sorted(calls)
        calls.clear()


def test_the_serial_mapper_tells(make_walkers: Any) -> None:
    calls = Calls()
    mapper = ours.Mapper(same, progress=calls)
    assert mapper.timeline is None
    mapper.map(iter(make_walkers(COUNT)))
    assert calls == [(k, COUNT) for k in range(1, COUNT + 1)]
    records = mapper.timeline.records
    assert records["walker"].tolist() == list(range(COUNT))
    assert (records["started"] <= records["finished"]).all()
    with pytest.raises(TaskException):
        copy.deepcopy(ours.Mapper(fail_at_two)).map(make_walkers(COUNT))


def test_a_failed_segment_is_in_the_serial_timeline(make_walkers: Any) -> None:
    mapper = ours.Mapper(fail_at_two, seed=1)
    with pytest.raises(TaskException):
        mapper.map(make_walkers(COUNT))
    assert mapper.timeline.records["outcome"].tolist() == ["done", "done", "failed"]


def test_without_a_terminal_there_is_no_bar(
    ringwalk_host: Any, make_walkers: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    ringwalk_host.start(same, progress=True).map(make_walkers(COUNT))
    ours.Mapper(same, progress=True).map(make_walkers(COUNT))
    assert capfd.readouterr() == ("", "")


def test_the_timeline_outlives_the_workers(ringwalk_host: Any, make_walkers: Any) -> None:
    mapper = ringwalk_host.make(same)
    assert mapper.timeline is None
    mapper.init()
    mapper.map(make_walkers(COUNT))
    before = mapper.timeline.records
    mapper.cleanup()
    assert sorted(before["walker"].tolist()) == list(range(COUNT))
    assert mapper.timeline.records.tolist() == before.tolist()
    assert set(before["outcome"]) == {"done"}


def test_it_can_be_watched(
    ringwalk_host: Any, make_walkers: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ringwalk_host.start(same, monitor=True).map(make_walkers(COUNT))
    assert main(["top", "--json", "--interval", "0.05"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert os.getpid() in [mapper["pid"] for mapper in shown]
