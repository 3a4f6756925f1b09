/* Spawn under threads: each start is a child of its own, and each failure is told once it left. */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>

#include "spawn.h"
#include "status.h"
#include "validate.h"

enum { THREADS = 3, ROUNDS = 60, TOGETHER = 4 };

static char *const program[] = {"/nonexistent", "/bin/true", NULL};
static char *const nothing[] = {"/nonexistent", NULL};
static char *const arguments[] = {"true", NULL};
static char *const environment[] = {NULL};

struct starter {
    struct rw_spawn launches[TOGETHER];
    unsigned begun, failed, refused;
};

static void finish(struct starter *me, struct rw_spawn *launch, pid_t pid, int pidfd) {
    int status;
    validate_need(waitpid(pid, &status, 0) == pid, "it is a child");
    validate_need(rw_spawn_left(launch), "what has ended has left");
    validate_need(close(pidfd) == 0, "it has a pidfd");
    if (launch->error == 0) {
        validate_need(status == 0, "the program ran");
        me->begun++;
    } else {
        validate_need(launch->error == ENOENT && launch->step == RW_SPAWN_EXEC, "it says why");
        validate_need(WIFEXITED(status) && WEXITSTATUS(status) == 127, "it ended");
        me->failed++;
    }
}

static void *start(void *argument) {
    struct starter *me = argument;
    pid_t pids[TOGETHER];
    int pidfds[TOGETHER];
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < TOGETHER; i++) {
            struct rw_spawn *launch = &me->launches[i];
            launch->paths = i == 0 ? nothing : program;
            launch->argv = arguments;
            launch->envp = environment;
            launch->folder = "/";
            launch->handled = rw_spawn_handled();
            for (int stream = 0; stream < RW_SPAWN_STREAMS; stream++) {
                launch->files[stream] = NULL;
                launch->fds[stream] = -1;
            }
            errno = EXDEV;
            validate_need(rw_spawn_start(launch, false, &pids[i], &pidfds[i]) == RW_OK, "started");
        }
        for (int i = 0; i < TOGETHER; i++)
            finish(me, &me->launches[i], pids[i], pidfds[i]);
        validate_need(errno == EXDEV, "errno is the parent's");
        struct rw_spawn *launch = &me->launches[0];
        me->refused += rw_spawn_start(launch, true, pids, pidfds) == RW_OS && errno == ENOENT;
        validate_watchdog();
    }
    return NULL;
}

int main(void) {
    static struct starter starters[THREADS];
    pthread_t threads[THREADS];
    unsigned begun = 0, failed = 0, refused = 0;
    validate_watchdog();
    for (int i = 0; i < THREADS; i++)
        threads[i] = validate_start(start, &starters[i]);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        begun += starters[i].begun;
        failed += starters[i].failed;
        refused += starters[i].refused;
    }
    int left = waitpid(-1, NULL, WNOHANG) != -1;
    printf("spawn begun=%u failed=%u refused=%u left=%d\n", begun, failed, refused, left);
    return left;
}
