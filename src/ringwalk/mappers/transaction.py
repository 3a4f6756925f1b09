"""One wave of a map on a pool: arm, push, wait, collect; retry what died, abort on demand.

The parent sleeps on the wake eventfd and on what tells it of deaths, in one poll. Everything it
concludes, it concludes from the board: a wake-up or a death only makes it look.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ringwalk._core.board import CANCELLED, DONE, FAILED, LOST
from ringwalk.describe import text_of
from ringwalk.errors import (
    ConfigError,
    HeapFullError,
    MapError,
    RingwalkError,
    SegmentTimeout,
    TransferError,
    WorkerDied,
)
from ringwalk.mappers.arguments import Arguments
from ringwalk.mappers.deadline import Deadline, segment_name
from ringwalk.mappers.history import Wave
from ringwalk.mappers.options import Options
from ringwalk.mappers.reserve import Reserve
from ringwalk.mappers.wire import Wire, refusal
from ringwalk.observe.stuck import StuckWorker
from ringwalk.workers.crew import Death
from ringwalk.workers.failure import Failure
from ringwalk.workers.job import Job, Returned
from ringwalk.workers.persistent import PersistentCrew
from ringwalk.workers.pool import Pool
from ringwalk.workers.stuck import warn_of

# A belt, not the mechanism: how long a lost hint, or a worker stopped between its commit and its
# wake-up, can go unnoticed. Costs one look at the board a second while a map runs.
HEARTBEAT_S = 1.0
_KILL_TIMEOUT_S = 10.0


class Transaction:
    """Runs walkers [first, first + count) of a map.

    Args:
        order: in which the tasks are handed out; by default as they come.

    Attributes:
        first: walker index of the wave's first task.
        results: one element a walker; None where there is none (yet).
        errors: walker -> its error.
        returned: walkers whose segment returned the row it was given.
        finished: number of walkers that are done or failed.
        wave: what it leaves to tell of it.
        on_stuck: called with the wave's stuck workers, when there is another.
        on_look: called whenever the parent looked at its workers, at least once a ``HEARTBEAT_S``.
    """

    def __init__(
        self,
        pool: Pool,
        arguments: Arguments,
        options: Options,
        *,
        first: int,
        count: int,
        cycle: int,
        order: Sequence[int] | None = None,
    ) -> None:
        self.results: list[Any] = [None] * count
        self.errors: dict[int, MapError] = {}
        self.returned: list[int] = []
        self.finished = 0
        self._pool = pool
        self._board = pool.space.board
        self._codec = pool.space.codec
        self._codec.begin()
        self._arguments = arguments
        self._options = options
        self.first = first
        self._count = count
        self._cycle = cycle
        self._order = order
        self._epoch = pool.next_epoch()
        self.wave = Wave(first, self._epoch)
        self._armed = 0
        self._seen = bytearray(count)
        # Newly final tasks whose results need decoding: (task, state, worker, block, length).
        self._untaken: deque[tuple[int, int, int, int, int]] = deque()
        self.on_look: Callable[[], object] = lambda: None
        self.on_stuck: Callable[[Sequence[StuckWorker]], object] = lambda _: None
        self._wire: Wire | None = None
        self._held: list[int] = []  # blocks of the parent's heap that the map's inputs lie in
        self._fresh: list[int] | None = None
        self._stopping = False
        self._deadline = Deadline(pool, options.timeout, first)
        self._suspects: dict[tuple[int, int], float] = {}  # (task, worker) -> since when
        self._reserve = Reserve(pool.space, count)

    # --- start -------------------------------------------------------------------------------

    def start(self) -> None:
        """Hand out the tasks. An argument that cannot be sent fails its walker, stops the map."""
        self._pool.space.promise(self._count)
        if isinstance(self._pool.crew, PersistentCrew):
            self._start_remote(Wire(self._pool, self._arguments))
        else:
            job = Job(self.first, self._cycle, self._arguments.positional, self._arguments.named)
            self._pool.crew.fill(job)
            self._arm_all()

    def _start_remote(self, wire: Wire) -> None:
        self._wire = wire
        self._pool.crew.fill(None)
        try:
            job = wire.job(self.first, self._cycle, self._held)
            header, blocks = self._codec.dumps(job)
        except HeapFullError:
            raise
        except Exception as error:  # pickling runs user code
            raise ConfigError(
                "an argument that is the same for all walkers cannot be pickled: "
                f"{text_of(error)}. TaskMapper takes any object; for WorkerMapper, make it "
                "picklable or have the segment function refer to it"
            ) from error
        self._held.extend(blocks)
        self._board.announce(self._epoch, self._put(header), len(header))
        if not wire.carried:
            self._arm_all()
            return
        for chunk in wire.chunks(self._codec, self.first, self._count, self._held):
            if isinstance(chunk, tuple):
                self.errors[chunk[0]] = refusal(*chunk)
                self._stop()
                return
            self.wave.sent.update(chunk.outside)
            self.wave.queue(chunk.first)
            offset = self._put(chunk.data)
            self._board.arm_each(chunk.first, self._epoch, offset, chunk.lengths)
            self._armed = chunk.first + len(chunk.lengths)
            if self._order is None:
                self._board.push(self._epoch, range(chunk.first, self._armed))
        if self._order is not None:
            self._board.push(self._epoch, self._order)

    def _put(self, payload: bytes) -> int:
        return self._codec.own.place(self._codec.own.put(payload, self._held))

    def _renew_input(self, task: int) -> bool:
        """Write anew the arrays that a dead worker had for its own. False: its walker failed."""
        if self._wire is None or not self._wire.private or task not in self.wave.sent:
            return True
        try:
            payload, blocks = self._wire.again(self._codec, self.first + task)
            self._held.extend(blocks)
            self._board.renew_input(task, self._put(payload), len(payload))
        except Exception as error:  # pickling runs user code
            self.errors[self.first + task] = refusal(self.first + task, error)
            return False
        return True

    def _arm_all(self) -> None:
        self.wave.queue(0)
        self._board.arm_range(0, self._count, self._epoch)
        self._armed = self._count
        self._board.push(self._epoch, self._order or range(self._count))

    # --- run ---------------------------------------------------------------------------------

    @property
    def open(self) -> int:
        """Armed tasks that are not final."""
        return self._armed - self.finished

    def advance(self, *, any_: bool) -> list[int]:
        """Sleep until the wave is over, or with any_ until something finished.

        Returns the walkers that succeeded since the last call, with any_ only.
        """
        self._fresh = [] if any_ else None
        # Counted before looking: what finishes in between is then seen twice, not missed.
        done = self._board.done()
        self._collect()
        while self.open and not self._fresh:
            deaths: Sequence[Death] | None = None
            if self._board.sleep(any_, done if any_ else done + self.open):
                try:
                    deaths = self._pool.crew.wait(self._next_look())
                finally:
                    woken = self._board.awake()
                if not (woken or deaths) and self._reserve.look():
                    continue
            done, finished = self._board.done(), self.finished
            self._collect()
            if deaths is None:
                deaths = self._pool.crew.wait(0) if self.open else ()
            for death in deaths:
                self._mourn(death)
                if self.open and not self._stopping:
                    self._pool.crew.restart(death.slot)
            self._look_after(len(deaths), idle=self.finished == finished)
            self.on_look()
        return [self.first + task for task in self._fresh or () if self._succeeded(task)]

    def _next_look(self) -> float:
        timeout, patience = self._options.timeout, self._reserve.patience
        return min(HEARTBEAT_S, patience, HEARTBEAT_S if timeout is None else timeout / 4)

    def _look_after(self, deaths: int, *, idle: bool) -> None:
        """Kill what is late; push again what a dead worker's lost hint had named.

        If nothing finished, also see whether a segment wrote over what we wait for.
        """
        self._deadline.look(self._armed, self.finished)
        self._look_for_stuck()
        ring = len(self._pool.space.ring)
        if self.open and not self._stopping and (deaths or not ring):
            ready = self._board.ready(self._armed)
            if len(ready) > ring:
                self._board.push(self._epoch, ready)
        if self.open and idle:
            self._audit()

    def _look_for_stuck(self) -> None:
        crew = self._pool.crew
        found = crew.stuck.look(crew, lambda task: segment_name(self.first + task))
        if found:
            self.wave.stuck += found
            self.on_stuck(self.wave.stuck)
            warn_of(found)

    def _audit(self) -> None:
        """Raise, or end a worker, where the board says what cannot be; wake those that sleep."""
        now = time.monotonic()
        suspects = self._board.audit(self._epoch, self._armed, self._seen)
        self._suspects = {suspect: self._suspects.get(suspect, now) for suspect in suspects}
        for (_, worker), since in self._suspects.items():
            if now - since > 2 * HEARTBEAT_S:
                self._pool.crew.kill(worker)
        self._board.wake_workers()

    def _collect(self) -> None:
        """Take in everything that became final; with on_error="stop", end the map at an error."""
        self._harvest()
        if self.errors and self._options.on_error == "stop" and not self._stopping:
            self._stop()
            self._harvest()  # what was cancelled is final, too, and nobody will wake us for it

    def _harvest(self) -> None:
        still_open, rest = self._board.harvest(
            self._epoch, self._armed, self._seen, self.results, self._fresh
        )
        self.finished = self._armed - still_open
        self._untaken.extend(rest)
        while self._untaken:  # in an abort, also those that a Ctrl-C kept from being taken in
            self._take_in(*self._untaken.popleft())

    def _take_in(self, task: int, state: int, worker: int, block: int, length: int) -> None:
        walker, moved, taken = self.first + task, self._codec.moved, self._codec.taken
        if state != DONE and state != FAILED:
            if state in (CANCELLED, LOST):
                return  # cancelled: no result; lost: its error is known already
            raise RingwalkError(f"task {task} has the unknown state {state}; please report this")
        try:
            value = self._codec.receive(worker + 1, block, length)
        except (Exception, SystemExit) as error:  # unpickling runs user code
            broken = TransferError(
                f"the result of walker {walker} cannot be unpickled in the parent: "
                f"{text_of(error)}",
                walker=walker,
            )
            broken.__cause__ = error
            self.errors[walker] = broken
        else:
            if self._codec.taken != taken:
                self.wave.returned[task] = self._codec.moved - moved
            if state == FAILED and isinstance(value, Failure):
                self.errors[walker] = value.to_error(walker)
            else:
                self.results[task] = value
                if type(value) is Returned:
                    self.returned.append(walker)

    def _mourn(self, death: Death) -> None:
        """A worker is dead: settle what it ran, free what it held."""
        self._collect()  # what it committed before it died counts
        self._deadline.died(death.slot)
        for_memory = death.signal == signal.SIGKILL and self._pool.memory_kills.explain_one()
        for task in self._board.claimed_by(death.slot, self._armed):
            attempt, started = self._board.state(task)[1], self._board.started_ns(task)
            self.wave.died(task, death.slot, attempt, started)
        retried, lost = self._pool.settle(death, self._armed, self._may_retry)
        for task in lost:
            self._record_loss(task, death, for_memory=for_memory)
        if retried:
            self._board.push(self._epoch, retried)
        self._collect()

    def _may_retry(self, task: int) -> bool:
        return (
            not self._stopping
            and task not in self._deadline.overran
            and self._board.state(task)[1] < self._options.max_retries
            and self._renew_input(task)
        )

    def _record_loss(self, task: int, death: Death, *, for_memory: bool) -> None:
        walker = self.first + task
        attempts = self._board.state(task)[1] + 1
        if walker in self.errors:
            return  # its input could not be written once more
        if task in self._deadline.overran:
            self.errors[walker] = SegmentTimeout(
                f"segment of walker {walker} ran longer than timeout={self._options.timeout:g} s; "
                f"its process was killed{self._why_late(task)}",
                walker=walker,
            )
            return
        cause = ""
        if for_memory:
            cause = ": out of memory, the kernel chose to kill it. Use fewer workers or less memory"
        self.errors[walker] = WorkerDied(
            f"the process that ran the segment of walker {walker} died with {death.end}, "
            f"attempt {attempts} of {self._options.max_retries + 1}{cause}",
            walker=walker,
            attempts=attempts,
            exitcode=death.exitcode,
            signal=death.signal,
            out_of_memory=for_memory,
        )

    def _why_late(self, task: int) -> str:
        found = self._deadline.stuck.get(task)
        if found is None:
            return ""
        if found not in self.wave.stuck:
            self.wave.stuck.append(found)
        return f". {found.text}"

    # --- end ---------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Hand out nothing more; what runs may finish."""
        if not self._stopping:
            self._stopping = True
            self._board.cancel(self._epoch, self._armed)

    def close(self) -> None:
        """The wave is over: release inputs, let lanes go."""
        self.wave.over(self._board, self._armed)
        self._pool.crew.dismiss()
        for block in self._held:
            self._codec.own.release(block)
        self._held = []

    def abort(self) -> None:
        """Give the wave up at once: cancel what waits, kill what runs, keep what finished."""
        self._stop()
        deadline = time.monotonic() + _KILL_TIMEOUT_S
        self._collect()
        while self.open and time.monotonic() < deadline:
            slots = range(self._pool.setup.num_workers)
            claiming = [slot for slot in slots if self._board.claimed_by(slot, self._armed)]
            if not claiming:
                self._collect()  # the last may have committed since
                break
            for slot in claiming:
                self._pool.crew.kill(slot)
            vacant = self._pool.crew.vacant
            # One that is on its way has no pidfd yet to be killed by: the message brings it.
            self._pool.crew.wait(0 if all(map(vacant, claiming)) else HEARTBEAT_S)
            self._collect()
            # Not from the deaths that wait told: the interrupt may have lost some.
            for slot in filter(vacant, claiming):
                for task in self._board.claimed_by(slot, self._armed):
                    self._board.give_up(task)
                self._pool.space.forget(slot)
            self._collect()
        if self.open:
            raise RingwalkError(
                f"{self.open} segments could not be ended within {_KILL_TIMEOUT_S:g} s of being "
                "killed; their processes may hang in a device driver or a network file system, or "
                "a segment overwrote memory of the pool"
            )
        self.close()

    def outcome(self) -> dict[int, Any]:
        """Walker -> result of every segment that finished."""
        return {
            self.first + task: self.results[task]
            for task in range(self._armed)
            if self._succeeded(task)
        }

    def _succeeded(self, task: int) -> bool:
        """Whether a final task has a result: it ran, and did not fail."""
        return self._board.state(task)[0] == DONE and self.first + task not in self.errors
