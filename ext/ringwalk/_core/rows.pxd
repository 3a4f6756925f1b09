from cpython.buffer cimport Py_buffer


cdef class RowBase:
    cdef readonly object _columns
    cdef Py_ssize_t index_


cdef class RowMover:
    cdef Py_buffer front
    cdef Py_buffer back
    cdef Py_ssize_t stride
    cdef Py_ssize_t count
    cdef Py_ssize_t first
    cdef type kind
    cdef object columns
    cdef RowBase last

    cdef RowBase moved(self, Py_ssize_t index)
