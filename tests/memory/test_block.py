"""WalkerBlock inside one process: fields, files, closing; its rows are in test_block_rows.py."""

from __future__ import annotations

import copy
import gc
import itertools
import os
import pickle
import signal
import zipfile
from collections.abc import Callable
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ringwalk.errors import ClosedError, ConfigError, HeapFullError
from ringwalk.memory import WalkerBlock, segment

MakeBlock = Callable[..., WalkerBlock]
Traces = Callable[[], list[str]]
PAIR = np.dtype([("kind", "i1"), ("value", "f8")], align=True)

pytestmark = pytest.mark.usefixtures("nothing_is_left")


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
def test_more_memory_than_there_is_is_an_error_that_leaves_nothing(traces: Traces, n: int) -> None:
    with pytest.raises(HeapFullError, match=r"no shared memory for .*,000,.* bytes"):
        WalkerBlock(n, a=(100, "f8"))
    assert traces() == []


def test_rows_begin_on_cache_lines_and_generations_on_pages() -> None:
    block = WalkerBlock(5, flag="?", state=((3, 3), "f4"), weight="f8")
    for generation in block.generations():
        assert generation.ctypes.data % os.sysconf("SC_PAGESIZE") == 0
        assert generation.strides[0] % 64 == 0
        assert (generation["weight"].ctypes.data - generation.ctypes.data) % 8 == 0


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
@settings(max_examples=50)
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


def test_save_replaces_a_file_whole_or_leaves_it(filled: MakeBlock, tmp_path: Path) -> None:
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


def test_a_closed_block_refuses_every_use_and_its_arrays_live_on(filled: MakeBlock) -> None:
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


def test_closing_unmaps_at_once_when_no_array_is_left(traces: Traces, filled: MakeBlock) -> None:
    block = filled()
    assert len([line for line in traces() if "rw-s" in line]) == 1
    block.close()
    assert traces() == []


def test_pickling_and_copying_are_refused_with_the_way_out(filled: MakeBlock) -> None:
    block = filled()
    for refused, hint in ((block, "take"), (block[0], r"copy\(\)")):
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=hint):
                attempt(refused)


def test_memory_belongs_to_the_user_alone_and_has_no_name(filled: MakeBlock) -> None:
    block = filled()
    status = os.fstat(block.fileno())
    assert status.st_mode & 0o777 == 0o600
    assert status.st_nlink == 0
    assert not os.get_inheritable(block.fileno())


def test_many_blocks_leave_no_trace(filled: MakeBlock) -> None:
    for first, second in itertools.pairwise(filled(n) for n in range(20)):
        assert len(second) == len(first) + 1


@pytest.mark.parametrize("name", [None, f"pressed-{os.getpid()}"])
def test_a_ctrl_c_while_a_block_is_made_is_not_lost(
    name: str | None, traces: Traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a destructor, say: Python writes what is raised there to stderr, and goes on."""

    class Pressing(SharedMemory):
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)
            super().__del__()

    monkeypatch.setattr(segment, "SharedMemory", Pressing)
    with pytest.raises(KeyboardInterrupt):
        WalkerBlock.create(1, {"x": "f8"}, name=name)
    gc.collect()
    assert traces() == []
