"""What a segment gets and what comes back is what pickle would bring: cases that once were not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ringwalk import Mapper, SegmentError, WorkerMapper


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
