"""How objects travel: out of band, by reference, as copies or read-only, or not at all."""

from __future__ import annotations

import itertools
import os
import pickle
import resource
import select
import sys
import threading
from typing import Any

import numpy as np
import pytest

from ringwalk import (
    ConfigError,
    Mapper,
    SerialMapper,
    TaskMapper,
    ThreadMapper,
    TransferError,
    WalkerBlock,
    WorkerMapper,
)
from ringwalk._core.heap import HeapView
from ringwalk.memory import codec


def big(value: float = 0.0) -> np.ndarray[Any, Any]:
    return np.full(20_000, value)


def lies_in_shared_memory(array: np.ndarray[Any, Any]) -> bool:
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    return isinstance(owner, HeapView)


def test_large_arrays_come_back_as_views(process_mapper: type[Mapper]) -> None:
    with process_mapper(lambda a: {"sum": a + 1}, num_workers=2) as mapper:
        results = mapper.map([big(k) for k in range(4)])
        for k, result in enumerate(results):
            assert lies_in_shared_memory(result["sum"])
            assert np.array_equal(result["sum"], big(k + 1))
            result["sum"][0] = -1.0  # the caller's own memory, writable
            assert result["sum"][0] == -1.0


def test_results_outlive_the_mapper(process_mapper: type[Mapper]) -> None:
    with process_mapper(lambda k: big(k), num_workers=1) as mapper:
        (result,) = mapper.map([3.0])
    assert np.array_equal(result, big(3.0))


def test_a_result_goes_back_in_without_a_copy() -> None:
    with WorkerMapper(lambda a: a + 1, num_workers=2, inputs="readonly") as mapper:
        state = mapper.map([big(0)])
        parent_heap = mapper._pool.space.heaps[0]  # type: ignore[union-attr]
        for cycle in range(1, 5):
            before = parent_heap.usage()["blocks"]
            state = mapper.map(state)
            assert np.array_equal(state[0], big(cycle + 1))
            # Only the header and the small payload need room, both far below the array's size.
            assert parent_heap.usage()["committed_bytes"] <= 1 << 18
            assert parent_heap.usage()["blocks"] <= max(before, 4)


def test_an_unchanged_state_stays_where_it_is() -> None:
    with WorkerMapper(lambda a: a, num_workers=1, inputs="readonly") as mapper:
        (first,) = mapper.map([big(1)])
        (second,) = mapper.map([first])
        assert lies_in_shared_memory(second)
        assert second.ctypes.data == first.ctypes.data


def test_memory_is_free_again_when_the_views_are_gone(process_mapper: type[Mapper]) -> None:
    with process_mapper(lambda a: a + 1, num_workers=2) as mapper:
        heaps = mapper._pool.space.heaps  # type: ignore[attr-defined]
        for _ in range(3):
            results = mapper.map([big(k) for k in range(8)])
            del results
        committed = [heap.usage()["committed_bytes"] for heap in heaps]
        for _ in range(20):
            results = mapper.map([big(k) for k in range(8)])
            del results
        mapper.map([])
        assert [heap.usage()["held_blocks"] for heap in heaps] == [0] * len(heaps)
        # Which worker gets which walker varies, so a worker may once have held all eight.
        growth = [heap.usage()["committed_bytes"] for heap in heaps]
        assert all(
            now <= max(before, 10 * 200_000) for now, before in zip(growth, committed, strict=True)
        )


def test_copied_inputs_can_be_written_and_stay_the_caller_s(any_mapper: type[Mapper]) -> None:
    def overwrite(a: np.ndarray[Any, Any]) -> float:
        a[:] = 7.0
        return float(a.sum())

    with any_mapper(overwrite, num_workers=2) as mapper:
        small, large = np.zeros(10), big(0)
        assert mapper.map([small, large]) == [70.0, 140_000.0]
        assert not small.any()
        assert not large.any()


@pytest.mark.parametrize("kind", [SerialMapper, ThreadMapper, WorkerMapper])
def test_readonly_inputs_refuse_writing(kind: type[Mapper]) -> None:
    def overwrite(a: np.ndarray[Any, Any]) -> None:
        a[:] = 7.0

    with kind(overwrite, num_workers=1, inputs="readonly") as mapper:
        with pytest.raises(Exception, match="read-only"):
            mapper.map([big(0)])


def test_a_worker_that_keeps_an_input_keeps_its_values() -> None:
    kept: list[Any] = []

    def keep(a: np.ndarray[Any, Any]) -> list[float]:
        kept.append(a)
        return [float(array[0]) for array in kept]

    with WorkerMapper(keep, num_workers=1, inputs="readonly") as mapper:
        for cycle in range(6):
            (values,) = mapper.map([big(cycle)])
            assert values == [float(k) for k in range(cycle + 1)]


def test_clones_are_sent_once() -> None:
    class Counted:
        pickled = 0

        def __reduce__(self) -> Any:
            Counted.pickled += 1
            return (int, (5,))

    one = Counted()
    with WorkerMapper(lambda k: k, num_workers=2) as mapper:
        assert mapper.map([one] * 300) == [5] * 300
    assert Counted.pickled == 1


@pytest.mark.parametrize("count", [1, 63, 64, 65, 1000])
def test_objects_in_chunks(count: int) -> None:
    with WorkerMapper(lambda d, k: (d["k"], k), num_workers=2) as mapper:
        walkers = [{"k": k, "data": b"x" * 1000} for k in range(count)]
        assert mapper.map(walkers, [[k] for k in range(count)]) == [(k, [k]) for k in range(count)]


def test_workers_begin_while_later_arrays_are_still_copied() -> None:
    receive, send = os.pipe()
    begun = select.poll()
    begun.register(receive, select.POLLIN)

    class Late:
        def __reduce__(self) -> tuple[Any, ...]:
            assert begun.poll(60_000), "no worker has begun with the walkers before this one"
            return (str, ())

    def segment(walker: Any) -> int:
        os.write(send, b"!")
        return len(walker)

    try:
        with WorkerMapper(segment, num_workers=1) as mapper:
            arrays = [np.zeros(100_000) for _ in range(3)]
            assert mapper.map([*arrays, Late()]) == [100_000, 100_000, 100_000, 0]
    finally:
        os.close(receive)
        os.close(send)


def test_more_walkers_than_one_wave_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringwalk.mappers.process.CAPACITY", 10)
    with WorkerMapper(lambda a, b: a + b, num_workers=2) as mapper:
        assert mapper.map(range(35), itertools.repeat(1)) == list(range(1, 36))
        assert sum(map(len, mapper.worker_segment_times.values())) == 35
        pairs = sorted(mapper.map_unordered([[k] for k in range(35)], itertools.repeat([0])))
        assert pairs == [(k, [k, 0]) for k in range(35)]


# --- what cannot travel --------------------------------------------------------------------------


class Unpicklable(Exception):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


class NoWayBack(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)


class Bomb:
    def __reduce__(self) -> Any:
        return (int, ("not a number",))


class Exit:
    def __reduce__(self) -> Any:
        return (sys.exit, (3,))


@pytest.mark.parametrize("kind", [Unpicklable, NoWayBack])
def test_exceptions_that_cannot_travel_are_told(process_mapper: type[Mapper], kind: Any) -> None:
    def fail(k: int) -> None:
        raise Unpicklable("lost") if kind is Unpicklable else NoWayBack("lost", "way")

    with process_mapper(fail, num_workers=2) as mapper:
        with pytest.raises(Exception, match=f"{kind.__name__}: lost"):
            mapper.map([0])


def test_results_that_cannot_be_pickled(process_mapper: type[Mapper]) -> None:
    with process_mapper(lambda k: threading.Lock() if k == 1 else k, num_workers=2) as mapper:
        with pytest.raises(TransferError, match="walker 1.*could not be sent back") as caught:
            mapper.map([0, 1])
        assert caught.value.walker == 1
        assert mapper.map([0, 2]) == [0, 2]


@pytest.mark.parametrize("kind", [Bomb, Exit])
def test_results_that_cannot_be_unpickled(process_mapper: type[Mapper], kind: type) -> None:
    with process_mapper(lambda k: kind() if k == 1 else k, num_workers=2) as mapper:
        with pytest.raises(TransferError, match="result of walker 1 cannot be unpickled"):
            mapper.map([0, 1])
        heaps = mapper._pool.space.heaps  # type: ignore[attr-defined]
        assert [heap.usage()["held_blocks"] for heap in heaps] == [0, 0, 0]
        assert mapper.map([0, 2]) == [0, 2]


def test_arguments_that_cannot_be_pickled() -> None:
    with WorkerMapper(lambda k: 1, num_workers=2) as mapper:
        with pytest.raises(TransferError, match="argument of walker 1 cannot be pickled") as caught:
            mapper.map([[0], threading.Lock()])
        assert caught.value.walker == 1
        assert 1 not in caught.value.results
        with pytest.raises(ConfigError, match="same for all walkers cannot be pickled"):
            mapper.map([1], itertools.repeat(threading.Lock()))
        assert mapper.map([[0]]) == [1]
    with TaskMapper(lambda lock: lock.locked(), num_workers=2) as mapper:
        assert mapper.map([threading.Lock()]) == [False]


def test_arguments_that_are_not_sent_free_their_memory() -> None:
    with WorkerMapper(lambda k: 1, num_workers=1) as mapper:
        with pytest.raises(TransferError, match="argument of walker 1 cannot be pickled"):
            mapper.map([big(), threading.Lock()])
        heaps = mapper._pool.space.heaps  # type: ignore[union-attr]
        assert [heap.usage()["held_blocks"] for heap in heaps] == [0, 0]


def test_arguments_that_cannot_be_unpickled() -> None:
    with WorkerMapper(lambda k: 1, num_workers=2) as mapper:
        with pytest.raises(TransferError, match="could not be unpickled in the worker"):
            mapper.map([Bomb()])
        with pytest.raises(TransferError, match="could not be unpickled in the worker"):
            mapper.map([1], itertools.repeat(Bomb()))
        assert mapper.map([[0]]) == [1]


def test_workers_work_in_memory_that_is_warm() -> None:
    """An argument and a sum of 4 MB are 2,000 pages; a worker faults them in once, not each time.

    What is left is the mapping of the argument's block, 16 pages a fault.
    """

    def faults(array: np.ndarray[Any, Any]) -> int:
        np.add(array, 1.0)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    with WorkerMapper(faults, num_workers=1) as mapper:
        counts = mapper.map([np.zeros(500_000) for _ in range(20)])
    assert counts[-1] - counts[9] < 10 * 200


def test_rows_that_were_never_begun_are_not_kept() -> None:
    """The argument of walker 2 cannot be sent, so nothing ran: there is nothing to keep."""
    with WalkerBlock(3, x="f8") as block:
        block["x"] = 10.0
        with WorkerMapper(lambda row, other: None, num_workers=1) as mapper:
            with pytest.raises(TransferError) as caught:
                mapper.map(block, [[0], [1], threading.Lock()])
            assert caught.value.completed == []
        block.keep(caught.value.completed)
        assert block["x"].tolist() == [10.0] * 3


class Stateful:
    """A segment function whose object changes between maps."""

    def __init__(self) -> None:
        self.cycle = 0
        self.ballast = big()

    def segment(self, k: int) -> tuple[int, int, int]:
        return k, self.cycle, id(self)


def test_a_renewed_segment_function_takes_its_state_along() -> None:
    runner = Stateful()
    with WorkerMapper(runner.segment, num_workers=2) as mapper:
        for runner.cycle in range(3):
            mapper.renew(runner.segment)
            assert [result[:2] for result in mapper.map(range(8))] == [
                (k, runner.cycle) for k in range(8)
            ]


def test_a_segment_function_is_sent_again_only_when_its_pickle_changed() -> None:
    runner = Stateful()
    with WorkerMapper(runner.segment, num_workers=1) as mapper:
        seen = []
        for cycle in (1, 1, 2):
            runner.cycle = cycle
            mapper.renew(runner.segment)
            number = mapper._pool.renewed.number  # type: ignore[union-attr]
            seen.append((number, {result[2] for result in mapper.map(range(4))}))
    assert [number for number, _ in seen] == [1, 1, 2]
    assert seen[0][1] == seen[1][1]  # the worker's copy is the same object still
    assert seen[1][1] != seen[2][1]


def test_what_workers_started_with_is_sent_only_when_it_changed() -> None:
    runner = Stateful()
    with WorkerMapper(runner.segment, num_workers=1) as mapper:
        mapper.renew(runner.segment, as_started=True)
        mapper.renew(runner.segment)
        assert mapper._pool.renewed is None  # type: ignore[union-attr]
        assert mapper.map([5])[0][:2] == (5, 0)
        runner.cycle = 4
        mapper.renew(runner.segment)
        assert mapper.map([5])[0][:2] == (5, 4)


def test_a_worker_that_starts_later_gets_the_renewed_function() -> None:
    runner = Stateful()
    with WorkerMapper(runner.segment, num_workers=1) as mapper:
        runner.cycle = 7
        mapper.renew(runner.segment)
        mapper.map(range(2))
        mapper._pool.crew.kill(0)  # type: ignore[union-attr]
        mapper.renew(runner.segment)
        assert [result[:2] for result in mapper.map(range(2))] == [(0, 7), (1, 7)]


def test_a_function_that_cannot_be_pickled_is_not_taken() -> None:
    runner = Stateful()
    with WorkerMapper(runner.segment, num_workers=1) as mapper:
        runner.ballast = threading.Lock()  # type: ignore[assignment]
        with pytest.raises(TypeError, match="pickle"):
            mapper.renew(runner.segment)
        assert [result[:2] for result in mapper.map(range(2))] == [(0, 0), (1, 0)]


class Textual:
    """Its own pickle is text, as that of objects with a serializer of their own."""

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self.values = values

    def __reduce__(self) -> Any:
        return Textual._of_text, (repr(self.values.tolist()),)

    @staticmethod
    def _of_text(text: str) -> Textual:
        raise AssertionError("it was to travel as an array")


def test_a_class_can_travel_otherwise_than_it_is_pickled(
    process_mapper: type[Mapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "_REDUCERS", {})
    codec.travels_as(Textual, lambda it: (Textual, (it.values,)))
    with process_mapper(lambda it: Textual(it.values + 1), num_workers=1) as mapper:
        (result,) = mapper.map([Textual(big(1))])
    assert lies_in_shared_memory(result.values)
    assert np.array_equal(result.values, big(2))
    with pytest.raises(AssertionError, match="to travel as an array"):
        pickle.loads(pickle.dumps(result))  # other pickles are as they were
