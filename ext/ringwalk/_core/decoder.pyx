"""Plain values read back. What is plain, and how it is written, is in encoder.pyx."""

cimport cython
cimport numpy as cnp
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from ringwalk._core.heap cimport Heap
from ringwalk._core.plain cimport DEEPEST, FORTRAN, READONLY

import pickle

import numpy as np

from ringwalk._core.classes import is_current

cdef extern from "Python.h":
    object PyComplex_FromDoubles(double, double)
    object PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)
    int PyObject_GenericSetAttr(object, object, object) except -1

cdef extern from "numpy/arrayobject.h":
    object PyArray_Scalar(void *data, cnp.dtype dtype, object base)
    ctypedef struct PyArray_Descr:
        pass
    PyTypeObject PyArray_Type
    object PyArray_NewFromDescr(PyTypeObject *kind, PyArray_Descr *dtype, int ndim,
                                cnp.npy_intp *shape, cnp.npy_intp *strides, void *data, int flags,
                                PyObject *parent)

cnp.import_array()

cdef object _new = object.__new__

NOT_PLAIN = object()
"""What ``Decoder.loads`` returns for a pickle."""

cdef uint8_t PICKLE_BEGINS = pickle.dumps(None, 5)[0]


@cython.final
cdef class Decoder:
    """Reads what an ``Encoder`` wrote. Trusts no length: a scribbled payload is a ValueError."""

    cdef dict layouts  # bytes -> (class, names) or dtype
    cdef bytes last_class, last_dtype
    cdef object class_met, dtype_met
    cdef const uint8_t *at
    cdef const uint8_t *end
    cdef list memo
    cdef list buffers

    def __cinit__(self):
        self.layouts = {}
        self.last_class = self.last_dtype = b""

    def begin(self):
        """A new map: forget classes that may have been defined anew."""
        self.layouts = {key: layout for key, layout in self.layouts.items()
                        if type(layout) is not tuple or is_current((<tuple>layout)[0])}
        self.last_class = b""

    def receive(self, Heap heap not None, uint32_t block, uint64_t length, uint32_t holder):
        """The value of a payload that a process gave away, whose hold on it then ends.

        NOT_PLAIN, and nothing happened, if it has buffers or is a pickle.
        """
        value = NOT_PLAIN
        try:
            value = self.whole_at(heap.read(block, length), length)
        except BaseException:
            heap.release_for(block, holder)
            raise
        if value is not NOT_PLAIN:
            heap.release_for(block, holder)
        return value

    def whole(self, payload):
        """The value of a payload that has no buffers; NOT_PLAIN if it has, or is a pickle."""
        cdef Py_buffer source
        PyObject_GetBuffer(payload, &source, PyBUF_SIMPLE)
        try:
            return self.whole_at(<const uint8_t *>source.buf, source.len)
        finally:
            PyBuffer_Release(&source)

    cdef object whole_at(self, const uint8_t *start, uint64_t length):
        cdef uint64_t count = 1
        if length > sizeof(count):
            memcpy(&count, start, sizeof(count))
        return NOT_PLAIN if count else self.read(start + sizeof(count), start + length, [])

    def loads(self, payload, Py_ssize_t start, list buffers):
        """The value that begins at a byte of a payload, or NOT_PLAIN if a pickle does.

        Args:
            buffers: the arrays that were written out of band.

        Raises ValueError for what no encoder wrote, and what importing a class raises.
        """
        cdef Py_buffer source
        cdef const uint8_t *begin
        PyObject_GetBuffer(payload, &source, PyBUF_SIMPLE)
        try:
            if start < 0 or start >= source.len:
                raise ValueError(f"a payload of {source.len} bytes without a value")
            begin = <const uint8_t *>source.buf
            return self.read(begin + start, begin + source.len, buffers)
        finally:
            PyBuffer_Release(&source)

    cdef object read(self, const uint8_t *start, const uint8_t *end, list buffers):
        self.at = start
        self.end = end
        if start[0] == PICKLE_BEGINS:
            return NOT_PLAIN
        try:
            self.memo = []
            self.buffers = buffers
            value = self.value(0)
            if self.at != self.end:
                raise ValueError(f"{self.end - self.at} bytes follow a value; please report this")
            return value
        finally:
            self.memo = self.buffers = None

    cdef const uint8_t *take(self, size_t length) except NULL:
        if length > <size_t>(self.end - self.at):
            raise ValueError(f"a value ends {length} bytes early; its memory was written over")
        self.at += length
        return self.at - length

    cdef uint32_t number(self) except? 0xFFFFFFFF:
        cdef uint32_t number
        memcpy(&number, self.take(4), 4)
        return number

    cdef Py_ssize_t elements(self) except -1:
        """A count of elements, each of which takes at least its tag."""
        cdef uint32_t count = self.number()
        if count > self.end - self.at:
            raise ValueError(f"a container of {count} elements in {self.end - self.at} bytes")
        return count

    cdef object layout(self, bint of_array):
        """A class with its attributes, or a dtype; most are those that were met last."""
        cdef uint32_t length = self.number()
        cdef const char *start = <const char *>self.take(length)
        cdef bytes key = self.last_dtype if of_array else self.last_class
        if length != PyBytes_GET_SIZE(key) or memcmp(start, PyBytes_AS_STRING(key), length):
            key = PyBytes_FromStringAndSize(start, length)
            if key not in self.layouts:
                layout = pickle.loads(key)
                if of_array and layout.kind == "V":
                    return layout  # whoever gets it may rename its fields
                self.layouts[key] = layout
            if of_array:
                self.last_dtype, self.dtype_met = key, self.layouts[key]
            else:
                self.last_class, self.class_met = key, self.layouts[key]
        return self.dtype_met if of_array else self.class_met

    cdef object value(self, int depth):
        cdef int64_t integer
        cdef double parts[2]
        cdef uint32_t length
        cdef uint8_t tag = self.take(1)[0]
        if depth > DEEPEST + 1:
            raise ValueError(f"a value of more than {DEEPEST} levels; its memory was written over")
        if tag == c"f":
            memcpy(parts, self.take(8), 8)
            return parts[0]
        if tag == c"i":
            memcpy(&integer, self.take(8), 8)
            return integer
        if tag == c"s" or tag == c"S":
            length = self.number()
            found = PyUnicode_DecodeUTF8(<const char *>self.take(length), length, NULL)
            if tag == c"S":
                self.memo.append(found)
            return found
        if tag == c"o":
            return self.instance(depth + 1)
        if tag == c"a" or tag == c"A":
            return self.array(tag == c"A")
        if tag == c"t":
            return self.tuple(depth + 1)
        if tag == c"l":
            return self.list(depth + 1)
        if tag == c"d":
            return self.dict(depth + 1)
        if tag == c"N":
            return None
        if tag == c"T":
            return True
        if tag == c"F":
            return False
        if tag == c"r":
            length = self.number()
            if length >= <uint32_t>len(self.memo):
                raise ValueError(f"a reference to container {length} of {len(self.memo)}")
            return self.memo[length]
        if tag == c"b" or tag == c"B":
            length = self.number()
            found = PyBytes_FromStringAndSize(<const char *>self.take(length), length)
            if tag == c"B":
                self.memo.append(found)
            return found
        if tag == c"x":
            return self.scalar()
        if tag == c"g":
            return range(self.value(depth + 1), self.value(depth + 1), self.value(depth + 1))
        if tag == c"c":
            memcpy(parts, self.take(16), 16)
            return PyComplex_FromDoubles(parts[0], parts[1])
        raise ValueError(f"a value with the unknown tag {tag}; its memory was written over")

    cdef tuple tuple(self, int depth):
        cdef Py_ssize_t count = self.elements(), _k, place = len(self.memo)
        cdef tuple found
        self.memo.append(None)  # a tuple in a cycle is never written flat
        elements = [self.value(depth) for _k in range(count)]
        found = tuple(elements)
        self.memo[place] = found
        return found

    cdef list list(self, int depth):
        cdef Py_ssize_t count = self.elements(), _k
        cdef list found = []
        self.memo.append(found)
        for _k in range(count):
            found.append(self.value(depth))
        return found

    cdef dict dict(self, int depth):
        cdef Py_ssize_t count = self.elements(), _k
        cdef dict found = {}
        self.memo.append(found)
        for _k in range(count):
            key = self.value(depth)
            found[key] = self.value(depth)
        return found

    cdef object instance(self, int depth):
        cdef tuple names
        layout = self.layout(False)
        if type(layout) is not tuple:
            raise ValueError("an instance with the layout of an array; its memory was written over")
        cls, names = <tuple>layout
        found = _new(cls)
        self.memo.append(found)
        for name in names:
            PyObject_GenericSetAttr(found, name, self.value(depth))
        return found

    cdef cnp.dtype dtype(self):
        layout = self.layout(True)
        if not isinstance(layout, cnp.dtype):
            raise ValueError("an array with the layout of an instance; its memory was written over")
        return layout

    cdef object scalar(self):
        cdef cnp.dtype dtype = self.dtype()
        cdef long double aligned[2]
        if <size_t>dtype.itemsize > sizeof(aligned):
            raise ValueError(f"a scalar of dtype {dtype}; its memory was written over")
        memcpy(aligned, self.take(dtype.itemsize), dtype.itemsize)
        return PyArray_Scalar(aligned, dtype, None)

    cdef object array(self, bint large):
        cdef cnp.dtype dtype = self.dtype()
        cdef const uint8_t *head = self.take(2)
        cdef uint8_t flags = head[0]
        cdef int ndim = head[1], k
        cdef cnp.npy_intp shape[64]
        cdef int64_t length
        cdef Py_ssize_t nbytes = dtype.itemsize
        cdef cnp.ndarray found
        if ndim > 64:
            raise ValueError(f"an array of {ndim} dimensions; its memory was written over")
        for k in range(ndim):
            memcpy(&length, self.take(8), 8)
            shape[k] = length
            if length < 0 or (length and nbytes > (<int64_t>1 << 62) // length):
                raise ValueError(f"an array axis of {length}; its memory was written over")
            nbytes *= length
        if large:
            return self.large_array(dtype, [shape[k] for k in range(ndim)], flags)
        cdef const uint8_t *data = self.take(nbytes)
        Py_INCREF(dtype)  # PyArray_NewFromDescr takes it over
        found = PyArray_NewFromDescr(&PyArray_Type, <PyArray_Descr *>dtype, ndim, shape, NULL,
                                     NULL, 1 if flags & FORTRAN else 0, NULL)
        memcpy(cnp.PyArray_DATA(found), data, nbytes)
        if flags & READONLY:
            found.setflags(write=False)
        self.memo.append(found)
        return found

    cdef object large_array(self, dtype, list shape, int flags):
        cdef uint32_t number = self.number()
        if number >= <uint32_t>len(self.buffers):
            raise ValueError(f"buffer {number} of {len(self.buffers)}")
        found = np.ndarray(shape, dtype, self.buffers[number],
                           order="F" if flags & FORTRAN else "C")
        if flags & READONLY:
            found.setflags(write=False)
        self.memo.append(found)
        return found
