/* The shared memory in which a case plays: one arena with a ring, a board and a heap. */
#ifndef WORLD_H
#define WORLD_H

#include "arena.h"
#include "board.h"
#include "heap.h"
#include "ring.h"

enum {
    WORLD_RING = 4,  /* capacity */
    WORLD_SLOTS = 2, /* workers; worker w holds blocks as w + 1 */
    WORLD_TASKS = 4,
    PARENT = 0, /* a holder */
    EPOCH = 7,
};

struct world {
    struct rw_arena arena;
    struct rw_ring ring;
    struct rw_board board;
    struct rw_heap heap; /* writer's handle: worker 0, holder 1 */
    int wake_fd;
};
extern struct world world;

/* Make an empty world, in place of the last one. The heap is owned. */
void world_make(void);

/* Handles as a process that has just come would make them; the heap is not owned. */
struct world world_visit(void);

/* Whether the eventfd has been written since the last call. */
bool world_was_woken(void);

#endif
