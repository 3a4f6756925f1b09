"""Whether a fork of this process is safe beside the native threads of other libraries.

A library with a thread pool (polars, jax, datafusion, OpenMM) believes in a forked child that it
still has its threads, and waits for them for ever. Few threads mean nothing else than this::

    native threads, less Python's own ------- none --> safe, found out in 20 us
       | some
    whose? the stack pointer of each, and the first mapped library that a word from there points
    into, past the C and C++ runtime
       | all of libraries that are known to look after forks --> safe
       | any other, or not to be told --> not safe

A false alarm costs a fresh interpreter, half a second once; a miss costs a run that never ends.
libgomp's threads do not count once ``release_openmp_threads`` was called, which comes first.

Does not: see a library that keeps a lock or a list of threads without having a thread now.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from ringwalk.workers.gpu_runtimes import initialised_runtime
from ringwalk.workers.native_threads import (
    PROC,
    Mappings,
    is_interpreter,
    library_of,
    thread_at,
)
from ringwalk.workers.openmp import release_openmp_threads

_TASKS = "/proc/self/task"
# One that runs has no stack pointer to be read: it is looked at again until it sleeps.
_PATIENCE_S = 0.05
_LOOK_S = 0.001

HARMLESS = {
    "openblas": r"openblas",
    "gomp": r"libgomp",
    "omp": r"libomp[-.]",
    "iomp5": r"libiomp5",
    "mkl": r"libmkl",
    "tbb": r"libtbb",
    "numba workqueue": r"numba/.*workqueue",
    "arrow": r"libarrow",
    "numexpr": r"numexpr/",
    "blosc": r"blosc",
    "pocketfft": r"(scipy|numpy)/.*pocketfft",
    "ducc0": r"ducc0",
    "cv2": r"cv2/|opencv_python",
    "cygrpc": r"cygrpc",
    "zmq": r"libzmq|zmq/",
    "libuv": r"libuv|uvloop/",
    "duckdb": r"duckdb",
    "onnxruntime": r"onnxruntime",
    "catboost": r"catboost",
}
"""Libraries whose threads may run at a fork: they make new ones in the child, or need none."""
_HARMLESS = re.compile("|".join(HARMLESS.values()))


def why_not_fork() -> str | None:
    """What makes a fork of this process unsafe, for a person to read; None if nothing is known.

    Ends the threads that libgomp keeps for this thread.
    """
    runtime = initialised_runtime()
    if runtime is not None:
        return f"{runtime.name} initialised"
    owners = unsafe_threads()
    return f"threads of {', '.join(owners)}" if owners else None


def unsafe_threads() -> tuple[str, ...]:
    """Libraries, sorted, whose native threads make a fork unsafe."""
    if len(os.listdir(_TASKS)) <= len(sys._current_frames()):
        return ()
    release_openmp_threads()
    # Those that were told to end may need a moment.
    tasks = os.listdir(_TASKS)
    if len(tasks) <= len(sys._current_frames()):
        return ()
    known = {thread.native_id for thread in threading.enumerate()}
    native = [task for task in tasks if int(task) not in known]
    return tuple(sorted({name for name in _owners(native) if name is not None}))


def _owners(tasks: Iterable[str]) -> Iterator[str | None]:
    """For each thread its owner, None where that is harmless or the thread has ended."""
    folder = PROC / "self"
    mappings = Mappings(folder)
    for task in tasks:
        yield _owner(folder, task, mappings)


def _owner(folder: Path, task: str, mappings: Mappings) -> str | None:
    entry = folder / "task" / task
    deadline = time.monotonic() + _PATIENCE_S
    try:
        while (thread := thread_at(entry)) is None and entry.exists():
            if time.monotonic() > deadline:
                return _unknown(entry)
            time.sleep(_LOOK_S)  # nothing tells when it stops
    except OSError:  # a process that was hardened, or a kernel that does not tell
        return _unknown(entry)
    if thread is None:  # it has ended
        return None
    path = library_of(folder, mappings, thread.stack)
    if not path:
        return _unknown(entry)
    return None if is_interpreter(path) or _HARMLESS.search(path) else _package(path)


def _unknown(entry: Path) -> str | None:
    """A name for an owner that cannot be told: what the thread calls itself."""
    try:
        return f"an unknown library (thread {(entry / 'comm').read_text().strip()!r})"
    except OSError:  # it has ended
        return None


def _package(path: str) -> str:
    """The Python package that a library came with, or the library's own name."""
    parts = Path(path).parts
    for folder in ("site-packages", "dist-packages"):
        if folder in parts[:-1]:
            inside = parts[parts.index(folder) + 1 :]
            return inside[0].removesuffix(".libs") if len(inside) > 1 else inside[0].split(".")[0]
    return parts[-1].split(".so")[0]
