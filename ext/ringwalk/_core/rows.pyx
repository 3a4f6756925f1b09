"""Rows of a block, and the one copy that each makes in a map: front to back, in one piece."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

# From here on other threads should run while the copy does.
cdef enum:
    LARGE = 65536


# no_gc: it refers to a block's arrays and a number, none of which refers to a row.
@cython.no_gc
cdef class RowBase:
    """What a row consists of. Made for every segment of every map, so without Python code."""

    cdef readonly object _columns
    cdef readonly object _index

    def __init__(self, columns, index):
        self._columns = columns
        self._index = index


# no_gc_clear: the collector would drop the buffers' owners before they are released.
@cython.final
@cython.no_gc_clear
cdef class RowMover:
    """Copies rows.

    Args:
        front: buffer of the rows to copy from.
        back: writable buffer of as many rows.
        stride: bytes of a row.
        kind: a subclass of RowBase, whose ``__init__`` is not called.
        columns: what the rows made here refer to.
    """

    cdef Py_buffer front
    cdef Py_buffer back
    cdef Py_ssize_t stride
    cdef Py_ssize_t count
    cdef type kind
    cdef object columns

    def __cinit__(self, front, back, Py_ssize_t stride, type kind, columns):
        if stride <= 0:
            raise ValueError(f"a row of {stride} bytes")
        if not issubclass(kind, RowBase):
            raise TypeError(f"{kind!r} is no row")
        PyObject_GetBuffer(front, &self.front, PyBUF_SIMPLE)
        PyObject_GetBuffer(back, &self.back, PyBUF_SIMPLE | PyBUF_WRITABLE)
        self.stride = stride
        self.count = min(self.front.len, self.back.len) // stride
        self.kind = kind
        self.columns = columns

    def __dealloc__(self):
        PyBuffer_Release(&self.front)
        PyBuffer_Release(&self.back)

    def begin(self, index):
        """Copy a row and return it. A method: calling it makes no tuple of arguments."""
        cdef Py_ssize_t place = index
        cdef Py_ssize_t offset = place * self.stride
        if place < 0 or place >= self.count:
            raise IndexError(f"walker {place} does not exist, the block has {self.count}")
        if self.stride < LARGE:
            memcpy(<uint8_t *>self.back.buf + offset, <uint8_t *>self.front.buf + offset,
                   self.stride)
        else:
            with nogil:
                memcpy(<uint8_t *>self.back.buf + offset, <uint8_t *>self.front.buf + offset,
                       self.stride)
        # RowBase.__new__(self.kind) would look the method up for as much as all the rest.
        made = (<PyTypeObject *>self.kind).tp_new(self.kind, <PyObject *>(), NULL)
        cdef RowBase row = <RowBase>made
        row._columns = self.columns
        row._index = index
        return row
