from libc.stdint cimport int64_t

from ringwalk._core.rows cimport RowMover


cdef class Chain:
    cdef object func
    cdef object element
    cdef RowMover mover

    cdef object run(self, int64_t task)
