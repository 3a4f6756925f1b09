"""The scenarios of ``ringwalk bench``, and one turn of each contestant.

    scenario            segment                  state
    no-op, rows         returns None             a row of a block; rivals get an integer
    objects of 1 KB     returns its argument     128 numbers in an array, in a dict
    arrays of 1 MB      returns argument + 1     pickled, or through shared memory
    rows of 1 MB        adds 1 in place          a row of a block; rivals get an array
    a process a walker  returns None             ``TaskMapper`` beside ``Process``

A turn is a start, maps to warm up, and timed maps; the results of each are checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from time import perf_counter
from typing import Any

import numpy as np

from ringwalk import Row, TaskMapper, WalkerBlock, WorkerMapper

Map = Callable[..., Iterable[Any]]
Turn = Callable[[], list[float]]
Check = Callable[[list[Any]], bool]

_WARM_UP = 2  # maps before the clock counts: workers load what they run, memory is made
_SECONDS = 0.1  # of timed maps a turn, or at least one map
_NUMBERS = 131_072  # float64 numbers in 1 MB


@dataclass(frozen=True, slots=True)
class Contest:
    """One scenario: contestants by name, ours first; a turn of one returns seconds a walker."""

    name: str
    contestants: dict[str, Turn]


def make_contests(workers: int) -> list[Contest]:
    """All scenarios for so many workers."""
    objects = [{"x": np.full(128, float(k))} for k in range(256)]
    arrays = [np.full(_NUMBERS, float(k)) for k in range(16)]
    block = partial(_with_block, workers=workers)
    pools = partial(_pools, workers)
    return [
        Contest(
            "no-op, rows",
            {"WorkerMapper": partial(block, _no_row, 1000, 1)}
            | pools(_nothing, range(1000), _all_none),
        ),
        Contest(
            "objects of 1 KB",
            {"WorkerMapper": partial(_in_mapper, WorkerMapper, workers, _same, objects, _is_same)}
            | pools(_same, objects, _is_same),
        ),
        Contest(
            "arrays of 1 MB",
            {"WorkerMapper": partial(_in_mapper, WorkerMapper, workers, _add, arrays, _is_more)}
            | pools(_add, arrays, _is_more),
        ),
        Contest(
            "rows of 1 MB",
            {"WorkerMapper": partial(block, _add_row, 16, _NUMBERS)}
            | pools(_add, arrays, _is_more),
        ),
        Contest(
            "a process a walker",
            {
                "TaskMapper": partial(
                    _in_mapper, TaskMapper, workers, _nothing, range(32), _all_none
                ),
                "Process, one by one": partial(_processes, 32),
            },
        ),
    ]


# --- segments, and whether their results are right ------------------------------------------


def _nothing(_: Any) -> None:
    return None


def _no_row(_: Row) -> None:
    return None


def _same(state: Any) -> Any:
    return state


def _add(state: Any) -> Any:
    return state + 1.0


def _add_row(row: Row) -> None:
    row.state += 1.0


def _all_none(results: list[Any]) -> bool:
    return all(result is None for result in results)


def _is_same(results: list[Any]) -> bool:
    return all(result["x"][-1] == k for k, result in enumerate(results))


def _is_more(results: list[Any]) -> bool:
    return all(result[-1] == k + 1.0 for k, result in enumerate(results))


# --- turns ------------------------------------------------------------------------------------


def _in_mapper(
    kind: type[WorkerMapper | TaskMapper],
    workers: int,
    segment: Callable[..., Any],
    items: Any,
    is_right: Check,
) -> list[float]:
    with kind(segment, workers) as mapper:
        return _timed(mapper.map, items, is_right)


def _with_block(
    segment: Callable[..., Any], walkers: int, numbers: int, workers: int
) -> list[float]:
    with (
        WalkerBlock(walkers, state=((numbers,), "f8")) as block,
        WorkerMapper(segment, workers) as mapper,
    ):
        taken = _timed(mapper.map, block, _all_none)
        wanted = _WARM_UP + len(taken) if segment is _add_row else 0
        _check(bool((block["state"] == wanted).all()))
    return taken


def _pools(
    workers: int, segment: Callable[..., Any], items: Any, is_right: Check
) -> dict[str, Turn]:
    chunk = max(1, len(items) // (8 * workers))

    def executor(kind: type[ProcessPoolExecutor | ThreadPoolExecutor], size: int) -> list[float]:
        with kind(workers) as pool:
            return _timed(partial(pool.map, segment, chunksize=size), items, is_right)

    def pool() -> list[float]:
        with get_context("fork").Pool(workers) as processes:
            return _timed(partial(processes.map, segment, chunksize=chunk), items, is_right)

    contestants: dict[str, Turn] = {
        "ProcessPoolExecutor": partial(executor, ProcessPoolExecutor, 1),
        "ThreadPoolExecutor": partial(executor, ThreadPoolExecutor, 1),
        f"multiprocessing.Pool/{chunk}": pool,
    }
    if chunk > 1:
        contestants[f"ProcessPoolExecutor/{chunk}"] = partial(executor, ProcessPoolExecutor, chunk)
    return contestants


def _processes(walkers: int) -> list[float]:
    def run(items: Iterable[int]) -> list[None]:
        for _ in items:
            process = get_context("fork").Process(target=_nothing, args=(None,))
            process.start()
            process.join()
            _check(process.exitcode == 0)
        return [None] * walkers

    return _timed(run, range(walkers), _all_none)


def _timed(run: Map, items: Any, is_right: Check) -> list[float]:
    """Seconds a walker of each timed map."""
    taken: list[float] = []
    for _ in range(_WARM_UP):
        _check(is_right(list(run(items))))
    while sum(taken) * len(items) < _SECONDS:
        begin = perf_counter()
        results = list(run(items))
        taken.append((perf_counter() - begin) / len(items))
        _check(len(results) == len(items) and is_right(results))
    return taken


def _check(right: bool) -> None:
    if not right:
        raise RuntimeError("a contestant returned wrong results: please report this")
