"""How workers start: methods, devices, contexts, threads, random streams."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringwalk import (
    ConfigError,
    Mapper,
    SerialMapper,
    TaskMapper,
    ThreadMapper,
    WalkerBlock,
    WorkerInitError,
    WorkerMapper,
)
from ringwalk.mappers import process
from ringwalk.workers.persistent import PersistentCrew

START_METHODS = pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])


@START_METHODS
def test_start_methods_run_the_same_maps(method: Any) -> None:
    offset = 5

    def segment(row: Any, by: int) -> int:
        row.x += by + offset
        return int(os.getppid())

    with WalkerBlock(6, x="f8") as block:
        with WorkerMapper(segment, num_workers=2, start_method=method) as mapper:
            parents = set(mapper.map(block, [1] * 6))
            assert block["x"].tolist() == [6.0] * 6
            assert os.getpid() not in parents
            large = np.arange(50_000.0)
        with WorkerMapper(lambda a: a * 2, num_workers=2, start_method=method) as mapper:
            assert np.array_equal(mapper.map([large])[0], large * 2)


@START_METHODS
def test_a_killed_worker_is_replaced_under_each_method(method: Any, tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def segment(k: int) -> int:
        import os
        import signal

        if k == 2 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return k

    with WorkerMapper(segment, num_workers=2, start_method=method) as mapper:
        assert mapper.map(range(10)) == list(range(10))


def test_an_unknown_start_method_is_refused() -> None:
    with pytest.raises(ConfigError, match="start_method is 'thread'"):
        WorkerMapper(start_method="thread")  # type: ignore[arg-type]


@START_METHODS
def test_what_worker_init_raises_is_the_cause(method: Any) -> None:
    def no_context(device: Any) -> None:
        raise OSError(f"no context on {device}")

    mapper = WorkerMapper(
        abs, num_workers=2, devices=[3], worker_init=no_context, start_method=method
    )
    with pytest.raises(WorkerInitError, match="no context on 3") as caught:
        mapper.init()
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("kind", [SerialMapper, ThreadMapper])
def test_what_worker_init_raises_in_this_process(kind: type[Mapper]) -> None:
    def no_context(device: Any) -> None:
        raise OSError("no context")

    mapper = kind(abs, num_workers=1, worker_init=no_context)
    for _ in range(3):  # a failure uses no worker up
        with pytest.raises(WorkerInitError, match="no context") as caught, mapper:
            mapper.map([1])
        assert isinstance(caught.value.__cause__, OSError)


def test_what_worker_init_raises_in_a_task() -> None:
    def no_context(device: Any) -> None:
        raise OSError("no context")

    with TaskMapper(abs, num_workers=2, worker_init=no_context) as mapper:
        with pytest.raises(Exception, match="worker_init raised.*no context"):
            mapper.map([1])


def test_a_worker_that_dies_in_worker_init() -> None:
    mapper = WorkerMapper(abs, num_workers=2, worker_init=lambda device: os._exit(9))
    with pytest.raises(WorkerInitError, match="exit code 9"):
        mapper.init()


def test_each_worker_is_bound_before_user_code_runs(process_mapper: type[Mapper]) -> None:
    here, arrive = os.pipe()
    go = os.eventfd(0, os.EFD_SEMAPHORE)

    def init(device: Any) -> tuple[Any, Any]:
        return device, os.environ.get("CUDA_VISIBLE_DEVICES")

    def segment(k: int, context: Any) -> Any:
        # A barrier, so that each of the four workers has one of the four tasks.
        os.write(arrive, b".")
        if k == 0:
            for _ in range(4):
                os.read(here, 1)
            os.eventfd_write(go, 4)
        os.eventfd_read(go)
        return context

    with process_mapper(segment, num_workers=4, devices=[1, 3], worker_init=init) as mapper:
        assert sorted(mapper.map(range(4))) == [(1, "1"), (1, "1"), (3, "3"), (3, "3")]
    for fd in (here, arrive, go):
        os.close(fd)


def test_init_knows_the_process_of_each_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the template is slow to tell, and both were ready before."""

    def nothing(device: object) -> None:
        """There for init to wait until each worker has done it."""

    def hear_late(crew: PersistentCrew) -> None:
        if len(crew._ready) == 2:
            hear(crew)

    hear = PersistentCrew._hear_template
    monkeypatch.setattr(PersistentCrew, "_hear_template", hear_late)
    with WorkerMapper(abs, 2, worker_init=nothing) as mapper:
        assert mapper._pool is not None
        assert len(mapper._pool.pids()) == 2
        monkeypatch.undo()


def test_the_context_is_made_once_a_worker() -> None:
    made: list[int] = []

    def init(device: Any) -> int:
        made.append(1)
        return len(made)

    with WorkerMapper(lambda k, context: context, num_workers=2, worker_init=init) as mapper:
        for _ in range(3):
            assert set(mapper.map(range(50))) == {1}


def test_blas_threads_share_the_cores(process_mapper: type[Mapper]) -> None:
    def threads(k: int) -> tuple[str | None, list[int]]:
        from threadpoolctl import threadpool_info

        return os.environ.get("OMP_NUM_THREADS"), [i["num_threads"] for i in threadpool_info()]

    with process_mapper(threads, num_workers=2, threads_per_worker=1) as mapper:
        for variable, pools in mapper.map(range(4)):
            assert set(pools) <= {1}
            assert variable == "1"


# --- random streams ------------------------------------------------------------------------------


def draw_globals(k: int) -> tuple[float, float]:
    return float(np.random.rand()), random.random()


def draw_rng(k: int, rng: np.random.Generator) -> tuple[float, float]:
    return float(rng.random()), float(rng.random())


def three_cycles(
    kind: type[Mapper], draw: Callable[..., Any], workers: int, **options: Any
) -> list[Any]:
    with kind(draw, num_workers=workers, **options) as mapper:
        return [mapper.map(range(12)) for _ in range(3)]


@pytest.mark.parametrize("draw", [draw_globals, draw_rng])
def test_streams_depend_on_the_seed_alone(
    any_mapper: type[Mapper], draw: Callable[..., Any]
) -> None:
    if any_mapper is ThreadMapper and draw is draw_globals:
        with pytest.raises(ConfigError, match="rng"):
            three_cycles(any_mapper, draw, 2, seed=7)
        return
    runs = [three_cycles(any_mapper, draw, workers, seed=7) for workers in (1, 2, 7)]
    assert runs[0] == runs[1] == runs[2]
    values = [value for cycle in runs[0] for pair in cycle for value in pair]
    assert len(set(values)) == len(values) == 72
    assert three_cycles(any_mapper, draw, 2, seed=8) != runs[0]


def test_streams_are_the_same_for_every_class() -> None:
    expected = three_cycles(WorkerMapper, draw_rng, 2, seed=7)
    assert three_cycles(TaskMapper, draw_rng, 3, seed=7) == expected
    assert three_cycles(ThreadMapper, draw_rng, 2, seed=7) == expected


def test_a_stream_is_spawned_from_the_seed() -> None:
    (first, *_), *_ = three_cycles(WorkerMapper, draw_rng, 2, seed=7)
    cycle = np.random.SeedSequence(7).spawn(1)[0]
    walker = np.random.Generator(np.random.PCG64(cycle.spawn(1)[0]))
    assert first == (walker.random(), walker.random())


def test_a_retry_draws_the_same_numbers(process_mapper: type[Mapper], tmp_path: Path) -> None:
    def draw(k: int, rng: np.random.Generator) -> float:
        mark = tmp_path / str(k)
        value = float(rng.random())
        if k % 3 == 0 and not mark.exists():
            mark.touch()
            os._exit(1)
        return value

    with process_mapper(draw, num_workers=2, seed=7) as mapper:
        retried = mapper.map(range(9))
    with process_mapper(lambda k, rng: float(rng.random()), num_workers=1, seed=7) as mapper:
        assert mapper.map(range(9)) == retried


def test_without_a_seed_no_two_processes_share_a_stream(process_mapper: type[Mapper]) -> None:
    with process_mapper(draw_globals, num_workers=3) as mapper:
        pairs = [pair for _ in range(3) for pair in mapper.map(range(8))]
    numpy_values, python_values = zip(*pairs, strict=True)
    assert len(set(numpy_values)) == len(set(python_values)) == 24
    np.random.seed(0)
    first = three_cycles(process_mapper, draw_globals, 1)
    np.random.seed(0)
    assert three_cycles(process_mapper, draw_globals, 1) != first


def test_a_serial_map_leaves_the_caller_s_streams_alone() -> None:
    np.random.seed(3)
    random.seed(3)
    expected = draw_globals(0)
    np.random.seed(3)
    random.seed(3)
    three_cycles(SerialMapper, draw_globals, 1, seed=7)
    assert draw_globals(0) == expected


def test_a_pool_whose_monitor_cannot_be_made_is_closed(
    process_mapper: type[Mapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(facts: object) -> None:
        raise OSError("no descriptor is left")

    monkeypatch.setattr(process, "Monitor", refuse)
    mapper = process_mapper(abs, num_workers=2, monitor=True)  # type: ignore[call-arg]
    with pytest.raises(OSError, match="no descriptor"):
        mapper.init()
    monkeypatch.undo()
    with mapper:
        assert mapper.map([-1, -2]) == [1, 2]
