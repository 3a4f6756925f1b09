#define _GNU_SOURCE
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "status.h"
#include "step.h"

enum { PAGE = 4096, RING_AT = PAGE, BOARD_AT = 2 * PAGE, HEAP_AT = 4 * PAGE, HEAP_DATA = 1 << 20 };

struct world world = {.arena = {.fd = -1}, .wake_fd = -1};

static void need(bool good, const char *what) {
    if (good)
        return;
    perror(what);
    exit(1);
}

static void bind(struct world *w) {
    rw_ring_bind(&w->ring, w->arena.base + RING_AT, WORLD_RING);
    rw_board_bind(&w->board, w->arena.base + BOARD_AT, WORLD_SLOTS, WORLD_TASKS, w->wake_fd);
    need(rw_heap_bind(&w->heap, &world.arena, HEAP_AT, HEAP_DATA) == RW_OK, "heap bind");
}

void world_make(void) {
    rw_heap_disown(&world.heap);
    rw_arena_close(&world.arena);
    if (world.wake_fd >= 0)
        close(world.wake_fd);
    if (step_control == NULL) {
        step_control = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        need(step_control != MAP_FAILED, "mmap");
    }
    world.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    need(world.wake_fd >= 0, "eventfd");
    need(rw_arena_create(&world.arena, HEAP_AT + rw_heap_bytes(HEAP_DATA)) == RW_OK, "arena");
    bind(&world);
    need(rw_heap_own(&world.heap) == RW_OK, "heap own");
}

struct world world_visit(void) {
    struct world visitor = {.arena = world.arena, .wake_fd = world.wake_fd};
    bind(&visitor);
    return visitor;
}

bool world_was_woken(void) {
    eventfd_t count;
    return eventfd_read(world.wake_fd, &count) == 0;
}
