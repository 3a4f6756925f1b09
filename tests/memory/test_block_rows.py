"""WalkerBlock inside one process: rows, the two generations, and choices of walkers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ringwalk.errors import ConfigError
from ringwalk.memory import Row, WalkerBlock

MakeBlock = Callable[..., WalkerBlock]

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def test_a_row_reads_and_writes_the_blocks_memory(filled: MakeBlock) -> None:
    block = filled()
    row = block[np.int64(-1)]
    assert isinstance(row, Row)
    assert (row.index, row.fields) == (3, ("positions", "weight", "pair"))
    row.positions[1, 2] = 7.5
    row.positions += 1
    row.weight = 0.25
    row.pair["kind"] = 3
    assert block["positions"][3].tolist() == [[19, 20, 21], [22, 23, 8.5]]
    assert isinstance(row.weight, np.float64)
    assert block["weight"][3] == 0.25
    assert block["pair"][3].tolist() == (3, -3.0)
    row.pair = (1, 2.0)
    assert block["pair"][3].tolist() == (1, 2.0)
    assert "walker 3" in repr(row)


def test_a_misspelt_attribute_of_a_row_names_the_fields(filled: MakeBlock) -> None:
    row = filled()[0]
    with pytest.raises(AttributeError, match="positions, weight, pair"):
        _ = row.mass
    with pytest.raises(AttributeError, match="positions, weight, pair"):
        row.mass = 1.0
    with pytest.raises(AttributeError, match="index"):
        row.index = 2  # type: ignore[misc]


def test_a_value_of_the_wrong_shape_is_refused(filled: MakeBlock) -> None:
    row = filled()[0]
    with pytest.raises(ValueError, match="shape"):
        row.positions = np.zeros((4, 3))
    with pytest.raises(ValueError, match="sequence"):
        row.weight = [1.0, 2.0]
    row.weight = np.array([5.0])
    assert row.weight == 5.0


def test_indexing_mistakes_say_what_to_write(filled: MakeBlock) -> None:
    block = filled()
    with pytest.raises(KeyError, match="positions, weight, pair"):
        block["velocities"]
    with pytest.raises(KeyError, match="velocities"):
        block["velocities"] = 0
    with pytest.raises(IndexError, match="walker 4"):
        block[4]
    with pytest.raises(IndexError, match="walker -5"):
        block[-5]
    for key in (slice(0, 2), [0, 1], 1.5):
        with pytest.raises(TypeError, match="take"):
            block[key]  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="field"):
        block[0] = 1.0  # type: ignore[index]


def test_iterating_gives_the_rows_in_order(filled: MakeBlock) -> None:
    assert [row.weight for row in filled()] == [0, 1, 2, 3]
    assert list(WalkerBlock(0, a="f8")) == []


def test_begin_copies_one_row_and_leaves_the_front_alone(filled: MakeBlock) -> None:
    block = filled()
    front, back = (generation.view(np.uint8).reshape(4, -1) for generation in block.generations())
    front[:] = np.random.default_rng(1).integers(256, size=front.shape)
    row = block.begin(2)
    assert np.array_equal(back[2], front[2])
    assert not back[[0, 1, 3]].any()
    before = front.copy()
    row.positions = 9
    assert row.index == 2
    assert np.array_equal(front, before)
    with pytest.raises(IndexError):
        block.begin(4)


def test_a_row_serves_again_only_when_nobody_has_it(filled: MakeBlock) -> None:
    block = filled()
    begin = block.beginner()
    kept = begin(1)
    others = [begin(index).index for index in (0, 2, 3)]
    again = begin(2)
    assert (kept.index, others, again.index) == (1, [0, 2, 3], 2)
    kept.weight += 10
    again.weight += 20
    block.swap()
    assert block["weight"].tolist() == [0, 11, 22, 3]


def test_a_beginner_may_count_from_any_walker(filled: MakeBlock) -> None:
    block = filled()
    begin = block.beginner(2)
    for index in range(2):
        row = begin(index)
        row.weight += row.index
    block.swap()
    assert block["weight"].tolist() == [0, 0, 4, 6]
    for index in (2, -3):
        with pytest.raises(IndexError):
            begin(index)


def test_swap_shows_the_back_and_older_arrays_keep_the_old_generation(filled: MakeBlock) -> None:
    block = filled()
    old = block["weight"]
    for index in range(4):
        block.begin(index).weight += 10
    assert block["weight"].tolist() == [0, 1, 2, 3]
    block.swap()
    assert block["weight"].tolist() == [10, 11, 12, 13]
    assert block[1].weight == 11
    assert old.tolist() == [0, 1, 2, 3]
    assert block.begin(1).weight == 11
    block.swap()
    assert block["weight"].tolist() == [0, 11, 2, 3]


def test_keep_takes_over_only_the_finished_walkers(filled: MakeBlock) -> None:
    block = filled()
    for index in range(4):
        block.begin(index).weight += 10
    block.keep([3, 0])
    assert block["weight"].tolist() == [10, 1, 2, 13]
    assert block["positions"][3, 0, 0] == 18
    block.keep([])
    assert block["weight"].tolist() == [10, 1, 2, 13]


def test_take_and_resample_clone_walkers(filled: MakeBlock) -> None:
    block = filled()
    clones = block.take([3, 3, -4, 1, 1])
    assert clones["weight"].tolist() == [3, 3, 0, 1, 1]
    assert clones["positions"][:, 0, 0].tolist() == [18, 18, 0, 6, 6]
    clones["weight"] = 0
    assert block["weight"].tolist() == [0, 1, 2, 3]
    assert len(block.take([])) == 0
    assert block.take(range(4))["pair"]["value"].tolist() == [0, -1, -2, -3]
    block.resample(np.array([3, 2, 0, 0], dtype=np.uint8))
    assert block["weight"].tolist() == [3, 2, 0, 0]
    assert block["pair"]["value"].tolist() == [-3, -2, 0, 0]


def test_wrong_choices_of_walkers_are_refused_and_change_nothing(filled: MakeBlock) -> None:
    block = filled()
    for choose in (block.take, block.keep, block.resample):
        with pytest.raises(IndexError, match="walker 4 "):
            choose([0, 4, 1, 1])
        with pytest.raises(ConfigError, match="flatnonzero"):
            choose(block["weight"] > 1)
        with pytest.raises(ConfigError, match="float64"):
            choose([0.0, 1.0, 2.0, 3.0])
    with pytest.raises(ConfigError, match="got 2"):
        block.resample([0, 1])
    assert block["weight"].tolist() == [0, 1, 2, 3]
