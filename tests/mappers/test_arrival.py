"""What a segment gets and what comes back is what pickle would bring: cases that once were not."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from multiprocessing import RawArray, Value
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ringwalk import (
    ConfigError,
    Executor,
    Mapper,
    SegmentError,
    SerialMapper,
    TaskMapper,
    ThreadMapper,
    TransferError,
    WalkerBlock,
    WorkerMapper,
)
from ringwalk.errors import UnpicklableError


def rows_of_objects(count: int) -> np.ndarray[Any, Any]:
    rows = np.empty((count, 3), object)
    for k in range(count):
        rows[k] = [k, f"walker {k}", [k] * 1000]
    return rows


def records_with_objects(count: int) -> np.ndarray[Any, Any]:
    records = np.zeros(count, [("number", "i8"), ("notes", "O")])
    for k in range(count):
        records[k] = (k, [k] * 1000)
    return records


@pytest.mark.parametrize("inputs", ["copy", "readonly"])
@pytest.mark.parametrize("made", [rows_of_objects, records_with_objects])
def test_each_walker_gets_its_own_row_of_objects(
    any_mapper: type[Mapper], made: Any, inputs: Any
) -> None:
    rows = made(100)
    with any_mapper(lambda row: row.tolist(), num_workers=2, inputs=inputs) as mapper:
        assert mapper.map(rows) == [row.tolist() for row in rows]
        assert dict(mapper.map_unordered(rows)) == {k: row.tolist() for k, row in enumerate(rows)}


def test_each_walker_gets_its_own_rows_of_two_arrays_of_objects(any_mapper: type[Mapper]) -> None:
    rows = rows_of_objects(100)
    with any_mapper(lambda a, b: (a.tolist(), b.tolist()), num_workers=2) as mapper:
        expected = [(a.tolist(), b.tolist()) for a, b in zip(rows, rows[::-1], strict=True)]
        assert mapper.map(rows, rows[::-1]) == expected


def test_unordered_yields_only_what_finished(any_mapper: type[Mapper]) -> None:
    def segment(k: int) -> int:
        if k == 3:
            raise ValueError("three")
        return k + 1

    got: dict[int, int] = {}
    with any_mapper(segment, num_workers=2) as mapper:
        with pytest.raises(SegmentError) as caught:
            got.update(mapper.map_unordered(range(40)))
    assert got == {walker: walker + 1 for walker in got}
    assert got.items() <= dict(caught.value.results).items()


# --- dtypes that say more than equality -------------------------------------------------------

COLOURS = np.dtype("i1", metadata={"enum": {"red": 0, "blue": 1}})


@pytest.mark.parametrize("length", [3, 100_000])
def test_metadata_of_a_dtype_stays_with_its_arrays(any_mapper: type[Mapper], length: int) -> None:
    arrays = [
        np.zeros(length, "i1"),
        np.zeros(length, COLOURS),
        np.zeros(length, [("colour", COLOURS), ("x", "f8")]),
        np.zeros(length, [("colour", "i1"), ("x", "f8")]),
        np.zeros((length, 2), "i1"),
    ]
    for order in (arrays, arrays[::-1]):
        with any_mapper(lambda a: a, num_workers=1) as mapper:
            for array, result in zip(order, mapper.map(order), strict=True):
                assert result.dtype.metadata == array.dtype.metadata
                if array.dtype.names:
                    assert result.dtype["colour"].metadata == array.dtype["colour"].metadata


def test_records_and_aligned_fields_stay_what_they_are(any_mapper: type[Mapper]) -> None:
    fields = {"names": ["a", "b"], "formats": ["i1", "f8"], "offsets": [0, 8], "itemsize": 16}
    plain, aligned = np.dtype(fields), np.dtype(fields, align=True)  # type: ignore[call-overload]
    records = np.dtype((np.record, plain))
    assert plain == aligned == records
    arrays = [np.zeros(3, dtype) for dtype in (plain, aligned, records)]
    for order in (arrays, arrays[::-1]):
        with any_mapper(lambda a: a, num_workers=1) as mapper:
            for array, result in zip(order, mapper.map(order), strict=True):
                assert type(result[0]) is type(array[0])
                assert result.dtype.isalignedstruct == array.dtype.isalignedstruct


def test_fields_that_a_segment_renames_are_renamed_in_its_array_alone() -> None:
    def rename(array: np.ndarray[Any, Any]) -> tuple[str, ...]:
        array.dtype.names = ("y",)
        return array.dtype.names

    with WorkerMapper(rename, num_workers=1) as mapper:
        arrays = [np.zeros(3, [("x", "f8")]) for _ in range(3)]
        assert mapper.map(arrays) == [("y",)] * 3
        assert arrays[0].dtype.names == ("x",)
        assert mapper.map([np.zeros(3, [("x", "f8"), ("z", "f8")])[["x"]]]) == [("y",)]


# --- arguments that are not one element a walker ----------------------------------------------


class Dataset:
    """A table whose length is that of its rows, and which iterates over its columns."""

    def __init__(self, columns: list[str], rows: int) -> None:
        self.columns = columns
        self.rows = rows

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


class Frame(Dataset):
    """As a pandas DataFrame."""

    def itertuples(self) -> Iterator[tuple[int, str]]:
        return iter(list(enumerate(self.columns)))


@pytest.mark.parametrize("rows", [2, 3, 4])
def test_frames_are_refused_with_what_to_pass_instead(any_mapper: type[Mapper], rows: int) -> None:
    frame = Frame(["a", "b", "c"], rows)
    with any_mapper(lambda row: row, num_workers=1) as mapper:
        with pytest.raises(ConfigError, match=r"Frame, which iterates over its columns.*tuples"):
            mapper.map(frame)
        assert mapper.map(frame.itertuples()) == [(0, "a"), (1, "b"), (2, "c")]


@pytest.mark.parametrize(("rows", "given"), [(2, "more"), (4, "3")])
def test_arguments_whose_length_and_elements_disagree_are_refused(
    any_mapper: type[Mapper], rows: int, given: str
) -> None:
    told = f"argument 'x', a Dataset of length {rows}, gives {given} elements when it is iterated"
    with any_mapper(lambda row, x: row, num_workers=1) as mapper:
        with pytest.raises(ConfigError, match=told):
            mapper.map(range(rows), x=Dataset(["a", "b", "c"], rows))
        assert mapper.map([1], x=[2]) == [1]


class Squares:
    """A sequence by the old protocol: without ``__iter__``."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, k: int) -> int:
        if k >= 5:
            raise IndexError(k)
        return k * k


class Doubled(list[int]):
    """A list that gives other elements than it holds."""

    def __iter__(self) -> Iterator[int]:
        return (2 * element for element in super().__iter__())


def test_sequences_of_any_kind_give_what_they_iterate_over(any_mapper: type[Mapper]) -> None:
    with any_mapper(lambda a, b: (a, b), num_workers=2) as mapper:
        got = mapper.map(Squares(), Doubled(range(5)))  # type: ignore[arg-type]
        assert got == [(k * k, 2 * k) for k in range(5)]


def test_an_array_without_elements_is_refused(any_mapper: type[Mapper]) -> None:
    with any_mapper(lambda a: a, num_workers=1) as mapper:
        with pytest.raises(ConfigError, match=r"positional argument 0.*cannot be iterated"):
            mapper.map(np.array(1.0))


# --- errors and values that cannot be shown ---------------------------------------------------


class Untold(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Secret:
    """Cannot be copied or pickled, and the error cannot be shown."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise Untold

    def __repr__(self) -> str:
        raise Untold


def test_errors_without_a_text_cost_no_other_walker_its_result(any_mapper: type[Mapper]) -> None:
    def segment(k: int) -> int:
        if k % 2:
            raise Untold
        return k

    with any_mapper(segment, num_workers=2, on_error="finish") as mapper:
        with pytest.raises(SegmentError, match=r"Untold: <its __str__ raised Runtime") as told:
            mapper.map(range(6))
        assert told.value.results == {0: 0, 2: 2, 4: 4}
        assert list(told.value.errors) == [1, 3, 5]


@pytest.mark.parametrize("kind", [SerialMapper, ThreadMapper, WorkerMapper])
def test_arguments_that_cannot_be_sent_nor_shown_are_told(kind: type[Mapper]) -> None:
    with kind(lambda *_: 0, num_workers=1) as mapper:
        with pytest.raises(TransferError, match=r"argument of walker 1.*__str__ raised"):
            mapper.map([[0], Secret()])
        with pytest.raises((TransferError, ConfigError), match=r"argument.*__str__ raised"):
            mapper.map([0], repeat(Secret()))
        with pytest.raises(ConfigError, match=r"a Secret whose __repr__ raised Untold"):
            mapper.map(Secret())  # type: ignore[arg-type]


def test_results_that_cannot_be_sent_nor_shown_are_told(process_mapper: type[Mapper]) -> None:
    with process_mapper(lambda k: Secret() if k else k, num_workers=1) as mapper:
        with pytest.raises(TransferError, match=r"could not be sent back.*__str__ raised"):
            mapper.map([0, 1])


def test_an_executor_s_task_may_raise_an_error_without_a_text() -> None:
    def task() -> None:
        raise Untold

    with Executor(max_workers=1) as executor:
        assert isinstance(executor.submit(task).exception(), (Untold, UnpicklableError))
        assert executor.submit(abs, -1).result() == 1


# --- values that are the same for all walkers -------------------------------------------------


class Parameters:
    def __init__(self) -> None:
        self.steps = [1, 2]
        self.table = np.zeros(100_000)
        self.small = np.zeros(3)


def sum_and_change(k: int, parameters: Parameters) -> float:
    found = float(sum(parameters.steps) + parameters.table.sum() + parameters.small.sum())
    if parameters.table.flags.writeable:
        parameters.table[:: k + 1] += 1.0
    parameters.steps.append(k)
    parameters.small += 1.0
    return found


@pytest.mark.parametrize("inputs", ["copy", "readonly"])
def test_no_walker_sees_what_another_does_to_a_repeated_value(
    any_mapper: type[Mapper], inputs: Any
) -> None:
    parameters = Parameters()
    with any_mapper(sum_and_change, num_workers=1, inputs=inputs) as mapper:
        for _ in range(2):
            assert mapper.map(range(10), repeat(parameters)) == [3.0] * 10
            assert mapper.map(range(10), parameters=repeat(parameters)) == [3.0] * 10
    assert parameters.steps == [1, 2]
    assert not parameters.table.any()


def test_a_repeated_value_that_is_kept_stays_what_it_was() -> None:
    kept: list[Any] = []

    def keep(k: int, table: np.ndarray[Any, Any]) -> list[float]:
        table += k
        kept.append(table)
        return [float(array[-1]) for array in kept]

    with WorkerMapper(keep, num_workers=1) as mapper:
        for first in (0, 3):
            seen = mapper.map(range(first, first + 3), repeat(np.zeros(100_000)))
            assert seen[-1] == list(map(float, range(first + 3)))
        (seen,) = mapper.map([5], repeat(np.full(100_000, 7.0)))
        assert seen == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 12.0]


def test_a_repeated_result_is_no_window_on_the_caller_s_array() -> None:
    kept: list[Any] = []

    def keep(k: int, table: np.ndarray[Any, Any] | None) -> Any:
        if table is None:
            return np.ones(100_000)
        kept.append(table)
        return float(kept[0].sum())

    with WorkerMapper(keep, num_workers=1) as mapper:
        (table,) = mapper.map([0], repeat(None))
        for own in (table, np.ones(100_000)):
            assert mapper.map([0], repeat(own)) == [100_000.0]
            own[:] = 5.0


def test_a_repeated_array_that_nobody_writes_is_not_copied() -> None:
    def anonymous_kib(k: int, table: np.ndarray[Any, Any]) -> int:
        table.sum()
        with open("/proc/self/smaps_rollup") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Anonymous:"))

    with WorkerMapper(anonymous_kib, num_workers=1) as mapper:
        (before,) = mapper.map([0], repeat(np.zeros(1000)))
        after = mapper.map(range(20), repeat(np.zeros(4_000_000)))
    assert max(after) - before < 16_000


# --- arrays on memory that forked processes share ---------------------------------------------


@contextmanager
def on_file(folder: Path, values: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    array = np.memmap(folder / "values", values.dtype, "w+", shape=values.shape)
    array[:] = values
    yield array
    assert (np.fromfile(folder / "values", values.dtype).reshape(values.shape) == values).all()


@contextmanager
def in_shared_memory(folder: Path, values: np.ndarray[Any, Any]) -> Iterator[Any]:
    memory = SharedMemory(create=True, size=values.nbytes)
    array = np.ndarray(values.shape, values.dtype, memory.buf)
    array[:] = values
    try:
        yield array
        assert (array == values).all()
    finally:
        del array
        memory.close()
        memory.unlink()


@contextmanager
def in_nameless_memory(folder: Path, values: np.ndarray[Any, Any]) -> Iterator[Any]:
    array = np.frombuffer(mmap.mmap(-1, values.nbytes), values.dtype).reshape(values.shape)
    array[:] = values
    yield array
    assert (array == values).all()


RawArray("b", 1 << 20)  # the standard library keeps the memory of such arrays, for the next one


@contextmanager
def of_a_ctypes_array(folder: Path, values: np.ndarray[Any, Any]) -> Iterator[Any]:
    array = np.frombuffer(RawArray("b", values.nbytes), values.dtype).reshape(values.shape)
    array[:] = values
    yield array
    assert (array == values).all()


@contextmanager
def of_a_block(folder: Path, values: np.ndarray[Any, Any]) -> Iterator[Any]:
    with WalkerBlock(len(values), x=(values.shape[1:], values.dtype)) as block:
        block["x"] = values
        yield block["x"]
        assert (block["x"] == values).all()


PLACES = [on_file, in_shared_memory, in_nameless_memory, of_a_ctypes_array, of_a_block]


def total_and_overwrite(value: Any) -> float:
    array = value
    while not isinstance(array, np.ndarray):
        array = array[0] if isinstance(array, list) else vars(array)["part"]
    total = float(array.sum())
    if array.flags.writeable:
        array[...] = -1.0
    return total


@pytest.mark.parametrize("inputs", ["copy", "readonly"])
@pytest.mark.parametrize("place", PLACES)
def test_no_segment_writes_shared_memory_of_the_caller(
    any_mapper: type[Mapper], place: Any, inputs: Any, tmp_path: Path
) -> None:
    values = np.random.default_rng(1).integers(0, 9, (3, 20_000)).astype("f8")
    with (
        place(tmp_path, values) as array,
        any_mapper(total_and_overwrite, num_workers=2, inputs=inputs) as mapper,
    ):
        of_rows = [float(row.sum()) for row in values]
        assert mapper.map(array) == of_rows
        assert mapper.map([array[k] for k in range(3)]) == of_rows
        assert mapper.map(repeat(array, 3)) == [sum(of_rows)] * 3
        assert mapper.map([[array[:, ::2]], [SimpleNamespace(part=[array])]]) == [
            float(values[:, ::2].sum()),
            sum(of_rows),
        ]


@pytest.mark.parametrize("place", PLACES)
def test_shared_memory_comes_readonly_where_it_is_asked_for(place: Any, tmp_path: Path) -> None:
    values = np.ones((2, 20_000))
    with (
        place(tmp_path, values) as array,
        TaskMapper(lambda a: a.flags.writeable, num_workers=1, inputs="readonly") as mapper,
    ):
        assert mapper.map([array, array[:, 1:]]) == [False, True]  # the second is pickled whole


def test_what_pickle_refuses_is_shared_with_task_processes() -> None:
    def count(counter: Any) -> None:
        with counter.get_lock():
            counter.value += 1

    counter = Value("i")
    with TaskMapper(count, num_workers=2) as mapper:
        mapper.map(repeat(counter, 5))
    assert counter.value == 5


def test_a_large_file_is_not_read_for_a_task(tmp_path: Path) -> None:
    def anonymous_kib(array: np.ndarray[Any, Any]) -> int:
        array[0] = 1.0
        with open("/proc/self/smaps_rollup") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("Anonymous:"))

    large = np.memmap(tmp_path / "large", "f8", "w+", shape=(8_000_000,))
    with TaskMapper(anonymous_kib, num_workers=1) as mapper:
        small, much = mapper.map([np.zeros(3), large])
    assert much - small < 32_000
    assert large[0] == 0.0
