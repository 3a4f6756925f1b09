"""Window: address space over a file that may grow under it. Plain mmap, so there is no C file.

Python's own mmap refuses to map past the end of a file, which is the whole point here.
"""

import os

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.errno cimport errno
from libc.stdint cimport uint64_t

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)
    int PROT_READ, PROT_WRITE, MAP_SHARED, MAP_NORESERVE
    void *MAP_FAILED


@cython.final
cdef class Window:
    """Maps ``size`` bytes of a file from its start, whatever its length. Raises OSError.

    Hazard: bytes past the end of the file exist only once the file is longer; touching them before
    is a SIGBUS. The mapping goes with the last buffer on it, the descriptor stays the caller's.
    """

    cdef void *base
    cdef readonly uint64_t size

    def __cinit__(self, int fd, uint64_t size):
        self.size = size
        self.base = mmap(
            NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0
        )
        if self.base == MAP_FAILED:
            raise OSError(errno, os.strerror(errno))

    def __dealloc__(self):
        if self.base != NULL and self.base != MAP_FAILED:
            munmap(self.base, self.size)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.base, <Py_ssize_t>self.size, False, flags)
