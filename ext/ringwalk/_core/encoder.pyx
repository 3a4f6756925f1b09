"""Plain values written flat: walker state to bytes and back, without pickle's machinery.

Plain are None, bool, 64-bit int, float, complex, str, bytes, range; tuple, list, simply keyed dict;
numpy arrays and scalars that hold no objects; and instances of Python classes that keep their state
in ``__dict__`` and leave pickling to ``object``. What is plain comes back as pickle would bring it
back: same types, one object where there was one, cycles through lists, dicts and instances kept.
For anything else ``dumps`` gives None, and the caller pickles.

A value is a tag byte and what it needs; numbers are little-endian and unaligned::

    N T F | g: start, stop, step
    i s64 | f f64 | c 2 x f64 | s b: u32 length, bytes | t l d: u32 count, elements
    o: layout, attribute values | x: layout, bytes | r: u32 number of an earlier container
    a A: layout, u8 flags, u8 ndim, ndim x s64, then the data, or for A the u32 number of a buffer
    layout: u32 length, pickle of (class, attribute names) or of a dtype

Layouts are pickled once an encoder and looked up by their bytes once a decoder, but for dtypes with
fields: they change in place, and equal ones may differ. Between maps a class may be defined anew:
``begin`` forgets those that are not found under their name any more. No user code runs but to
pickle a class.
"""

cimport cython
cimport numpy as cnp
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Next
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from ringwalk._core.heap cimport Heap
from ringwalk._core.plain cimport DEEPEST, FORTRAN, READONLY

import pickle

import numpy as np

from ringwalk._core.classes import is_current, is_data_descriptor, keeps_state_in_dict

cdef extern from "Python.h":
    bint PyLong_CheckExact(object)
    bint PyFloat_CheckExact(object)
    bint PyComplex_CheckExact(object)
    double PyComplex_RealAsDouble(object)
    double PyComplex_ImagAsDouble(object)
    bint PyUnicode_CheckExact(object)
    Py_ssize_t PyUnicode_GET_LENGTH(object)
    bint PyBytes_CheckExact(object)
    bint PyTuple_CheckExact(object)
    bint PyList_CheckExact(object)
    bint PyDict_CheckExact(object)
    long long PyLong_AsLongLongAndOverflow(object, int *overflow)
    const char *PyUnicode_AsUTF8AndSize(object, Py_ssize_t *size) except NULL
    object PyObject_GenericGetDict(object, void *context)

cnp.import_array()

cdef enum:
    SHORTEST_SHARED = 64  # a shorter text is written again rather than looked for
    CLONED_FROM = 4096  # so is a shorter element

cdef set SCALARS = {
    kind for kind in np.sctypeDict.values() if not issubclass(kind, (np.object_, np.flexible))
}


def are_light(values, Py_ssize_t longest):
    """Whether all are None, bool, int, float, complex, or str of at most ``longest`` characters."""
    for value in values:
        if PyUnicode_CheckExact(value):
            if PyUnicode_GET_LENGTH(value) > longest:
                return False
        elif not (PyLong_CheckExact(value) or PyFloat_CheckExact(value) or value is None
                  or value is True or value is False or PyComplex_CheckExact(value)):
            return False
    return True


cdef bint _is_plain(dtype):
    """Whether a dtype says all there is to know of an array's bytes, and pickles by itself.

    Not text of any length, which lies elsewhere, nor types that somebody registered, nor what
    carries metadata (h5py's enums and references), which is the user's and goes with the value.
    """
    if dtype.kind not in "biufcmMSUV" or dtype.hasobject or dtype.isbuiltin == 2:
        return False
    if dtype.metadata is not None:
        return False
    if dtype.subdtype is not None:
        return _is_plain(dtype.base)
    return dtype.names is None or all([_is_plain(dtype[name]) for name in dtype.names])


def by_name(cls, names):
    try:
        return pickle.dumps((cls, names), 5)
    except (pickle.PicklingError, AttributeError, TypeError):  # not found under its name
        return None


@cython.final
cdef class Encoder:
    """Writes values one after another; knows the layouts it met. Not for two threads at once.

    Args:
        out_of_band_from: bytes from which on an array is not written, but handed back.
        others: classes whose objects pickle has to write whatever they look like.
        pickled: gives the pickle of a class and attribute names, or None; default: by name.
    """

    cdef uint8_t *data
    cdef size_t used
    cdef size_t room
    cdef Py_ssize_t out_of_band_from
    cdef dict layouts  # class -> {attribute names: layout}, or None where pickle must do it
    cdef object others
    cdef object pickled
    cdef dict dtypes  # of those without fields and metadata: dtype -> layout, or empty
    cdef object last_dtype  # one of them
    cdef bytes last_layout
    cdef dict memo  # id -> number; its objects belong to the value that is being written
    cdef list large

    def __cinit__(self, Py_ssize_t out_of_band_from, others=(), pickled=None):
        self.others = others
        self.pickled = pickled or by_name
        self.out_of_band_from = out_of_band_from
        self.layouts = {}
        self.dtypes = {}
        self.memo = {}

    def __dealloc__(self):
        free(self.data)

    def begin(self):
        """A new map: look again at what was refused, and at what may have been defined anew."""
        self.layouts = {cls: layouts for cls, layouts in self.layouts.items()
                        if layouts and is_current(cls) and cls.__module__ != "__main__"}

    def dumps(self, value, list large):
        """The payload of a value, with a head of no buffers, as bytes; None if it is not plain.

        Arrays of ``out_of_band_from`` bytes and more are appended to ``large``, contiguous, and
        only their number is written.
        """
        if not self.write(value, large):
            return None
        return PyBytes_FromStringAndSize(<char *>self.data, self.used)

    def put(self, value, Heap heap not None):
        """``dumps`` into a block: its number and length. None also if there are large arrays."""
        if not self.write(value, large := []) or large:
            return None
        return heap.put_bytes(self.data, self.used), self.used

    def extend(self, list columns, Py_ssize_t first, Py_ssize_t stop, size_t most, list lengths,
               dict clones):
        """Payloads for the elements [first, stop) of some columns, one after another, as bytes.

        Each is a tuple of one element of each column. Ends before one that is not plain or has
        large arrays, and after ``most`` bytes. ``lengths`` gets the length of each. ``clones`` has
        ``(object, payload)`` of objects that are the only element, by id: it gets those of some
        size. It holds the objects, for some columns make an element only when asked for it, and
        the next one may lie where it lay.
        """
        cdef Py_ssize_t at, k
        cdef list values = [None] * len(columns)
        cdef size_t written = 0
        self.used = 0
        self.large = []
        cdef bint single = len(columns) == 1
        try:
            for at in range(first, stop):
                if written >= most:
                    break
                for k in range(len(columns)):
                    values[k] = columns[k][at]
                clone = clones.get(id(values[0])) if single and clones else None
                known = None if clone is None else (<tuple>clone)[1]
                if known is not None:
                    self.bytes(PyBytes_AS_STRING(known), PyBytes_GET_SIZE(known))
                elif not self.elements(values) or self.large:
                    break
                elif single and self.used - written >= CLONED_FROM:
                    known = (<const char *>self.data)[written:self.used]
                    clones[id(values[0])] = (values[0], known)
                lengths.append(self.used - written)
                written = self.used
        except Exception:
            pass  # whoever writes this element by itself meets the error again
        finally:
            self.memo.clear()
            self.large = None
        return PyBytes_FromStringAndSize(<char *>self.data, written)

    cdef int elements(self, list values) except -1:
        self.memo.clear()
        self.memo[0] = -1  # the tuple's number; no object has this id
        self.no_buffers()
        self.counted(c"t", len(values))
        for value in values:
            if not self.value(value, 1):
                return 0
        return 1

    cdef int write(self, value, list large) except -1:
        self.used = 0
        self.large = large
        try:
            self.no_buffers()
            return self.value(value, 0)
        finally:
            self.memo.clear()
            self.large = None

    cdef void *no_buffers(self) except NULL:
        return memset(self.reserve(sizeof(uint64_t)), 0, sizeof(uint64_t))

    cdef uint8_t *reserve(self, size_t more) except NULL:
        cdef size_t room
        cdef void *grown
        if more > self.room - self.used:
            room = max(2 * self.room, self.used + more, 4096)
            grown = realloc(self.data, room)
            if grown == NULL:
                raise MemoryError(f"no memory to write a value of more than {self.used} bytes")
            self.data = <uint8_t *>grown
            self.room = room
        self.used += more
        return self.data + self.used - more

    cdef int bytes(self, const void *source, size_t length) except -1:
        memcpy(self.reserve(length), source, length)
        return 1

    cdef int tag(self, uint8_t tag) except -1:
        self.reserve(1)[0] = tag
        return 1

    cdef int tagged(self, uint8_t tag, const void *source, size_t length) except -1:
        cdef uint8_t *place = self.reserve(1 + length)
        place[0] = tag
        memcpy(place + 1, source, length)
        return 1

    cdef int counted(self, uint8_t tag, Py_ssize_t count) except -1:
        cdef uint32_t number = <uint32_t>count
        if count > 0xFFFFFFFF:
            return 0
        return self.tagged(tag, &number, 4)

    cdef int text(self, uint8_t tag, const char *source, Py_ssize_t length) except -1:
        return self.counted(tag, length) and self.bytes(source, length)

    cdef int layout(self, uint8_t tag, bytes layout) except -1:
        return self.text(tag, PyBytes_AS_STRING(layout), PyBytes_GET_SIZE(layout))

    cdef int known(self, value) except -1:
        """Write a reference to a container that was written before; else give it a number."""
        key = <size_t><PyObject *>value
        number = self.memo.get(key)
        if number is not None:
            return self.counted(c"r", number)
        self.memo[key] = len(self.memo)
        return 0

    cdef int value(self, object value, int depth) except -1:
        """1: written. 0: not plain."""
        cdef long long integer
        cdef double parts[2]
        cdef int overflow = 0
        cdef Py_ssize_t length
        cdef const char *text
        if value is None:
            return self.tag(c"N")
        if value is True:
            return self.tag(c"T")
        if value is False:
            return self.tag(c"F")
        if PyFloat_CheckExact(value):
            parts[0] = value
            return self.tagged(c"f", parts, 8)
        if PyLong_CheckExact(value):
            integer = PyLong_AsLongLongAndOverflow(value, &overflow)
            return 0 if overflow else self.tagged(c"i", &integer, 8)
        if PyUnicode_CheckExact(value):
            try:
                text = PyUnicode_AsUTF8AndSize(value, &length)
            except UnicodeEncodeError:  # lone surrogates, as in undecodable file names
                return 0
            if length >= SHORTEST_SHARED and self.known(value):
                return 1
            return self.text(c"s" if length < SHORTEST_SHARED else c"S", text, length)
        if PyBytes_CheckExact(value):
            length = PyBytes_GET_SIZE(value)
            if length >= SHORTEST_SHARED and self.known(value):
                return 1
            return self.text(c"b" if length < SHORTEST_SHARED else c"B",
                             PyBytes_AS_STRING(value), length)
        if depth > DEEPEST:
            return 0
        return self.container(value, depth + 1)

    cdef int container(self, object value, int depth) except -1:
        cdef double parts[2]
        kind = type(value)
        if kind is cnp.ndarray:
            return self.known(value) or self.array(value)
        if PyTuple_CheckExact(value):
            return self.tuple(value, depth)
        if PyList_CheckExact(value):
            if self.known(value):
                return 1
            if not self.counted(c"l", len(<list>value)):
                return 0
            for element in <list>value:
                if not self.value(element, depth):
                    return 0
            return 1
        if PyDict_CheckExact(value):
            return self.known(value) or self.dict(value, depth)
        if PyComplex_CheckExact(value):
            parts[0] = PyComplex_RealAsDouble(value)
            parts[1] = PyComplex_ImagAsDouble(value)
            return self.tagged(c"c", parts, 16)
        if kind in SCALARS:
            return self.scalar(value)
        if kind is range:
            return (self.tag(c"g") and self.value(value.start, depth)
                    and self.value(value.stop, depth) and self.value(value.step, depth))
        return self.known(value) or self.instance(value, kind, depth)

    cdef int tuple(self, tuple value, int depth) except -1:
        key = <size_t><PyObject *>value
        number = self.memo.get(key)
        if number is not None:
            return number >= 0 and self.counted(c"r", number)
        number = len(self.memo)
        self.memo[key] = -1  # met again before its end, it is in a cycle: pickle knows how
        if not self.counted(c"t", len(value)):
            return 0
        for element in value:
            if not self.value(element, depth):
                return 0
        self.memo[key] = number
        return 1

    cdef int dict(self, dict value, int depth) except -1:
        cdef Py_ssize_t position = 0
        cdef PyObject *key
        cdef PyObject *element
        if not self.counted(c"d", len(value)):
            return 0
        while PyDict_Next(value, &position, &key, &element):
            kind = type(<object>key)
            if not (kind is str or kind is int or kind is bytes or kind is float or kind is bool):
                return 0
            if not (self.value(<object>key, depth) and self.value(<object>element, depth)):
                return 0
        return 1

    cdef int instance(self, value, cls, int depth) except -1:
        cdef Py_ssize_t position = 0
        cdef PyObject *key
        cdef PyObject *element
        layouts = self.layouts.get(cls, False)
        if layouts is False:
            plain = cls not in self.others and keeps_state_in_dict(cls)
            layouts = self.layouts[cls] = {} if plain else None
        if layouts is None:
            return 0
        state = PyObject_GenericGetDict(value, NULL)
        names = tuple(<dict>state)
        layout = (<dict>layouts).get(names)
        if layout is None:
            layout = (<dict>layouts)[names] = self.describe(cls, names)
        if not layout or not self.layout(c"o", layout):
            return 0
        while PyDict_Next(<dict>state, &position, &key, &element):
            if not self.value(<object>element, depth):
                return 0
        return 1

    cdef bytes describe(self, cls, tuple names):
        """A class and its attributes, pickled; empty where pickle has to take over."""
        for name in names:
            if type(name) is not str or any(is_data_descriptor(c, name) for c in cls.__mro__):
                return b""
        return self.pickled(cls, names) or b""

    cdef bytes dtype_layout(self, dtype):
        """A dtype, pickled; empty where pickle has to take over."""
        if dtype is self.last_dtype:
            return self.last_layout
        if dtype.kind == "V" or dtype.metadata is not None:
            return pickle.dumps(dtype, 5) if _is_plain(dtype) else b""
        layout = self.dtypes.get(dtype)
        if layout is None:
            layout = self.dtypes[dtype] = pickle.dumps(dtype, 5) if _is_plain(dtype) else b""
        self.last_dtype, self.last_layout = dtype, layout
        return layout

    cdef int scalar(self, value) except -1:
        cdef bytes data = value.tobytes()
        return (self.layout(c"x", self.dtype_layout(value.dtype))
                and self.bytes(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)))

    cdef int array(self, cnp.ndarray value) except -1:
        cdef bytes layout = self.dtype_layout(value.dtype)
        cdef uint8_t flags = 0 if cnp.PyArray_ISWRITEABLE(value) else READONLY
        cdef int ndim = cnp.PyArray_NDIM(value), k
        cdef int64_t length
        cdef uint8_t *place
        if not layout:
            return 0
        if not cnp.PyArray_IS_C_CONTIGUOUS(value):
            if cnp.PyArray_IS_F_CONTIGUOUS(value):
                flags |= FORTRAN
            elif ndim > 2:  # some numpys keep the order of more axes, and pickle knows which
                return 0
            else:
                value = cnp.PyArray_GETCONTIGUOUS(value)
                flags = 0  # pickle makes a copy as well, which can be written
        cdef Py_ssize_t nbytes = cnp.PyArray_NBYTES(value)
        cdef bint large = nbytes >= self.out_of_band_from
        if not self.layout(c"A" if large else c"a", layout):
            return 0
        place = self.reserve(2 + 8 * ndim)
        place[0] = flags
        place[1] = <uint8_t>ndim
        for k in range(ndim):
            length = cnp.PyArray_DIM(value, k)
            memcpy(place + 2 + 8 * k, &length, 8)
        if not large:
            return self.bytes(cnp.PyArray_DATA(value), nbytes)
        cdef uint32_t number = len(self.large)
        self.large.append(value)
        return self.bytes(&number, 4)
