"""``ringwalk run module:function --over data.npz``: a function over the rows of a file.

    data.npz, data.csv, structured data.npy    function(**{"name of a column": value of the row})
    plain data.npy                             function(row)

What it returns is collected in an ``.npz`` that ``numpy.load`` reads: a number or an array a row
becomes ``result``, a dict one array for each of its keys. ``row`` has the numbers of the rows that
the file has results of: where some failed, what did finish is written all the same. Results that
make no columns are pickled instead, as a dict by row.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ringwalk import MapError, WorkerMapper
from ringwalk.cli.columns import read_columns
from ringwalk.describe import text_of
from ringwalk.errors import ConfigError
from ringwalk.memory.archive import write_columns

_TOLD = 10  # rows; a mistake in the function would fill the terminal with a million lines


def add_run(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("function", metavar="MODULE:FUNCTION", help="what to call; MODULE may lie in this folder")
    add("--over", type=Path, required=True, metavar="FILE", help=".npz, .npy or .csv with the rows")
    add("--out", type=Path, metavar="FILE", help="write results here (default: FILE-results.npz)")
    add("--workers", type=int, metavar="N", help="processes (default: one a usable core)")
    add("--seed", type=int, metavar="N", help="a stream for each row, as a parameter named rng")
    add("--timeout", type=float, metavar="S", help="seconds that a row may take")
    add("--retries", type=int, default=1, metavar="N", help="run a row whose process died N times")
    add("--devices", metavar="LIST", help="GPUs to share out: 0,1 or auto")
    add("--trace", type=Path, metavar="FILE", help="write what ran when, for Perfetto (.json)")
    add("--no-progress", dest="progress", action="store_false", help="show no progress bar")
    parser.set_defaults(run=run_run)


def run_run(options: argparse.Namespace) -> int:
    """Map, write what finished; 1 if a row failed."""
    function = _find(options.function)
    columns = read_columns(options.over)
    out: Path = options.out or options.over.with_name(f"{options.over.stem}-results.npz")
    for path in filter(None, (out, options.trace)):
        if not path.parent.is_dir() or path.is_dir():
            raise ConfigError(f"cannot write {path}: give a file in a folder that exists")
    failures: Mapping[int, Exception] = {}
    with WorkerMapper(
        function,
        options.workers,
        _devices(options.devices),
        seed=options.seed,
        timeout=options.timeout,
        max_retries=options.retries,
        on_error="finish",
        progress=options.progress,
    ) as mapper:
        try:
            everything = mapper.map(*columns.positional, **columns.named)
            results: Mapping[int, Any] = dict(enumerate(everything))
        except MapError as error:
            results, failures = error.results, error.errors
        written, trouble = _write(out, results)
        if options.trace is not None:
            mapper.timeline.save(options.trace)
    for row in sorted(failures)[:_TOLD]:
        print(f"ringwalk: row {row}: {_reason(failures[row])}", file=sys.stderr)
    if len(failures) > _TOLD:
        print(f"ringwalk: {len(failures) - _TOLD} more rows failed", file=sys.stderr)
    if trouble:
        print(f"ringwalk: {trouble}", file=sys.stderr)
    print(f"{len(results)} of {columns.rows} rows: {written}")
    return 1 if failures or trouble else 0


def _find(name: str) -> Callable[..., Any]:
    module, colon, path = name.partition(":")
    if not (module and colon and path):
        raise ConfigError(f"{name!r} is no function; write it as module:function")
    # As ``python -m`` does: what lies in the current folder can be imported.
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"cannot find {name!r}: {error}") from error
    if not callable(found):
        raise ConfigError(f"{name!r} is {found!r}, which cannot be called")
    function: Callable[..., Any] = found
    return function


def _reason(failure: Exception) -> str:
    cause = failure.__cause__
    return str(failure) if cause is None else f"{type(cause).__name__}: {text_of(cause)}"


def _devices(text: str | None) -> Any:
    if text is None or text == "auto":
        return text
    return [int(part) if part.isdecimal() else part for part in text.split(",")]


def _write(out: Path, results: Mapping[int, Any]) -> tuple[str, str]:
    """Write what there is; return what was written, and what did not go well."""
    if not results:
        return "nothing written", ""  # what an earlier run wrote is worth more
    rows = sorted(results)
    try:
        arrays = _arrays([results[row] for row in rows])
    except ValueError as error:
        # Hours of finished rows are not thrown away because they make no columns.
        plain = out.with_suffix(".pickle")
        plain.write_bytes(pickle.dumps(dict(results)))
        return f"pickled in {plain}", f"the results are no plain columns: {error}"
    columns = {"row": np.array(rows, dtype=np.int64), **arrays}
    write_columns(out, len(rows), columns)
    return f"{', '.join(columns)} in {out}", ""


def _arrays(results: list[Any]) -> dict[str, npt.NDArray[Any]]:
    """Columns; ValueError says why there are none."""
    if not any(isinstance(result, Mapping) for result in results):
        return {"result": _array("result", results)}
    names = results[0].keys() if isinstance(results[0], Mapping) else set()
    if any(not isinstance(result, Mapping) or result.keys() != names for result in results):
        raise ValueError("some are dicts with other keys than the first, or none")
    if "row" in names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"the keys are {list(names)}; use texts other than 'row'")
    return {name: _array(name, [result[name] for result in results]) for name in names}


def _array(name: str, values: list[Any]) -> npt.NDArray[Any]:
    try:
        array = np.array(values)
    except ValueError as error:  # ragged
        raise ValueError(f"{name!r} differs in shape between rows") from error
    if array.dtype.hasobject:
        raise ValueError(f"{name!r} is {values[0]!r} in the first row, no number, text or array")
    return array
