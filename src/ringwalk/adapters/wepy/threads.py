"""Finding native threads of this process that are inside a library.

OpenMM's FFT (pocketfft) keeps a pool of threads for the life of the process once it has computed a
PME force, also on the Reference platform and after the context is gone. A forked child has the
pool's bookkeeping but none of its threads, and waits for them for ever (openmm issue 2602). The
threads have no names, but each sleeps in a call that its library made, so return addresses into
the library lie on its stack.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_TASKS = Path("/proc/self/task")
# A sleeping pool thread is a handful of frames deep: pthread_cond_wait, the pool's loop.
_STACK_BYTES = 4096
# Another library's thread, of BLAS say, may just be on its way to sleep.
_PATIENCE_S = 1.0
_LOOK_S = 0.001


def threads_inside(library: str) -> list[int]:
    """Ids of native threads whose stack shows that a library with this in its name called them.

    One that runs, so that its stack cannot be told, is looked at again until it sleeps. If it has
    not within a second, it counts if the library is loaded at all: when in doubt, do not fork.
    """
    ranges = list(_code_of(library))
    if not ranges:
        return []
    ours = {thread.native_id for thread in threading.enumerate()}
    found = []
    deadline = time.monotonic() + _PATIENCE_S
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        for task in _TASKS.iterdir():
            if int(task.name) not in ours and _called_from(task, memory.fileno(), ranges, deadline):
                found.append(int(task.name))
    return found


def _code_of(library: str) -> Iterator[range]:
    with open("/proc/self/maps") as maps:
        for line in maps:
            parts = line.split(maxsplit=5)
            if len(parts) == 6 and "x" in parts[1] and library in os.path.basename(parts[5]):
                start, end = (int(address, 16) for address in parts[0].split("-"))
                yield range(start, end)


def _called_from(task: Path, memory: int, ranges: list[range], deadline: float) -> bool:
    try:
        fields = (task / "syscall").read_text().split()
        while fields[0] == "running" and time.monotonic() < deadline:
            time.sleep(_LOOK_S)  # nothing tells when it stops
            fields = (task / "syscall").read_text().split()
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return False
    except OSError:  # a kernel that does not tell
        return True
    if fields[0] == "running":
        return True
    stack = b""
    with contextlib.suppress(OSError):
        stack = os.pread(memory, _STACK_BYTES, int(fields[-2], 16))
    words = struct.unpack(f"{len(stack) // 8}Q", stack[: len(stack) // 8 * 8])
    return any(word in code for word in words for code in ranges)
