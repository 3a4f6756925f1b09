#include "ring.h"

#include "status.h"

uint64_t rw_ring_bytes(uint64_t capacity) {
    return sizeof(struct rw_ring_words) + capacity * sizeof(rw_a64);
}

void rw_ring_bind(struct rw_ring *ring, void *memory, uint64_t capacity) {
    ring->words = memory;
    ring->cells = (rw_a64 *)(ring->words + 1);
    ring->capacity = capacity;
}

int rw_ring_push(struct rw_ring *ring, const uint64_t *numbers, uint64_t count, uint64_t *pushed) {
    uint64_t tail = rw_load_relaxed(&ring->words->tail); /* only we write it */
    /* sync: pairs with pop's swap of head; the cells behind head were read and may be reused. */
    uint64_t used = tail - rw_load_acquire(&ring->words->head);
    *pushed = 0;
    if (used > ring->capacity)
        return RW_CORRUPT;
    uint64_t room = ring->capacity - used;
    if (count > room)
        count = room;
    for (uint64_t i = 0; i < count; i++)
        rw_store_relaxed(&ring->cells[(tail + i) & (ring->capacity - 1)], numbers[i]);
    /* sync: pairs with pop's load of tail; protects the cells. */
    rw_store_release(&ring->words->tail, tail + count);
    *pushed = count;
    return RW_OK;
}

int rw_ring_pop(struct rw_ring *ring, uint64_t *number) {
    uint64_t head = rw_load_acquire(&ring->words->head);
    for (;;) {
        /* sync: pairs with push's store of tail; protects the cells before it. */
        uint64_t used = rw_load_acquire(&ring->words->tail) - head;
        if (used == 0)
            return RW_EMPTY;
        if (used > ring->capacity) {
            /* head is older than a whole lap, or somebody scribbled: only a second look tells */
            uint64_t again = rw_load_acquire(&ring->words->head);
            if (again == head)
                return RW_CORRUPT;
            head = again;
            continue;
        }
        uint64_t value = rw_load_relaxed(&ring->cells[head & (ring->capacity - 1)]);
        /* sync: pairs with push's load of head; the cell was read before it is given up. On
         * failure head holds the current value, and the cell may have been overwritten. */
        if (rw_cas_acq_rel(&ring->words->head, &head, head + 1)) {
            *number = value;
            return RW_OK;
        }
    }
}

int rw_ring_check(const struct rw_ring *ring) {
    uint64_t head = rw_load_acquire(&ring->words->head); /* first: it never passes tail */
    uint64_t used = rw_load_relaxed(&ring->words->tail) - head;
    return used > ring->capacity ? RW_CORRUPT : RW_OK;
}

uint64_t rw_ring_length(const struct rw_ring *ring) {
    uint64_t head = rw_load_acquire(&ring->words->head);
    uint64_t used = rw_load_acquire(&ring->words->tail) - head;
    return used > ring->capacity ? ring->capacity : used;
}
