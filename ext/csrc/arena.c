#define _GNU_SOURCE
#include "arena.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "headroom.h"
#include "status.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3 */
#endif

/* The pages of so much memory take 10 ms and more to make: a check does not show beside that. */
#define CHECK_EVERY (16ULL << 20)

static int map(struct rw_arena *arena) {
    void *base = mmap(NULL, arena->size, PROT_READ | PROT_WRITE, MAP_SHARED, arena->fd, 0);
    if (base == MAP_FAILED)
        return RW_OS;
    arena->base = base;
    return RW_OK;
}

static int open_sealable(void) {
    int fd = memfd_create("ringwalk", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd_create("ringwalk", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd;
}

int rw_arena_create(struct rw_arena *arena, uint64_t size) {
    *arena = (struct rw_arena){.base = NULL, .size = size, .fd = open_sealable()};
    if (arena->fd < 0)
        return RW_OS;
    int failed = fchmod(arena->fd, 0600) || ftruncate(arena->fd, (off_t)size) ||
                 fcntl(arena->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
    if (failed || map(arena) != RW_OK) {
        int saved = errno;
        rw_arena_close(arena);
        errno = saved;
        return RW_OS;
    }
    return RW_OK;
}

int rw_arena_attach(struct rw_arena *arena, int fd) {
    struct stat st;
    *arena = (struct rw_arena){.base = NULL, .size = 0, .fd = fd};
    if (fstat(fd, &st) != 0)
        return RW_OS;
    arena->size = (uint64_t)st.st_size;
    return map(arena);
}

int rw_arena_reserve(const struct rw_arena *arena, uint64_t offset, uint64_t length) {
    if (offset > arena->size || length > arena->size - offset)
        return RW_NO_MEMORY;
    /* fallocate on a memfd does not answer ENOSPC when a memory cgroup or the machine runs out: the
     * kernel kills somebody. So ask first, also of those who grow in small steps. */
    if (offset / CHECK_EVERY != (offset + length) / CHECK_EVERY) {
        struct rw_headroom room;
        rw_headroom(&room);
        if (room.bytes < (length > CHECK_EVERY ? length : CHECK_EVERY))
            return RW_NO_MEMORY;
    }
    while (fallocate(arena->fd, 0, (off_t)offset, (off_t)length) != 0) {
        if (errno == EINTR)
            continue;
        return errno == ENOSPC || errno == ENOMEM ? RW_NO_MEMORY : RW_OS;
    }
    return RW_OK;
}

void rw_arena_close(struct rw_arena *arena) {
    if (arena->base != NULL)
        munmap(arena->base, arena->size);
    if (arena->fd >= 0)
        close(arena->fd);
    *arena = (struct rw_arena){.base = NULL, .size = 0, .fd = -1};
}
