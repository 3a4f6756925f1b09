"""A pool: shared memory, a crew of processes, and the maps that run on them one after another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from ringwalk._core.ownership import is_owner, owner_token
from ringwalk._core.process import Undisturbed
from ringwalk.memory.inherited import release_for_the_dead
from ringwalk.observe.memory import peak_of
from ringwalk.workers.blocks import KnownBlocks
from ringwalk.workers.crew import Crew, Death, MemoryKills
from ringwalk.workers.job import Renewed
from ringwalk.workers.lanes import LaneCrew
from ringwalk.workers.launch import StartMethod
from ringwalk.workers.main_module import check_not_importing_main
from ringwalk.workers.persistent import PersistentCrew
from ringwalk.workers.plan import Workspace
from ringwalk.workers.setup import SegmentFunc, Setup


class Pool:
    """Owns a workspace and a crew; made by ``init``, closed by ``cleanup``.

    Attributes:
        epoch: number of the last wave that ran; tags every hint, claim and result.
        owner: the process that may use it. A forked child has the object, but not the pool.
        blocks: of its maps.
        memory_kills: tells deaths for want of memory from others.
    """

    def __init__(
        self, setup: Setup, kind: Literal["persistent", "lanes"], start_method: StartMethod
    ) -> None:
        check_not_importing_main()
        self.setup = setup
        self.owner = owner_token()
        self.epoch = 0
        self.closed = False
        self.memory_kills = MemoryKills()
        self.blocks = KnownBlocks()
        self.renewed: Renewed | None = None
        self._renewed_block = -1
        self._renewed_bytes = b""
        self.space = Workspace.create(setup.num_workers)
        self.crew: Crew
        try:
            if kind == "persistent":
                self.crew = self._persistent(setup, start_method)
            else:
                self.crew = LaneCrew(setup, self.space)
        except BaseException:
            self.space.close()
            raise

    def _persistent(self, setup: Setup, start_method: StartMethod) -> PersistentCrew:
        return PersistentCrew(setup, self.space, start_method, self.blocks.find_descriptor)

    def fork_tasks_from(self, method: StartMethod, func: SegmentFunc) -> None:
        """Have the next maps fork each task's process from this one, or from a clean template.

        Args:
            func: as it is now, for workers that do not inherit it.

        Raises what pickling raises.
        """
        with Undisturbed():  # half a change would leave two processes in one slot
            if method == "fork" and isinstance(self.crew, PersistentCrew):
                self._leave_crew()
                self.crew = LaneCrew(self.setup, self.space)
            elif method != "fork" and isinstance(self.crew, LaneCrew):
                self._leave_crew()
                self.space.board.reopen()
                setup = replace(self.setup, segment_func=func, fresh=True)
                self.crew = self._persistent(setup, method)
                self.renew(func, as_started=True)
                return
        if method != "fork":
            self.renew(func)

    def _leave_crew(self) -> None:
        self.crew.close()
        for slot in range(self.setup.num_workers):
            self.space.forget(slot)

    def next_epoch(self) -> int:
        """Begin a wave: 32 bits on the board, and never 0."""
        self.epoch = self.epoch % 0xFFFFFFFF + 1
        return self.epoch

    def settle(
        self, death: Death, count: int, may_retry: Callable[[int], bool]
    ) -> tuple[list[int], list[int]]:
        """Decide on what a dead worker had claimed of the first ``count`` tasks.

        Frees what it held; the caller has collected what it committed. Returns the tasks that
        are ready again, for the caller to push, and those that ``may_retry`` gave up.
        """
        board = self.space.board
        claimed = board.claimed_by(death.slot, count)
        retried = [task for task in claimed if may_retry(task) and board.retry(task)]
        lost = [task for task in claimed if task not in retried and board.give_up(task)]
        self.space.forget(death.slot)
        return retried, lost

    def renew(self, func: SegmentFunc, *, as_started: bool = False) -> None:
        """Have the next maps run this function, as it is now. Not while a map runs.

        Args:
            as_started: workers have it, unchanged since they started: only take note of its pickle.

        Raises what pickling raises, and HeapFullError; the workers then keep what they have.
        """
        pickled = self.space.codec.dumps_in_band(func)
        if as_started:
            self._renewed_bytes = pickled
        if pickled == self._renewed_bytes:
            return
        heap = self.space.codec.own
        block = heap.put(pickled)
        if self.renewed is not None:
            heap.release(self._renewed_block)
        number = 1 if self.renewed is None else self.renewed.number + 1
        self.renewed = Renewed(number, heap.place(block), len(pickled))
        self._renewed_block, self._renewed_bytes = block, pickled

    def peaks(self) -> dict[int, int]:
        """Worker -> bytes that its process had resident at most; of those that live."""
        return {slot: peak_of(pid) for slot, pid in self.pids().items()}

    def pids(self) -> dict[int, int]:
        """Worker -> process id; of those that live."""
        pids = {slot: self.crew.pid(slot) for slot in range(self.setup.num_workers)}
        return {slot: pid for slot, pid in pids.items() if pid is not None}

    def close(self) -> None:
        """End every process and let the memory go. Idempotent.

        In a forked child it only closes the child's descriptors: the workers are not its own.
        """
        # It takes two seconds at most, and one Ctrl-C more must not leave it half done.
        with Undisturbed():
            if self.closed:
                return
            self.closed = True
            try:
                if is_owner(self.owner):
                    self.crew.close()
                else:
                    self.crew.release()
            finally:
                self.space.close()
                release_for_the_dead()
