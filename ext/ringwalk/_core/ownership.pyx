"""Whether something was made by this process, or by one that it was forked from.

Whoever owns memory, descriptors or processes keeps ``owner_token()`` when it makes them, and asks
``is_owner`` before it releases or changes anything that others see. See csrc/ownership.h.
"""

from cpython.exc cimport PyErr_SetFromErrno
from libc.stdint cimport uint64_t

cdef extern from "ownership.h" nogil:
    const uint64_t *rw_ownership_begin()
    uint64_t rw_ownership_token()

own_token = rw_ownership_begin()
if own_token == NULL:
    PyErr_SetFromErrno(OSError)


cpdef uint64_t owner_token() noexcept:
    """This process's number: no process that forks it or that it forks has the same."""
    return rw_ownership_token()


def is_owner(uint64_t token):
    """Whether this process was given the token; False in every process that it forked."""
    return is_mine(token)
