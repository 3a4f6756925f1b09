/* Heap under threads: results go from a worker to the parent and on to readers, while the worker
 * allocates; no block is handed out while anybody holds it.
 *
 *   worker --results--> parent --passed on--> reader 0 | reader 1
 *                                <--taken---
 *
 * The giver holds until the receiver does. Payloads are plain memory: the sanitizer sees whether
 * the holders' bits order the last read before the next write. The holders lie in three different
 * words of a block's descriptor.
 */
#include <sched.h>
#include <string.h>

#include "heap.h"
#include "ring.h"
#include "status.h"
#include "validate.h"

enum { RESULTS = 12000, READERS = 2, RING = 8, PARENT = 0, WORKER = 70 };
static const uint32_t readers[READERS] = {1, 140};

struct channel { /* of block numbers; plus one, so that 0 can say that it is over */
    _Alignas(RW_LINE) uint8_t memory[sizeof(struct rw_ring_words) + RING * 8];
};
static struct channel results, passed_on[READERS], taken[READERS];
static struct rw_arena arena;
static const uint64_t data_size = 1 << 20;
static _Atomic uint64_t torn;

static struct rw_heap visit(void) {
    struct rw_heap heap;
    validate_need(rw_heap_bind(&heap, &arena, 0, data_size) == RW_OK, "heap fits");
    return heap;
}

static void send(struct channel *channel, uint64_t word) {
    struct rw_ring ring;
    uint64_t pushed;
    rw_ring_bind(&ring, channel->memory, RING);
    while (rw_ring_push(&ring, &word, 1, &pushed) == RW_OK && pushed == 0)
        sched_yield();
}

static uint64_t receive(struct channel *channel) {
    struct rw_ring ring;
    uint64_t word = 0;
    rw_ring_bind(&ring, channel->memory, RING);
    while (rw_ring_pop(&ring, &word) == RW_EMPTY)
        sched_yield();
    return word;
}

/* All bytes of a payload are the same; its length is not, so it says it itself. */
static void check_payload(const struct rw_heap *heap, uint32_t block) {
    uint8_t *bytes;
    uint64_t size = heap->blocks[block].size;
    validate_need(rw_heap_at(heap, block, 0, size, &bytes) == RW_OK, "block is in the heap");
    for (uint64_t i = 1; i < size; i++)
        if (bytes[i] != bytes[0]) {
            torn++;
            return;
        }
}

static void *produce(void *argument) {
    struct rw_heap heap = visit();
    uint32_t state = 7, block;
    uint8_t *bytes;
    (void)argument;
    validate_need(rw_heap_own(&heap) == RW_OK, "owned");
    for (int i = 0; i < RESULTS; i++) {
        uint64_t length = 1 + validate_random(&state) % 500;
        validate_need(rw_heap_alloc(&heap, length, WORKER, &block) == RW_OK, "allocated");
        validate_need(rw_heap_at(&heap, block, 0, length, &bytes) == RW_OK, "block is there");
        memset(bytes, i, heap.blocks[block].size);
        send(&results, (uint64_t)block + 1);
    }
    send(&results, 0);
    rw_heap_disown(&heap);
    return NULL;
}

static void *read_on(void *argument) {
    uintptr_t me = (uintptr_t)argument;
    struct rw_heap heap = visit();
    uint64_t word;
    while ((word = receive(&passed_on[me])) != 0) {
        uint32_t block = (uint32_t)word - 1;
        rw_heap_hold(&heap, block, readers[me]);
        send(&taken[me], word);
        check_payload(&heap, block);
        rw_heap_release(&heap, block, readers[me]);
    }
    return NULL;
}

int main(void) {
    pthread_t worker, threads[READERS];
    uint64_t word, count = 0;
    validate_watchdog();
    validate_need(rw_arena_create(&arena, rw_heap_bytes(data_size)) == RW_OK, "arena");
    struct rw_heap heap = visit();
    worker = validate_start(produce, NULL);
    for (uintptr_t i = 0; i < READERS; i++)
        threads[i] = validate_start(read_on, (void *)i);
    for (; (word = receive(&results)) != 0; count++) {
        uint32_t block = (uint32_t)word - 1, to = count % READERS;
        rw_heap_hold(&heap, block, PARENT);
        rw_heap_release(&heap, block, WORKER);
        send(&passed_on[to], word);
        check_payload(&heap, block);
        validate_need(receive(&taken[to]) == word, "the reader has it");
        rw_heap_release(&heap, block, PARENT);
        validate_watchdog();
    }
    pthread_join(worker, NULL);
    for (int i = 0; i < READERS; i++) {
        send(&passed_on[i], 0);
        pthread_join(threads[i], NULL);
    }
    struct rw_heap_usage usage;
    rw_heap_usage(&heap, &usage);
    printf("heap results=%d received=%lu torn=%lu held=%lu reused=%d\n", RESULTS, count, torn,
           usage.held_blocks, usage.blocks < RESULTS / 40);
    rw_arena_close(&arena);
    return torn || usage.held_blocks || count != RESULTS;
}
