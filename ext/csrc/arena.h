/* Arena: one sparse memfd, mapped once, that holds everything a pool shares.
 *
 * Overview: the file has its full virtual size from the start and is sealed against growing and
 * shrinking, so no mapping ever moves and nobody can truncate it under a reader (SIGBUS).
 * Memory is promised range by range with fallocate before it is touched: a full machine is an
 * error here, not a signal later. The file has no name; the kernel frees it with its last user.
 *
 * Calls return an rw_status; RW_OS leaves errno set.
 */
#ifndef RW_ARENA_H
#define RW_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct rw_arena {
    uint8_t *base; /* this process's address of the mapping */
    uint64_t size;
    int fd;
};

/* pre: size > 0, a multiple of the page size. post: zero-filled, close-on-exec, mode 0600. */
int rw_arena_create(struct rw_arena *arena, uint64_t size);

/* Map an arena made by another process. pre: fd refers to one; ownership of fd passes. */
int rw_arena_attach(struct rw_arena *arena, int fd);

/* Promise memory for [offset, offset + length). Idempotent.
 * RW_NO_MEMORY: less than this is available on the machine, in a memory cgroup or in the file. */
int rw_arena_reserve(const struct rw_arena *arena, uint64_t offset, uint64_t length);

/* Unmap and close. pre: nobody in this process uses the mapping. Idempotent. */
void rw_arena_close(struct rw_arena *arena);

#endif
