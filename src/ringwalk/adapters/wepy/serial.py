"""wepy's serial mapper: random streams by seed if one is given, progress, and a timeline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, SupportsIndex

import numpy as np
from wepy.work_mapper import mapper as wepy

from ringwalk import Timeline
from ringwalk.mappers.history import History, Ran
from ringwalk.mappers.options import check_seed
from ringwalk.observe.memory import peak_of
from ringwalk.observe.progress import Progress, Reporter
from ringwalk.observe.timeline import Memory
from ringwalk.workers.setup import offered_names
from ringwalk.workers.streams import kept_globals, seed_globals, stream


class Mapper(wepy.Mapper):  # type: ignore[misc]  # wepy has no types
    """Runs segments in this process. As wepy's, and:

    Args:
        seed: gives each (walker, cycle) the random streams that ``WorkerMapper`` and
            ``TaskMapper`` give it with this seed. The caller's own streams are not disturbed.
        progress: as with those mappers.
    """

    _func: Callable[..., Any]

    def __init__(
        self,
        segment_func: Callable[..., Any] | None = None,
        *,
        seed: SupportsIndex | None = None,
        progress: Progress | bool | None = None,
        **attributes: Any,
    ) -> None:
        super().__init__(segment_func=segment_func, **attributes)
        self._seed = check_seed(seed)
        self._cycle = 0  # goes on from run to run: each has random streams of its own
        self._progress = Reporter(progress, "walkers")
        self._history: History | None = None

    def map(self, *args: Iterable[Any], **kwargs: Iterable[Any]) -> list[Any]:
        columns = [list(arg) for arg in args]
        history = History(self._cycle, 1, (), 0, 0)
        func, self._history = self._func, history
        called = func if self._seed is None else _Seeded(func, self._seed, self._cycle)
        self._func = _Observed(called, history, self._progress, len(columns[0]))
        try:
            with kept_globals(self._seed):
                results: list[Any] = super().map(*columns, **kwargs)
        finally:
            self._func = func
            self._progress.end()
            history.end()
        self._cycle += 1
        return results

    @property
    def timeline(self) -> Timeline | None:
        """What ran when in the last map; None before one."""
        if self._history is None:
            return None
        return self._history.timeline(type(self).__name__, Memory(parent=peak_of("self")))


class _Observed:
    """Calls a segment function for walker 0, 1, 2, ... notes when, and tells."""

    def __init__(
        self, func: Callable[..., Any], history: History, progress: Reporter, count: int
    ) -> None:
        self._func = func
        self._history = history
        self._progress = progress
        self._count = count

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        began = time.monotonic_ns()
        try:
            result = self._func(*args, **kwargs)
        except Exception:
            self._note("failed", began)
            raise
        self._note("done", began)
        return result

    def _note(self, outcome: str, began: int) -> None:
        ran, queued, ended = self._history.ran, self._history.began_ns, time.monotonic_ns()
        ran.append(Ran(len(ran), 0, 1, outcome, queued, began, ended))
        self._progress.tell(len(ran), self._count)


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
