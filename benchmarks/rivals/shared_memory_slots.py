"""What a careful user writes by hand for large arrays: an executor and re-used SharedMemory.

Eight slots, each as large as one array. A task's array is copied into a free slot, only the slot's
number travels, the worker writes its result over the input, and the parent copies it out::

    parent: array --copy--> slot k --submit(k)--> worker: slot k = func(slot k) --> parent: copy out

Guarantees: the slots are made and mapped once, so no timed map pays for fresh pages.
Does not: take arrays of different shapes, or results whose shape differs from the input's.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Sequence
from concurrent import futures
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.shared_memory import SharedMemory
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

SLOTS = 8

Array = npt.NDArray[np.float64]


class SharedMemorySlots:
    """Maps a function of one float64 array to one array of the same size."""

    def __init__(self, func: Callable[[Array], Array], workers: int, *, length: int) -> None:
        self._memory = [SharedMemory(create=True, size=8 * length) for _ in range(SLOTS)]
        self._slots = [np.ndarray(length, dtype=np.float64, buffer=m.buf) for m in self._memory]
        # The workers are forked and inherit the mappings; nothing has to be attached by name.
        self._executor = ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("fork"),
            initializer=_set_up,
            initargs=(func, self._slots),
        )

    def __enter__(self) -> Self:
        return self

    def map(self, items: Sequence[Array]) -> list[Array]:
        results: list[Array] = [np.empty(0)] * len(items)
        free = deque(range(SLOTS))
        running: dict[Future[None], tuple[int, int]] = {}
        for index, item in enumerate(items):
            if not free:
                self._copy_out(running, results, free)
            slot = free.popleft()
            self._slots[slot][:] = item
            running[self._executor.submit(_run, slot)] = (index, slot)
        while running:
            self._copy_out(running, results, free)
        return results

    def _copy_out(
        self,
        running: dict[Future[None], tuple[int, int]],
        results: list[Array],
        free: deque[int],
    ) -> None:
        """Wait until something is done, and take all that is."""
        for future in futures.wait(running, return_when=futures.FIRST_COMPLETED).done:
            index, slot = running.pop(future)
            future.result()
            results[index] = self._slots[slot].copy()
            free.append(slot)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._executor.shutdown()
        self._slots.clear()  # views that would keep the memory from being closed
        for memory in self._memory:
            memory.close()
            memory.unlink()


_func: Callable[[Array], Array]
_slots: list[Array]


def _set_up(func: Callable[[Array], Array], slots: list[Array]) -> None:
    global _func, _slots
    _func, _slots = func, slots


def _run(slot: int) -> None:
    _slots[slot][:] = _func(_slots[slot])
