#define _GNU_SOURCE
#include "ownership.h"

#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t *page;
static uint64_t given;

static void clear_in_child(void) {
    *page = 0;
}

const uint64_t *rw_ownership_begin(void) {
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED)
        return NULL;
    page = mapped;
    /* An emulator that ignores advice takes any, also one that does not exist. */
    if (madvise(page, size, -1) == 0 || madvise(page, size, MADV_WIPEONFORK) != 0) {
        if (pthread_atfork(NULL, NULL, clear_in_child) != 0)
            return NULL;
    }
    return page;
}

uint64_t rw_ownership_token(void) {
    if (*page == 0)
        *page = ++given;
    return *page;
}
