from libc.stdint cimport uint64_t

from ringwalk._core.arena cimport Arena

cdef extern from "ring.h" nogil:
    struct rw_ring:
        uint64_t capacity
    uint64_t rw_ring_bytes(uint64_t capacity)
    void rw_ring_bind(rw_ring *ring, void *memory, uint64_t capacity)
    int rw_ring_check(const rw_ring *ring)
    int rw_ring_push(rw_ring *ring, const uint64_t *numbers, uint64_t count, uint64_t *pushed)
    int rw_ring_pop(rw_ring *ring, uint64_t *number)
    uint64_t rw_ring_length(const rw_ring *ring)

cdef class Ring:
    cdef Arena arena
    cdef rw_ring c
