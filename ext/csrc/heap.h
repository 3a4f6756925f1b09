/* Heap: blocks of shared memory for payloads. One process allocates (the writer), any may hold.
 *
 * Overview: a table of descriptors, then the data. A block is free when no process holds it:
 * each holder has one bit in the descriptor, set and cleared by plain atomic operations, so
 * there is no lock and no list that a killed process could leave broken. When a process has
 * died, its bit is cleared in every block (rw_heap_forget) and everything it alone held is free
 * again. A block never moves and never changes size; freed blocks serve again requests of their
 * size class, and of those down to half of it. Memory is promised by the kernel (arena) before a
 * block is published.
 *
 * The writer's free lists are private memory, rebuilt from the descriptors: at bind, and when a
 * class runs dry (holders elsewhere only clear a bit, they tell nobody).
 *
 * Hand-over: the giver holds until the receiver does, so a block in use always has a holder, but
 * its bit moves between words that the writer reads one by one. Each hold bumps a count in the
 * heap's words; a look at a block during which the count moved tells nothing (is_free). While it
 * stands still bits can only go, so what was seen clear is clear.
 *
 * Crash points: before count is stored the new block does not exist; after that it is free until
 * the writer sets its bit; after that it is the writer's until its death.
 */
#ifndef RW_HEAP_H
#define RW_HEAP_H

#include "arena.h"
#include "layout.h"

#define RW_HEAP_CLASSES 168 /* four steps a power of two, from 64 bytes */
#define RW_HEAP_MAX_BLOCKS (1U << 20)

struct rw_heap { /* this process's handle */
    const struct rw_arena *arena;
    uint64_t start; /* of the heap's words in the arena */
    uint64_t data_start;
    uint64_t data_size; /* virtual */
    struct rw_heap_words *words;
    struct rw_block *blocks;
    uint8_t *data;
    struct rw_heap_lists *lists; /* writer only, else NULL */
};

/* Bytes of address space for a heap with that much data. */
uint64_t rw_heap_bytes(uint64_t data_size);

/* Point a handle at a heap. pre: start and data_size are multiples of the page size. */
int rw_heap_bind(struct rw_heap *heap, const struct rw_arena *arena, uint64_t start,
                 uint64_t data_size);

/* Become the writer: build the free lists. pre: no other process writes this heap any more. */
int rw_heap_own(struct rw_heap *heap);
void rw_heap_disown(struct rw_heap *heap);

/* Get a block of at least length bytes, held by holder. RW_OK, RW_NO_MEMORY, RW_FULL (too many
 * blocks), RW_OS. A failure changes nothing. Writer only. */
int rw_heap_alloc(struct rw_heap *heap, uint64_t length, uint32_t holder, uint32_t *block);

/* The same for what could lie elsewhere: no new block ends beyond `most` bytes of data or takes
 * more than half of what may be had. The other half is malloc's, whom the caller asks next, and who
 * does not refuse when the kernel will kill somebody for it. */
int rw_heap_alloc_spare(struct rw_heap *heap, uint64_t length, uint32_t holder, uint64_t most,
                        uint32_t *block);

/* Take note of what a forked child allocated with a copy of our lists. pre: the child is dead. */
void rw_heap_refresh(struct rw_heap *heap);

/* Add or drop a holder. pre: holder < RW_MAX_HOLDERS; for hold: the block is held by another. */
int rw_heap_hold(struct rw_heap *heap, uint32_t block, uint32_t holder);
int rw_heap_release(struct rw_heap *heap, uint32_t block, uint32_t holder);

/* Whether holder has its bit in the block. Certain only for the holder itself. */
bool rw_heap_holds(const struct rw_heap *heap, uint32_t block, uint32_t holder);

/* Drop a dead holder from every block. */
void rw_heap_forget(struct rw_heap *heap, uint32_t holder);

/* Address of [offset, offset + length) in a block, checked against the heap's bounds: the
 * numbers may come from a peer's memory. RW_OK, RW_CORRUPT. */
int rw_heap_at(const struct rw_heap *heap, uint32_t block, uint64_t offset, uint64_t length,
               uint8_t **address);

/* The block that an address lies in, the bytes from its start, and its size; false if it lies in
 * none. */
bool rw_heap_find(const struct rw_heap *heap, const void *address, uint32_t *block,
                  uint64_t *offset, uint64_t *size);

/* Address of data bytes by their place in the data area, for references that name no block. */
int rw_heap_data(const struct rw_heap *heap, uint64_t offset, uint64_t length, uint8_t **address);

struct rw_heap_usage {
    uint64_t blocks, held_blocks, held_bytes, committed_bytes;
};
void rw_heap_usage(const struct rw_heap *heap, struct rw_heap_usage *usage);

#endif
