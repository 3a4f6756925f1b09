"""``ringwalk run module:function --over data.npz``: a function over the rows of a file.

    data.npz, data.csv, structured data.npy    function(**{"name of a column": value of the row})
    plain data.npy                             function(row)

What it returns is collected in an ``.npz`` that ``numpy.load`` reads: a number or an array a row
becomes ``result``, a dict one array for each of its keys. ``row`` has the numbers of the rows that
the file has results of: where some failed, or Ctrl-C ended the run, what did finish is written all
the same, and ``--resume`` runs the others. Results that make no columns are pickled instead, as a
dict by row.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import os
import pickle
import sys
import zipfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ringwalk import MapError, WorkerMapper
from ringwalk._core.process import Undisturbed
from ringwalk.cli.columns import Columns, read_columns
from ringwalk.describe import shown, text_of
from ringwalk.errors import ConfigError
from ringwalk.memory.archive import write_arrays

_OFFERED = ("device", "context", "rng")
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
    add("--resume", action="store_true", help="keep the rows that --out has, and run the others")
    add("--no-progress", dest="progress", action="store_false", help="show no progress bar")
    parser.set_defaults(run=run_run)


def run_run(options: argparse.Namespace) -> int:
    """Map, write what finished; 1 if a row failed, 130 after Ctrl-C."""
    function = _find(options.function)
    columns = read_columns(options.over)
    _check_call(function, columns, options)
    out: Path = options.out or options.over.with_name(f"{options.over.stem}-results.npz")
    for path in filter(None, (out, options.trace)):
        if not path.parent.is_dir() or path.is_dir():
            raise ConfigError(f"cannot write {path}: give a file in a folder that exists")
    results = _finished(out, columns.rows) if options.resume else {}
    failures: Mapping[int, Exception] = {}
    interrupted = False
    with WorkerMapper(
        _Unfinished(function, frozenset(results)),
        options.workers,
        _devices(options.devices),
        seed=options.seed,
        timeout=options.timeout,
        max_retries=options.retries,
        on_error="finish",
        progress=options.progress,
    ) as mapper:
        rows = range(columns.rows)
        done = set(results)
        try:
            for row, result in mapper.map_unordered(rows, *columns.positional, **columns.named):
                if row not in done:
                    results[row] = result
        except MapError as error:
            failures = error.errors
        except KeyboardInterrupt:
            interrupted = True
        with Undisturbed():
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
    if interrupted:
        hint = "" if trouble else "; the same command with --resume runs the others"
        print(f"ringwalk: interrupted{hint}", file=sys.stderr)
        return 130
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


def _check_call(function: Callable[..., Any], columns: Columns, options: Any) -> None:
    """Refuse a function that does not take the columns."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin without a signature
        return
    given = {name: None for name in _OFFERED if name in signature.parameters} | columns.named
    try:
        signature.bind(*columns.positional, **given)
    except TypeError as error:
        names = ", ".join(columns.named) or "a row"
        raise ConfigError(
            f"{options.function}{signature} cannot be called with what {options.over} has "
            f"({names}): {error}"
        ) from error


class _Unfinished:
    """The function, for rows that are not done. All are mapped: a row keeps its random stream."""

    def __init__(self, function: Callable[..., Any], done: frozenset[int]) -> None:
        self._function = function
        self._done = done
        functools.update_wrapper(self, function)  # so it names the same parameters

    def __call__(self, row: int, /, *args: Any, **kwargs: Any) -> Any:
        return None if row in self._done else self._function(*args, **kwargs)


def _finished(out: Path, rows: int) -> dict[int, Any]:
    """What an earlier run wrote, by row."""
    if not out.exists():
        return {}
    try:
        with np.load(out, allow_pickle=False) as archive:
            columns = {name: archive[name] for name in archive}
        numbers = columns.pop("row").tolist()
    except (OSError, ValueError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise ConfigError(f"cannot resume from {out}: {error}") from error
    if any(row >= rows for row in numbers):
        raise ConfigError(f"cannot resume from {out}: it has rows beyond the {rows} of the data")
    if columns.keys() == {"result"}:
        return dict(zip(numbers, columns["result"], strict=True))
    return {
        row: {name: column[k] for name, column in columns.items()} for k, row in enumerate(numbers)
    }


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
    write_arrays(out, columns)
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
    first: dict[str, Any] = {}  # kind -> the first value of it; numpy would make all of them text
    for value in values:
        first.setdefault(_kind(value), value)
    if len(first) > 1:
        told = [f"{kind} in some rows ({_shown(value)})" for kind, value in first.items()]
        raise ValueError(f"{name!r} is {', '.join(told)}")
    try:
        array = np.array(values)
    except ValueError as error:  # ragged
        raise ValueError(f"{name!r} differs in shape between rows") from error
    if array.dtype.hasobject:
        raise ValueError(f"{name!r} is {values[0]!r} in the first row, no number, text or array")
    return array


def _shown(value: Any) -> str:
    return shown(value.item() if isinstance(value, np.generic) else value)


_KINDS = {"b": "a truth value", "U": "text", "S": "bytes", "M": "a date", "m": "a span of time"}


def _kind(value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "a number"
    try:
        return _KINDS.get(np.asarray(value).dtype.kind, "a number")
    except ValueError:  # ragged
        return "a number"
