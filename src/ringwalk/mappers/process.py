"""What WorkerMapper and TaskMapper share: running a map on a pool of processes."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from ringwalk._core.process import harden as harden_process
from ringwalk._core.process import in_main_interpreter, is_elevated
from ringwalk.errors import ClosedError, ConfigError, MapError
from ringwalk.mappers.arguments import Arguments
from ringwalk.mappers.base import Mapper, SegmentTimes, raise_first
from ringwalk.mappers.options import Seconds
from ringwalk.mappers.transaction import Transaction
from ringwalk.workers.launch import StartMethod
from ringwalk.workers.plan import CAPACITY
from ringwalk.workers.pool import Pool
from ringwalk.workers.setup import Setup

Records = np.ndarray[Any, np.dtype[Any]]


class ProcessMapper(Mapper):
    """A mapper whose segments run in other processes."""

    supports_timeout = True

    _pool: Pool | None = None
    _records: Sequence[Records] = ()
    _seconds: Seconds | None = None  # of the segments of the last map that succeeded
    _finalizer: weakref.finalize[..., ProcessMapper] | None = None

    @property
    def worker_segment_times(self) -> SegmentTimes:
        """Worker index -> seconds of each segment that it ran in the last map."""
        return segment_times(self.num_workers or 0, self._records)

    def __init__(self, *args: Any, harden: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        _check_program(type(self).__name__)
        self._harden = harden

    def _open_pool(
        self, setup: Setup, kind: Literal["persistent", "lanes"], start_method: StartMethod
    ) -> Pool:
        if self._harden:
            harden_process()  # before there is anything to protect
        return Pool(setup, kind, start_method)

    def _attach(self, pool: Pool) -> None:
        self._pool = pool
        # Also at interpreter exit, so that a forgotten cleanup leaves nothing behind.
        self._finalizer = weakref.finalize(self, pool.close)

    def _stop(self) -> None:
        if self._finalizer is not None:
            self._finalizer()
        self._pool = None
        self._finalizer = None

    def _run(
        self, setup: Setup, arguments: Arguments, results: list[Any], *, each: bool
    ) -> Iterator[int]:
        pool = self._running_pool()
        expected = self._options.expected(self._seconds, arguments.count)
        self._records = []
        done: dict[int, Any] = {}
        errors: dict[int, MapError] = {}
        for first in range(0, arguments.count, CAPACITY):
            wave = Transaction(
                pool,
                arguments,
                self._options,
                first=first,
                count=min(CAPACITY, arguments.count - first),
                cycle=self._cycle,
                order=longest_first(expected, first),
            )
            try:
                yield from self._run_wave(wave, arguments.count, results, each=each)
            except BaseException:
                self._give_up(pool, wave)
                raise
            self._records.append(wave.records())
            self._returned += wave.returned
            if wave.errors and not errors:  # every walker of the waves before succeeded
                done.update(enumerate(results[:first]))
            if wave.errors or errors:
                done.update(wave.outcome())
                errors.update(wave.errors)
                if self._options.on_error == "stop":
                    break
        raise_first(errors, done)
        if self._options.schedule != "input" and self._records:
            self._seconds = np.concatenate([seconds(records) for records in self._records])

    def _running_pool(self) -> Pool:
        if self._pool is None or self._pool.closed:
            raise ClosedError("the mapper's workers are gone; call cleanup() and init() again")
        return self._pool

    def _run_wave(
        self, wave: Transaction, total: int, results: list[Any], *, each: bool
    ) -> Iterator[int]:
        progress = self._options.progress
        wave.start()
        while True:
            fresh = wave.advance(any_=each or progress is not None)
            first = wave.first
            results[first : first + len(wave.results)] = wave.results
            if progress is not None:
                progress(first + wave.finished, total)
            if each:
                yield from (walker for walker in fresh if walker not in wave.errors)
            if not wave.open:
                break
        wave.close()

    def _give_up(self, pool: Pool, wave: Transaction) -> None:
        try:
            wave.abort()
        except BaseException:
            # Interrupted once more, or something will not die: leave nothing half done.
            pool.close()
            raise


def _check_program(mapper: str) -> None:
    if not in_main_interpreter():
        raise ConfigError(
            f"{mapper} was made in a sub-interpreter, and CPython ends a process that such a one "
            "forked; make it in the main interpreter (mod_wsgi: WSGIApplicationGroup %{GLOBAL})"
        )
    if is_elevated():
        raise ConfigError(
            "this program has rights that its caller has not (set-user-ID, set-group-ID or file "
            f"capabilities), and {mapper} starts workers as the caller's environment says; start "
            "it with those rights (sudo, setpriv), or use SerialMapper"
        )


def seconds(records: Records) -> Seconds:
    """How long each segment took."""
    return (records["end_ns"] - records["start_ns"]) * 1e-9  # type: ignore[no-any-return]


def longest_first(expected: Seconds | None, first: int) -> list[int] | None:
    """Tasks of the wave that begins at a walker, by what they are expected to take."""
    if expected is None:
        return None
    order: list[int] = np.argsort(-expected[first : first + CAPACITY], kind="stable").tolist()
    return order


def segment_times(workers: int, waves: Sequence[Records]) -> SegmentTimes:
    """Worker index -> seconds of each finished segment, in order of walker."""
    times: SegmentTimes = {worker: [] for worker in range(workers)}
    for records in waves:
        ended = records[records["end_ns"] > 0]
        owners = (ended["state"] >> np.uint64(16) & np.uint64(0xFFFF)).tolist()
        for worker, second in zip(owners, seconds(ended).tolist(), strict=True):
            if worker in times:  # else a segment wrote over the record
                times[worker].append(second)
    return times
