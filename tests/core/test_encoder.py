"""Flat values: what comes back is what pickle would bring back; what is not plain is refused."""

from __future__ import annotations

import collections
import enum
import math
import pickle
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ringwalk._core.decoder import NOT_PLAIN, Decoder
from ringwalk._core.encoder import Encoder, are_light

LARGE = 8192
HEAD = bytes(8)


class Walker:
    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)


@dataclass(frozen=True)
class Frozen:
    weight: float
    tags: list[str] = field(default_factory=list)


def through(value: object) -> Any:
    """There and back; NOT_PLAIN if it was refused."""
    arrays: list[npt.NDArray[Any]] = []
    written = Encoder(LARGE).dumps(value, arrays)
    if written is None:
        return NOT_PLAIN
    assert written.startswith(HEAD)
    return Decoder().loads(written, len(HEAD), [array.tobytes("A") for array in arrays])


def same(a: Any, b: Any) -> bool:
    """Equal in type and value, nan being equal to nan and arrays equal in every bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return math.copysign(1, a) == math.copysign(1, b) and (a == b or a != a)
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, Walker | Frozen):
        return same(a.__dict__, b.__dict__)
    return bool(a == b)


numbers = st.integers(-(2**63), 2**63 - 1) | st.floats() | st.booleans() | st.none()
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=100)
keys = texts | st.binary(max_size=9) | st.integers(-(2**63), 2**63 - 1) | st.booleans()
arrays = npst.arrays(
    st.sampled_from(
        ["f8", "f4", "i4", ">u2", "?", "c16", "M8[us]", "U3", [("a", "f8"), ("b", "i2")]]
    ),
    npst.array_shapes(min_dims=0, max_side=4),
)
scalars = npst.arrays(st.sampled_from(["f4", "f8", "i8", "u1", "?", "m8[s]"]), ()).map(
    lambda array: array[()]
)
ranges = st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 3))
leaves = (
    numbers | ranges | texts | st.binary(max_size=100) | st.complex_numbers() | arrays | scalars
)
names = st.sampled_from(["weight", "positions", "état", "_private"])
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(names, inner).map(lambda state: Walker(**state))
    ),
    max_leaves=12,
)


@given(values)
def test_plain_values_come_back_bit_for_bit(value: Any) -> None:
    assert same(through(value), value)


@given(values, st.data())
def test_written_over_bytes_never_crash_the_reader(value: Any, data: st.DataObject) -> None:
    written = bytearray(Encoder(LARGE).dumps(value, []) or b"")
    for _ in range(data.draw(st.integers(1, 4))):
        # Not a layout's own bytes: those are a pickle, which may do anything it likes.
        position = data.draw(st.integers(len(HEAD), len(written) - 1))
        if b"\x80\x05" not in written[max(0, position - 400) : position + 1]:
            written[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(len(HEAD) + 1, len(written)))
    outcome = None
    try:
        outcome = Decoder().loads(bytes(written[:cut]), len(HEAD), [])
    except (ValueError, TypeError, pickle.UnpicklingError, EOFError, MemoryError) as error:
        outcome = error
    assert outcome is not ...


@pytest.mark.parametrize(
    "value",
    [
        2**63,
        "\udc80",
        {1, 2},
        bytearray(3),
        collections.OrderedDict(a=1),
        collections.namedtuple("Pair", "a b")(1, 2),  # noqa: PYI024
        {(1, 2): 3},
        np.array([object()]),
        np.float64,
        enum.Enum("Colour", "RED").RED,
        lambda: None,
        np.ma.masked_array([1.0]),
        np.array(["a"], np.dtypes.StringDType()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_plain_is_left_to_pickle(value: Any) -> None:
    assert through(value) is NOT_PLAIN
    assert through([value]) is NOT_PLAIN


class Slotted:
    __slots__ = ("a",)

    def __init__(self) -> None:
        self.a = 1


class Restored:
    def __setstate__(self, state: dict[str, Any]) -> None:
        self.restored = True


class Reduced:
    def __reduce__(self) -> tuple[Any, ...]:
        return Reduced, ()


class Counted(int):
    pass


class Computed:
    def __init__(self) -> None:
        self.__dict__["value"] = 3

    @property
    def value(self) -> int:
        return 4


@pytest.mark.parametrize("kind", [Slotted, Restored, Reduced, Counted, Computed])
def test_classes_with_a_say_in_pickling_are_left_to_pickle(kind: type) -> None:
    assert through(kind()) is NOT_PLAIN


def test_a_class_that_cannot_be_found_is_left_to_pickle() -> None:
    class Local:
        pass

    assert through(Local()) is NOT_PLAIN


def test_one_object_stays_one() -> None:
    shared, array = ["x"], np.arange(3.0)
    first, second, third, one, other = through((shared, shared, Walker(held=shared), array, array))
    assert first is second
    assert third.held is first
    assert one is other


def test_cycles_through_lists_dicts_and_instances() -> None:
    walker = Walker(neighbours=[])
    walker.neighbours.append({"self": walker})
    back = through(walker)
    assert back.neighbours[0]["self"] is back


def test_a_tuple_in_a_cycle_is_left_to_pickle() -> None:
    inner: list[Any] = []
    value = (inner,)
    inner.append(value)
    assert through(value) is NOT_PLAIN


def test_depth_is_bounded() -> None:
    value: list[Any] = []
    for _ in range(10_000):
        value = [value]
    assert through(value) is NOT_PLAIN


def test_frozen_dataclasses_need_no_setattr() -> None:
    assert same(through(Frozen(0.5, ["a"])), Frozen(0.5, ["a"]))


def test_order_and_writability_of_arrays() -> None:
    fortran = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    readonly = np.arange(3)
    readonly.setflags(write=False)
    back_fortran, back_readonly, strided = through((fortran, readonly, np.arange(9)[::2]))
    assert back_fortran.flags.f_contiguous
    assert (back_fortran == fortran).all()
    assert not back_readonly.flags.writeable
    assert strided.flags.writeable
    assert strided.tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_arrays_are_only_numbered(order: str) -> None:
    large = np.asarray(np.arange(4096.0).reshape(64, 64), order=order)  # type: ignore[call-overload]
    arrays: list[npt.NDArray[Any]] = []
    written = Encoder(LARGE).dumps([large, large], arrays)
    assert written is not None
    assert len(written) < 300
    assert len(arrays) == 1
    assert arrays[0] is large
    first, second = Decoder().loads(written, len(HEAD), [bytearray(arrays[0].tobytes(order))])
    assert first is second
    assert (first == large).all()
    assert first.flags.writeable


def test_a_pickle_is_told_apart() -> None:
    assert Decoder().loads(HEAD + pickle.dumps([1], 5), len(HEAD), []) is NOT_PLAIN
    assert Decoder().whole(HEAD + pickle.dumps([1], 5)) is NOT_PLAIN
    assert Decoder().whole((1).to_bytes(8, "little") + b"N") is NOT_PLAIN
    assert Decoder().whole(HEAD + b"T") is True


@pytest.mark.parametrize(
    "payload", [b"", HEAD, HEAD + b"?", HEAD + b"NN", HEAD + b"l\xff\xff\xff\xff"]
)
def test_broken_payloads_are_named(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"memory was written over|bytes|without a value"):
        Decoder().loads(payload, len(HEAD), [])


def test_a_class_that_was_defined_anew_is_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, decoder = Encoder(LARGE), Decoder()
    old = Walker(weight=1)
    first = encoder.dumps(old, [])
    assert first is not None
    assert type(decoder.whole(first)) is Walker
    new = type("Walker", (), {"__module__": __name__})
    monkeypatch.setattr(sys.modules[__name__], "Walker", new)
    encoder.begin()
    decoder.begin()
    assert encoder.dumps(old, []) is None
    assert type(decoder.whole(first)) is new


@pytest.mark.parametrize(
    ("values", "light"),
    [
        ([None, True, False, 1, 2**80, 0.5, 1j, "", "x" * 8], True),
        ((), True),
        (["x" * 9], False),
        ([b""], False),
        ([1, [2]], False),
        ([np.float64(1.0)], False),
        ([enum.IntEnum("Number", "ONE").ONE], False),
    ],
)
def test_what_is_light(values: Any, light: bool) -> None:
    assert are_light(values, 8) is light
    assert are_light(iter(values), 8) is light


def test_elements_are_written_one_after_another() -> None:
    array = np.arange(3.0)
    encoder, decoder, lengths = Encoder(LARGE), Decoder(), list[int]()
    columns = [[[1], "a", array, 2.5, object(), 7], [{"k": k} for k in range(6)]]
    data = encoder.extend(columns, 1, 6, 1 << 20, lengths, {})
    assert len(lengths) == 3  # up to the object
    assert sum(lengths) == len(data)
    found = []
    for length in lengths:
        found.append(decoder.whole(data[:length]))
        data = data[length:]
    assert found[0] == ("a", {"k": 1})
    assert (found[1][0] == array).all()
    assert found[2] == (2.5, {"k": 3})
    assert encoder.extend(columns, 4, 6, 1 << 20, lengths, {}) == b""
    assert encoder.extend([[np.zeros(LARGE)]], 0, 1, 1 << 20, lengths, {}) == b""
    lengths.clear()
    assert encoder.extend([list(range(100))], 0, 100, 1, lengths, {}) != b""
    assert len(lengths) == 1


def test_an_element_that_raises_ends_them() -> None:
    lengths: list[int] = []
    assert Encoder(LARGE).extend([range(3)], 0, 5, 1 << 20, lengths, {}) != b""
    assert len(lengths) == 3


def test_a_list_met_twice_in_an_element_is_one_list() -> None:
    shared = [1]
    lengths: list[int] = []
    data = Encoder(LARGE).extend([[[shared, shared]]], 0, 1, 1 << 20, lengths, {})
    ((first, second),) = Decoder().whole(data)
    assert first is second


class Fresh:
    """Makes its elements when they are asked for, each where the last one lay."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __len__(self) -> int:
        return 50

    def __getitem__(self, at: int) -> list[int]:
        return [self.first + at, *range(1000)]


def test_elements_that_are_made_on_access_are_written_each() -> None:
    decoder, lengths = Decoder(), list[int]()
    for columns in ([Fresh(0)], [Fresh(0), Fresh(100)]):
        data = Encoder(LARGE).extend(columns, 0, 50, 1 << 30, lengths, {})
        for at in range(50):
            length = lengths.pop(0)
            assert decoder.whole(data[:length]) == tuple(column[at] for column in columns)
            data = data[length:]


def test_a_clone_of_some_size_is_written_once() -> None:
    one, other = list(range(1000)), list(range(1000))
    lengths: list[int] = []
    clones: dict[int, tuple[Any, bytes | None]] = {}
    data = Encoder(LARGE).extend([[one, 1, one, other]], 0, 4, 1 << 20, lengths, clones)
    assert set(clones) == {id(one), id(other)}
    assert lengths[0] == lengths[2] == lengths[3] > lengths[1]
    assert (one, data[: lengths[0]]) == clones[id(one)]
    assert Decoder().whole(data[lengths[0] + lengths[1] :][: lengths[2]]) == (one,)
    known = Encoder(LARGE).extend([[one]], 0, 1, 1 << 20, lengths, {id(one): (one, b"known")})
    assert known == b"known"
