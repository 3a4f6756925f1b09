"""wepy's mapper contract, on wepy's own classes and on Ringwalk's.

Tests marked ``differs`` fail with wepy's classes: each is a deliberate difference.
"""

from __future__ import annotations

import copy
import itertools
import pickle
import signal
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from wepy.walker import Walker, WalkerState
from wepy.work_mapper.mapper import TaskException, Worker


def as_the_manager_does(mapper: Any, walkers: list[Any], steps: int, cycle: int) -> list[Any]:
    """``Manager.run_segment``'s call."""
    count = len(walkers)
    return list(
        mapper.map(
            walkers,
            (steps for _ in range(count)),
            cycle_idx=(cycle for _ in range(count)),
            walker_idx=(index for index in range(count)),
        )
    )


class Runner:
    """Its state is set in the parent, in ``pre_cycle``."""

    def __init__(self) -> None:
        self.cycle = -1

    def pre_cycle(self, cycle_idx: int) -> None:
        self.cycle = cycle_idx

    def run_segment(self, walker: Walker, steps: int, **kwargs: Any) -> Walker:
        told = {name: kwargs[name] for name in ("cycle_idx", "walker_idx")}
        state = {**walker.state.dict(), "steps": steps, "runner_cycle": self.cycle, **told}
        return Walker(WalkerState(**state), walker.weight)


def plus_one(walker: Walker) -> Walker:
    return Walker(WalkerState(num=walker.state["num"] + 1), walker.weight)


def fail_at_one(walker: Walker) -> Walker:
    if walker.state["num"] == 1:
        raise ValueError("no soup")
    return plus_one(walker)


def unpicklable_at_one(walker: Walker) -> Walker:
    if walker.state["num"] == 1:
        return Walker(WalkerState(lock=threading.Lock()), walker.weight)
    return plus_one(walker)


# --- constructor and init ----------------------------------------------------------------------


def test_the_constructors_number_of_workers_wins(host: Any) -> None:
    mapper = host.make(plus_one, num_workers=2)
    mapper.init(num_workers=5)
    assert mapper.num_workers == 2
    assert mapper.worker_segment_times == {0: [], 1: []}


def test_the_number_of_workers_may_come_with_init(host: Any) -> None:
    mapper = host.make(num_workers=None)
    assert mapper.num_workers is None
    assert mapper.worker_segment_times is None
    mapper.init(segment_func=plus_one, num_workers=3)
    assert mapper.num_workers == 3
    assert mapper.segment_func is plus_one


def test_no_number_of_workers_is_an_error(host: Any) -> None:
    mapper = host.make(plus_one, num_workers=None)
    with pytest.raises(ValueError, match="number of workers must be given"):
        mapper.init()


def test_init_overrides_the_segment_function(host: Any, make_walkers: Any) -> None:
    mapper = host.make(fail_at_one)
    mapper.init(segment_func=plus_one)
    assert [w.state["num"] for w in mapper.map(make_walkers(3))] == [1, 2, 3]


def test_configuration_constructs_it_with_both_keywords(host: Any, make_walkers: Any) -> None:
    # orchestration.configuration gives every mapper both, and both may be None.
    with pytest.warns() as warned:
        mapper = host.mapper(num_workers=None, worker_type=None)
    assert any("not given using the default" in str(one.message) for one in warned)
    host._made.append(mapper)
    mapper.init(segment_func=plus_one, num_workers=2)
    assert [w.state["num"] for w in mapper.map(make_walkers(3))] == [1, 2, 3]


@pytest.mark.parametrize("remake", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_one_that_is_not_initialised_can_be_copied(
    host: Any, remake: Any, make_walkers: Any
) -> None:
    mapper = remake(host.make(plus_one, platform="CUDA", device_ids=["0"]))
    host._made.append(mapper)
    assert mapper._attributes == {"platform": "CUDA", "device_ids": ["0"]}
    mapper.init()
    assert [w.state["num"] for w in mapper.map(make_walkers(3))] == [1, 2, 3]


def test_a_running_one_cannot_be_pickled(ringwalk_host: Any) -> None:
    # wepy's WorkerMapper raises as well, its TaskMapper does not.
    mapper = ringwalk_host.start(plus_one)
    with pytest.raises(TypeError, match="call cleanup"):
        pickle.dumps(mapper)


def test_init_after_cleanup(host: Any, make_walkers: Any) -> None:
    mapper = host.make(plus_one)
    for _ in range(2):
        mapper.init()
        assert [w.state["num"] for w in mapper.map(make_walkers(3))] == [1, 2, 3]
        mapper.cleanup()


def test_init_again_without_cleanup_starts_afresh(ringwalk_host: Any, make_walkers: Any) -> None:
    # After an error in a resampler wepy does not clean up; the user runs the simulation again.
    mapper = ringwalk_host.start(plus_one)
    mapper.init()
    assert [w.state["num"] for w in mapper.map(make_walkers(3))] == [1, 2, 3]


@pytest.mark.differs("a second cleanup raises AttributeError in wepy")
def test_cleanup_twice(host: Any) -> None:
    mapper = host.start(plus_one)
    mapper.cleanup()
    mapper.cleanup()


@pytest.mark.differs("wepy replaces the SIGTERM handler of the parent")
def test_the_parents_handlers_are_left_alone(host: Any, make_walkers: Any) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    host.start(plus_one).map(make_walkers(2))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


# --- map ---------------------------------------------------------------------------------------


def test_called_as_the_manager_does(host: Any, make_walkers: Any) -> None:
    mapper = host.start(Runner().run_segment)
    results = as_the_manager_does(mapper, make_walkers(7), 10, cycle=4)
    assert [
        (w.state["num"], w.state["steps"], w.state["cycle_idx"], w.state["walker_idx"])
        for w in results
    ] == [(k, 10, 4, k) for k in range(7)]


def test_what_pre_cycle_sets_reaches_the_workers_in_that_cycle(
    host: Any, make_walkers: Any
) -> None:
    runner = Runner()
    mapper = host.start(runner.run_segment)
    for cycle in range(3):
        runner.pre_cycle(cycle)
        results = as_the_manager_does(mapper, make_walkers(4), 1, cycle)
        assert [w.state["runner_cycle"] for w in results] == [cycle] * 4


def test_no_walkers(ringwalk_host: Any) -> None:
    assert ringwalk_host.start(plus_one).map([]) == []


def add_in_place(walker: Walker) -> Walker:
    walker.state["x"][...] += 1
    return walker


@pytest.mark.parametrize("size", [10, 100_000])
def test_results_are_writable_and_inputs_are_as_they_were(
    host: Any, make_walkers: Any, size: int
) -> None:
    walkers = make_walkers(4, x=np.zeros(size))
    mapper = host.start(add_in_place)
    results = mapper.map(walkers)
    for walker in results:
        walker.state["x"][0] += 1
    mapper.cleanup()
    assert [w.state["x"][0] for w in walkers] == [0] * 4
    assert [w.state["x"].sum() for w in results] == [size + 1] * 4


def test_a_lambda_and_walkers_that_cannot_be_pickled(host: Any) -> None:
    if host.kind == "WorkerMapper":
        pytest.skip("only TaskMapper promises it")
    class_here = type("ClassHere", (), {"lock": threading.Lock(), "num": 4})
    mapper = host.start(lambda walker: walker.num + (walker.lock is not None))
    assert mapper.map([class_here(), class_here()]) == [5, 5]


def test_results_are_complete_and_ordered_with_more_walkers_than_workers(
    host: Any, make_walkers: Any
) -> None:
    results = host.start(plus_one, num_workers=3).map(make_walkers(17))
    assert [w.state["num"] for w in results] == list(range(1, 18))


@pytest.mark.differs("wepy accumulates times, or loses some by a race", by_chance=True)
def test_segment_times_are_of_the_last_map_and_complete(host: Any, make_walkers: Any) -> None:
    mapper = host.start(plus_one)
    for _ in range(20):  # wepy's task processes lose one in a quarter of the maps
        mapper.map(make_walkers(7))
        times = copy.deepcopy(mapper.worker_segment_times)
        assert set(times) == {0, 1}
        assert sum(map(len, times.values())) == 7
        assert all(0 <= second < 60 for seconds in times.values() for second in seconds)
    mapper.cleanup()
    assert mapper.worker_segment_times == times


# --- errors ------------------------------------------------------------------------------------


def test_a_segment_that_raises(host: Any, make_walkers: Any) -> None:
    mapper = host.start(fail_at_one)
    with pytest.raises(TaskException) as caught:
        mapper.map(make_walkers(3))
    error = caught.value
    assert isinstance(error.wrapped_exception, ValueError)
    assert str(error.wrapped_exception) == "no soup"
    assert any("fail_at_one" in line for line in error.formatted_tb)
    again = pickle.loads(pickle.dumps(error))
    assert again.formatted_tb == error.formatted_tb
    mapper.cleanup()


def test_a_result_that_cannot_be_pickled(host: Any, make_walkers: Any) -> None:
    mapper = host.start(unpicklable_at_one)
    with pytest.raises(host.process_exception) as caught:
        mapper.map(make_walkers(3))
    assert isinstance(caught.value.wrapped_exception, TypeError)
    mapper.cleanup()


def test_the_cause_has_what_did_finish(ringwalk_host: Any, make_walkers: Any) -> None:
    mapper = ringwalk_host.start(fail_at_one, num_workers=1)
    with pytest.raises(TaskException) as caught:
        mapper.map(make_walkers(3))
    cause: Any = caught.value.__cause__
    assert cause.walker == 1
    assert cause.results[0].state["num"] == 1


def test_a_map_after_an_error(ringwalk_host: Any, make_walkers: Any) -> None:
    mapper = ringwalk_host.start(fail_at_one)
    with pytest.raises(TaskException):
        mapper.map(make_walkers(3))
    assert [w.state["num"] for w in mapper.map(make_walkers(1))] == [1]


def test_unequal_lengths_are_refused(ringwalk_host: Any, make_walkers: Any) -> None:
    # wepy cuts to the shortest, or raises IndexError in the middle.
    with pytest.raises(ValueError, match="unequal lengths"):
        ringwalk_host.start(Runner().run_segment).map(make_walkers(3), [1, 2])


def test_a_runner_that_cannot_be_pickled(make_walkers: Any) -> None:
    from ringwalk.adapters.wepy import WorkerMapper

    runner = Runner()
    runner.lock = threading.Lock()  # type: ignore[attr-defined]
    mapper = WorkerMapper(2, Worker, segment_func=runner.run_segment)
    with pytest.raises(TypeError, match="cannot pickle"):  # wepy raises it in map
        mapper.init()
    del runner.lock  # type: ignore[attr-defined]
    mapper.init()
    assert len(as_the_manager_does(mapper, make_walkers(2), 1, 0)) == 2
    mapper.cleanup()


SIZED = """
import sys, warnings
from pympler import asizeof
warnings.simplefilter("ignore")
import ringwalk.adapters.wepy

def segment(k):
    return k


mapper = getattr(ringwalk.adapters.wepy, sys.argv[1])(segment_func=segment, num_workers=2)
mapper.init()
mapper.map([1, 2])
print(asizeof.asizeof(mapper))
mapper.cleanup()
"""


@pytest.mark.parametrize("kind", ["WorkerMapper", "TaskMapper"])
def test_the_mapper_can_be_sized(kind: str) -> None:
    """wepy's prometheus monitor does it twice a cycle."""
    # Not in this process, where the sizer would find its way into pytest.
    answer = subprocess.run(
        [sys.executable, "-c", SIZED, kind], capture_output=True, text=True, check=True
    )
    assert 0 < int(answer.stdout) < 1_000_000


def test_every_keyword_of_wepys_constructors_is_taken() -> None:
    import inspect

    import wepy.work_mapper.mapper as mapper
    import wepy.work_mapper.task_mapper as task_mapper

    import ringwalk.adapters.wepy as ours

    for theirs in (mapper.WorkerMapper, task_mapper.TaskMapper, mapper.Mapper):
        wanted = inspect.signature(theirs).parameters
        given = inspect.signature(getattr(ours, theirs.__name__)).parameters
        positional = [n for n, p in wanted.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert list(itertools.islice(given, len(positional))) == positional
        assert issubclass(getattr(ours, theirs.__name__), mapper.ABCMapper)
