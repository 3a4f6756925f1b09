"""A leash: a pipe whose reader sees the end of all processes that hold the other end.

One process inherits that end, and those it forks. Another thread may fork meanwhile, whoever's
code it runs, and what it forks would hold the leash as well. A lock that kept it from doing so
would be one more that a fork waits for. So each child closes the ends that are not meant for it.
"""

from cpython.pythread cimport PyThread_get_thread_ident
from libc.errno cimport errno

import os

cdef extern from "<fcntl.h>" nogil:
    int O_CLOEXEC

cdef extern from "<unistd.h>" nogil:
    int pipe2(int *ends, int flags)
    int c_close "close"(int fd)

# Ends that their holder has yet to inherit -> the thread that forks it. Changed together with what
# it tells of while this thread has the GIL: no other one forks in between.
cdef dict under_way = {}


def make_leash():
    """The end to watch, and the one to be inherited by what this thread forks next."""
    cdef int ends[2]
    if pipe2(ends, O_CLOEXEC) != 0:
        raise OSError(errno, os.strerror(errno))
    try:
        under_way[ends[1]] = PyThread_get_thread_ident()
    except MemoryError:
        c_close(ends[0])
        c_close(ends[1])
        raise
    return ends[0], ends[1]


def let_leash_go(int held):
    """Close the end that was to be inherited, in the process that made it."""
    del under_way[held]
    c_close(held)


cdef void leave_others_leashes() noexcept:
    """In a forked child: close the ends that other threads' children are to inherit."""
    if under_way is None:  # this module was cleared already
        return
    for held, thread in under_way.items():
        if thread != PyThread_get_thread_ident():
            c_close(held)
    under_way.clear()


def _forked():
    leave_others_leashes()


os.register_at_fork(after_in_child=_forked)
