"""wepy's serial mapper, with random streams by seed if one is given."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, SupportsIndex

import numpy as np
from wepy.work_mapper import mapper as wepy

from ringwalk.mappers.options import check_seed
from ringwalk.workers.setup import offered_names
from ringwalk.workers.streams import seed_globals, stream


class Mapper(wepy.Mapper):  # type: ignore[misc]  # wepy has no types
    """Runs segments in this process. As wepy's, and:

    Args:
        seed: gives each (walker, cycle) the random streams that ``WorkerMapper`` and
            ``TaskMapper`` give it with this seed. The caller's own streams are not disturbed.
    """

    _func: Callable[..., Any]

    def __init__(
        self,
        segment_func: Callable[..., Any] | None = None,
        *,
        seed: SupportsIndex | None = None,
        **attributes: Any,
    ) -> None:
        super().__init__(segment_func=segment_func, **attributes)
        self._seed = check_seed(seed)
        self._cycle = 0  # goes on from run to run: each has random streams of its own

    def map(self, *args: Iterable[Any], **kwargs: Iterable[Any]) -> list[Any]:
        if self._seed is None:
            return super().map(*args, **kwargs)  # type: ignore[no-any-return]
        func = self._func
        numpy_state, python_state = np.random.get_state(), random.getstate()
        self._func = _Seeded(func, self._seed, self._cycle)
        try:
            results: list[Any] = super().map(*args, **kwargs)
        finally:
            self._func = func
            np.random.set_state(numpy_state)
            random.setstate(python_state)
        self._cycle += 1
        return results


class _Seeded:
    """Calls a segment function for walker 0, 1, 2, ... each with its own streams."""

    def __init__(self, func: Callable[..., Any], seed: int, cycle: int) -> None:
        self._func = func
        self._seed = seed
        self._cycle = cycle
        self._walker = 0
        self._takes_rng = "rng" in offered_names(func)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        sequence = stream(self._seed, self._cycle, self._walker)
        self._walker += 1
        seed_globals(sequence)
        if self._takes_rng:
            kwargs["rng"] = np.random.Generator(np.random.PCG64(sequence))
        return self._func(*args, **kwargs)
