/* Kill a process after exactly k instructions of an operation, for every k.
 *
 * A case's setup makes a fresh world in shared memory. A forked victim runs act under ptrace. In
 * a first pass every instruction is single-stepped and its address noted; then, for each k, a
 * new victim in a new world runs to the k-th address (a breakpoint, counted as often as that
 * address comes before k) and is killed there by SIGKILL. Then check, in the stepper, does what
 * survivors would do and says what it found. A system call is one instruction. The count is exact
 * because nothing in a case depends on time or chance: the clock is replaced (step.c) and the
 * program is linked with -z now.
 */
#ifndef STEP_H
#define STEP_H

#include <stdbool.h>
#include <stdint.h>

enum verdict {
    FINE,
    WEDGED, /* survivors cannot go on */
    TORN,   /* something half-written was taken for whole */
    LOST,   /* something is gone that was promised */
};

struct step_case {
    const char *name;
    void (*setup)(void);
    void (*act)(void);
    enum verdict (*check)(bool finished); /* finished: act returned before the kill */
};

/* Written by the victim, read by the stepper: in shared memory. */
struct step_control {
    volatile uint64_t begun, ended;
    volatile uint64_t said[14]; /* what act saw; all ones until it says so */
};
extern struct step_control *step_control;
#define NOTHING_SAID UINT64_MAX

/* Complain about a broken promise; returns the verdict. */
enum verdict step_complain(enum verdict verdict, const char *what, const char *file, int line);
#define REQUIRE(condition, verdict)                                                                \
    do {                                                                                           \
        if (!(condition))                                                                          \
            return step_complain(verdict, #condition, __FILE__, __LINE__);                         \
    } while (0)

/* Run a case at every instruction and print one line of counts. False: a promise was broken. */
bool step_through(const struct step_case *one);

/* Fork a process that runs body and exits with its answer; step_reap returns that answer. */
int step_fork(int (*body)(void));
int step_reap(int pid);

/* Wait until a process sleeps in a futex call (or has ended). */
void step_await_sleep(int pid);

#endif
