"""numpy's large arrays in a heap: what a segment computes lies where its caller will read it.

A handler of numpy's (NEP 49) for the thread that asks for it. Arrays of ``SERVED_FROM`` bytes and
more get a block of the heap, held like a view until they die; smaller ones, and those for which
the heap has no room, come from the handler that was there before. A block that is free again
serves the next array on pages that are mapped already.

In a process that is forked meanwhile the arrays are its own, as any memory after a fork: what is
held is copied before the fork, and takes the shared memory's place in the child.
"""

from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc
from libc.string cimport memcpy, memset, strcpy

cimport numpy as cnp

from ringwalk._core.heap cimport Heap
from ringwalk._core.ownership cimport is_mine, owner_token

import os

cdef extern from "sys/mman.h":
    enum:
        PROT_READ
        PROT_WRITE
        MAP_PRIVATE
        MAP_ANONYMOUS
        MREMAP_MAYMOVE
        MREMAP_FIXED
    void *MAP_FAILED
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    void *mremap(void *old, size_t old_length, size_t length, int flags, void *address)
    int munmap(void *address, size_t length)

cdef extern from "Python.h":
    void PyErr_Fetch(PyObject **kind, PyObject **value, PyObject **traceback)
    void PyErr_Restore(PyObject *kind, PyObject *value, PyObject *traceback)

cnp.import_array()

# From here a block costs less than the copy, and its fresh pages, that it spares.
SERVED_FROM = 64 << 10
# New blocks for arrays end within so many bytes of the heap's data. What results take beyond,
# arrays use only when it is free: a heap never gives memory back.
MOST_SERVED = 512 << 20
# Larger ones malloc gets from the kernel, zeroed when they are touched, and not before.
MOST_ZEROED = 32 << 20

cdef size_t _served_from = SERVED_FROM, _most_zeroed = MOST_ZEROED
cdef uint64_t _most_served = MOST_SERVED
cdef const char *_NAME = "mem_handler"

cdef struct Lender:
    cnp.PyDataMem_Handler handler
    cnp.PyDataMem_Handler *before
    PyObject *heap
    uint64_t owner

cdef list _heaps = []  # of this process's workspace, once it serves
cdef list _kept = []  # what lenders point to; arrays may outlive everything else


def serve_numpy(list heaps, Heap heap not None):
    """Have the arrays that this thread makes from now on lie in a heap that this process owns.

    Args:
        heaps: all handles on memory that the process takes for its own.
    """
    cdef Lender *lender = <Lender *>calloc(1, sizeof(Lender))
    if lender == NULL:
        raise MemoryError("no memory for numpy's handler")
    before = cnp.PyDataMem_GetHandler()
    strcpy(lender.handler.name, "ringwalk")
    lender.handler.version = 1
    lender.handler.allocator.ctx = lender
    lender.handler.allocator.malloc = _malloc
    lender.handler.allocator.calloc = _calloc
    lender.handler.allocator.realloc = _realloc
    lender.handler.allocator.free = _free
    lender.before = <cnp.PyDataMem_Handler *>PyCapsule_GetPointer(before, _NAME)
    lender.heap = <PyObject *>heap
    lender.owner = owner_token()
    _kept.append((heap, before))
    _heaps[:] = heaps
    cnp.PyDataMem_SetHandler(PyCapsule_New(lender, _NAME, NULL))


def copies_at_fork():
    """Whether a process that is forked now gets copies of what this one views."""
    return len(_heaps) > 0


cdef list _copies = []  # of the fork that is going on: (address, bytes, where the copy is)


def _copy_all():
    """Before a fork: copy what arrays and inputs of this process lie in."""
    cdef Heap heap
    cdef size_t address, length
    cdef void *copy
    for heap in _heaps:
        for address, length in heap.viewed():
            copy = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
            if copy == MAP_FAILED:
                raise MemoryError(f"no memory to give a forked process its own {length} bytes")
            memcpy(copy, <void *>address, length)
            _copies.append((address, length, <size_t>copy))


def _drop_copies():
    cdef size_t _address, length, copy
    while _copies:
        _address, length, copy = _copies.pop()
        munmap(<void *>copy, length)


def _take_copies():
    """In the child: the copies take the place of the shared memory."""
    cdef size_t address, length, copy
    _heaps.clear()
    while _copies:
        address, length, copy = _copies.pop()
        mremap(<void *>copy, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, <void *>address)


os.register_at_fork(before=_copy_all, after_in_parent=_drop_copies, after_in_child=_take_copies)


cdef void *_lend(Lender *lender, size_t size) noexcept:
    if size < _served_from or not is_mine(lender.owner):
        return NULL
    return (<Heap>lender.heap).lend(size, _most_served)


cdef void *_malloc(void *context, size_t size) noexcept:
    cdef Lender *lender = <Lender *>context
    cdef void *found = _lend(lender, size)
    if found == NULL:
        found = lender.before.allocator.malloc(lender.before.allocator.ctx, size)
    return found


cdef void *_calloc(void *context, size_t count, size_t size) noexcept:
    cdef Lender *lender = <Lender *>context
    cdef void *found = NULL
    if size and count <= _most_zeroed // size:
        found = _lend(lender, count * size)
    if found == NULL:
        return lender.before.allocator.calloc(lender.before.allocator.ctx, count, size)
    return memset(found, 0, count * size)


cdef void *_realloc(void *context, void *old, size_t size) noexcept:
    cdef Lender *lender = <Lender *>context
    cdef size_t room = 0 if old == NULL else (<Heap>lender.heap).room(old)
    cdef void *found
    if room == 0:
        return lender.before.allocator.realloc(lender.before.allocator.ctx, old, size)
    if room // 2 <= size <= room:
        return old
    found = lender.before.allocator.malloc(lender.before.allocator.ctx, size)
    if found != NULL:
        memcpy(found, old, min(room, size))
        _free(context, old, room)
    return found


cdef void _free(void *context, void *old, size_t size) noexcept:
    cdef Lender *lender = <Lender *>context
    cdef PyObject *kind
    cdef PyObject *value
    cdef PyObject *traceback
    if old == NULL or (<Heap>lender.heap).room(old) == 0:
        lender.before.allocator.free(lender.before.allocator.ctx, old, size)
    elif is_mine(lender.owner):
        PyErr_Fetch(&kind, &value, &traceback)  # arrays die while errors are on their way
        (<Heap>lender.heap).take_back(old)
        PyErr_Restore(kind, value, traceback)
