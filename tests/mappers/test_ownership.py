"""Large arrays go from hand to hand without a copy, and belong to one side at a time."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringwalk import SegmentError, TaskMapper, TransferError, WorkerMapper
from ringwalk._core.allocator import MOST_SERVED, SERVED_FROM

Array = np.ndarray[Any, Any]
LENGTH = 40_000
assert SERVED_FROM <= 8 * LENGTH


def big(value: float = 0.0) -> Array:
    return np.full(LENGTH, float(value))


def address(array: Array) -> int:
    """Where an array lies: a pool's memory is mapped alike in its forked processes."""
    return array.ctypes.data


def held(mapper: WorkerMapper) -> list[int]:
    heaps = mapper._pool.space.heaps  # type: ignore[union-attr]
    return [heap.usage()["held_blocks"] for heap in heaps]


class Once:
    """Travels a first time, and not a second."""

    def __init__(self) -> None:
        self.state = big(1)
        self.travelled = False

    def __getstate__(self) -> dict[str, Any]:
        if self.travelled:
            raise ValueError("no more")
        self.travelled = True
        return {"state": self.state}


def add_in_place(a: Array) -> tuple[int, Array]:
    a += 1.0
    return address(a), a


def add(a: Array) -> tuple[int, Array]:
    result = a + 1.0
    return address(result), result


def fill_zeros(a: Array) -> tuple[int, Array]:
    result = np.zeros(len(a))
    assert not result.any()
    result += 1.0
    result += a
    return address(result), result


def tail(a: Array) -> tuple[int, Array]:
    result = (a + 1.0)[1:]
    return address(result), result


def fortran(a: Array) -> tuple[int, Array]:
    result = (a + 1.0).reshape(100, -1).T
    return address(result), result


@pytest.mark.parametrize("segment", [add, add_in_place, fill_zeros, tail, fortran])
def test_a_result_is_where_the_segment_left_it(
    segment: Callable[[Array], tuple[int, Array]],
) -> None:
    with WorkerMapper(segment, num_workers=2) as mapper:
        for _ in range(3):
            states = [big(k) for k in range(4)]
            results = mapper.map(states)
            for k, (place, result) in enumerate(results):
                assert address(result) == place
                assert (result == k + 1.0).all()
                assert result.flags.writeable
                assert (states[k] == k).all()
            del result, results
        assert held(mapper) == [0] * 3


def test_a_state_that_comes_back_is_copied_in_the_worker_alone() -> None:
    with WorkerMapper(add_in_place, num_workers=1) as mapper:
        ((_, first),) = mapper.map([big(1)])
        ((place, second),) = mapper.map([first])
        assert (first == 2.0).all()
        assert (second == 3.0).all()
        assert place == address(second) != address(first)


def test_what_a_segment_keeps_it_does_not_share() -> None:
    kept: list[Array] = []

    def keep(a: Array) -> Array:
        for array in kept:
            array += 100.0
        kept[:] = [a, a * 2.0]
        return kept[len(kept) - 1 if a[0] else 0]

    with WorkerMapper(keep, num_workers=1) as mapper:
        (first,) = mapper.map([big(0)])
        (second,) = mapper.map([big(1)])
        mapper.map([big(2)])
        assert (first == 0.0).all()
        assert (second == 2.0).all()
        first[:] = second[:] = -1.0
        (third,) = mapper.map([big(3)])
        assert (third == 6.0).all()


def test_views_of_one_array_come_back_apart() -> None:
    def views(a: Array) -> tuple[Array, Array, Array]:
        result = a + 1.0
        return result, result[1:], result[::2]

    with WorkerMapper(views, num_workers=1) as mapper:
        ((whole, rest, even),) = mapper.map([big(1)])
        whole[:] = 0.0
        assert (rest == 2.0).all()
        rest[:] = 0.0
        assert (even == 2.0).all()


def test_a_part_does_not_keep_the_whole() -> None:
    with WorkerMapper(lambda a: (a + 1.0)[:2000], num_workers=1) as mapper:
        (part,) = mapper.map([big(1)])
        assert (part == 2.0).all()
        heap = mapper._pool.space.heaps[1]  # type: ignore[union-attr]
        assert heap.usage()["held_bytes"] < 2 * part.nbytes + 4096


def test_clones_do_not_see_each_other() -> None:
    def overwrite(a: Array) -> float:
        a += 1.0
        return float(a.sum())

    with WorkerMapper(overwrite, num_workers=2) as mapper:
        state = big(1)
        assert mapper.map([state] * 9 + [big(1)]) == [2.0 * LENGTH] * 10
        assert (state == 1.0).all()


def test_an_input_that_a_segment_keeps_stays_as_it_is() -> None:
    kept: list[Array] = []

    def segment(a: Array, what: str) -> Any:
        if what == "keep":
            kept.append(a)
        return {"make": lambda: a + 1.0, "echo": lambda: a, "keep": float, "look": kept.pop}[what]()

    with WorkerMapper(segment, num_workers=1, inputs="readonly") as mapper:
        (state,) = mapper.map([big(1)], ["make"])
        # A clone of what it kept goes back first: who receives it ends the worker's hold on it.
        mapper.map([state, state], ["echo", "keep"])
        del state
        others = mapper.map([big(3)] * 4, ["make"] * 4)
        (seen,) = mapper.map([big()], ["look"])
        assert (seen == 2.0).all()
        del others, seen
        assert held(mapper) == [0, 0]


def test_a_retry_finds_the_state_as_it_was(tmp_path: Path) -> None:
    def die_once(a: Array) -> float:
        a += 1.0
        if a[0] == 3.0 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return float(a.sum())

    with WorkerMapper(die_once, num_workers=2) as mapper:
        sums = mapper.map([big(k) for k in range(5)])
        assert sums == [(k + 1.0) * LENGTH for k in range(5)]
        assert (tmp_path / "died").exists()
        assert held(mapper) == [0] * 3


def test_a_retry_whose_state_cannot_be_written_again_fails_its_walker(tmp_path: Path) -> None:
    def die_once(walker: Once) -> None:
        if not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    with WorkerMapper(die_once, num_workers=1) as mapper:
        with pytest.raises(TransferError, match="no more"):
            mapper.map([Once()])
        assert mapper.map([Once()]) == [None]


def test_a_process_that_a_segment_forks_has_arrays_of_its_own() -> None:
    def fork(a: Array) -> tuple[float, Array]:
        result = a + 1.0
        pid = os.fork()
        if pid == 0:
            own = bool((a == 1.0).all() and (result == 2.0).all())
            a[:] = result[:] = -1.0
            del a, result
            again = np.zeros(LENGTH) + 5.0
            os._exit(0 if own and again[0] == 5.0 else 1)
        a += 1.0
        result += 1.0
        _, status = os.waitpid(pid, 0)
        return float(a.sum()) + status, result

    with WorkerMapper(fork, num_workers=1) as mapper:
        for _ in range(3):
            ((total, result),) = mapper.map([big(1)])
            assert total == 2.0 * LENGTH
            assert (result == 3.0).all()


def test_arrays_that_grow_and_shrink() -> None:
    def resize(a: Array) -> list[Array]:
        grown = a + 1.0
        grown.resize(3 * LENGTH, refcheck=False)
        shrunk = a + 1.0
        shrunk.resize(10, refcheck=False)
        little = a + 1.0
        little.resize(LENGTH - 1, refcheck=False)
        return [grown, shrunk, little, np.fromiter(iter(range(LENGTH)), float)]

    with WorkerMapper(resize, num_workers=1) as mapper:
        ((grown, shrunk, little, iterated),) = mapper.map([big(1)])
        assert (grown[:LENGTH] == 2.0).all()
        assert not grown[LENGTH:].any()
        assert shrunk.tolist() == [2.0] * 10
        assert (little == np.full(LENGTH - 1, 2.0)).all()
        assert (iterated == np.arange(LENGTH)).all()
        del grown, shrunk, little, iterated
        assert held(mapper) == [0, 0]


def test_arrays_beyond_what_is_served_come_from_malloc() -> None:
    def many(a: Array) -> float:
        arrays = [np.empty(MOST_SERVED // 8 // 4) for _ in range(6)]
        arrays[-1][-1] = 1.0
        return float(arrays[-1][-1])

    with WorkerMapper(many, num_workers=1) as mapper:
        assert mapper.map([big()] * 2) == [1.0] * 2
        assert mapper._pool.space.heaps[1].usage()["committed_bytes"] <= MOST_SERVED  # type: ignore[union-attr]
        assert held(mapper) == [0, 0]


def test_an_error_with_an_array_in_it() -> None:
    def fail(a: Array) -> None:
        raise ValueError(a + 1.0)

    with WorkerMapper(fail, num_workers=1) as mapper:
        for _ in range(3):
            with pytest.raises(SegmentError) as caught:
                mapper.map([big(1)])
            cause = caught.value.__cause__
            assert isinstance(cause, ValueError)
            assert (cause.args[0] == 2.0).all()


def test_a_forked_task_changes_no_result_that_it_is_given() -> None:
    def overwrite(a: Array) -> Array:
        a += 1.0
        return a

    with WorkerMapper(add, num_workers=1) as mapper:
        ((_, elsewhere),) = mapper.map([big(1)])
    with TaskMapper(overwrite, num_workers=2) as mapper:
        (state,) = mapper.map([big(1)])
        results = mapper.map([state, state, state, elsewhere])
        assert [float(result[0]) for result in results] == [3.0] * 4
        assert (state == 2.0).all()
        assert (elsewhere == 2.0).all()
        results[0][:] = 0.0
        assert (results[1] == 3.0).all()
