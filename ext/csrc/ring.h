/* Ring: a bounded queue of 64-bit task numbers, one producer, many consumers, any of whom may
 * be killed at any instruction.
 *
 * Overview: push writes cells, then moves tail with one release store. pop reads the cell at
 * head, then moves head with one compare-and-swap; whoever wins owns the number. No step
 * reserves a cell to fill it later, so there is nothing that a killed process can leave half
 * done: before the swap nothing happened, after it the number is gone with its owner. That is
 * allowed: the ring carries hints, the board is the truth.
 *
 * head and tail count up for ever; a cell's place is its count modulo the capacity. The
 * producer never overwrites a cell that head has not passed, so a consumer that read an
 * overwritten cell finds its swap refused.
 */
#ifndef RW_RING_H
#define RW_RING_H

#include "layout.h"

struct rw_ring { /* this process's handle; capacity is trusted, unlike words in shared memory */
    struct rw_ring_words *words;
    rw_a64 *cells;
    uint64_t capacity;
};

/* Bytes of shared memory for a ring. pre: capacity is a power of two. */
uint64_t rw_ring_bytes(uint64_t capacity);

/* Point a handle at a ring in zeroed or already used memory. pre: memory is 64-byte aligned. */
void rw_ring_bind(struct rw_ring *ring, void *memory, uint64_t capacity);

/* Append as many of count numbers as fit; *pushed tells how many. Producer only.
 * RW_OK, RW_CORRUPT. */
int rw_ring_push(struct rw_ring *ring, const uint64_t *numbers, uint64_t count, uint64_t *pushed);

/* Take the oldest number. RW_OK, RW_EMPTY, RW_CORRUPT. Lock-free: a loser's failure is
 * another's success. */
int rw_ring_pop(struct rw_ring *ring, uint64_t *number);

/* RW_CORRUPT if the words hold what no correct process writes. Producer only. */
int rw_ring_check(const struct rw_ring *ring);

/* Numbers in the ring, as of some instant during the call. */
uint64_t rw_ring_length(const struct rw_ring *ring);

#endif
