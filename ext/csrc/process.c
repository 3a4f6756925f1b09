#define _GNU_SOURCE
#include "process.h"

#include <dirent.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "status.h"

int rw_process_die_with_parent(int signum, pid_t expected_parent) {
    if (prctl(PR_SET_PDEATHSIG, signum) != 0)
        return RW_OS;
    /* The signal is only sent for a death after prctl. */
    return getppid() == expected_parent ? RW_OK : RW_STALE;
}

void rw_process_resume_without_parent(void) {
    (void)prctl(PR_SET_PDEATHSIG, SIGCONT);
}

/* The letter that the kernel shows for what a thread of this process does; 0: it is gone. */
static char state_of(pid_t tid) {
    char text[512];
    (void)snprintf(text, sizeof text, "/proc/self/task/%d/stat", (int)tid);
    int fd = open(text, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t length = read(fd, text, sizeof text - 1);
    (void)close(fd);
    if (length <= 0)
        return 0;
    text[length] = '\0';
    /* "tid (name) S ...": the name may hold anything, parentheses included. */
    const char *end = strrchr(text, ')');
    return end != NULL && end[1] == ' ' ? end[2] : 0;
}

bool rw_process_thread_runs(pid_t tid) {
    return state_of(tid) == 'R';
}

bool rw_process_others_rest(void) {
    DIR *threads = opendir("/proc/self/task");
    if (threads == NULL)
        return true;
    pid_t own = (pid_t)syscall(SYS_gettid);
    bool busy = false;
    for (struct dirent *entry; !busy && (entry = readdir(threads)) != NULL;) {
        pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);
        char state = tid > 0 && tid != own ? state_of(tid) : 0;
        busy = state == 'R' || state == 'D';
    }
    (void)closedir(threads);
    return !busy;
}

int rw_process_harden(void) {
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 ? RW_OK : RW_OS;
}

bool rw_process_is_elevated(void) {
    return getauxval(AT_SECURE) != 0;
}

static int take_adds(struct dl_phdr_info *info, size_t size, void *adds) {
    (void)size;
    *(unsigned long long *)adds = info->dlpi_adds;
    return 1; /* the same number stands in every object: stop at the first */
}

unsigned long long rw_process_libraries_loaded(void) {
    unsigned long long adds = 0;
    (void)dl_iterate_phdr(take_adds, &adds);
    return adds;
}

void rw_process_prefer_as_victim(void) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t written = write(fd, "1000", 4);
    (void)written;
    (void)close(fd);
}

void rw_process_keep_freed_memory(void) {
#ifdef __GLIBC__
    (void)mallopt(M_MMAP_THRESHOLD, 32 << 20); /* the largest that glibc takes */
    (void)mallopt(M_TRIM_THRESHOLD, 512 << 20);
#endif
}

int rw_process_adopt_orphans(void) {
    return prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 ? RW_OK : RW_OS;
}
