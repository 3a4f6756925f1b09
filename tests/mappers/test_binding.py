"""Workers that are bound to cores or NUMA nodes: which ones, also after a death."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ringwalk import ConfigError, Mapper
from ringwalk.workers.binding import cores_for_workers

GRANTED = sorted(os.sched_getaffinity(0))
WORKERS = min(2, len(GRANTED))


@pytest.fixture
def two_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of two nodes of cores and one of memory alone; cores 0 and 7 are not granted."""
    for node, cores in enumerate(("0-3", "4-6,7", "")):
        folder = tmp_path / f"node{node}"
        folder.mkdir()
        (folder / "cpulist").write_text(f"{cores}\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 2, 3, 4, 5, 6})
    return tmp_path


def test_nodes_take_turns(two_nodes: Path) -> None:
    assert cores_for_workers("cores", 5, nodes=two_nodes) == ({1}, {4}, {2}, {5}, {3})
    assert cores_for_workers("nodes", 3, nodes=two_nodes) == ({1, 2, 3}, {4, 5, 6}, {1, 2, 3})
    assert cores_for_workers(None, 3, nodes=two_nodes) is None


def test_without_nodes_all_cores_are_one(tmp_path: Path) -> None:
    assert cores_for_workers("nodes", 2, nodes=tmp_path) == (set(GRANTED), set(GRANTED))


def test_each_worker_runs_on_its_cores(process_mapper: type[Mapper], tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def segment(k: int) -> tuple[int, ...]:
        if k == 3 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return tuple(os.sched_getaffinity(0))

    with process_mapper(segment, num_workers=WORKERS, bind="cores") as mapper:
        seen = mapper.map(range(40)) + mapper.map(range(40))
        assert set(seen) <= {(core,) for core in GRANTED[:WORKERS]}
    with process_mapper(segment, num_workers=WORKERS, bind="nodes") as mapper:
        assert {core for cores in mapper.map(range(40)) for core in cores} <= set(GRANTED)
    assert sorted(os.sched_getaffinity(0)) == GRANTED


def test_what_cannot_be_bound_is_refused(process_mapper: type[Mapper]) -> None:
    with pytest.raises(ConfigError, match="bind is 'sockets'; choose one of 'cores', 'nodes'"):
        process_mapper(abs, bind="sockets")
    mapper = process_mapper(abs, num_workers=len(GRANTED) + 1, bind="cores")
    with pytest.raises(ConfigError, match="wants a core for each of"):
        mapper.init()
