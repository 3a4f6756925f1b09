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

/* --- a sleep that looks for work before it announces itself -------------------------------- */

static void look_then_announce(void) {
    bool nothing = rw_board_done(&world.board) == 0;
    if (nothing)
        rw_store32_seq_cst(&world.board.words->mode, RW_PARENT_ANY);
    step_control->said[0] = nothing;
}

static void peer_commits(void) {
    rw_board_arm(&world.board, 0, EPOCH, 0, 0);
    rw_board_commit(&world.board, 0, 0, RW_TASK_DONE, RW_RESULT_NONE, 0, 0);
}

static enum verdict check_woken(bool finished) {
    (void)finished;
    REQUIRE(step_control->said[0] == 0 || world_was_woken(), LOST);
    return FINE;
}

const struct step_case teeth_cases[] = {
    {"teeth.wedged", world_make, reserve_then_publish, check_published, NULL, false},
    {"teeth.torn", world_make, commit_early, check_result, NULL, false},
    {"teeth.lost", world_make, look_then_announce, check_woken, peer_commits, false},
    {0},
};
