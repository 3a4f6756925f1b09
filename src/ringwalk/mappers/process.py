"""What WorkerMapper and TaskMapper share: running a map on a pool of processes."""

from __future__ import annotations

import os
import resource
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from ringwalk._core.ownership import is_owner
from ringwalk._core.process import Undisturbed, in_main_interpreter, is_elevated
from ringwalk._core.process import harden as harden_process
from ringwalk.errors import ClosedError, ConfigError, MapError
from ringwalk.mappers.arguments import Arguments
from ringwalk.mappers.base import Batches, Mapper, raise_first
from ringwalk.mappers.options import Seconds, check_choice
from ringwalk.mappers.transaction import Transaction
from ringwalk.observe.memory import peak_of
from ringwalk.observe.monitor import Monitor
from ringwalk.observe.stuck import StuckWorker
from ringwalk.observe.timeline import Memory
from ringwalk.workers.binding import Binding, cores_for_workers
from ringwalk.workers.launch import START_METHODS, StartMethod
from ringwalk.workers.persistent import PersistentCrew
from ringwalk.workers.plan import CAPACITY
from ringwalk.workers.pool import Pool
from ringwalk.workers.setup import Setup
from ringwalk.workers.start import Start


class ProcessMapper(Mapper):
    """A mapper whose segments run in other processes."""

    supports_timeout = True

    _pool: Pool | None = None
    _chosen: Start | None = None
    _last_memory = Memory()
    _seconds: Seconds | None = None  # of the segments of the last map that succeeded
    _finalizer: weakref.finalize[..., ProcessMapper] | None = None

    def __init__(
        self,
        *args: Any,
        bind: Binding | None = None,
        harden: bool = False,
        monitor: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        _check_program(type(self).__name__)
        if bind is not None:
            check_choice("bind", bind, ("cores", "nodes"))
        if harden and monitor:
            raise ConfigError(
                "harden=True lets nobody look at the mapper, monitor=True is there to be looked "
                "at: choose one"
            )
        self._bind: Binding | None = bind
        self._harden = harden
        self._monitored = monitor
        self._monitor: Monitor | None = None

    def _check_start_method(self, asked: StartMethod) -> StartMethod:
        check_choice("start_method", asked, START_METHODS)
        if not self._harden:
            return asked
        if asked in ("spawn", "forkserver"):
            raise ConfigError(
                f"harden=True with start_method={asked!r}: a fresh interpreter holds the "
                "shared memory before it can be hardened; use start_method='fork'"
            )
        return "fork"

    @property
    def started(self) -> str:
        """How the processes of the last map started, and why: "fork", or "spawn (threads of jax)".

        Empty before there are any.
        """
        crew = None if self._pool is None else self._pool.crew
        if isinstance(crew, PersistentCrew) and not crew.forks_tasks:
            self._chosen = crew.start
        return "" if self._chosen is None else str(self._chosen)

    def _how_started(self) -> str:
        return self.started

    def _prepare(self, pool: Pool, setup: Setup, arguments: Arguments) -> None:
        """Choose, before a map, what its processes are forked from."""

    def _open_pool(
        self, setup: Setup, kind: Literal["persistent", "lanes"], start_method: StartMethod
    ) -> Pool:
        setup = replace(setup, cores=cores_for_workers(self._bind, setup.num_workers))
        if self._harden:
            harden_process()  # before there is anything to protect
        with Undisturbed():  # a Ctrl-C would leave half a pool, and nobody to close it
            pool = self._pool = Pool(setup, kind, start_method)
            # Also at interpreter exit, so that a forgotten cleanup leaves nothing behind.
            self._finalizer = weakref.finalize(self, pool.close)
            if self._monitored:
                self._monitor = self._show(pool)
        return pool

    def _show(self, pool: Pool) -> Monitor:
        func = pool.setup.segment_func
        return Monitor(
            {
                "pid": os.getpid(),
                "arena": pool.space.arena.fileno(),
                "board": pool.space.plan.board,
                "workers": pool.setup.num_workers,
                "devices": [str(device.label) for device in pool.setup.devices or ()],
                "mapper": type(self).__name__,
                "function": getattr(func, "__qualname__", type(func).__name__),
            }
        )

    def _show_staff(self) -> None:
        if self._monitor is not None and self._pool is not None:
            self._monitor.staff(self._pool.pids())

    def _show_stuck(self, found: Sequence[StuckWorker]) -> None:
        if self._monitor is not None:
            self._monitor.stuck({worker.worker: worker.where for worker in found})

    def _memory(self) -> Memory:
        if self._pool is None or self._pool.closed:
            return self._last_memory
        peaks = self._pool.peaks()
        return Memory(
            parent=peak_of("self"),
            workers=peaks,
            ended=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
            shared=self._pool.space.payload_bytes(),
        )

    def _stop(self) -> None:
        with ExitStack() as ends:  # all of it, whatever one part raises
            ends.callback(self._forget_pool)
            if self._pool is not None:
                # Not by the finalizer, which is spent at once: a Ctrl-C before close has begun
                # would leave nobody to do it at exit.
                ends.callback(self._pool.close)
                self._remember(self._pool)

    def _remember(self, pool: Pool) -> None:
        """Keep what can be told of the last map when its workers cannot be asked any more."""
        if not pool.closed:
            _ = self.started  # for a timeline that is asked for later
            with Undisturbed():  # or Ctrl-C leaves a file that was just opened to the collector
                self._last_memory = self._memory()
        if self._history is not None:
            self._history.keep()

    def _forget_pool(self) -> None:
        if self._finalizer is not None:
            self._finalizer.detach()
        if self._monitor is not None:
            self._monitor.close()
        self._monitor = self._pool = self._finalizer = None

    def _run(
        self, setup: Setup, arguments: Arguments, results: list[Any], *, each: bool
    ) -> Batches:
        pool = self._running_pool()
        self._prepare(pool, setup, arguments)
        expected = self._options.expected(self._seconds, arguments.count)
        history = self._recorded()
        monitor = self._monitor
        if monitor is not None:
            done_before = pool.space.board.done()
            monitor.begin(self._cycle, arguments.count, done_before, self.started)
        done: dict[int, Any] = {}
        errors: dict[int, MapError] = {}
        took: list[Seconds] = []
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
            history.keep()
            history.waves.append(wave.wave)
            try:
                yield from self._run_wave(setup, wave, arguments.count, results, each=each)
            except BaseException:
                self._give_up(pool, wave)
                raise
            self._returned += wave.returned
            if self._options.schedule != "input":
                took.append(np.empty(len(wave.results)))
                pool.space.board.durations(took[-1])
            if wave.errors and not errors:  # every walker of the waves before succeeded
                done.update(enumerate(results[:first]))
            if wave.errors or errors:
                done.update(wave.outcome())
                errors.update(wave.errors)
                wave.errors.clear()  # see raise_first
                if self._options.on_error == "stop":
                    break
        if monitor is not None:
            monitor.rest()
        raise_first(errors, done)
        if took:
            self._seconds = np.concatenate(took)

    def _running_pool(self) -> Pool:
        if self._pool is None or self._pool.closed:
            raise ClosedError("the mapper's workers are gone; call cleanup() and init() again")
        return self._pool

    def _run_wave(
        self, setup: Setup, wave: Transaction, total: int, results: list[Any], *, each: bool
    ) -> Batches:
        def look() -> None:
            self._check_open(setup)
            self._show_staff()

        wave.on_look = look
        wave.on_stuck = self._show_stuck
        wave.start()
        wave.on_look()
        while True:
            fresh = wave.advance(any_=each or self._progress.wanted)
            first = wave.first
            results[first : first + len(wave.results)] = wave.results
            self._progress.tell(first + wave.finished, total)
            if each:
                yield fresh
            if not wave.open:
                break
        wave.close()

    def _give_up(self, pool: Pool, wave: Transaction) -> None:
        if not is_owner(pool.owner):  # an iterator that ends in a forked child: the map goes on
            return
        if pool.closed:  # by who cleaned up while an iterator was waiting
            return
        try:
            if self._monitor is not None:
                self._monitor.rest()
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


def longest_first(expected: Seconds | None, first: int) -> list[int] | None:
    """Tasks of the wave that begins at a walker, by what they are expected to take."""
    if expected is None:
        return None
    order: list[int] = np.argsort(-expected[first : first + CAPACITY], kind="stable").tolist()
    return order
