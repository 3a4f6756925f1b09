"""WalkerBlock inside one process: fields, rows, generations, files, closing."""

from __future__ import annotations

import copy
import gc
import itertools
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ringwalk.errors import ClosedError, ConfigError, HeapFullError
from ringwalk.memory import Row, WalkerBlock

PAIR = np.dtype([("kind", "i1"), ("value", "f8")], align=True)


def traces() -> list[str]:
    """What this process holds of blocks: descriptors, mappings, entries in /dev/shm."""
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    open_files = [os.readlink(link) for link in links if os.path.islink(link)]
    mapped = Path("/proc/self/maps").read_text().splitlines()
    named = [f"/dev/shm/{entry}" for entry in os.listdir("/dev/shm") if f"-{os.getpid()}" in entry]
    return [item for item in (*open_files, *mapped, *named) if "/dev/shm/ringwalk" in item]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    assert traces() == []
    yield
    gc.collect()
    assert traces() == []


def filled(n: int = 4) -> WalkerBlock:
    block = WalkerBlock(n, positions=((2, 3), "f8"), weight="f8", pair=PAIR)
    block["positions"] = np.arange(6 * n).reshape(n, 2, 3)
    block["weight"] = np.arange(n)
    block["pair"]["value"] = -np.arange(n)
    return block


def test_new_block_is_zero_and_has_the_fields_asked_for() -> None:
    block = WalkerBlock(3, positions=((22, 3), "f8"), weight="f4", pair=PAIR, tags=((2, 0), "S4"))
    assert len(block) == 3
    assert block["positions"].shape == (3, 22, 3)
    assert block["tags"].shape == (3, 2, 0)
    assert block["weight"].dtype == "f4"
    assert block["pair"].dtype == PAIR
    for generation in block.generations():
        assert not any(generation.tobytes())
    assert dict(block.fields) == {
        "positions": np.dtype(("f8", (22, 3))),
        "weight": np.dtype("f4"),
        "pair": PAIR,
        "tags": np.dtype(("S4", (2, 0))),
    }
    assert block.name is None
    assert block.nbytes >= 2 * 3 * (22 * 3 * 8 + 4 + PAIR.itemsize)
    assert "3 walkers" in repr(block)
    assert "positions" in repr(block)


def test_any_identifier_that_a_row_does_not_use_can_be_a_field() -> None:
    block = WalkerBlock(1, n="i8", name="S3", self="f4", file="f8", close="i1", λ=(3, "f8"))
    block[0].name = b"abc"
    assert block[0].name == b"abc"
    assert list(block.fields) == ["n", "name", "self", "file", "close", "λ"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "without fields"),
        ({"a": object}, "holds Python objects"),
        ({"a": [("x", "i4"), ("y", "O")]}, "holds Python objects"),
        ({"a": None}, "no dtype"),
        ({"a": "nonsense"}, "nonsense"),
        ({"a": "U"}, "no bytes"),
        ({"a": ((3,), "f8", "f4")}, r"\(shape, dtype\)"),
        ({"a": ("f8", 3)}, "shape 'f8'"),
        ({"a": ((2.5,), "f8")}, r"\(2.5,\)"),
        ({"a": ((2, -1), "f8")}, r"\(2, -1\)"),
        ({"a": ((1,) * 64, "f8")}, "64 dimensions"),
        ({"a": np.dtype("f8", metadata={"unit": "nm"})}, "metadata"),
        ({"a": np.dtype({"names": "xy", "formats": ["i4"] * 2, "offsets": [0, 2]})}, "overlapping"),
        ({"two words": "f8"}, "'two words'"),
        ({"class": "f8"}, "'class'"),
        ({7: "f8"}, "7 cannot be a field name"),
        ({"_hidden": "f8"}, "'_hidden'"),
        ({"index": "f8"}, "'index' is taken"),
        ({"fields": "f8"}, "'fields' is taken"),
    ],
)
def test_fields_that_cannot_be_shared_are_refused(fields: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WalkerBlock.create(2, fields)


@pytest.mark.parametrize("n", [-1, 2.0, "3", True, None])
def test_a_count_that_is_none_is_refused_with_the_value(n: Any) -> None:
    with pytest.raises(ConfigError, match=str(n)):
        WalkerBlock(n, a="f8")


@pytest.mark.parametrize("n", [10**13, 10**30])
def test_more_memory_than_there_is_is_an_error_that_leaves_nothing(n: int) -> None:
    with pytest.raises(HeapFullError, match=r"no shared memory for .*,000,.* bytes"):
        WalkerBlock(n, a=(100, "f8"))
    assert traces() == []


def test_rows_begin_on_cache_lines_and_generations_on_pages() -> None:
    block = WalkerBlock(5, flag="?", state=((3, 3), "f4"), weight="f8")
    for generation in block.generations():
        assert generation.ctypes.data % os.sysconf("SC_PAGESIZE") == 0
        assert generation.strides[0] % 64 == 0
        assert (generation["weight"].ctypes.data - generation.ctypes.data) % 8 == 0


def test_a_row_reads_and_writes_the_blocks_memory() -> None:
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


def test_a_misspelt_attribute_of_a_row_names_the_fields() -> None:
    row = filled()[0]
    with pytest.raises(AttributeError, match="positions, weight, pair"):
        _ = row.mass
    with pytest.raises(AttributeError, match="positions, weight, pair"):
        row.mass = 1.0
    with pytest.raises(AttributeError, match="index"):
        row.index = 2  # type: ignore[misc]


def test_a_value_of_the_wrong_shape_is_refused() -> None:
    row = filled()[0]
    with pytest.raises(ValueError, match="shape"):
        row.positions = np.zeros((4, 3))
    with pytest.raises(ValueError, match="sequence"):
        row.weight = [1.0, 2.0]
    row.weight = np.array([5.0])
    assert row.weight == 5.0


def test_indexing_mistakes_say_what_to_write() -> None:
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


def test_iterating_gives_the_rows_in_order() -> None:
    assert [row.weight for row in filled()] == [0, 1, 2, 3]
    assert list(WalkerBlock(0, a="f8")) == []


def test_begin_copies_one_row_and_leaves_the_front_alone() -> None:
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


def test_a_row_serves_again_only_when_nobody_has_it() -> None:
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


def test_a_beginner_may_count_from_any_walker() -> None:
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


def test_swap_shows_the_back_and_older_arrays_keep_the_old_generation() -> None:
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


def test_keep_takes_over_only_the_finished_walkers() -> None:
    block = filled()
    for index in range(4):
        block.begin(index).weight += 10
    block.keep([3, 0])
    assert block["weight"].tolist() == [10, 1, 2, 13]
    assert block["positions"][3, 0, 0] == 18
    block.keep([])
    assert block["weight"].tolist() == [10, 1, 2, 13]


def test_take_and_resample_clone_walkers() -> None:
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


def test_wrong_choices_of_walkers_are_refused_and_change_nothing() -> None:
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


SCALARS = st.one_of(
    npst.scalar_dtypes().filter(lambda dtype: dtype.itemsize > 0),
    npst.array_dtypes(npst.integer_dtypes() | npst.floating_dtypes(), allow_subarrays=True),
)
FIELDS = st.dictionaries(
    st.sampled_from(["a", "b", "file", "name", "λ"]),
    st.tuples(npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4), SCALARS),
    min_size=1,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(fields=FIELDS, n=st.integers(0, 4), data=st.data())
def test_any_block_survives_save_load_take_and_another_mapping(
    fields: dict[str, Any], n: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    block = WalkerBlock.create(n, fields)
    front = block.generations()[0].view(np.uint8)
    front[:] = np.random.default_rng(data.draw(st.integers(0, 99))).integers(256, size=front.shape)
    path = tmp_path_factory.mktemp("block") / "walkers"
    block.save(path)
    chosen = data.draw(st.lists(st.integers(0, n - 1), max_size=5) if n else st.just([]))
    loaded, taken = WalkerBlock.load(path), block.take(chosen)
    mapped = WalkerBlock.from_fd(block.fileno())
    assert block.fields == loaded.fields == taken.fields == mapped.fields
    for field in fields:
        assert loaded[field].tobytes() == mapped[field].tobytes() == block[field].tobytes()
        assert taken[field].tobytes() == block[field][chosen].tobytes()


def test_save_replaces_a_file_whole_or_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "walkers.npz"
    filled().save(path)
    block = filled(2)
    block.save(path)
    assert len(WalkerBlock.load(str(path))) == 2
    with np.load(path) as arrays:
        assert np.array_equal(arrays["positions"], block["positions"])
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        block.save(tmp_path / "folder")
    assert sorted(os.listdir(tmp_path)) == ["folder", "walkers.npz"]


def test_load_refuses_what_save_did_not_write(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("not a zip")
    with pytest.raises(ConfigError, match=r"not written by WalkerBlock\.save"):
        WalkerBlock.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__ringwalk__.npy", b"garbage")
    with pytest.raises(ConfigError, match=r"not written by WalkerBlock\.save"):
        WalkerBlock.load(path)
    for arrays, message in (
        ({"a": np.zeros(3)}, "not written by"),
        ({"a": np.zeros(3), "__ringwalk__": np.array([1, 3, 5])}, "not written by"),
        ({"a": np.zeros(3), "__ringwalk__": np.array([2, 3])}, "format version 2"),
        ({"a": np.zeros(3), "__ringwalk__": np.array([1, 4])}, r"'a' has the shape \(3,\)"),
        ({"a": np.array([{}]), "__ringwalk__": np.array([1, 1])}, "not written by"),
    ):
        with open(path, "wb") as file:
            np.savez(file, **arrays)
        with pytest.raises(ConfigError, match=message):
            WalkerBlock.load(path)
    with pytest.raises(FileNotFoundError):
        WalkerBlock.load(tmp_path / "missing")


def test_a_closed_block_refuses_every_use_and_its_arrays_live_on() -> None:
    with filled() as block:
        weight, row = block["weight"], block.begin(1)
    block.close()
    uses = (
        lambda: block["weight"],
        lambda: block[0],
        lambda: block.begin(0),
        lambda: block.generations(),
        lambda: block.swap(),
        lambda: block.keep([0]),
        lambda: block.take([0]),
        lambda: block.resample([0, 1, 2, 3]),
        lambda: block.save("unused"),
        lambda: block.fileno(),
        lambda: list(block),
        lambda: block.__setitem__("weight", 0),
    )
    for use in uses:
        with pytest.raises(ClosedError, match="closed"):
            use()
    assert "closed" in repr(block)
    assert weight.tolist() == [0, 1, 2, 3]
    row.weight = 6
    assert row.weight == 6


def test_closing_unmaps_at_once_when_no_array_is_left() -> None:
    block = filled()
    assert len([line for line in traces() if "rw-s" in line]) == 1
    block.close()
    assert traces() == []


def test_pickling_and_copying_are_refused_with_the_way_out() -> None:
    block = filled()
    for refused, hint in ((block, "take"), (block[0], r"copy\(\)")):
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=hint):
                attempt(refused)


def test_memory_belongs_to_the_user_alone_and_has_no_name() -> None:
    block = filled()
    status = os.fstat(block.fileno())
    assert status.st_mode & 0o777 == 0o600
    assert status.st_nlink == 0
    assert not os.get_inheritable(block.fileno())


def test_many_blocks_leave_no_trace() -> None:
    for first, second in itertools.pairwise(filled(n) for n in range(20)):
        assert len(second) == len(first) + 1
