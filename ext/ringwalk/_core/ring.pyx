"""Ring of task numbers: one producer, many consumers. See csrc/ring.h."""

cimport cython
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc

from ringwalk._core.arena cimport Arena
from ringwalk._core.status cimport RW_EMPTY, check


def ring_bytes(uint64_t capacity):
    return rw_ring_bytes(capacity)


@cython.final
cdef class Ring:
    """A handle on a ring in an arena. push is the producer's alone; pop is anybody's."""

    def __cinit__(self, Arena arena not None, uint64_t offset, uint64_t capacity):
        if capacity == 0 or capacity & (capacity - 1):
            raise ValueError(f"a ring's capacity is a power of two, not {capacity}")
        self.arena = arena
        rw_ring_bind(&self.c, arena.at(offset, rw_ring_bytes(capacity)), capacity)

    def __len__(self):
        return rw_ring_length(&self.c)

    @property
    def capacity(self):
        return self.c.capacity

    def push(self, numbers):
        """Append numbers in order; return how many fitted."""
        cdef uint64_t count = len(numbers), pushed = 0, i
        cdef uint64_t *cells = <uint64_t *>malloc(max(count, 1) * sizeof(uint64_t))
        if cells == NULL:
            raise MemoryError(f"no memory for {count} task numbers")
        try:
            for i in range(count):
                cells[i] = numbers[i]
            check(rw_ring_push(&self.c, cells, count, &pushed))
        finally:
            free(cells)
        return pushed

    def pop(self):
        """Take the oldest number, or None."""
        cdef uint64_t number = 0
        cdef int status = rw_ring_pop(&self.c, &number)
        if status == RW_EMPTY:
            return None
        check(status)
        return number
