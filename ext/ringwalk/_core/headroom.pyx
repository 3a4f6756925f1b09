"""How much more memory this process may take, and who was killed for want of it.

See csrc/headroom.h.
"""

from libc.stdint cimport uint64_t

import os

from ringwalk.errors import HeapFullError, size_limits

cdef extern from "headroom.h" nogil:
    struct rw_headroom_t "rw_headroom":
        uint64_t bytes
        char *cgroup
    void rw_headroom(rw_headroom_t *room)
    uint64_t rw_headroom_kills()


def available():
    """Bytes, and the folder of the memory cgroup that allows no more; None for the machine."""
    cdef rw_headroom_t room
    with nogil:
        rw_headroom(&room)
    return room.bytes, os.fsdecode(<bytes>room.cgroup) or None


def kills():
    """Processes of this cgroup (or machine) that the kernel has killed for want of memory."""
    cdef uint64_t count
    with nogil:
        count = rw_headroom_kills()
    return count


def refuse(wanted):
    """Raise the HeapFullError for so many bytes, with what can be had."""
    left, cgroup = available()
    if left >= wanted and size_limits():
        why = size_limits()
    else:
        where = "the machine has" if cgroup is None else f"the memory limit of {cgroup} leaves"
        why = f"{where} {left:,} bytes"
    raise HeapFullError(
        f"no shared memory for {wanted:,} bytes: {why}. Free results that are no "
        "longer needed, use fewer workers, send less per task, or raise the limit"
    )
