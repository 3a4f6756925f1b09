"""Private copies of shared buffers, of which only the pages that are written get copied.

A value that is the same for all walkers is read again for each, and each may write in it. Its large
buffers are mapped privately: the first write to a page copies it, and the copies are thrown away
before the next walker. A first write is a page fault, so where the process had none nothing was
written; else the kernel's page map says which pages are copies.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.object cimport PyObject
from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint64_t

import os

from ringwalk._core.heap cimport HeapView

cdef extern from "Python.h":
    PyObject *PyList_GET_ITEM(object, Py_ssize_t)
    Py_ssize_t Py_REFCNT(PyObject *)

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)
    int madvise(void *address, size_t length, int advice)
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_NORESERVE, MADV_DONTNEED
    void *MAP_FAILED

cdef extern from "<sys/resource.h>" nogil:
    struct rusage:
        long ru_minflt
        long ru_majflt
    int RUSAGE_SELF
    int getrusage(int who, rusage *usage)

cdef extern from "<unistd.h>" nogil:
    long sysconf(int name)
    int _SC_PAGESIZE
    int close(int fd)
    ssize_t pread(int fd, void *buffer, size_t count, long offset)

cdef extern from "<fcntl.h>" nogil:
    int open(const char *path, int flags)
    int O_RDONLY, O_CLOEXEC

cdef enum:
    AT_ONCE = 4096  # pages whose entries of the page map are read together

# Bits of an entry, see Documentation/admin-guide/mm/pagemap.rst: of a page that is in memory or
# swapped out, and is not the file's, somebody wrote a copy.
cdef uint64_t EXISTS = <uint64_t>3 << 62
cdef uint64_t OF_FILE = <uint64_t>1 << 61

cdef size_t PAGE = sysconf(_SC_PAGESIZE)


cdef long page_faults() noexcept:
    cdef rusage usage
    getrusage(RUSAGE_SELF, &usage)
    return usage.ru_minflt + usage.ru_majflt


@cython.no_gc_clear  # the source holds the block that is mapped
@cython.final
cdef class PrivateCopy:
    """A writable buffer with what a view shows, which is held meanwhile. Raises OSError."""

    cdef HeapView source
    cdef uint8_t *base
    cdef size_t size
    cdef size_t skipped  # from the start of the first page
    cdef long faults

    def __cinit__(self, HeapView source not None):
        cdef size_t place = <size_t>(source.address - source.heap.arena.c.base)
        cdef void *base
        self.skipped = place % PAGE
        self.size = self.skipped + source.length
        base = mmap(NULL, self.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
                    source.heap.arena.c.fd, <long>(place - self.skipped))
        if base == MAP_FAILED:
            raise OSError(errno, os.strerror(errno))
        self.base = <uint8_t *>base
        self.source = source
        self.faults = page_faults()

    def __dealloc__(self):
        if self.base != NULL:
            munmap(self.base, self.size)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.base + self.skipped, self.source.length, False, flags)

    def __len__(self):
        return self.source.length

    cdef int restore(self) except -1:
        """Throw away what was written."""
        cdef int map
        if page_faults() == self.faults:
            return 0
        map = open(b"/proc/self/pagemap", O_RDONLY | O_CLOEXEC)
        try:
            self.discard_written(map)
        finally:
            if map >= 0:
                close(map)
        self.faults = page_faults()
        return 0

    cdef int discard_written(self, int map) except -1:
        """Throw the written pages away, by the page map; all pages where it cannot be read."""
        cdef uint64_t entries[AT_ONCE]
        cdef uint64_t entry
        cdef size_t first = <size_t>self.base // PAGE, pages = (self.size + PAGE - 1) // PAGE
        cdef size_t page = 0, known, k, begin
        while page < pages:
            known = min(<size_t>AT_ONCE, pages - page)
            if pread(map, entries, known * 8, (first + page) * 8) != <ssize_t>(known * 8):
                return self.discard(page, pages)
            begin = known
            for k in range(known + 1):
                entry = entries[k] if k < known else 0
                if entry & EXISTS and not entry & OF_FILE:
                    begin = min(begin, k)
                elif begin < k:
                    self.discard(page + begin, page + k)
                    begin = known
            page += known
        return 0

    cdef int discard(self, size_t begin, size_t end) except -1:
        if madvise(self.base + begin * PAGE, (end - begin) * PAGE, MADV_DONTNEED) != 0:
            raise OSError(errno, os.strerror(errno))
        return 0


def restore(list buffers not None):
    """Make each private copy what it was at first; another one in its place if somebody keeps it.

    pre: only the list refers to those that nobody keeps.
    """
    cdef Py_ssize_t k
    for k in range(len(buffers)):
        kept = Py_REFCNT(PyList_GET_ITEM(buffers, k)) > 1
        if type(buffers[k]) is PrivateCopy:
            if kept:
                buffers[k] = PrivateCopy((<PrivateCopy>buffers[k]).source)
            else:
                (<PrivateCopy>buffers[k]).restore()
