#define _GNU_SOURCE
#include "step.h"

#include <elf.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_INSTRUCTIONS = 1 << 16, NOT_PERMITTED = 77, WATCHDOG_S = 60 };

struct step_control *step_control;

static struct {
    const char *name;
    unsigned k, complaints;
} now; /* for complaints */

/* The vDSO's clock takes a varying number of instructions; this one takes none that vary. The
 * times only have to be non-zero and to advance. */
int clock_gettime(clockid_t clock, struct timespec *t) {
    static long ticks = 1;
    (void)clock;
    t->tv_sec = ticks++;
    t->tv_nsec = 0;
    return 0;
}

enum verdict step_complain(enum verdict verdict, const char *what, const char *file, int line) {
    if (now.complaints++ < 3) /* the others are likely the same */
        fprintf(stderr, "%s after %u instructions: not so: %s (%s:%d)\n", now.name, now.k, what,
                file, line);
    return verdict;
}

static void die(const char *what) {
    fprintf(stderr, "%s after %u instructions: ", now.name, now.k);
    perror(what);
    exit(1);
}

/* A survivor that waits for ever would hang the test; say where instead. */
static void on_alarm(int signum) {
    char text[160];
    (void)signum;
    int length = snprintf(text, sizeof text, "%s after %u instructions: somebody waits for ever\n",
                          now.name, now.k);
    (void)!write(STDERR_FILENO, text, (size_t)length);
    _exit(1);
}

/* --- the victim's registers and text ------------------------------------------------------- */

static void registers(pid_t pid, int request, struct user_regs_struct *regs) {
    struct iovec iov = {.iov_base = regs, .iov_len = sizeof *regs};
    if (ptrace(request, pid, (void *)NT_PRSTATUS, &iov) != 0)
        die("ptrace registers");
}

#if defined(__x86_64__)
#define PC rip
#define PC_PAST_BREAKPOINT 1 /* int3 has been executed when it traps */
static long with_breakpoint(long word) {
    return (word & ~0xffL) | 0xcc;
}
#else
#define PC pc
#define PC_PAST_BREAKPOINT 0 /* brk #0 has not */
static long with_breakpoint(long word) {
    return (long)(((unsigned long)word & ~0xffffffffUL) | 0xd4200000UL);
}
#endif

static uint64_t pc_of(pid_t pid) {
    struct user_regs_struct regs;
    registers(pid, PTRACE_GETREGSET, &regs);
    return regs.PC;
}

static long peek(pid_t pid, uint64_t pc) {
    return ptrace(PTRACE_PEEKTEXT, pid, (void *)pc, NULL);
}

static void poke(pid_t pid, uint64_t pc, long word) {
    if (ptrace(PTRACE_POKETEXT, pid, (void *)pc, (void *)word) != 0)
        die("ptrace poke");
}

/* Let the victim go on until its next stop; false when it has ended. */
static bool resume(pid_t pid, int request) {
    int status = 0;
    if (ptrace(request, pid, NULL, NULL) != 0 || waitpid(pid, &status, 0) != pid)
        die("ptrace resume");
    if (WIFSTOPPED(status) && WSTOPSIG(status) != SIGTRAP) {
        fprintf(stderr, "the victim got signal %d at %#lx\n", WSTOPSIG(status),
                (unsigned long)pc_of(pid));
        die("resume");
    }
    return WIFSTOPPED(status);
}

/* --- one victim ---------------------------------------------------------------------------- */

static pid_t start(const struct step_case *one) {
    one->setup();
    memset(step_control, 0, sizeof *step_control);
    memset((void *)step_control->said, 0xff, sizeof step_control->said);
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(NOT_PERMITTED);
        raise(SIGSTOP);
        step_control->begun = 1;
        one->act();
        step_control->ended = 1;
        _exit(0);
    }
    int status;
    if (waitpid(pid, &status, 0) != pid)
        die("waitpid");
    if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_PERMITTED) {
        fprintf(stderr, "ptrace is not permitted here\n");
        exit(NOT_PERMITTED);
    }
    if (ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)PTRACE_O_EXITKILL) != 0)
        die("ptrace options");
    return pid;
}

static bool in_futex(pid_t pid) {
    char path[64], text[64] = "";
    snprintf(path, sizeof path, "/proc/%d/syscall", (int)pid);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return false;
    bool found = fgets(text, sizeof text, f) != NULL && atol(text) == SYS_futex;
    fclose(f);
    return found && strncmp(text, "running", 7) != 0;
}

static void kill_and_reap(pid_t pid) {
    int status;
    kill(pid, SIGKILL);
    if (waitpid(pid, &status, 0) != pid)
        die("waitpid");
}

/* --- all of them --------------------------------------------------------------------------- */

static uint64_t addresses[MOST_INSTRUCTIONS];

/* Single-step one victim to its end; returns how many instructions act took. */
static unsigned record(const struct step_case *one, enum verdict *verdict) {
    unsigned count = 0;
    pid_t pid = start(one);
    while (!step_control->begun)
        resume(pid, PTRACE_SINGLESTEP);
    while (!step_control->ended) {
        if (count == MOST_INSTRUCTIONS) {
            fprintf(stderr, "%s takes more than %d instructions\n", one->name, count);
            exit(1);
        }
        addresses[count++] = pc_of(pid);
        resume(pid, PTRACE_SINGLESTEP);
    }
    now.k = count;
    kill_and_reap(pid);
    *verdict = one->check(true);
    return count;
}

/* Run a victim up to, not including, instruction k. */
static pid_t run_to(const struct step_case *one, unsigned k) {
    unsigned passes = 0;
    for (unsigned i = 0; i < k; i++)
        passes += addresses[i] == addresses[k];
    pid_t pid = start(one);
    uint64_t pc = addresses[k];
    long original = peek(pid, pc);
    poke(pid, pc, with_breakpoint(original));
    for (;;) {
        if (!resume(pid, PTRACE_CONT))
            die("the victim ended before instruction k");
        struct user_regs_struct regs;
        registers(pid, PTRACE_GETREGSET, &regs);
        regs.PC -= PC_PAST_BREAKPOINT;
        if (regs.PC != pc)
            die("the victim stopped elsewhere");
        registers(pid, PTRACE_SETREGSET, &regs);
        poke(pid, pc, original);
        bool ours = step_control->begun != 0; /* what runs before act does not count */
        if (ours && passes-- == 0)
            return pid;
        resume(pid, PTRACE_SINGLESTEP);
        poke(pid, pc, with_breakpoint(original));
    }
}

bool step_through(const struct step_case *one) {
    static const struct sigaction action = {.sa_handler = on_alarm};
    unsigned visited = 0, verdicts[4] = {0};
    enum verdict verdict;
    sigaction(SIGALRM, &action, NULL);
    alarm(WATCHDOG_S);
    now.name = one->name;
    now.k = now.complaints = 0;
    unsigned count = record(one, &verdict);
    verdicts[verdict]++;
    for (unsigned k = 0; k < count; k++) {
        now.k = k;
        pid_t pid = run_to(one, k);
        visited += !step_control->ended;
        kill_and_reap(pid);
        verdicts[one->check(false)]++;
    }
    alarm(0);
    printf("%s instructions=%u visited=%u wedged=%u torn=%u lost=%u\n", one->name, count, visited,
           verdicts[WEDGED], verdicts[TORN], verdicts[LOST]);
    fflush(stdout);
    return verdicts[FINE] == count + 1;
}

/* --- survivors ----------------------------------------------------------------------------- */

int step_fork(int (*body)(void)) {
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a stepper that gives up leaves nobody behind */
        _exit(body());
    }
    return pid;
}

int step_reap(int pid) {
    int status;
    if (waitpid(pid, &status, 0) != pid)
        die("waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void step_await_sleep(int pid) {
    siginfo_t info = {.si_pid = 0};
    while (!in_futex(pid) && info.si_pid == 0) {
        sched_yield();
        waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT);
    }
}
