"""Event count on a futex, for tests and benchmarks of it. See csrc/eventcount.h.

The board uses the same C code directly; no Python call lies between a worker and its sleep.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint32_t, uint64_t

from ringwalk._core.arena cimport Arena
from ringwalk._core.status cimport RW_INTERRUPTED, RW_TIMEOUT, check

cdef extern from "eventcount.h" nogil:
    struct rw_eventcount:
        pass
    uint32_t rw_eventcount_prepare(rw_eventcount *ec)
    void rw_eventcount_cancel(rw_eventcount *ec)
    int rw_eventcount_wait(rw_eventcount *ec, uint32_t key, int64_t deadline_ns)
    void rw_eventcount_notify(rw_eventcount *ec, uint32_t count)


@cython.final
cdef class EventCount:
    """One event count at an offset of an arena. Process-shared, signal-aware."""

    cdef Arena arena
    cdef rw_eventcount *ec

    def __cinit__(self, Arena arena not None, uint64_t offset):
        self.arena = arena
        self.ec = <rw_eventcount *>arena.at(offset, sizeof(rw_eventcount))

    def prepare(self):
        return rw_eventcount_prepare(self.ec)

    def cancel(self):
        rw_eventcount_cancel(self.ec)

    def wait(self, uint32_t key, int64_t deadline_ns=-1):
        """Sleep until a notify after ``prepare``; False when the deadline passed first.

        A signal handler that raises ends the wait with its exception.
        """
        cdef int status
        while True:
            with nogil:
                status = rw_eventcount_wait(self.ec, key, deadline_ns)
            if status == RW_TIMEOUT:
                return False
            if status != RW_INTERRUPTED:
                check(status)
                return True
            PyErr_CheckSignals()
            # The wait ended our intention to sleep; the key is still the one to wait on.
            rw_eventcount_prepare(self.ec)

    def notify(self, uint32_t count=1):
        with nogil:
            rw_eventcount_notify(self.ec, count)
