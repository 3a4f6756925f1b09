"""Fork and parent-death signal. See csrc/process.h."""

import os
import signal
import sys

from libc.errno cimport errno
from posix.unistd cimport fork as c_fork

from ringwalk._core.status cimport RW_STALE, check

cdef extern from "Python.h":
    void PyOS_BeforeFork()
    void PyOS_AfterFork_Parent()
    void PyOS_AfterFork_Child()

cdef extern from "process.h" nogil:
    int rw_process_die_with_parent(int signum, int expected_parent)


def fork():
    """Fork this process; 0 in the child, the child's pid in the parent. Raises OSError.

    Runs the interpreter's own fork hooks, like ``os.fork``. It does not warn about other
    threads: the callers in ``ringwalk.workers`` decide on that with more knowledge than the
    count of kernel threads that CPython 3.12+ goes by.
    """
    if sys is None or sys.is_finalizing():  # None: this module was cleared already
        raise RuntimeError("the interpreter is shutting down: no process can be forked now")
    cdef int pid
    PyOS_BeforeFork()
    pid = c_fork()
    if pid == 0:
        PyOS_AfterFork_Child()
        return 0
    # errno must be read before the hooks run Python code.
    cdef int saved = errno
    PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(saved, f"fork failed: {os.strerror(saved)}")
    return pid


def die_with_parent(int expected_parent, int signum=signal.SIGKILL):
    """Be killed when the thread that forked this process ends. False: it is gone already."""
    cdef int status = rw_process_die_with_parent(signum, expected_parent)
    if status == RW_STALE:
        return False
    check(status)
    return True
