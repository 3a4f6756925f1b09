"""Arena: the one sparse, nameless file that a pool's processes share. See csrc/arena.h."""

cimport cython
from libc.stdint cimport uint8_t, uint64_t

from ringwalk._core.status cimport RW_NO_MEMORY, check

from ringwalk._core.headroom import refuse


@cython.final
cdef class Arena:
    """Owns one mapping and one descriptor; both go when the last user of the object does.

    Thread safety: all methods may be called from any thread. After a fork the child may use the
    mapping; closing is per process.
    """

    def __cinit__(self):
        self.c.base = NULL
        self.c.fd = -1

    def __dealloc__(self):
        rw_arena_close(&self.c)

    @staticmethod
    def create(uint64_t size):
        cdef Arena self = Arena.__new__(Arena)
        with nogil:
            check(rw_arena_create(&self.c, size))
        return self

    @staticmethod
    def attach(int fd):
        cdef Arena self = Arena.__new__(Arena)
        with nogil:
            check(rw_arena_attach(&self.c, fd))
        return self

    @property
    def size(self):
        return self.c.size

    def fileno(self):
        return self.c.fd

    def reserve(self, uint64_t offset, uint64_t length):
        cdef int status
        with nogil:
            status = rw_arena_reserve(&self.c, offset, length)
            if status != RW_NO_MEMORY:
                check(status)
        if status == RW_NO_MEMORY:
            refuse(length)

    cdef uint8_t *at(self, uint64_t offset, uint64_t length) except NULL:
        if offset % 64:
            raise ValueError(f"offset {offset}: what processes share starts on a multiple of 64")
        if offset > self.c.size or length > self.c.size - offset:
            raise ValueError(
                f"[{offset}, {offset + length}) lies outside an arena of {self.c.size} bytes"
            )
        return self.c.base + offset
