from libc.stdint cimport uint8_t, uint32_t, uint64_t

from ringwalk._core.arena cimport Arena, rw_arena

cdef extern from "heap.h" nogil:
    enum:
        RW_MAX_HOLDERS
    struct rw_heap_lists:
        pass
    struct rw_heap:
        uint64_t data_size
        uint8_t *data
        rw_heap_lists *lists
    struct rw_heap_usage_t "rw_heap_usage":
        uint64_t blocks
        uint64_t held_blocks
        uint64_t held_bytes
        uint64_t committed_bytes
    uint64_t rw_heap_bytes(uint64_t data_size)
    int rw_heap_bind(rw_heap *heap, const rw_arena *arena, uint64_t start, uint64_t data_size)
    int rw_heap_own(rw_heap *heap)
    void rw_heap_disown(rw_heap *heap)
    int rw_heap_alloc(rw_heap *heap, uint64_t length, uint32_t holder, uint32_t *block)
    int rw_heap_alloc_spare(rw_heap *heap, uint64_t length, uint32_t holder, uint64_t most,
                            uint32_t *block)
    bint rw_heap_find(const rw_heap *heap, const void *address, uint32_t *block, uint64_t *offset,
                      uint64_t *size)
    void rw_heap_refresh(rw_heap *heap)
    int rw_heap_hold(rw_heap *heap, uint32_t block, uint32_t holder)
    int rw_heap_release(rw_heap *heap, uint32_t block, uint32_t holder)
    bint rw_heap_holds(const rw_heap *heap, uint32_t block, uint32_t holder)
    void rw_heap_forget(rw_heap *heap, uint32_t holder)
    int rw_heap_at(const rw_heap *heap, uint32_t block, uint64_t offset, uint64_t length,
                   uint8_t **address)
    int rw_heap_data(const rw_heap *heap, uint64_t offset, uint64_t length, uint8_t **address)
    void rw_heap_usage(const rw_heap *heap, rw_heap_usage_t *usage)

cdef class Heap:
    cdef Arena arena
    cdef rw_heap c
    cdef dict counts
    cdef set kept
    cdef object __weakref__
    cdef uint64_t owner
    cdef bint parted
    cdef readonly int index
    cdef readonly uint32_t holder
    cdef int check_owner(self) except -1
    cdef uint32_t put_bytes(self, const void *data, size_t length) except? 0
    cdef const uint8_t *read(self, uint32_t block, uint64_t length) except NULL
    cpdef release_for(self, uint32_t block, uint32_t holder)
    cdef int hold(self, uint32_t block) except -1
    cdef int unhold(self, uint32_t block) except -1
    cdef void *lend(self, size_t length, uint64_t most) except? NULL
    cdef size_t room(self, const void *address) noexcept
    cdef int take_back(self, const void *address) except -1
    cdef int part(self) except -1
    cdef list hold_viewed(self)
    cdef int unhold_viewed(self, list blocks) except -1

cdef class HeapView:
    cdef Heap heap
    cdef uint8_t *address
    cdef Py_ssize_t length
    cdef bint readonly_
    cdef uint64_t owner
    cdef readonly uint32_t block
    cdef readonly uint64_t offset
