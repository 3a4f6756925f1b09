"""What mappers tell of a map, against what the segments saw themselves."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ringwalk import MapError, Mapper, SerialMapper, TaskMapper, WalkerBlock, WorkerMapper
from ringwalk.observe.timeline import RECORD, Timeline


def now(walker: int, *_: object) -> tuple[float, float]:
    began = time.monotonic()
    return began, time.monotonic()


def refuse_the_third(walker: int) -> int:
    if walker == 2:
        raise ValueError("not this one")
    return walker


def add_one(row: object) -> None:
    row.positions[:] += 1  # type: ignore[attr-defined]


def echo(array: np.ndarray) -> np.ndarray:
    return array


def die_once(marker: str, walker: int) -> int:
    if walker == 3:
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return walker
        os._exit(7)
    return walker


def test_times_enclose_the_segment(any_mapper: type[Mapper]) -> None:
    with any_mapper(now, 2) as mapper:
        before = time.monotonic()
        results = mapper.map(range(20))
        after = time.monotonic()
        timeline = mapper.timeline
    records = timeline.records
    assert records.dtype == RECORD
    assert sorted(records["walker"]) == list(range(20))
    assert (np.diff(records["started"]) >= 0).all()
    assert set(records["outcome"]) == {"done"}
    assert set(records["attempt"]) == {1}
    assert set(records["worker"]) <= set(range(timeline.workers))
    assert before <= timeline.origin <= after
    assert timeline.spans.shape == (1, 2)
    assert timeline.origin + timeline.seconds <= after
    for record in records:
        began, ended = results[record["walker"]]
        tick = 1e-6  # of floating point, hours after boot
        assert 0 <= record["queued"] <= record["started"]
        assert timeline.origin + record["started"] <= began + tick
        assert ended <= timeline.origin + record["finished"] + tick
        assert record["finished"] <= timeline.seconds


def test_no_worker_is_in_two_places(any_mapper: type[Mapper]) -> None:
    with any_mapper(now, 2) as mapper:
        mapper.map(range(50))
        records = mapper.timeline.records
    for worker in set(records["worker"].tolist()):
        mine = records[records["worker"] == worker]
        assert all(one["finished"] <= next_["started"] for one, next_ in pairwise(mine))


def test_segment_times_are_the_timeline_s(any_mapper: type[Mapper]) -> None:
    with any_mapper(now, 2) as mapper:
        assert mapper.timeline.records.shape == (0,)
        mapper.map(range(10))
        records, times = mapper.timeline.records, mapper.worker_segment_times
    took = np.sort(records["finished"] - records["started"])
    assert np.sort(np.concatenate(list(times.values()))) == pytest.approx(took, abs=1e-6)


def test_a_failed_map_has_a_timeline(any_mapper: type[Mapper]) -> None:
    with any_mapper(refuse_the_third, 2, on_error="finish") as mapper:
        with pytest.raises(MapError):
            mapper.map(range(5))
        records = mapper.timeline.records
    assert dict(zip(records["walker"].tolist(), records["outcome"].tolist(), strict=True)) == {
        **dict.fromkeys(range(5), "done"),
        2: "failed",
    }


def test_a_retry_is_a_record_of_its_own(process_mapper: type[Mapper], tmp_path: Path) -> None:
    marker = str(tmp_path / "died")
    with process_mapper(die_once, 2) as mapper:
        assert mapper.map([marker] * 6, range(6)) == list(range(6))
        records = mapper.timeline.records
    died, again = records[records["walker"] == 3]
    assert (died["attempt"], died["outcome"]) == (1, "died")
    assert (again["attempt"], again["outcome"]) == (2, "done")
    assert died["finished"] == again["queued"]
    assert died["started"] <= died["finished"] <= again["started"]
    assert len(records) == 7


def test_a_walker_lost_for_good_is_told_once(process_mapper: type[Mapper], tmp_path: Path) -> None:
    marker = str(tmp_path / "died")
    with process_mapper(die_once, 1, max_retries=0, on_error="finish") as mapper:
        with pytest.raises(MapError):
            mapper.map([marker] * 6, range(6))
        records = mapper.timeline.records
    assert records[records["walker"] == 3]["outcome"].tolist() == ["died"]
    assert len(records) == 6


def test_rows_of_a_block_are_copied_once(process_mapper: type[Mapper]) -> None:
    with WalkerBlock(4, positions=((10,), "f8"), weight="f8") as block:
        with process_mapper(add_one, 2) as mapper:
            mapper.map(block)
            records = mapper.timeline.records
    assert (
        set(records["bytes_in"]) == set(records["bytes_out"]) == {128}
    )  # a row is 88 bytes, padded to lines
    assert set(records["copies"]) == {1}


@pytest.mark.parametrize("inputs", ["copy", "readonly"])
def test_large_arrays_are_counted(inputs: str) -> None:
    arrays = [np.full(10_000, float(k)) for k in range(4)]
    with WorkerMapper(echo, 2, inputs=inputs) as mapper:
        results = mapper.map(arrays)
        records = mapper.timeline.records
        del results
    assert set(records["copies"]) == {1}
    assert (records["bytes_in"] >= 80_000).all()
    assert (records["bytes_in"] < 81_000).all()
    assert (records["bytes_out"] < 1000).all()


def test_forked_tasks_inherit_their_arguments() -> None:
    arrays = [np.full(10_000, float(k)) for k in range(4)]
    with TaskMapper(echo, 2) as mapper:
        mapper.map(arrays)
        records = mapper.timeline.records
    assert set(records["bytes_in"]) == {0}
    assert (records["bytes_out"] >= 80_000).all()
    assert set(records["copies"]) == {1}


def test_devices_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    with WorkerMapper(now, 2, devices=[1, 0]) as mapper:
        mapper.map(range(20))
        timeline = mapper.timeline
    assert timeline.devices == ("1", "0")
    assert (timeline.records["device"] == timeline.records["worker"]).all()
    assert [timeline.device_of(worker) for worker in range(2)] == ["1", "0"]


def test_maps_are_joined_with_the_gaps_between_them() -> None:
    timelines = []
    with SerialMapper(now) as mapper:
        for _ in range(3):
            mapper.map(range(5))
            timelines.append(mapper.timeline)
    joined = Timeline.join(reversed(timelines))
    assert joined.origin == timelines[0].origin
    assert joined.spans.shape == (3, 2)
    assert (np.diff(joined.spans.ravel()) > 0).all()
    assert joined.records["cycle"].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert (np.diff(joined.records["started"]) >= 0).all()
    clock = timelines[2].records["started"] + timelines[2].origin
    assert joined.records["started"][10:] + joined.origin == pytest.approx(clock)


def test_joining_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match="no timelines"):
        Timeline.join([])
    made = []
    for workers in (1, 2):
        with WorkerMapper(now, workers) as mapper:
            mapper.map(range(2))
            made.append(mapper.timeline)
    with pytest.raises(ValueError, match="unequal workers"):
        Timeline.join(made)


def test_memory_is_known_after_cleanup() -> None:
    def nothing(device: str | None) -> None:  # but init waits until every worker has done it
        return None

    with WorkerMapper(now, 1, worker_init=nothing) as mapper:
        mapper.map(range(4))
    memory = mapper.timeline.memory
    assert set(memory.workers) == {0}
    assert min(memory.parent, memory.shared, *memory.workers.values()) > 0


def test_a_trace_has_an_event_an_attempt(tmp_path: Path, fake: Callable[..., Timeline]) -> None:
    timeline = fake([(0, 0, 1.0, 2.0, "done"), (1, 1, 1.5, 2.5, "died")], workers=2, end=4.0)
    timeline.save(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    complete = [event for event in events if event["ph"] == "X"]
    assert [(e["name"], e["tid"], e["ts"], e["dur"], e["cat"]) for e in complete] == [
        ("map 0", 0, 0.0, 4e6, "map"),
        ("walker 0", 1, 1e6, 1e6, "done"),
        ("walker 1", 2, 1.5e6, 1e6, "died"),
    ]
    named = [event for event in events if event["name"] == "thread_name"]
    names = {event["tid"]: event["args"]["name"] for event in named}
    assert names == {0: "maps", 1: "worker 0", 2: "worker 1"}


@pytest.mark.usefixtures("fonts")
@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_a_figure_has_a_row_a_worker(
    tmp_path: Path, fake: Callable[..., Timeline], ending: str
) -> None:
    timeline = fake([(0, 0, 1.0, 2.0, "done"), (1, 2, 1.5, 2.5, "failed")], workers=3, end=4.0)
    figure = timeline.plot(tmp_path / f"figure.{ending}")
    assert (tmp_path / f"figure.{ending}").stat().st_size > 1000
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "1", "2"]
    bars = [path.get_extents() for shapes in axes.collections for path in shapes.get_paths()]
    found = [(bar.x0, bar.x1, (bar.y0 + bar.y1) / 2) for bar in bars]
    assert found == [(1.0, 2.0, 0.0), (1.5, 2.5, 2.0)]
