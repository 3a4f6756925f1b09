/* A word there and back between two processes: the least that waking a sleeping worker can cost.
 *
 * Both sides sleep while it is not their turn, on a futex or in read(2) of a pipe. The other side
 * is a fork of the caller that runs nothing but this file, and dies with the thread that made it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct ping_pong {
    _Alignas(64) _Atomic uint32_t there;
    _Alignas(64) _Atomic uint32_t back;
    int by_pipe, in[2], out[2];
    pid_t other;
};

static void wait_for(_Atomic uint32_t *word, uint32_t value) {
    uint32_t seen;
    while ((seen = atomic_load(word)) != value)
        syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0);
}

static void say(_Atomic uint32_t *word, uint32_t value) {
    atomic_store(word, value);
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void answer(struct ping_pong *p) {
    char byte = 0;
    for (uint32_t turn = 1;; turn++) {
        if (!p->by_pipe) {
            wait_for(&p->there, turn);
            say(&p->back, turn);
        } else if (read(p->in[0], &byte, 1) != 1 || write(p->out[1], &byte, 1) != 1) {
            _exit(1);
        }
    }
}

struct ping_pong *ping_pong_open(int by_pipe) {
    struct ping_pong *p =
        mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    p->by_pipe = by_pipe;
    if (pipe(p->in) != 0 || pipe(p->out) != 0)
        abort();
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
            _exit(1);
        answer(p);
    }
    p->other = pid;
    return p;
}

int ping_pong_other(const struct ping_pong *p) {
    return p->other;
}

/* Returns how many went there and back: all, unless the other side is gone from a pipe. */
int ping_pong_run(struct ping_pong *p, int rounds) {
    char byte = 0;
    int done = 0;
    for (uint32_t turn = atomic_load(&p->there) + 1; done < rounds; done++, turn++) {
        if (!p->by_pipe) {
            say(&p->there, turn);
            wait_for(&p->back, turn);
        } else if (write(p->in[1], &byte, 1) != 1 || read(p->out[0], &byte, 1) != 1) {
            break;
        }
    }
    return done;
}

/* Fork a child that exits, and wait for it, so many times. Returns how many exited well. */
int fork_and_wait(int rounds) {
    int done = 0;
    for (int i = 0; i < rounds; i++) {
        int status = 1;
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        done += status == 0;
    }
    return done;
}

void ping_pong_close(struct ping_pong *p) {
    kill(p->other, SIGKILL);
    waitpid(p->other, NULL, 0);
    for (int i = 0; i < 2; i++) {
        close(p->in[i]);
        close(p->out[i]);
    }
    munmap(p, sizeof *p);
}
