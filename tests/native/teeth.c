/* Three mistakes that stepping must find, or its zeros mean nothing. */
#include "board.h"
#include "ring.h"
#include "status.h"
#include "step.h"
#include "world.h"

/* --- a ring that reserves a cell and fills it later ------------------------------------------ */

static void reserve_then_publish(void) {
    uint64_t tail = rw_load_acquire(&world.ring.words->tail);
    if (rw_cas_acq_rel(&world.ring.words->tail, &tail, tail + 1))
        rw_store_release(&world.ring.cells[tail % WORLD_RING], 11);
}

/* A consumer of such a ring waits until a reserved cell is filled. */
static enum verdict check_published(bool finished) {
    (void)finished;
    if (rw_ring_length(&world.ring) == 1)
        REQUIRE(rw_load_acquire(&world.ring.cells[0]) != 0, WEDGED);
    return FINE;
}

/* --- a commit that says DONE before the result is there -------------------------------------- */

static void commit_early(void) {
    struct rw_task *t = &world.board.tasks[0];
    rw_store_release(&t->state, RW_WORD(RW_TASK_DONE, 0, 0, EPOCH));
    t->result_kind = RW_RESULT_INT;
    t->result_value = 11;
}

static enum verdict check_result(bool finished) {
    struct rw_task *t = &world.board.tasks[0];
    (void)finished;
    if (RW_WORD_STATE(rw_load_acquire(&t->state)) == RW_TASK_DONE)
        REQUIRE(t->result_kind == RW_RESULT_INT && t->result_value == 11, TORN);
    return FINE;
}

/* --- a task that is taken off one place before it is put on another ------------------------- */

static void one_ready(void) {
    world_make();
    rw_board_arm(&world.board, 0, EPOCH, 0, 0);
}

static void move_task(void) {
    rw_store_release(&world.board.tasks[0].state, RW_WORD(RW_TASK_FREE, 0, 0, EPOCH));
    rw_board_arm(&world.board, 1, EPOCH, 0, 0);
}

static enum verdict check_ready(bool finished) {
    unsigned ready = 0;
    (void)finished;
    for (uint32_t task = 0; task < 2; task++)
        ready += RW_WORD_STATE(rw_load_acquire(&world.board.tasks[task].state)) == RW_TASK_READY;
    REQUIRE(ready == 1, LOST);
    return FINE;
}

const struct step_case teeth_cases[] = {
    {"teeth.wedged", world_make, reserve_then_publish, check_published},
    {"teeth.torn", world_make, commit_early, check_result},
    {"teeth.lost", one_ready, move_task, check_ready},
    {0},
};
