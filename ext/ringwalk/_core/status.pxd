# One error policy for every native call: with nogil: check(rw_x(...)).

from libc.errno cimport errno

cdef extern from "status.h" nogil:
    enum:
        RW_OK
        RW_EMPTY
        RW_FULL
        RW_TIMEOUT
        RW_INTERRUPTED
        RW_STALE
        RW_CORRUPT
        RW_NO_MEMORY
        RW_OS

cdef inline int raise_status(int status, int number) except -1 with gil:
    from ringwalk.errors import raise_for_status
    raise_for_status(status, number)
    return -1

# The GIL is taken only to raise; errno is read before anything can change it.
cdef inline int check(int status) except -1 nogil:
    if status == RW_OK:
        return 0
    return raise_status(status, errno)
