"""A worker's side of the board: claim a task, run it, commit what came of it. See csrc/board.h."""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.float cimport PyFloat_AS_DOUBLE
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from ringwalk._core.board cimport (
    RW_RESULT_FALSE,
    RW_RESULT_FLOAT,
    RW_RESULT_INT,
    RW_RESULT_NONE,
    RW_RESULT_PAYLOAD,
    RW_RESULT_TRUE,
    RW_TASK_DONE,
    RW_TASK_FAILED,
    RW_WORD_EPOCH,
    Board,
    rw_board,
    rw_board_commit,
    rw_board_take,
    rw_board_wait,
    rw_load_acquire,
    rw_load_relaxed,
    rw_task,
)
from ringwalk._core.chain cimport Chain
from ringwalk._core.ring cimport rw_ring
from ringwalk._core.status cimport RW_EMPTY, RW_INTERRUPTED, RW_OK, check

cdef extern from "Python.h":
    bint PyLong_CheckExact(object)
    bint PyFloat_CheckExact(object)
    long long PyLong_AsLongLongAndOverflow(object, int *overflow)


@cython.final
cdef class Consumer:
    """Takes tasks for one slot of a board. Not for use by two threads at once.

    Attributes:
        taken: the task that was claimed last; -1 when there was none.
    """

    cdef Board board
    cdef rw_board *c
    cdef rw_ring *ring
    cdef uint32_t worker
    cdef readonly int64_t taken

    def __cinit__(self, Board board not None, uint32_t worker):
        board.slot(worker)
        self.board = board
        self.c = &board.c
        self.ring = &board.ring.c
        self.worker = worker
        self.taken = -1

    cpdef int64_t take(self) except? -1:
        """Claim the next task, sleeping while there is none; -1 when the pool closes.

        A signal handler that raises ends the sleep with its exception.
        """
        cdef uint32_t task = 0
        cdef int status
        self.taken = -1
        while True:
            # Work at hand is taken without letting the GIL go: that costs as much as the claim.
            status = rw_board_take(self.c, self.ring, self.worker, &task)
            if status == RW_EMPTY:
                with nogil:
                    status = rw_board_wait(self.c, self.ring, self.worker, &task)
            if status == RW_OK:
                self.taken = task
                return task
            if status == RW_EMPTY:
                return -1
            if status != RW_INTERRUPTED:
                check(status)
            PyErr_CheckSignals()

    def run(self, uint32_t epoch, call):
        """Take tasks of one map, call with each, commit what a record has room for.

        Returns as soon as the caller has to do something about the task ``taken``: -1, the pool
        closes; a task of another epoch, which was not called; or one whose result, which is
        returned, needs a payload. What ``call`` raises comes through, with ``taken`` set as well.
        """
        cdef Chain chain = call if type(call) is Chain else None
        cdef int64_t task
        while True:
            task = self.take()
            if task < 0 or RW_WORD_EPOCH(rw_load_relaxed(&self.c.tasks[task].state)) != epoch:
                return None
            result = call(task) if chain is None else chain.run(task)
            if not self.commit_value(task, result):
                return result

    def job(self):
        """(epoch, offset, length) of the current map's header in the parent's heap."""
        cdef uint64_t epoch = rw_load_acquire(&self.c.words.job_epoch)
        return epoch, self.c.words.job_offset, self.c.words.job_length

    def epoch_of(self, uint32_t task):
        return RW_WORD_EPOCH(rw_load_relaxed(&self.board.task(task).state))

    def input(self, uint32_t task):
        """(offset, length) of the task's payload in the parent's heap."""
        cdef rw_task *t = self.board.task(task)
        return t.input_offset, t.input_length

    def commit_inline(self, uint32_t task, result):
        """Commit None, a bool, a float or a 64-bit int in the record itself.

        Returns False, having done nothing, for any other value.
        """
        self.board.task(task)
        return self.commit_value(task, result)

    cdef bint commit_value(self, uint32_t task, result) except -1:
        cdef uint64_t kind, value = 0
        cdef long long integer
        cdef double real
        cdef int overflow = 0
        if result is None:
            kind = RW_RESULT_NONE
        elif result is True:
            kind = RW_RESULT_TRUE
        elif result is False:
            kind = RW_RESULT_FALSE
        elif PyFloat_CheckExact(result):
            kind = RW_RESULT_FLOAT
            real = PyFloat_AS_DOUBLE(result)
            memcpy(&value, &real, sizeof(value))
        elif PyLong_CheckExact(result):
            integer = PyLong_AsLongLongAndOverflow(result, &overflow)
            if overflow:
                return False
            kind = RW_RESULT_INT
            value = <uint64_t>integer
        else:
            return False
        rw_board_commit(self.c, task, self.worker, RW_TASK_DONE, kind, value, 0)
        return True

    def commit(self, uint32_t task, bint failed, uint64_t block, uint64_t length):
        """Commit a payload that lies in a block of this worker's heap."""
        self.board.task(task)
        rw_board_commit(self.c, task, self.worker, RW_TASK_FAILED if failed else RW_TASK_DONE,
                        RW_RESULT_PAYLOAD, block, length)
