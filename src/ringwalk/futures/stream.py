"""Stream: tasks that come one by one, on the board that maps use in waves.

One epoch that never ends. Each task gets a record of the board, which is armed again for another
task once its result was taken in::

    submit: payload -> heap, record armed, hint pushed      collect: record final -> outcome
                 `----- no record free: backlog -----------------'   record free again

A hint that is left over from a record's earlier task is harmless: it leads to a READY record or
to none, as any hint does. Hints are taken in the order in which they were pushed, so only records
whose hint is gone from the ring can be final: a look costs what changed, not what is open.

Not for use by two threads at once, but for ``space.codec``; see ``engine`` for who calls what.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from ringwalk._core.board import FAILED, RUNNING
from ringwalk.errors import TaskDied
from ringwalk.futures.calls import Calls, TaskExit
from ringwalk.memory.codec import Encoded
from ringwalk.memory.shared_blocks import SharedBlocks
from ringwalk.workers.crew import Death
from ringwalk.workers.failure import Failure
from ringwalk.workers.job import Carried, Job
from ringwalk.workers.persistent import PersistentCrew
from ringwalk.workers.plan import CAPACITY
from ringwalk.workers.pool import Pool
from ringwalk.workers.watch import Events

# Half of what ring and board take: a hint that is pushed again always finds room.
RECORDS = CAPACITY // 2


class Sink(Protocol):
    """Where the outcome of a task goes: a future, of one kind or another.

    ``task`` is the number of its record, -1 while or after it has none.
    """

    task: int

    def deliver(self, value: Any, error: BaseException | None) -> None: ...


Outcome = tuple[Sink, Any, BaseException | None]


class Stream:
    """Hands out calls on a pool and collects what came of them.

    Attributes:
        open: tasks that were submitted and are not final.
        outcomes: what is final and was not delivered yet, oldest first.
        pool, board, codec, crew: the pool, which is the stream's own, and its parts.
    """

    def __init__(self, pool: Pool, max_retries: int) -> None:
        self.open = 0
        self.outcomes: deque[Outcome] = deque()
        assert isinstance(pool.crew, PersistentCrew)
        pool.space.promise(RECORDS)
        self.pool = pool
        self.crew = pool.crew
        self.board = pool.space.board
        self.codec = pool.space.codec
        self._ring = pool.space.ring
        self._heap = pool.space.codec.own
        self._max_retries = max_retries
        self._started = False
        self.codec.shared = SharedBlocks(self._heap)
        self._calls = Calls(self.codec)
        self._epoch = pool.next_epoch()
        self._sinks: list[Sink | None] = []
        self._held: list[Sequence[int]] = []  # record -> blocks that its input lies in
        self._free: list[int] = []
        self._backlog: deque[tuple[Sink, Encoded]] = deque()
        self._order: deque[int] = deque()  # records in the order of their hints in the ring
        self._watched: set[int] = set()  # records whose hint is gone from the ring
        header, _ = self.codec.dumps(Job(0, 0, (Carried(0, 1),)))
        block = self._heap.put(header)  # held as long as the pool
        self.board.hint_singly()
        self.board.announce(self._epoch, self._heap.place(block), len(header))

    # --- hand out ------------------------------------------------------------------------------

    def submit(self, sink: Sink, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Queue one call. Raises what pickling raises."""
        if not self.open:
            self._calls.begin()
        encoded = self._calls.encode(func, args, kwargs)
        self.open += 1
        if self._free:
            task = self._free.pop()
        elif len(self._sinks) < RECORDS:
            task = len(self._sinks)
            self._sinks.append(None)
            self._held.append(())
        else:
            self._backlog.append((sink, encoded))
            return
        self._arm(task, sink, encoded)

    def _arm(self, task: int, sink: Sink, encoded: Encoded) -> None:
        payload, blocks = encoded
        try:
            block = self._heap.put(payload)
        except MemoryError as full:
            self._free.append(task)
            self._release(blocks)
            self._finish(sink, None, full)
            return
        self._sinks[task] = sink
        self._held[task] = (block, *blocks) if blocks else (block,)
        sink.task = task
        self._order.append(task)
        self.board.submit(task, self._epoch, self._heap.place(block), len(payload))

    def _push(self, tasks: Sequence[int]) -> None:
        self._order.extend(tasks)
        self.board.push(self._epoch, tasks)

    def running(self, sink: Sink) -> bool:
        """Whether a worker has the task."""
        return sink.task >= 0 and self.board.state(sink.task)[0] == RUNNING

    def cancel(self, sink: Sink) -> bool:
        """Take a task back that no worker has. It gets no outcome."""
        task = sink.task
        if task >= 0:
            if not self.board.cancel_task(self._epoch, task):
                return False
            self._retire(task)
            return True
        for entry in self._backlog:
            if entry[0] is sink:
                self._backlog.remove(entry)
                self._release(entry[1][1])
                self.open -= 1
                return True
        return False

    def waiting(self) -> list[Sink]:
        """Sinks of the tasks that are not final, oldest record first."""
        return [sink for sink in self._sinks if sink is not None] + [s for s, _ in self._backlog]

    # --- collect -------------------------------------------------------------------------------

    def collect(self) -> None:
        """Take in what became final."""
        order, watched = self._order, self._watched
        for _ in range(len(order) - len(self._ring)):
            watched.add(order.popleft())
        if not watched:
            return
        for task, state, value, worker, block, length in self.board.final(watched):
            sink = self._sinks[task]
            if sink is None:  # the hint was of an earlier task, which is settled
                watched.discard(task)
                continue
            error: BaseException | None = None
            if block >= 0:
                value, error = self._receive(state, worker, block, length)
            self._retire(task)
            self.outcomes.append((sink, value, error))

    def _receive(
        self, state: int, worker: int, block: int, length: int
    ) -> tuple[Any, BaseException | None]:
        try:
            value = self.codec.receive(worker + 1, block, length)
        except BaseException as error:  # unpickling runs user code; signals are held back
            error.add_note("The result of a task cannot be unpickled in the parent.")
            return None, error
        if state != FAILED:
            return value, None
        assert isinstance(value, Failure)
        original = value.original()
        if isinstance(original, TaskExit):
            stop = SystemExit(*original.args)
            stop.__cause__ = original.__cause__
            return None, stop
        if value.stage != "segment":
            original.add_note(
                "The task's arguments cannot be unpickled in the worker."
                if value.stage == "argument"
                else "The task's result cannot be sent back."
            )
        return None, original

    def _retire(self, task: int) -> None:
        """A record is final and taken in: make it ready for another task."""
        sink = self._sinks[task]
        assert sink is not None
        sink.task = -1
        self._sinks[task] = None
        self._watched.discard(task)
        self._release(self._held[task])
        self._held[task] = ()
        self.open -= 1
        self._free.append(task)
        while self._backlog and self._free:  # more than once where there is no memory for the first
            self._arm(self._free.pop(), *self._backlog.popleft())

    def _finish(self, sink: Sink, value: Any, error: BaseException | None) -> None:
        self.open -= 1
        self.outcomes.append((sink, value, error))

    def _release(self, blocks: Sequence[int]) -> None:
        for block in blocks:
            self.codec.release(block)

    # --- workers -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Have the workers started, if they were not."""
        if not self._started:
            self._started = True
            for slot in range(self.pool.setup.num_workers):
                self.crew.restart(slot)

    def attend(self, events: Events) -> None:
        """Answer workers, bury and replace the dead, take in what became final.

        Raises RingwalkError, OSError: workers cannot be had.
        """
        self._replace(self.crew.handle(events) if events else ())
        self.collect()

    def look_after(self) -> None:
        """A while without news: look for what an interrupted look may have lost."""
        slots = range(self.pool.setup.num_workers) if self._started else ()
        vacant = filter(self.crew.vacant, slots)
        self._replace([Death(slot, None, signal.SIGKILL, was_ready=True) for slot in vacant])
        self.push_lost_hints()
        self.board.wake_workers()  # the one that was to see a hint may be stopped

    def _replace(self, deaths: Sequence[Death]) -> None:
        for death in deaths:
            self.mourn(death)
            self.crew.restart(death.slot)

    def mourn(self, death: Death) -> None:
        """A worker is dead: hand out again what it ran, or give it up."""
        self.collect()  # what it committed before it died counts
        retried, lost = self.pool.settle(death, len(self._sinks), self._may_retry)
        if retried:
            self._push(retried)
        for task in lost:
            sink = self._sinks[task]
            if sink is None:
                continue
            attempts = self.board.state(task)[1] + 1
            self._retire(task)
            self.outcomes.append((sink, None, self._died(death, attempts)))
        self.push_lost_hints()

    def _may_retry(self, task: int) -> bool:
        return self.board.state(task)[1] < self._max_retries

    def _died(self, death: Death, attempts: int) -> TaskDied:
        hint = " (the kernel sends this signal when memory runs out)" if death.signal == 9 else ""
        return TaskDied(
            f"the process that ran the task died with {death.end}{hint}, attempt {attempts} of "
            f"{self._max_retries + 1}. The executor goes on: other tasks are not affected",
            attempts=attempts,
            exitcode=death.exitcode,
            signal=death.signal,
        )

    def push_lost_hints(self) -> None:
        """Name READY tasks again whose hints a dead worker may have taken along."""
        ready = self.board.ready(len(self._sinks))
        if len(ready) > len(self._ring):
            self._push(ready)

    def kill_busy(self) -> None:
        """Kill the workers that have a task."""
        self.collect()
        for slot in range(self.pool.setup.num_workers):
            if self.board.claimed_by(slot, len(self._sinks)):
                self.crew.kill(slot)

    def fail_all(self, make_error: Any) -> None:
        """Nothing will run any more: every open task gets an error of its own."""
        for sink in self.waiting():
            sink.task = -1
            self.outcomes.append((sink, None, make_error()))
        self._sinks, self._held, self._free = [], [], []
        self._backlog.clear()
        self._order.clear()
        self._watched.clear()
        self.open = 0
