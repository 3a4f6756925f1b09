"""Maps of blocks, the same for all four classes: rows are written in place, or not at all."""

from __future__ import annotations

import itertools
import signal

import numpy as np
import pytest

from ringwalk import (
    ClosedError,
    ConfigError,
    Mapper,
    Row,
    SegmentError,
    WalkerBlock,
)
from ringwalk.memory.generations import Generations


def block_of(n: int) -> WalkerBlock:
    block = WalkerBlock(n, positions=((2, 3), "f8"), weight="f8", steps="i8")
    block["positions"] = np.arange(n * 6, dtype=float).reshape(n, 2, 3)
    block["weight"] = 1.0
    return block


def test_the_same_block_twice_is_refused(any_mapper: type[Mapper]) -> None:
    with block_of(2) as block, any_mapper(advance, num_workers=1) as mapper:
        with pytest.raises(ConfigError, match="given twice"):
            mapper.map(block, block)


def advance(row: Row, by: float, scale: float = 1.0) -> int:
    row.positions += by * scale
    row.steps = row.steps + 1
    row.weight *= 0.5
    return int(row.index)


def test_rows_are_written_in_place(any_mapper: type[Mapper]) -> None:
    with block_of(7) as block, any_mapper(advance, num_workers=2) as mapper:
        before = block["positions"].copy()
        assert mapper.map(block, itertools.repeat(1.0), scale=[float(k) for k in range(7)]) == list(
            range(7)
        )
        assert np.array_equal(block["positions"], before + np.arange(7.0)[:, None, None])
        assert mapper.map(block, [0.0] * 7) == list(range(7))
        assert block["steps"].tolist() == [2] * 7
        assert block["weight"].tolist() == [0.25] * 7


def test_a_returned_row_is_the_caller_s_row(any_mapper: type[Mapper]) -> None:
    def stamp(row: Row) -> Row:
        row.steps = 5
        return row

    with block_of(3) as block, any_mapper(stamp, num_workers=2) as mapper:
        rows = mapper.map(block)
        assert [row.index for row in rows] == [0, 1, 2]
        assert [int(row.steps) for row in rows] == [5, 5, 5]
        rows[0].steps = 6
        assert block["steps"].tolist() == [6, 5, 5]


def test_a_returned_row_is_of_its_own_block(any_mapper: type[Mapper]) -> None:
    with block_of(2) as first, WalkerBlock(2, other="i8") as second:
        with any_mapper(lambda p, q: q, num_workers=2) as mapper:
            assert [row.fields for row in mapper.map(first, second)] == [("other",)] * 2


def test_two_blocks_in_one_map(any_mapper: type[Mapper]) -> None:
    def copy(source: Row, target: Row) -> None:
        target.weight = source.weight + 1

    with block_of(4) as first, block_of(4) as second, any_mapper(copy, num_workers=2) as mapper:
        mapper.map(first, second)
        assert second["weight"].tolist() == [2.0] * 4
        assert first["weight"].tolist() == [1.0] * 4


def test_blocks_come_and_go_between_maps(any_mapper: type[Mapper]) -> None:
    with any_mapper(advance, num_workers=2) as mapper:
        for n in (1, 5, 3):
            with block_of(n) as block:
                mapper.map(block, itertools.repeat(1.0))
                with block.take([0] * (n + 1)) as clones:
                    mapper.map(clones, itertools.repeat(1.0))
                    assert clones["steps"].tolist() == [2] * (n + 1)


def test_a_failed_map_leaves_blocks_as_they_were(any_mapper: type[Mapper]) -> None:
    def fail_at_3(row: Row) -> int:
        row.positions = -1.0
        if row.index == 3:
            raise ValueError("three")
        return int(row.index)

    with block_of(6) as block, any_mapper(fail_at_3, num_workers=2, on_error="finish") as mapper:
        before = block["positions"].copy()
        with pytest.raises(SegmentError) as caught:
            mapper.map(block)
        assert np.array_equal(block["positions"], before)
        assert caught.value.completed == [0, 1, 2, 4, 5]
        block.keep(caught.value.completed)
        expected = np.full_like(before, -1.0)
        expected[3] = before[3]
        assert np.array_equal(block["positions"], expected)


def test_a_ctrl_c_finds_all_blocks_on_one_side_of_a_map(
    any_mapper: type[Mapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(row: Row, other: Row) -> None:
        row.steps = other.steps = 1

    def pressed(block: WalkerBlock) -> None:
        swap(block)
        signal.raise_signal(signal.SIGINT)

    swap = Generations.swap
    with block_of(2) as first, block_of(2) as second, any_mapper(step, num_workers=1) as mapper:
        monkeypatch.setattr(Generations, "swap", pressed)
        with pytest.raises(KeyboardInterrupt):
            mapper.map(first, second)
        assert first["steps"].tolist() == second["steps"].tolist() == [mapper.cycle] * 2


def test_map_unordered_of_block_rows(any_mapper: type[Mapper]) -> None:
    def stamp(row: Row) -> Row:
        row.steps = 5
        return row

    with block_of(3) as block, any_mapper(stamp, num_workers=2) as mapper:
        seen = {walker: int(row.steps) for walker, row in mapper.map_unordered(block)}
        assert seen == {0: 5, 1: 5, 2: 5}
        assert block["steps"].tolist() == [5, 5, 5]


def test_closing_the_iterator_aborts_the_map(any_mapper: type[Mapper]) -> None:
    with block_of(6) as block, any_mapper(advance, num_workers=1) as mapper:
        iterator = mapper.map_unordered(block, itertools.repeat(1.0))
        next(iterator)
        iterator.close()
        assert block["steps"].tolist() == [0] * 6
        mapper.map(block, itertools.repeat(1.0))
        assert block["steps"].tolist() == [1] * 6


def test_an_error_in_progress_aborts_the_map(any_mapper: type[Mapper]) -> None:
    def progress(done: int, total: int) -> None:
        raise RuntimeError("enough")

    with block_of(4) as block, any_mapper(advance, num_workers=2, progress=progress) as mapper:
        with pytest.raises(RuntimeError, match="enough"):
            mapper.map(block, itertools.repeat(1.0))
        assert block["steps"].tolist() == [0] * 4


def test_a_closed_block_is_refused(any_mapper: type[Mapper]) -> None:
    block = block_of(2)
    block.close()
    with any_mapper(advance, num_workers=1) as mapper:
        with pytest.raises(ClosedError):
            mapper.map(block, [1.0, 1.0])
        assert mapper.map(block_of(1), [1.0]) == [0]
