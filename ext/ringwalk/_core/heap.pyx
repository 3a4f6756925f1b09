"""Heap of payload blocks in shared memory, and views on them. See csrc/heap.h."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

import weakref

from ringwalk._core.arena cimport Arena
from ringwalk._core.ownership cimport is_mine, owner_token
from ringwalk._core.status cimport RW_NO_MEMORY, RW_OK, RW_OS, check

from ringwalk._core.headroom import refuse

cdef extern from "sys/mman.h":
    enum:
        PROT_READ
        PROT_WRITE
        MAP_PRIVATE
        MAP_FIXED
    void *MAP_FAILED
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)

cdef extern from "Python.h":
    enum:
        PyBUF_READ
    object PyMemoryView_FromMemory(char *memory, Py_ssize_t size, int flags)

MAX_HOLDERS = RW_MAX_HOLDERS


def heap_bytes(uint64_t data_size):
    return rw_heap_bytes(data_size)


# Address -> weak reference. Not a WeakSet: Python code that runs as a handle dies can swallow a
# Ctrl-C, and while somebody walks through the set it lets other threads make handles.
cdef dict _heaps = {}


cdef list living():
    """All handles of this process."""
    cdef list found = [reference() for reference in list(_heaps.values())]
    return [heap for heap in found if heap is not None]


def locate(list heaps, data):
    """Where a buffer lies in a pool's heaps: ``(index, block, offset, block's size)``, or None.

    ``heaps`` are this process's handles on all of them, in order.
    """
    cdef Heap heap = heaps[0]
    cdef Py_buffer source
    cdef uint32_t block = 0
    cdef uint64_t offset = 0, size = 0, distance, index
    PyObject_GetBuffer(data, &source, PyBUF_SIMPLE)
    try:
        distance = <uint64_t>source.buf - <uint64_t>heap.c.data
        index = distance // rw_heap_bytes(heap.c.data_size)
        if <uint64_t>source.buf < <uint64_t>heap.c.data or index >= <uint64_t>len(heaps):
            return None
        heap = heaps[index]
        if not rw_heap_find(&heap.c, source.buf, &block, &offset, &size):
            return None
        return index, block, offset, size
    finally:
        PyBuffer_Release(&source)


def hold_all():
    """Hold every block that this process has a view of; returns what ``unhold_all`` takes.

    For the time that a forked child may use views it inherited: it cannot hold them itself.
    """
    held = [(heap, (<Heap>heap).hold_viewed()) for heap in living()]
    return [(heap, blocks) for heap, blocks in held if blocks]


def unhold_all(held):
    for heap, blocks in held:
        (<Heap>heap).unhold_viewed(blocks)


def part_views():
    """In a forked process: have the memory of inherited views for itself, copied as it is written.

    What others write later it may see or not. For while they are held: see ``hold_all``.
    """
    for heap in living():
        (<Heap>heap).part()


def inherits_views(Arena arena not None):
    """Whether this process has private views of the memory, see ``part_views``, at its address."""
    cdef Heap heap
    for heap in living():
        if heap.arena is arena and heap.counts and not is_mine(heap.owner):
            return True
    return False


# no_gc: a handle and its views refer to nothing that refers to them. The collector may not clear
# what a handle of a dead cycle refers to: the __dealloc__ of a view needs it.
@cython.no_gc
@cython.final
cdef class Heap:
    """This process's handle on one heap.

    ``holder`` is the bit under which this process holds blocks. Views count in the process:
    the bit is set by the first view of a block and cleared when the last one dies, unless a
    ``put`` that was not released holds the block as well.

    Thread safety: views may be made and die on any thread, and several may allocate. What reads and
    then changes the counts, the free lists or the bit is one critical section; with the GIL, which
    none of them lets go, that costs nothing.

    A forked child makes handles of its own. With one that it inherited it changes nothing in
    shared memory, whatever dies or is closed there, unless it takes the place of the process that
    made it: see ``adopt``.
    """

    def __cinit__(self, Arena arena not None, uint64_t start, uint64_t data_size, int index,
                  uint32_t holder):
        if holder >= RW_MAX_HOLDERS:
            raise ValueError(f"holder {holder}; a heap knows {RW_MAX_HOLDERS}")
        self.arena = arena
        self.owner = owner_token()
        self.index = index
        self.holder = holder
        self.counts = {}  # block -> views that live
        self.kept = set()  # of these, the ones that a put holds too
        check(rw_heap_bind(&self.c, &arena.c, start, data_size))
        _heaps[<size_t><PyObject *>self] = weakref.ref(self)

    def __dealloc__(self):
        _heaps.pop(<size_t><PyObject *>self, None)
        rw_heap_disown(&self.c)

    def adopt(self):
        """In a forked process: go on with this handle in the place of the one that made it.

        They share a holder bit, so the two may not use the handle at the same time.
        """
        self.owner = owner_token()
        self.parted = False

    cdef int check_owner(self) except -1:
        if not is_mine(self.owner):
            raise RuntimeError("this handle on a heap belongs to the process that forked this one; "
                               "make one here")
        return 0

    def own(self):
        """Become the process that allocates here."""
        if self.c.lists == NULL:
            check(rw_heap_own(&self.c))

    def put(self, data, list noted=None):
        """Copy a buffer's bytes into a new block; returns its number, and notes it if asked to.

        The block is held under ``holder`` until ``release``. A Ctrl-C that came during the copy is
        raised before the caller could note it. Raises HeapFullError.
        """
        cdef Py_buffer source
        PyObject_GetBuffer(data, &source, PyBUF_SIMPLE)
        try:
            block = self.put_bytes(source.buf, source.len)
        finally:
            PyBuffer_Release(&source)
        if noted is not None:
            noted.append(block)
        return block

    cdef uint32_t put_bytes(self, const void *data, size_t length) except? 0:
        cdef uint32_t block = 0
        cdef uint8_t *address = NULL
        cdef int status
        self.check_owner()
        if self.c.lists == NULL:
            raise RuntimeError("only a heap's owner allocates in it")
        with cython.critical_section(self):
            status = rw_heap_alloc(&self.c, length, self.holder, &block)
        if status == RW_NO_MEMORY:
            refuse(length)
        check(status)
        check(rw_heap_at(&self.c, block, 0, length, &address))
        if length < 65536:
            memcpy(address, data, length)
        else:
            with nogil:
                memcpy(address, data, length)
        return block

    def place(self, uint32_t block):
        """Where a block begins in the data area, in bytes."""
        cdef uint8_t *address = NULL
        check(rw_heap_at(&self.c, block, 0, 0, &address))
        return address - self.c.data

    def peek(self, uint64_t place, uint64_t length):
        """A read-only memoryview that holds nothing: for use while somebody else does."""
        cdef uint8_t *address = NULL
        check(rw_heap_data(&self.c, place, length, &address))
        return PyMemoryView_FromMemory(<char *>address, length, PyBUF_READ)

    def begins_with(self, uint32_t block, data):
        """Whether a block that this process holds begins with a buffer's bytes."""
        cdef Py_buffer source
        cdef uint8_t *address = NULL
        cdef int difference
        PyObject_GetBuffer(data, &source, PyBUF_SIMPLE)
        try:
            check(rw_heap_at(&self.c, block, 0, source.len, &address))
            with nogil:
                difference = memcmp(address, source.buf, source.len)
        finally:
            PyBuffer_Release(&source)
        return difference == 0

    def peek_block(self, uint32_t block, uint64_t length):
        cdef uint8_t *address = NULL
        check(rw_heap_at(&self.c, block, 0, length, &address))
        return self.peek(address - self.c.data, length)

    cdef const uint8_t *read(self, uint32_t block, uint64_t length) except NULL:
        """What a block begins with, for use while somebody holds it."""
        cdef uint8_t *address = NULL
        check(rw_heap_at(&self.c, block, 0, length, &address))
        return address

    def view(self, uint32_t block, uint64_t offset, uint64_t length, bint readonly=False):
        """A buffer on part of a block; the block is held until the last such buffer dies."""
        cdef HeapView view = HeapView.__new__(HeapView)
        self.check_owner()
        check(rw_heap_at(&self.c, block, offset, length, &view.address))
        self.hold(block)
        view.heap = self
        view.block = block
        view.offset = offset
        view.length = length
        view.readonly_ = readonly
        view.owner = self.owner
        return view

    def keep(self, uint32_t block):
        """Make the hold of a block's only view one that outlives it, as that of a ``put``.

        False, and nothing happened: there are other views.
        """
        self.check_owner()
        with cython.critical_section(self):
            if self.counts.get(block) != 1 or block in self.kept:
                return False
            self.kept.add(block)
        return True

    def given(self, uint32_t block):
        """Whether this process gave the block away and whoever gets it has yet to end the hold.

        A view made now would lose the block then.
        """
        return block not in self.counts and rw_heap_holds(&self.c, block, self.holder)

    def viewed(self):
        """(address, bytes) of the blocks that this process has views of."""
        cdef uint32_t found = 0
        cdef uint64_t offset = 0, size = 0
        cdef uint8_t *address = NULL
        places = []
        for block in list(self.counts):  # the collector may end views meanwhile
            check(rw_heap_at(&self.c, block, 0, 0, &address))
            if rw_heap_find(&self.c, address, &found, &offset, &size):
                places.append((<size_t>address, size))
        return places

    def release(self, uint32_t block):
        """Drop this process's hold, once for each ``put``."""
        if not is_mine(self.owner):
            return
        with cython.critical_section(self):
            if block in self.counts:
                self.kept.discard(block)
                return  # a view lives: its death clears the bit
            check(rw_heap_release(&self.c, block, self.holder))

    cpdef release_for(self, uint32_t block, uint32_t holder):
        """Drop another process's hold on its behalf: it handed the block over."""
        if holder >= RW_MAX_HOLDERS:
            raise ValueError(f"holder {holder}; a heap knows {RW_MAX_HOLDERS}")
        if is_mine(self.owner):
            check(rw_heap_release(&self.c, block, holder))

    def forget(self, uint32_t holder):
        """Drop a dead process's hold on every block."""
        if holder >= RW_MAX_HOLDERS:
            raise ValueError(f"holder {holder}; a heap knows {RW_MAX_HOLDERS}")
        if is_mine(self.owner):
            rw_heap_forget(&self.c, holder)

    def refresh(self):
        with cython.critical_section(self):
            if self.c.lists != NULL:
                rw_heap_refresh(&self.c)

    def usage(self):
        """Blocks, held blocks, held bytes and bytes promised by the kernel."""
        cdef rw_heap_usage_t usage
        rw_heap_usage(&self.c, &usage)
        return {
            "blocks": usage.blocks,
            "held_blocks": usage.held_blocks,
            "held_bytes": usage.held_bytes,
            "committed_bytes": usage.committed_bytes,
        }

    cdef int hold(self, uint32_t block) except -1:
        cdef object count
        with cython.critical_section(self):
            count = self.counts.get(block)
            if count is None:
                if rw_heap_holds(&self.c, block, self.holder):
                    self.kept.add(block)
                else:
                    check(rw_heap_hold(&self.c, block, self.holder))
                self.counts[block] = 1
            else:
                self.counts[block] = count + 1
        return 0

    cdef int unhold(self, uint32_t block) except -1:
        cdef object count
        with cython.critical_section(self):
            count = self.counts.get(block)
            if count is None:
                return 0
            if count == 1:
                del self.counts[block]
                if block in self.kept:
                    self.kept.discard(block)
                else:
                    check(rw_heap_release(&self.c, block, self.holder))
            else:
                self.counts[block] = count - 1
        return 0

    cdef void *lend(self, size_t length, uint64_t most) except? NULL:
        """Memory that counts as a view, until ``take_back``; NULL if there is none for it."""
        cdef uint32_t block = 0
        cdef uint8_t *address = NULL
        with cython.critical_section(self):
            if (rw_heap_alloc_spare(&self.c, length, self.holder, most, &block) != RW_OK
                    or rw_heap_at(&self.c, block, 0, length, &address) != RW_OK):
                return NULL
            self.counts[block] = 1
        return address

    cdef size_t room(self, const void *address) noexcept:
        """Bytes from an address to the end of its block; 0 if it lies in none."""
        cdef uint32_t block = 0
        cdef uint64_t offset = 0, size = 0
        if not rw_heap_find(&self.c, address, &block, &offset, &size):
            return 0
        return size - offset

    cdef int take_back(self, const void *address) except -1:
        cdef uint32_t block = 0
        cdef uint64_t offset = 0, size = 0
        if rw_heap_find(&self.c, address, &block, &offset, &size):
            self.unhold(block)
        return 0

    cdef int part(self) except -1:
        cdef size_t address, length
        if self.parted or is_mine(self.owner):
            return 0
        for address, length in self.viewed():
            if mmap(<void *>address, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
                    self.arena.c.fd, address - <size_t>self.arena.c.base) == MAP_FAILED:
                check(RW_OS)
        self.parted = True  # what this process writes now, those that it forks inherit
        return 0

    cdef list hold_viewed(self):
        blocks = list(self.counts) if is_mine(self.owner) else []
        for block in blocks:
            self.hold(block)
        return blocks

    cdef int unhold_viewed(self, list blocks) except -1:
        for block in blocks if is_mine(self.owner) else ():
            self.unhold(block)
        return 0


@cython.no_gc  # see Heap
@cython.final
cdef class HeapView:
    """A buffer on shared memory. While it, or an array made on it, lives, the block is held."""

    def __dealloc__(self):
        if self.heap is not None and is_mine(self.owner):
            self.heap.unhold(self.block)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.address, self.length, self.readonly_, flags)

    @property
    def index(self):
        """Number of the heap that the view is on."""
        return self.heap.index

    @property
    def readonly(self):
        return self.readonly_

    def __len__(self):
        return self.length
