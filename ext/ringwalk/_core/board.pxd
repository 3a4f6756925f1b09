from libc.stdint cimport int64_t, uint32_t, uint64_t

from ringwalk._core.arena cimport Arena
from ringwalk._core.ring cimport Ring, rw_ring

cdef extern from "eventcount.h" nogil:
    struct rw_eventcount:
        pass
    void rw_eventcount_notify(rw_eventcount *ec, uint32_t count)
    void rw_eventcount_wake_all(rw_eventcount *ec)

cdef extern from "board.h" nogil:
    ctypedef uint64_t rw_a64
    ctypedef uint32_t rw_a32
    uint64_t rw_load_relaxed(const rw_a64 *p)
    uint64_t rw_load_acquire(const rw_a64 *p)
    void rw_store_relaxed(rw_a64 *p, uint64_t v)
    uint32_t rw_load32_relaxed(const rw_a32 *p)
    uint32_t rw_load32_acquire(const rw_a32 *p)
    void rw_store32_relaxed(rw_a32 *p, uint32_t v)
    void rw_store32_release(rw_a32 *p, uint32_t v)
    enum:
        RW_TASK_FREE
        RW_TASK_READY
        RW_TASK_RUNNING
        RW_TASK_DONE
        RW_TASK_FAILED
        RW_TASK_CANCELLED
        RW_TASK_LOST
        RW_RESULT_NONE
        RW_RESULT_FALSE
        RW_RESULT_TRUE
        RW_RESULT_INT
        RW_RESULT_FLOAT
        RW_RESULT_PAYLOAD
        RW_SLOT_READY
        RW_PARENT_TARGET
        RW_PARENT_ANY
    uint32_t RW_WORD_STATE(uint64_t word)
    uint32_t RW_WORD_ATTEMPT(uint64_t word)
    uint32_t RW_WORD_WORKER(uint64_t word)
    uint32_t RW_WORD_EPOCH(uint64_t word)
    struct rw_task:
        rw_a64 state
        uint64_t input_offset
        uint64_t input_length
        uint64_t result_value
        uint64_t result_length
        uint64_t result_kind
        rw_a64 start_ns
        rw_a64 end_ns
    struct rw_slot:
        rw_a64 running
        rw_a32 phase
        rw_a32 child_status
    struct rw_board_words:
        rw_eventcount work
        rw_a64 job_epoch
        uint64_t job_offset
        uint64_t job_length
        rw_a32 closing
    struct rw_board:
        rw_board_words *words
        rw_slot *slots
        rw_task *tasks
        uint32_t slot_count
        uint32_t capacity
        uint32_t cpus
    uint64_t rw_board_bytes(uint32_t slot_count, uint32_t capacity)
    void rw_board_bind(rw_board *board, void *memory, uint32_t slot_count, uint32_t capacity,
                       int wake_fd)
    void rw_board_arm(rw_board *board, uint32_t task, uint32_t epoch, uint64_t offset,
                      uint64_t length)
    void rw_board_announce(rw_board *board, uint32_t epoch, uint64_t offset, uint64_t length)
    uint32_t rw_board_cancel(rw_board *board, uint32_t epoch, uint32_t count)
    bint rw_board_cancel_task(rw_board *board, uint32_t epoch, uint32_t task)
    int rw_board_retry(rw_board *board, uint32_t task)
    int rw_board_give_up(rw_board *board, uint32_t task)
    uint64_t rw_board_done(const rw_board *board)
    bint rw_board_look_out(rw_board *board, uint32_t mode, uint64_t target)
    bint rw_board_sleep(rw_board *board, uint32_t mode, uint64_t target)
    bint rw_board_awake(rw_board *board)
    void rw_board_close(rw_board *board)
    void rw_board_reopen(rw_board *board)
    void rw_board_bury(rw_board *board, uint32_t worker)
    int rw_board_take(rw_board *board, rw_ring *ring, uint32_t worker, uint32_t *task)
    void rw_board_hint_singly(rw_board *board)
    void rw_board_announce_one(rw_board *board, const rw_ring *ring)
    int rw_board_wait(rw_board *board, rw_ring *ring, uint32_t worker, uint32_t *task)
    void rw_board_commit(rw_board *board, uint32_t task, uint32_t worker, uint32_t state,
                         uint64_t kind, uint64_t value, uint64_t length)
    int64_t rw_now_ns()

cdef class Board:
    cdef Arena arena
    cdef Ring ring
    cdef rw_board c
    cdef public uint32_t most_woken
    cdef rw_task *task(self, uint32_t index) except NULL
    cdef int span(self, uint32_t first, uint32_t count) except -1
    cdef rw_slot *slot(self, uint32_t worker) except NULL
