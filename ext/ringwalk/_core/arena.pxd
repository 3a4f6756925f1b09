from libc.stdint cimport uint8_t, uint64_t

cdef extern from "arena.h" nogil:
    struct rw_arena:
        uint8_t *base
        uint64_t size
        int fd
    int rw_arena_create(rw_arena *arena, uint64_t size)
    int rw_arena_attach(rw_arena *arena, int fd)
    int rw_arena_reserve(const rw_arena *arena, uint64_t offset, uint64_t length)
    void rw_arena_close(rw_arena *arena)

cdef class Arena:
    cdef rw_arena c
    cdef uint8_t *at(self, uint64_t offset, uint64_t length) except NULL
