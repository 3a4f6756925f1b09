"""Task board: what the parent does with tasks, and reads of them. See csrc/board.h.

A worker claims and commits them by a ``Consumer``.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from ringwalk._core.arena cimport Arena
from ringwalk._core.ring cimport Ring, rw_ring_check, rw_ring_push
from ringwalk._core.status cimport RW_CORRUPT, RW_OK, check

FREE = RW_TASK_FREE
READY = RW_TASK_READY
RUNNING = RW_TASK_RUNNING
DONE = RW_TASK_DONE
FAILED = RW_TASK_FAILED
CANCELLED = RW_TASK_CANCELLED
LOST = RW_TASK_LOST
SLOT_READY = RW_SLOT_READY


def board_bytes(uint32_t slots, uint32_t capacity):
    return rw_board_bytes(slots, capacity)


def now_ns():
    """CLOCK_MONOTONIC in nanoseconds, the clock of every time on the board."""
    return rw_now_ns()


@cython.final
cdef class Board:
    """A handle on the board of a pool: one record a task, one slot a worker.

    Which process may call what is csrc/board.h's business; this class only checks indices.
    Not for use by two threads at once.

    Args:
        cpus: how many the pool's processes may use. Where it leaves one, who waits looks out for
            a moment before it sleeps; 0 has everybody sleep at once.

    Attributes:
        most_woken: how many workers a push wakes at most.
    """

    def __cinit__(self, Arena arena not None, uint64_t offset, Ring ring not None,
                  uint32_t slots, uint32_t capacity, int wake_fd, uint32_t cpus=0):
        self.arena = arena
        self.ring = ring
        rw_board_bind(&self.c, arena.at(offset, rw_board_bytes(slots, capacity)), slots,
                      capacity, wake_fd)
        self.c.cpus = cpus
        self.most_woken = min(slots, cpus) if cpus else slots

    cdef rw_task *task(self, uint32_t index) except NULL:
        if index >= self.c.capacity:
            raise IndexError(f"task {index} of a board for {self.c.capacity}")
        return &self.c.tasks[index]

    cdef int span(self, uint32_t first, uint32_t count) except -1:
        if first > self.c.capacity or count > self.c.capacity - first:
            raise IndexError(f"tasks {first} to {<uint64_t>first + count} of a board for "
                             f"{self.c.capacity}")
        return 0

    cdef rw_slot *slot(self, uint32_t worker) except NULL:
        if worker >= self.c.slot_count:
            raise IndexError(f"worker {worker} of a board with {self.c.slot_count} slots")
        return &self.c.slots[worker]

    def arm_each(self, uint32_t first, uint32_t epoch, uint64_t offset, list lengths):
        """Make consecutive tasks ready whose payloads lie one after another from offset on."""
        cdef uint32_t i = first
        cdef uint64_t length
        self.span(first, len(lengths))
        for item in lengths:
            length = item
            rw_board_arm(&self.c, i, epoch, offset, length)
            offset += length
            i += 1

    def arm_range(self, uint32_t first, uint32_t count, uint32_t epoch):
        """Make tasks ready that carry no payload of their own."""
        cdef uint32_t i
        self.span(first, count)
        for i in range(first, first + count):
            rw_board_arm(&self.c, i, epoch, 0, 0)

    def announce(self, uint32_t epoch, uint64_t offset, uint64_t length):
        rw_board_announce(&self.c, epoch, offset, length)

    def push(self, uint32_t epoch, tasks):
        """Hint at ready tasks (a range or a sequence) and wake as many, up to ``most_woken``.

        Returns how many the ring took; the caller sized it to take all.
        """
        cdef uint64_t count = len(tasks), pushed = 0, i = 0
        cdef uint32_t first
        cdef uint64_t *cells = <uint64_t *>malloc(max(count, 1) * sizeof(uint64_t))
        if cells == NULL:
            raise MemoryError(f"no memory for {count} task numbers")
        try:
            if type(tasks) is range and tasks.step == 1:
                first = tasks.start
                for i in range(count):
                    cells[i] = <uint64_t>epoch << 32 | <uint32_t>(first + i)
            else:
                for task in tasks:
                    cells[i] = <uint64_t>epoch << 32 | <uint32_t>task
                    i += 1
            with nogil:
                check(rw_ring_push(&self.ring.c, cells, count, &pushed))
                rw_eventcount_notify(&self.c.words.work, min(<uint32_t>pushed, self.most_woken))
        finally:
            free(cells)
        return pushed

    def hint_singly(self):
        """Prepare for ``submit``: before any hint is pushed."""
        rw_board_hint_singly(&self.c)

    def submit(self, uint32_t task, uint32_t epoch, uint64_t offset, uint64_t length):
        """Arm one task, hint at it and wake a worker if none is on its way.

        False: the ring took no hint; push it later.
        """
        cdef uint64_t cell = <uint64_t>epoch << 32 | task, pushed = 0
        self.task(task)
        rw_board_arm(&self.c, task, epoch, offset, length)
        check(rw_ring_push(&self.ring.c, &cell, 1, &pushed))
        # With the GIL: a thread that lets it go may wait long to have it back.
        rw_board_announce_one(&self.c, &self.ring.c)
        return pushed == 1

    def cancel(self, uint32_t epoch, uint32_t count):
        return rw_board_cancel(&self.c, epoch, min(count, self.c.capacity))

    def cancel_task(self, uint32_t epoch, uint32_t task):
        """READY -> CANCELLED. False: a worker has it, or it is final."""
        self.task(task)
        return rw_board_cancel_task(&self.c, epoch, task)

    def renew_input(self, uint32_t task, uint64_t offset, uint64_t length):
        """Where the next attempt finds its payload. For before ``retry``, which publishes it."""
        cdef rw_task *t = self.task(task)
        t.input_offset = offset
        t.input_length = length

    def retry(self, uint32_t task):
        """RUNNING -> READY. False: it was committed before its worker died."""
        self.task(task)
        return rw_board_retry(&self.c, task) == RW_OK

    def give_up(self, uint32_t task):
        """RUNNING -> LOST. False: it was committed before its worker died."""
        self.task(task)
        return rw_board_give_up(&self.c, task) == RW_OK

    def done(self):
        return rw_board_done(&self.c)

    def sleep(self, bint any_, uint64_t target):
        """Announce a sleep on the eventfd. False: what is waited for has happened already."""
        cdef uint32_t mode = RW_PARENT_ANY if any_ else RW_PARENT_TARGET
        cdef bint over
        with nogil:
            over = rw_board_look_out(&self.c, mode, target)
        return not over and rw_board_sleep(&self.c, mode, target)

    def bury(self, uint32_t worker):
        """Take note that a worker is dead, before another takes its slot."""
        self.slot(worker)
        rw_board_bury(&self.c, worker)

    def awake(self):
        """End a sleep. True: a worker has woken us."""
        return rw_board_awake(&self.c)

    def close(self):
        with nogil:
            rw_board_close(&self.c)

    def reopen(self):
        """Undo ``close``, once no worker is left."""
        rw_board_reopen(&self.c)

    def state(self, uint32_t task):
        """(state, attempt, worker, epoch) of a task."""
        cdef uint64_t word = rw_load_acquire(&self.task(task).state)
        return (RW_WORD_STATE(word), RW_WORD_ATTEMPT(word), RW_WORD_WORKER(word),
                RW_WORD_EPOCH(word))

    def started_ns(self, uint32_t task):
        """When the running attempt began; 0 if it has not said so yet."""
        return rw_load_relaxed(&self.task(task).start_ns)

    def running_on(self, uint32_t worker):
        """The task that a worker runs, by the board's word for it; None when it runs none."""
        cdef uint64_t hint = rw_load_relaxed(&self.slot(worker).running)
        cdef uint64_t word
        if hint == 0 or hint > self.c.capacity:
            return None
        word = rw_load_acquire(&self.c.tasks[hint - 1].state)
        if RW_WORD_STATE(word) != RW_TASK_RUNNING or RW_WORD_WORKER(word) != worker:
            return None
        return hint - 1

    def claimed_by(self, uint32_t worker, uint32_t count):
        """Tasks below count that are RUNNING on a worker, from the records themselves."""
        cdef uint32_t i
        cdef uint64_t word
        found = []
        for i in range(min(count, self.c.capacity)):
            word = rw_load_acquire(&self.c.tasks[i].state)
            if RW_WORD_STATE(word) == RW_TASK_RUNNING and RW_WORD_WORKER(word) == worker:
                found.append(i)
        return found

    def ready(self, uint32_t count):
        """Tasks below count that are READY: what a lost hint may have named."""
        cdef uint32_t i
        found = []
        for i in range(min(count, self.c.capacity)):
            if RW_WORD_STATE(rw_load_acquire(&self.c.tasks[i].state)) == RW_TASK_READY:
                found.append(i)
        return found

    def harvest(self, uint32_t epoch, uint32_t count, uint8_t[::1] seen, list results,
                list fresh=None):
        """Collect what finished among the first count tasks since the last call.

        Inline results go straight into results[task]; seen[task] becomes 1, and fresh, if given,
        gets the task. Returns ``(open, rest)``: the number of tasks still unfinished, and for
        each newly finished one that needs decoding ``(task, state, worker, block, length)``.
        """
        cdef uint32_t i, state, remaining = 0
        cdef uint64_t word, kind, value
        cdef rw_task *t
        if count > self.c.capacity or seen.shape[0] < count or <uint64_t>len(results) < count:
            raise IndexError(f"{count} tasks reach beyond the map")
        rest = []
        for i in range(count):
            if seen[i]:
                continue
            t = &self.c.tasks[i]
            # sync: pairs with commit's store; protects the result fields.
            word = rw_load_acquire(&t.state)
            state = RW_WORD_STATE(word)
            if state <= RW_TASK_RUNNING or RW_WORD_EPOCH(word) != epoch:
                remaining += 1
                continue
            seen[i] = 1
            if fresh is not None:
                fresh.append(i)
            kind, value = t.result_kind, t.result_value
            if state != RW_TASK_DONE or kind == RW_RESULT_PAYLOAD:
                rest.append((i, state, RW_WORD_WORKER(word), value, t.result_length))
            elif kind != RW_RESULT_NONE:
                results[i] = inline_value(kind, value)
        return remaining, rest

    def final(self, tasks):
        """Those of some tasks that are final: ``(task, state, value, worker, block, length)``.

        For callers that arm a record again once they took it in: nothing is marked as seen. An
        inline result is the value, and its block is -1.
        """
        cdef uint32_t state
        cdef uint64_t word
        cdef rw_task *t
        found = []
        for task in tasks:
            t = self.task(task)
            # sync: pairs with commit's store; protects the result fields.
            word = rw_load_acquire(&t.state)
            state = RW_WORD_STATE(word)
            if state <= RW_TASK_RUNNING:
                continue
            if state == RW_TASK_DONE and t.result_kind != RW_RESULT_PAYLOAD:
                value = (None if t.result_kind == RW_RESULT_NONE
                         else inline_value(t.result_kind, t.result_value))
                found.append((task, state, value, RW_WORD_WORKER(word), -1, 0))
            else:
                found.append((task, state, None, RW_WORD_WORKER(word), t.result_value,
                              t.result_length))
        return found

    def audit(self, uint32_t epoch, uint32_t count, const uint8_t[::1] seen):
        """Look for what no correct process writes; RingwalkError if there is any.

        Returns ``(task, worker)`` of each unfinished task that is RUNNING on a worker that says it
        runs another or none: true for an instant after a claim, else somebody wrote over it.
        """
        cdef uint32_t i, state
        cdef uint64_t word
        if count > self.c.capacity or seen.shape[0] < count:
            raise IndexError(f"{count} tasks reach beyond the map")
        check(rw_ring_check(&self.ring.c))
        if rw_load32_acquire(&self.c.words.closing):
            check(RW_CORRUPT)
        suspects = []
        for i in range(count):
            word = rw_load_acquire(&self.c.tasks[i].state)
            state = RW_WORD_STATE(word)
            if seen[i]:
                continue
            if RW_WORD_EPOCH(word) != epoch or state == RW_TASK_FREE:
                check(RW_CORRUPT)
            if state == RW_TASK_RUNNING:
                if RW_WORD_WORKER(word) >= self.c.slot_count:
                    check(RW_CORRUPT)
                if rw_load_relaxed(&self.c.slots[RW_WORD_WORKER(word)].running) != i + 1:
                    suspects.append((i, RW_WORD_WORKER(word)))
        return suspects

    def wake_workers(self):
        """Wake every idle worker, whatever the memory says about how many there are."""
        with nogil:
            rw_eventcount_wake_all(&self.c.words.work)

    def snapshot(self, uint32_t first, uint32_t count):
        """A copy of the raw records of tasks [first, first + count), 64 bytes each."""
        self.span(first, count)
        return PyBytes_FromStringAndSize(<char *>&self.c.tasks[first], count * sizeof(rw_task))

    def durations(self, double[::1] seconds):
        """How long the last attempts at tasks 0, 1, ... took, as many as there is room for."""
        cdef uint32_t i
        cdef rw_task *t
        self.span(0, seconds.shape[0])
        for i in range(seconds.shape[0]):
            t = &self.c.tasks[i]
            seconds[i] = 1e-9 * <int64_t>(rw_load_relaxed(&t.end_ns) - rw_load_relaxed(&t.start_ns))

    # --- slots -------------------------------------------------------------------------------

    def phase(self, uint32_t worker):
        return rw_load32_acquire(&self.slot(worker).phase)

    def set_phase(self, uint32_t worker, uint32_t phase):
        rw_store32_release(&self.slot(worker).phase, phase)

    def child_status(self, uint32_t worker):
        """Wait status of the task process that died under a lane; None if none did."""
        cdef uint32_t word = rw_load32_relaxed(&self.slot(worker).child_status)
        return None if word == 0 else word - 1

    def set_child_status(self, uint32_t worker, status):
        rw_store32_relaxed(&self.slot(worker).child_status, 0 if status is None else status + 1)


cdef object inline_value(uint64_t kind, uint64_t value):
    cdef double real
    if kind == RW_RESULT_TRUE:
        return True
    if kind == RW_RESULT_FALSE:
        return False
    if kind == RW_RESULT_INT:
        return <int64_t>value
    if kind == RW_RESULT_FLOAT:
        memcpy(&real, &value, sizeof(real))
        return real
    check(RW_CORRUPT)
