"""Where everything lies in a pool's arena, and one process's handles on it."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from mmap import PAGESIZE

from ringwalk._core.arena import Arena
from ringwalk._core.board import Board, board_bytes
from ringwalk._core.consumer import Consumer
from ringwalk._core.heap import Heap, heap_bytes
from ringwalk._core.ring import Ring, ring_bytes
from ringwalk.config import usable_cpus
from ringwalk.errors import ConfigError
from ringwalk.memory.codec import Codec

# Tasks in flight at once; longer maps go in waves of this. A wave costs one barrier, the table
# costs 72 bytes a task, touched only as far as a map needs it.
CAPACITY = 1 << 16

# Address space is cheap, but x86-64 has 2^47 bytes of it and other mappings want some.
_MOST_ADDRESS_SPACE = 1 << 45
_LEAST_HEAP = 64 << 20
_SHARE_OF_ADDRESSES = 4  # one in so many, where they are limited: the program needs the others


def _pages(length: int) -> int:
    return -(-length // PAGESIZE) * PAGESIZE


def _limit(kind: int) -> int:
    soft, _ = resource.getrlimit(kind)
    return _MOST_ADDRESS_SPACE * 4 if soft == resource.RLIM_INFINITY else soft


@dataclass(frozen=True, slots=True)
class Plan:
    """Offsets in the arena: ring, board, then one heap for the parent and one a worker.

    Attributes:
        cpus: that the processes of the pool may use; who waits looks out on one that is idle.
    """

    workers: int
    heap_data: int
    cpus: int

    @classmethod
    def for_workers(cls, workers: int) -> Plan:
        """Give each heap the machine's memory, or its share of a limited address space or file."""
        memory = os.sysconf("SC_PHYS_PAGES") * PAGESIZE
        most = {
            "ulimit -v": _limit(resource.RLIMIT_AS) // _SHARE_OF_ADDRESSES,
            "ulimit -f": _limit(resource.RLIMIT_FSIZE),
            "": _MOST_ADDRESS_SPACE,
        }
        least = min(most, key=most.__getitem__)
        space = most[least] - cls(workers, 0, 0).heap(0)
        data = min(memory, space // (workers + 1) - heap_bytes(0)) // PAGESIZE * PAGESIZE
        if data < _LEAST_HEAP:
            raise ConfigError(_too_small(workers, least, most[least]))
        return cls(workers, data, usable_cpus())

    @property
    def board(self) -> int:
        return _pages(ring_bytes(CAPACITY))

    def tasks(self, count: int) -> int:
        """Where the first ``count`` tasks end, which come last on the board."""
        return self.board + board_bytes(self.workers, count)

    def heap(self, index: int) -> int:
        board = _pages(board_bytes(self.workers, CAPACITY))
        return self.board + board + index * heap_bytes(self.heap_data)

    @property
    def size(self) -> int:
        return self.heap(self.workers + 1)


def _too_small(workers: int, limit: str, room: int) -> str:
    """All in MiB: what is needed is rounded up, what there is down."""
    need = -(-Plan(workers, _LEAST_HEAP, 0).size >> 20)
    told = f"{workers} workers and this process need {need} MiB of shared memory to map"
    if not limit:
        return f"{told}, more than a pool may have of the address space: use fewer workers"
    share, kibibytes = f"leaves {room >> 20} MiB for it", need << 10
    if limit == "ulimit -v":
        share = f"leaves {room >> 20} MiB for it, a quarter of the limit"
        kibibytes *= _SHARE_OF_ADDRESSES
    return f"{told}, and {limit} {share}: use fewer workers, or raise it to {kibibytes} KiB"


class Workspace:
    """One process's handles on a pool's shared memory. A worker's are a ``WorkerSpace``.

    Args:
        holder: number of the heap that this process allocates in; the parent's is 0.
    """

    def __init__(self, plan: Plan, arena: Arena, wake_fd: int, holder: int = 0) -> None:
        self.plan = plan
        self.arena = arena
        self.wake_fd = wake_fd
        self.ring = Ring(arena, 0, CAPACITY)
        self.board = Board(arena, plan.board, self.ring, plan.workers, CAPACITY, wake_fd, plan.cpus)
        self.heaps = [
            Heap(arena, plan.heap(index), plan.heap_data, index, holder)
            for index in range(plan.workers + 1)
        ]
        self.heaps[holder].own()
        self.codec = Codec(self.heaps, holder)
        self._promised = 0  # tasks

    @classmethod
    def create(cls, workers: int) -> Workspace:
        """Make the arena. Raises HeapFullError or OSError with nothing left behind."""
        plan = Plan.for_workers(workers)
        arena = Arena.create(plan.size)
        arena.reserve(0, plan.tasks(0))
        for index in range(workers + 1):
            arena.reserve(plan.heap(index), PAGESIZE)
        wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            return cls(plan, arena, wake_fd)
        except BaseException:
            os.close(wake_fd)
            raise

    def promise(self, tasks: int) -> None:
        """Have memory for so many tasks before they are armed. For the parent.

        No claim or commit may meet a full machine. Raises HeapFullError.
        """
        if tasks > self._promised:
            start = self.plan.tasks(self._promised)
            self.arena.reserve(start, self.plan.tasks(tasks) - start)
            self._promised = tasks

    def forget(self, worker: int) -> None:
        """Free what a dead worker held. pre: its committed results were collected."""
        self.board.bury(worker)
        for heap in self.heaps:
            heap.forget(worker + 1)

    def payload_bytes(self) -> int:
        """Bytes of payload memory that the kernel has promised; they never become fewer."""
        return sum(heap.usage()["committed_bytes"] for heap in self.heaps)

    def close(self) -> None:
        """Close the eventfd. The arena goes with the last view on it."""
        os.close(self.wake_fd)


class WorkerSpace(Workspace):
    """A worker's handles: it also takes tasks, for one slot of the board."""

    def __init__(self, plan: Plan, arena: Arena, wake_fd: int, slot: int) -> None:
        super().__init__(plan, arena, wake_fd, holder=slot + 1)
        self.consumer = Consumer(self.board, slot)
