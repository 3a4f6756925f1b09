"""Rows of a block, and the one copy that each makes in a map: front to back, in one piece."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *)  # cpython.ref's would hold the object meanwhile
    void Py_SET_REFCNT(PyObject *, Py_ssize_t)

# From here on other threads should run while the copy does.
cdef enum:
    LARGE = 65536


# Lost one a millisecond, they last three days; Python 3.12 takes 2 ** 31 for immortal.
cdef enum:
    SPARE = 1 << 28


cdef extern from *:
    """
    static int rw_exchange(int64_t *word, int64_t *expected, int64_t desired)
    {
        return __atomic_compare_exchange_n(word, expected, desired, 0, __ATOMIC_ACQ_REL,
                                           __ATOMIC_ACQUIRE);
    }
    """
    bint rw_exchange(int64_t *word, int64_t *expected, int64_t desired) nogil


def exchange(int64_t[:] word not None, int64_t expected, int64_t desired):
    """Store ``desired`` in the first of these words if it holds ``expected``; what it held."""
    rw_exchange(&word[0], &expected, desired)
    return expected


def spare(thing):
    """Have an object's memory stay even if others drop references that they do not have."""
    Py_SET_REFCNT(<PyObject *>thing, Py_REFCNT(<PyObject *>thing) + SPARE)


# no_gc: it refers to a block's arrays, none of which refers to a row.
@cython.no_gc
cdef class RowBase:
    """What a row consists of. Made for every segment of every map, so without Python code."""

    def __init__(self, columns, Py_ssize_t index):
        self._columns = columns
        self.index_ = index

    @property
    def _index(self):
        return self.index_


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
        first: what is added to each index.
    """

    def __cinit__(self, front, back, Py_ssize_t stride, type kind, columns, Py_ssize_t first=0):
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
        self.first = first

    def __dealloc__(self):
        PyBuffer_Release(&self.front)
        PyBuffer_Release(&self.back)

    def begin(self, Py_ssize_t index):
        """Copy a row and return it. A method: calling it makes no tuple of arguments."""
        return self.moved(index)

    cdef RowBase moved(self, Py_ssize_t index):
        cdef Py_ssize_t place = self.first + index
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
        # A row that nobody but us has left serves again, as a tuple of ``zip`` does: making one and
        # letting it go takes longer than an empty segment. None has many owners. Without the GIL
        # two threads must not find the same one free: it is ours and the caller's on return.
        with cython.critical_section(self):
            if Py_REFCNT(<PyObject *>self.last) > 1:
                # RowBase.__new__(self.kind) would look the method up for as much as all the rest.
                made = (<PyTypeObject *>self.kind).tp_new(self.kind, <PyObject *>(), NULL)
                self.last = <RowBase>made
                self.last._columns = self.columns
            self.last.index_ = place
            return self.last
