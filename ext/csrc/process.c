#define _GNU_SOURCE
#include "process.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "status.h"

int rw_process_die_with_parent(int signum, pid_t expected_parent) {
    if (prctl(PR_SET_PDEATHSIG, signum) != 0)
        return RW_OS;
    /* The signal is only sent for a death after prctl. */
    return getppid() == expected_parent ? RW_OK : RW_STALE;
}

int rw_process_thread_runs(pid_t tid) {
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
    return end != NULL && strncmp(end, ") R", 3) == 0;
}

int rw_process_harden(void) {
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 ? RW_OK : RW_OS;
}

bool rw_process_is_elevated(void) {
    return getauxval(AT_SECURE) != 0;
}

int rw_process_adopt_orphans(void) {
    return prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 ? RW_OK : RW_OS;
}
