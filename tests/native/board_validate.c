/* Board under threads: each task is run once or cancelled, its input and its result arrive whole,
 * and the parent never sleeps through the end of a map.
 *
 * Inputs and results are plain memory: the sanitizer sees whether the state words order them.
 */
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>

#include "board.h"
#include "eventcount.h"
#include "status.h"
#include "validate.h"

enum { MAPS = 2000, TASKS = 48, WORKERS = 3, RING = 256, CPUS = 4 };

static _Alignas(
    2 * RW_LINE) uint8_t memory[sizeof(struct rw_board_words) + WORKERS * sizeof(struct rw_slot) +
                                TASKS * sizeof(struct rw_task)];
static _Alignas(RW_LINE) uint8_t ring_memory[sizeof(struct rw_ring_words) + RING * 8];
static uint64_t inputs[TASKS], results[TASKS], header; /* plain on purpose */
static _Atomic uint32_t claims[TASKS];
static int wake_fd;

static void bind(struct rw_board *board, struct rw_ring *ring) {
    rw_board_bind(board, memory, WORKERS, TASKS, wake_fd);
    rw_ring_bind(ring, ring_memory, RING);
}

static void *work(void *argument) {
    uint32_t me = (uint32_t)(uintptr_t)argument, task;
    struct rw_board board;
    struct rw_ring ring;
    int status;
    bind(&board, &ring);
    /* One at a time looks out before it sleeps; worker 0 never does. */
    board.cpus = me == 0 ? 0 : CPUS;
    while ((status = rw_board_wait(&board, &ring, me, &task)) == RW_OK) {
        uint64_t epoch = RW_WORD_EPOCH(rw_load_relaxed(&board.tasks[task].state));
        validate_need(claims[task]++ == 0, "nobody else runs the task");
        validate_need(header == epoch, "the map's header is the task's");
        validate_need(inputs[task] == epoch * TASKS + task, "the input is the task's");
        validate_need(board.tasks[task].input_offset == inputs[task], "so is its reference");
        results[task] = ~inputs[task];
        bool fails = task % 16 == 3;
        /* In one map for each mode: else the parent may see all of them while it looks out. */
        while (epoch <= 2 && rw_load32_relaxed(&board.words->mode) == RW_PARENT_AWAKE)
            sched_yield();
        rw_board_commit(&board, task, me, fails ? RW_TASK_FAILED : RW_TASK_DONE, RW_RESULT_INT,
                        epoch, 8);
    }
    validate_need(status == RW_EMPTY, "the board closed");
    return NULL;
}

static struct {
    uint64_t run, cancelled, twice, torn, slept;
} counted;

/* Look at the records, as the parent does whenever it is awake; returns how many are unfinished. */
static unsigned harvest(const struct rw_board *board, uint32_t epoch, bool *seen) {
    unsigned open = 0;
    for (uint32_t task = 0; task < TASKS; task++) {
        if (seen[task])
            continue;
        uint32_t state = RW_WORD_STATE(rw_load_acquire(&board->tasks[task].state));
        if (state == RW_TASK_READY || state == RW_TASK_RUNNING) {
            open++;
            continue;
        }
        seen[task] = true;
        counted.cancelled += state == RW_TASK_CANCELLED;
        if (state != RW_TASK_DONE && state != RW_TASK_FAILED)
            continue;
        counted.run++;
        counted.twice += claims[task] > 1;
        counted.torn += results[task] != ~inputs[task] || board->tasks[task].result_value != epoch;
    }
    return open;
}

/* Wait as the mapper does: look, look out, announce the sleep, sleep on the eventfd. A third of the
 * maps never sleep: there only the state words order the results. */
static void finish(struct rw_board *board, uint32_t epoch, uint64_t target) {
    bool seen[TASKS] = {false};
    uint64_t done = rw_board_done(board), count;
    while (harvest(board, epoch, seen) > 0) {
        struct pollfd wake = {.fd = wake_fd, .events = POLLIN};
        bool any = epoch % 3 == 1;
        if (epoch % 3 == 0) {
            sched_yield();
            continue;
        }
        uint32_t mode = any ? RW_PARENT_ANY : RW_PARENT_TARGET;
        uint64_t until = any ? done : target;
        if (!rw_board_look_out(board, mode, until) && rw_board_sleep(board, mode, until)) {
            validate_need(poll(&wake, 1, -1) == 1, "polled");
            validate_need(read(wake_fd, &count, sizeof count) == sizeof count, "woken");
            rw_board_awake(board);
            counted.slept++;
        }
        done = rw_board_done(board);
    }
}

static void push(struct rw_ring *ring, const uint64_t *hints, uint64_t count) {
    uint64_t pushed;
    validate_need(rw_ring_push(ring, hints, count, &pushed) == RW_OK, "ring is whole");
    validate_need(pushed == count, "the ring has room for what two maps leave");
}

int main(void) {
    struct rw_board board;
    struct rw_ring ring;
    pthread_t threads[WORKERS];
    wake_fd = eventfd(0, EFD_CLOEXEC);
    validate_need(wake_fd >= 0, "eventfd");
    validate_watchdog();
    bind(&board, &ring);
    board.cpus = CPUS;
    for (uintptr_t i = 0; i < WORKERS; i++)
        threads[i] = validate_start(work, (void *)i);
    for (uint32_t epoch = 1; epoch <= MAPS; epoch++) {
        uint64_t before = rw_board_done(&board), hints[2 * TASKS];
        header = epoch;
        rw_board_announce(&board, epoch, 0, 0);
        for (uint32_t task = 0; task < TASKS; task++)
            hints[2 * task] = hints[2 * task + 1] = (uint64_t)epoch << 32 | task;
        if (epoch % 2) /* hints come too early: only the state words order the inputs */
            push(&ring, hints, TASKS);
        for (uint32_t task = 0; task < TASKS; task++) {
            claims[task] = 0;
            inputs[task] = (uint64_t)epoch * TASKS + task;
            rw_board_arm(&board, task, epoch, inputs[task], 8);
        }
        push(&ring, hints, 2 * TASKS); /* twice each; what is left over is stale in the next map */
        rw_eventcount_notify(&board.words->work, 2 * TASKS);
        uint32_t stopped = epoch % 4 == 0 ? rw_board_cancel(&board, epoch, TASKS) : 0;
        uint64_t cancelled = counted.cancelled;
        finish(&board, epoch, before + TASKS - stopped);
        validate_need(counted.cancelled - cancelled == stopped, "what was cancelled is");
        validate_watchdog();
    }
    rw_board_close(&board);
    for (int i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    validate_need(rw_board_done(&board) == counted.run, "each run was counted");
    printf("board tasks=%d ended=%lu twice=%lu torn=%lu slept=%d\n", MAPS * TASKS,
           counted.run + counted.cancelled, counted.twice, counted.torn, counted.slept > 0);
    return counted.twice || counted.torn || counted.run + counted.cancelled != MAPS * TASKS;
}
