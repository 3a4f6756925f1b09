#define _GNU_SOURCE
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "status.h"

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

/* The child shares everything with the calling thread, errno included, while that goes on. So it
 * calls the kernel and nothing else, and a sanitizer must not see it. */
#define IN_CHILD __attribute__((no_sanitize("address", "thread", "undefined")))

enum { SIGNALS = 64, MASK_BYTES = 8, FAILED = 127, CREATE_MODE = 0666 };

/* struct sigaction as the kernel knows it, on both machines. */
struct disposition {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

/* A system call that leaves errno alone: minus the error, or what the call returns. */
IN_CHILD static inline long call(long number, long a, long b, long c, long d) {
#if defined(__x86_64__)
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
#else
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory", "cc");
    return x0;
#endif
}

uint64_t rw_spawn_handled(void) {
    uint64_t handled = 0;
    for (int number = 1; number <= SIGNALS; number++) {
        struct disposition now = {SIG_DFL, 0, NULL, 0};
        (void)call(SYS_rt_sigaction, number, 0, (long)&now, MASK_BYTES);
        if (now.handler == SIG_DFL)
            continue;
        /* What the interpreter ignores and a program expects to be ended by. */
        if (now.handler != SIG_IGN || number == SIGPIPE || number == SIGXFSZ)
            handled |= UINT64_C(1) << (number - 1);
    }
    return handled;
}

/* Handlers are functions of this process: none may run in the child once signals can arrive. */
IN_CHILD static void reset_signals(uint64_t handled, uint64_t mask) {
    const struct disposition by_default = {SIG_DFL, 0, NULL, 0};
    for (int number = 1; handled != 0; number++, handled >>= 1)
        if (handled & 1)
            (void)call(SYS_rt_sigaction, number, (long)&by_default, 0, MASK_BYTES);
    (void)call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, MASK_BYTES);
}

/* Put what was asked for under the numbers 0, 1 and 2; minus the error, the stream in *at. */
IN_CHILD static long place_streams(const struct rw_spawn *spawn, int *at) {
    int fds[RW_SPAWN_STREAMS];
    for (int i = 0; i < RW_SPAWN_STREAMS; i++) {
        *at = i;
        long fd = spawn->fds[i];
        if (spawn->files[i] != NULL)
            fd = call(SYS_openat, AT_FDCWD, (long)spawn->files[i],
                      O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, CREATE_MODE);
        else if (fd < 0)
            fd = i;
        /* Out of the way of another stream's number. */
        if (fd >= 0 && fd < RW_SPAWN_STREAMS && fd != i)
            fd = call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, RW_SPAWN_STREAMS, 0);
        if (fd < 0)
            return fd;
        fds[i] = (int)fd;
    }
    for (int i = 0; i < RW_SPAWN_STREAMS; i++) {
        *at = i;
        long done = 0;
        if (fds[i] != i)
            done = call(SYS_dup3, fds[i], i, 0, 0);
        else if (spawn->fds[i] == i || spawn->files[i] != NULL)
            done = call(SYS_fcntl, i, F_SETFD, 0, 0);
        if (done < 0)
            return done;
    }
    return 0;
}

IN_CHILD static void close_others(void) {
    struct rlimit limit = {0, 0};
    if (call(SYS_close_range, RW_SPAWN_STREAMS, ~0U, 0, 0) == 0)
        return;
    /* Before Linux 5.9. */
    (void)call(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, (long)&limit);
    for (rlim_t fd = RW_SPAWN_STREAMS; fd < limit.rlim_cur; fd++)
        (void)call(SYS_close, (long)fd, 0, 0, 0);
}

/* Try each path; the first error that says more than that there is nothing. */
IN_CHILD static long execute(const struct rw_spawn *spawn) {
    long first = 0, error = -ENOENT;
    for (char *const *path = spawn->paths; *path != NULL; path++) {
        error = call(SYS_execve, (long)*path, (long)spawn->argv, (long)spawn->envp, 0);
        if (error != -ENOENT && error != -ENOTDIR && first == 0)
            first = error;
    }
    return first != 0 ? first : error;
}

IN_CHILD static int become(void *argument) {
    struct rw_spawn *spawn = argument;
    int stream = 0;
    long error = 0;
    /* A program that its parent does not outlive is found by its environment; this is not yet. */
    (void)call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0);
    if (call(SYS_getppid, 0, 0, 0, 0) != spawn->parent)
        (void)call(SYS_exit_group, FAILED, 0, 0, 0);
    (void)call(SYS_setpgid, 0, 0, 0, 0);
    spawn->step = RW_SPAWN_FOLDER;
    if (spawn->folder != NULL)
        error = call(SYS_chdir, (long)spawn->folder, 0, 0, 0);
    if (error == 0) {
        error = place_streams(spawn, &stream);
        spawn->step = RW_SPAWN_STREAM + stream;
    }
    if (error == 0) {
        spawn->step = RW_SPAWN_EXEC;
        close_others();
        reset_signals(spawn->handled, spawn->mask);
        if (!spawn->tied)
            (void)call(SYS_prctl, PR_SET_PDEATHSIG, 0, 0, 0);
        error = execute(spawn);
    }
    spawn->error = (int)-error;
    (void)call(SYS_exit_group, FAILED, 0, 0, 0);
    return FAILED;
}

int rw_spawn_start(struct rw_spawn *spawn, bool wait, pid_t *pid, int *pidfd) {
    const uint64_t all = ~UINT64_C(0);
    int flags = CLONE_VM | CLONE_PIDFD | CLONE_CHILD_CLEARTID | SIGCHLD;
    spawn->error = 0;
    spawn->step = 0;
    spawn->parent = getpid();
    spawn->tied = !wait;
    /* Before the clone, so before the child and the kernel. */
    rw_store32_relaxed(&spawn->inside, 1);
    (void)call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&spawn->mask, MASK_BYTES);
    *pid = clone(become, spawn->stack + sizeof spawn->stack, wait ? flags | CLONE_VFORK : flags,
                 spawn, pidfd, NULL, &spawn->inside);
    int saved = errno;
    (void)call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&spawn->mask, 0, MASK_BYTES);
    if (*pid < 0) {
        rw_store32_relaxed(&spawn->inside, 0);
        errno = saved;
        return RW_OS;
    }
    if (!wait) {
        /* As the child does: whoever is first. Its group can be signalled from here on. */
        (void)call(SYS_setpgid, *pid, *pid, 0, 0);
        return RW_OK;
    }
    if (spawn->error == 0)
        return RW_OK;
    while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
        ;
    (void)close(*pidfd);
    errno = spawn->error;
    return RW_OS;
}

bool rw_spawn_left(const struct rw_spawn *spawn) {
    /* sync: pairs with the kernel's store at exec and exit; protects error, step and the stack. */
    return rw_load32_acquire(&spawn->inside) == 0;
}

int rw_spawn_reap(pid_t pid, int *status, struct rusage *used) {
    (void)kill(-pid, SIGKILL);
    while (wait4(pid, status, 0, used) < 0)
        if (errno != EINTR)
            return RW_OS;
    return RW_OK;
}
