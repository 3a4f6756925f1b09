"""What a segment sees and what comes back equal what pickle brings, for values of all kinds.

One example is a map, or calls of an executor: arguments, each passed in one of the ways below, with
values of some of the kinds below. The segment tells all that can be seen of what it got, and gives
it back, or writes over it, which no other walker and nobody in the caller's process may see.
"""

from __future__ import annotations

import array
import collections
import contextlib
import datetime
import itertools
import pathlib
import pickle
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np
import pytest
import specimens
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specimens import fingerprint, scribble

from ringwalk import Executor, Mapper, SerialMapper, TaskMapper, ThreadMapper, WorkerMapper

pytestmark = pytest.mark.slow


def through_pickle(value: Any) -> Any:
    try:
        return pickle.loads(pickle.dumps(value, 5))
    except (pickle.PicklingError, AttributeError, TypeError):  # a lambda, a class in a function
        return cloudpickle.loads(cloudpickle.dumps(value, 5))


# --- values -----------------------------------------------------------------------------------

ATOMS = [
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-3, 3).map(specimens.Number),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=5),
    st.text(min_size=64, max_size=70),
    st.sampled_from(["\udc80", "x" * 100_000]),
    st.text(max_size=5).map(specimens.Text),
    st.binary(max_size=5),
    st.binary(min_size=64, max_size=70),
    st.just(b"y" * 100_000),
    st.builds(range, st.integers(-5, 5), st.integers(-5, 2**65)),
    st.just(...),
    st.sampled_from(specimens.Colour),
    st.sampled_from([specimens.Flags.A | specimens.Flags.B, specimens.Flags(0)]),
    st.sampled_from([abs, int, specimens.Plain, specimens.look, np.float32, np.add]),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.datetimes(timezones=st.just(datetime.UTC) | st.none()),
    st.timedeltas(),
    st.uuids(),
    st.builds(pathlib.PurePosixPath, st.sampled_from(["a", "a/b"])),
    st.builds(slice, st.integers(0, 3), st.none()),
    st.builds(lambda k: lambda: k, st.integers(0, 3)),
]
KEYS = st.integers(-3, 3) | st.text(max_size=3) | st.binary(max_size=3) | st.tuples(st.integers())
MUTABLE_ATOMS = [
    st.binary(max_size=5).map(bytearray),
    st.just(20_000).map(bytearray),
    st.builds(array.array, st.just("d"), st.lists(st.floats(), max_size=3)),
    st.sets(st.integers() | st.text(max_size=3), max_size=3),
    st.sets(st.integers(), max_size=3).map(specimens.Group),
    st.frozensets(st.integers(), max_size=3),
    st.builds(collections.Counter, st.text(max_size=4)),
]

ENUM = np.dtype("i1", metadata={"enum": {"red": 0}})
FIELDS: Any = {"names": ["a", "b"], "formats": ["i1", "f8"], "offsets": [0, 8], "itemsize": 16}
DTYPES = [
    *map(np.dtype, [*"?bBhHiIlLqQefdgFDG", ">f8", "<i2", ">U2", "S5", "U3", "V7"]),
    *map(np.dtype, ("M8[ns]", "m8[s]", "M8[D]")),
    np.dtype([("x", "f8"), ("n", ">i4")]),
    np.dtype([("x", "f4", (2,)), ("inner", [("y", "i2"), ("z", "S3")])]),
    np.dtype([("x", "f8"), ("n", "i4"), ("m", "i4")])[["x", "m"]],
    np.dtype([(("title", "x"), "f8")]),
    np.dtype(FIELDS),
    np.dtype(FIELDS, align=True),
    np.dtype((np.record, FIELDS)),
    ENUM,
    np.dtype([("colour", ENUM), ("x", "f8")]),
    np.dtype([("colour", "i1"), ("x", "f8")]),
]
SHAPES = [(), (0,), (3,), (2, 3), (0, 2), (2, 3, 2), (2, 1, 3), (3000,), (40, 50), (100_000,)]


def filled(dtype: np.dtype[Any], shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    """An array of any bits, but for what is no text or no bool."""
    random = np.random.default_rng(seed)
    if dtype.kind in "biufcV" and dtype.itemsize:
        data = random.integers(0, 2 if dtype.kind == "b" else 256, (*shape, dtype.itemsize), "u1")
        return np.frombuffer(data.tobytes(), dtype).reshape(shape).copy()
    return random.integers(0, 9, shape).astype(dtype)


LAYOUTS: dict[str, Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]] = {
    "C": lambda a: a,
    "F": np.asfortranarray,
    "transposed": lambda a: a.T,
    "axes exchanged": lambda a: a.swapaxes(0, -1) if a.ndim else a,
    "middle axis first": lambda a: np.moveaxis(a, 1, 0) if a.ndim > 1 else a,
    "every other": lambda a: a[..., ::2] if a.ndim else a,
    "backwards": lambda a: a[::-1] if a.ndim else a,
    "repeated": lambda a: np.broadcast_to(a, (2, *a.shape)),
    "part": lambda a: a[1:] if a.ndim else a,
    "array with a label": specimens.labelled,
    "masked": lambda a: np.ma.MaskedArray(a, mask=np.ones(a.shape, bool), fill_value=0),
}


def readonly(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    a = a.view()
    a.flags.writeable = False
    return a


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    dtype, shape = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(SHAPES))
    made = filled(dtype, shape, draw(st.integers(0, 3)))
    layouts = set(LAYOUTS) - ({"masked"} if dtype.kind in "VMmSU" else set())
    made = LAYOUTS[draw(st.sampled_from(sorted(layouts)))](made)
    return readonly(made) if draw(st.booleans()) else made


def scalars() -> st.SearchStrategy[Any]:
    return st.sampled_from(DTYPES).map(lambda dtype: filled(dtype, (1,), 1)[0])


def object_array(parts: Sequence[Any]) -> np.ndarray[Any, Any]:
    made = np.empty(len(parts), object)
    for k, part in enumerate(parts):
        made[k] = part
    return made


def cycle_of(kind: str, part: Any) -> Any:
    """A value that holds itself."""
    made: Any
    if kind == "list":
        made = [part]
        made.append(made)
    elif kind == "dict":
        made = {"part": part}
        made["self"] = made
    elif kind == "tuple":
        inner: list[Any] = [part]
        made = (inner, part)
        inner.append(made)
    elif kind == "array":
        made = object_array([part, None])
        made[1] = made
    else:
        made = specimens.Plain(part=part)
        made.self = made
    return made


def containers(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    few = st.lists(parts, max_size=3)
    tables = st.dictionaries(KEYS, parts, max_size=3)
    two = (specimens.Record, specimens.Frozen, specimens.Slotted, specimens.Pair)
    one = (specimens.Reduced, specimens.Stateful, specimens.Guarded, ValueError)
    return st.one_of(
        few,
        few.map(tuple),
        few.map(specimens.Items),
        few.map(specimens.Couple),
        few.map(collections.deque),
        few.map(object_array),
        tables,
        tables.map(specimens.Table),
        tables.map(collections.OrderedDict),
        tables.map(lambda table: collections.defaultdict(list, table)),
        parts.map(lambda part: types.SimpleNamespace(part=part)),
        parts.map(lambda part: specimens.Plain(part=part, again=part)),
        *[st.builds(kind, parts, parts) for kind in two],
        *[parts.map(kind) for kind in one],
        parts.map(lambda part: [part, part]),  # one object, twice
        parts.map(lambda part: {"a": [part], "b": (part, [part])}),
        st.builds(cycle_of, st.sampled_from(["list", "dict", "tuple", "array", "object"]), parts),
    )


LEAVES = st.one_of(*ATOMS, *MUTABLE_ATOMS, scalars(), arrays(), st.sampled_from(DTYPES))
VALUES = st.recursive(LEAVES, containers, max_leaves=5)


# --- ways of passing ---------------------------------------------------------------------------


@dataclass
class Passed:
    """An argument of a map, and what it is for each walker."""

    way: str
    argument: Callable[[], Iterable[Any]]
    elements: Sequence[Any]

    @property
    def is_part(self) -> bool:
        """Its elements are views of one array: their strides are not looked at."""
        return self.way.startswith("rows")


def rows_of_objects(elements: Sequence[Any]) -> np.ndarray[Any, Any]:
    made = np.empty((len(elements), 2), object)
    for k, element in enumerate(elements):
        made[k, 0], made[k, 1] = element, k
    return made


def records_of_objects(elements: Sequence[Any]) -> np.ndarray[Any, Any]:
    made = np.zeros(len(elements), [("number", "i8"), ("value", object)])
    for k, element in enumerate(elements):
        made["value"][k] = element
    return made


WAYS: dict[str, Callable[[list[Any]], Iterable[Any]]] = {
    "list": lambda elements: elements,
    "tuple": tuple,
    "subclass of list": specimens.Items,
    "generator": iter,
    "deque": collections.deque,
    "lazy sequence": specimens.Lazy,
    "array of objects": object_array,
    "rows of objects": rows_of_objects,
    "rows, records of objects": records_of_objects,
}


@st.composite
def passed(draw: st.DrawFn, count: int) -> Passed:
    way = draw(st.sampled_from([*WAYS, "repeat", "rows of numbers"]))
    if way == "repeat":
        value = draw(VALUES)
        return Passed(way, lambda: itertools.repeat(value), [value] * count)
    if way == "rows of numbers":
        dtype = draw(st.sampled_from([dtype for dtype in DTYPES if dtype.char not in "qQ"]))
        rows = filled(dtype, (count, *draw(st.sampled_from([(), (3,), (2000,)]))), 1)
        rows = draw(st.sampled_from([rows, np.asfortranarray(rows), rows.view(specimens.Labelled)]))
        return Passed(way, lambda: rows, list(rows))
    different = draw(st.lists(VALUES, min_size=1, max_size=count))
    elements = [draw(st.sampled_from(different)) for _ in range(count)]  # some are clones
    make = WAYS[way]
    if way == "generator":
        return Passed(way, lambda: iter(elements), elements)
    argument = make(elements)
    return Passed(way, lambda: argument, list(argument))


@dataclass
class Example:
    count: int
    positional: list[Passed]
    named: dict[str, Passed]
    pool: str
    unordered: bool


POOLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "serial": (SerialMapper, {}),
    "serial, readonly": (SerialMapper, {"inputs": "readonly"}),
    "threads": (ThreadMapper, {"num_workers": 2}),
    "threads, readonly": (ThreadMapper, {"num_workers": 2, "inputs": "readonly"}),
    "workers": (WorkerMapper, {"num_workers": 2}),
    "one worker": (WorkerMapper, {"num_workers": 1}),
    "workers, readonly": (WorkerMapper, {"num_workers": 1, "inputs": "readonly"}),
    "workers, spawn": (WorkerMapper, {"num_workers": 1, "start_method": "spawn"}),
    "workers, forkserver": (WorkerMapper, {"num_workers": 1, "start_method": "forkserver"}),
    "tasks": (TaskMapper, {"num_workers": 2}),
    "tasks, readonly": (TaskMapper, {"num_workers": 1, "inputs": "readonly"}),
    "executor": (Executor, {"max_workers": 2}),
    "executor, readonly": (Executor, {"max_workers": 1, "inputs": "readonly"}),
    "executor, spawn": (Executor, {"max_workers": 1, "start_method": "spawn"}),
}


@st.composite
def examples(draw: st.DrawFn) -> Example:
    count = draw(st.integers(1, 5))
    positional = [draw(passed(count)) for _ in range(draw(st.integers(0, 2)))]
    named = {name: draw(passed(count)) for name in draw(st.sampled_from([[], ["x"], ["x", "y"]]))}
    if all(argument.way == "repeat" for argument in (*positional, *named.values())):
        elements = list(range(count))
        positional.append(Passed("list", lambda: elements, elements))
    return Example(
        count, positional, named, draw(st.sampled_from(list(POOLS))), draw(st.booleans())
    )


# --- the comparison -----------------------------------------------------------------------------

Segment = Callable[..., Any]


def run_on(pool: Any, example: Example, segment: Segment, exactly: bool) -> list[Any]:
    """A result for each walker."""
    args = [argument.argument() for argument in example.positional]
    kwargs = {name: argument.argument() for name, argument in example.named.items()}
    if isinstance(pool, Executor):
        futures = []
        for walker in range(example.count):
            call = [argument.elements[walker] for argument in example.positional]
            by_name = {name: argument.elements[walker] for name, argument in example.named.items()}
            futures.append(pool.submit(segment, exactly, *call, **by_name))
        return [future.result() for future in futures]
    assert isinstance(pool, Mapper)
    everything = (itertools.repeat(segment), itertools.repeat(exactly), *args)
    if example.unordered:
        found = dict(pool.map_unordered(*everything, **kwargs))
        return [found[walker] for walker in range(len(found))]
    return pool.map(*everything, **kwargs)


def compare(pool: Any, example: Example) -> list[tuple[Any, str]]:
    """Run the example; results that the caller holds, and what they have to look like."""
    arguments = [*example.positional, *example.named.values()]
    exactly = "readonly" not in example.pool and not any(a.is_part for a in arguments)
    before = [[fingerprint(element) for element in argument.elements] for argument in arguments]
    # A task process has the caller's objects themselves.
    arrives = (lambda value: value) if example.pool.startswith("tasks") else through_pickle
    seen = [
        [fingerprint(arrives(element), exactly=exactly) for element in argument.elements]
        for argument in arguments
    ]
    held: list[tuple[Any, str]] = []
    for segment in (specimens.look, specimens.look_and_scribble):
        for walker, (told, values) in enumerate(run_on(pool, example, segment, exactly)):
            assert told == [of_argument[walker] for of_argument in seen]
            for value, argument in zip(values, arguments, strict=bool(values)):
                back = through_pickle(arrives(argument.elements[walker]))
                held.append((value, fingerprint(back, exactly=exactly)))
    check(held, exactly=exactly)
    if held:
        scribble(held.pop(0)[0])
        check(held, exactly=exactly)
    after = [[fingerprint(element) for element in argument.elements] for argument in arguments]
    assert after == before
    return [] if not exactly else held


def check(held: list[tuple[Any, str]], *, exactly: bool) -> None:
    for value, expected in held:
        assert fingerprint(value, exactly=exactly) == expected


def test_what_arrives_is_what_pickle_brings(rounds: Callable[[int, int], int]) -> None:
    with contextlib.ExitStack() as stack:
        pools: dict[str, Any] = {}
        held: list[tuple[Any, str]] = []

        def pool_of(name: str) -> Any:
            if name not in pools:
                kind, options = POOLS[name]
                made = kind(**options) if kind is Executor else kind(specimens.run, **options)
                pools[name] = stack.enter_context(made)
            return pools[name]

        @settings(
            derandomize=True,  # a campaign elsewhere looks for new ones
            max_examples=rounds(500, 10_000),
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(examples())
        def search(example: Example) -> None:
            held.extend(compare(pool_of(example.pool), example))
            check(held, exactly=True)  # those of the maps before as well
            del held[:-20]

        search()
