"""The one copy that a block's row makes in a map: front to back, as one piece of memory."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

# From here on other threads should run while the copy does.
cdef enum:
    LARGE = 65536


# no_gc_clear: the collector would drop the buffers' owners before they are released.
@cython.final
@cython.no_gc_clear
cdef class RowMover:
    """Called with an index, copies that row and returns ``make(columns, index)``.

    Args:
        front: buffer of the rows to copy from.
        back: writable buffer of as many rows.
        stride: bytes of a row.
    """

    cdef Py_buffer front
    cdef Py_buffer back
    cdef Py_ssize_t stride
    cdef Py_ssize_t count
    cdef object make
    cdef object columns

    def __cinit__(self, front, back, Py_ssize_t stride, make, columns):
        if stride <= 0:
            raise ValueError(f"a row of {stride} bytes")
        PyObject_GetBuffer(front, &self.front, PyBUF_SIMPLE)
        PyObject_GetBuffer(back, &self.back, PyBUF_SIMPLE | PyBUF_WRITABLE)
        self.stride = stride
        self.count = min(self.front.len, self.back.len) // stride
        self.make = make
        self.columns = columns

    def __dealloc__(self):
        PyBuffer_Release(&self.front)
        PyBuffer_Release(&self.back)

    def __call__(self, Py_ssize_t index):
        cdef Py_ssize_t offset = index * self.stride
        if index < 0 or index >= self.count:
            raise IndexError(f"walker {index} does not exist, the block has {self.count}")
        if self.stride < LARGE:
            memcpy(<uint8_t *>self.back.buf + offset, <uint8_t *>self.front.buf + offset,
                   self.stride)
        else:
            with nogil:
                memcpy(<uint8_t *>self.back.buf + offset, <uint8_t *>self.front.buf + offset,
                       self.stride)
        return self.make(self.columns, index)
