#define _GNU_SOURCE
#include "process.h"

#include <sys/prctl.h>
#include <unistd.h>

#include "status.h"

int rw_process_die_with_parent(int signum, pid_t expected_parent) {
    if (prctl(PR_SET_PDEATHSIG, signum) != 0)
        return RW_OS;
    /* The signal is only sent for a death after prctl. */
    return getppid() == expected_parent ? RW_OK : RW_STALE;
}
