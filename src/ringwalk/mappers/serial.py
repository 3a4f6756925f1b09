"""SerialMapper and ThreadMapper: the contract in the caller's own process.

The reference that the process mappers are compared with, and the ones to debug with.
"""

from __future__ import annotations

import random
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import numpy as np

from ringwalk._core.board import now_ns
from ringwalk.errors import ConfigError, MapError, SegmentError
from ringwalk.mappers.arguments import Arguments
from ringwalk.mappers.base import Mapper, raise_first
from ringwalk.memory import WalkerBlock
from ringwalk.workers.devices import device_for
from ringwalk.workers.job import Getter, Job, Returned, make_call, mark_returned
from ringwalk.workers.setup import Setup
from ringwalk.workers.worker import Worker


class _NoSources:
    """All columns of a local map are at hand."""

    def block(self, number: int) -> WalkerBlock:
        raise AssertionError("local maps know their blocks")

    def element(self, task: int, position: int, count: int) -> Any:
        raise AssertionError("local maps have their arguments")


def make_local_worker(setup: Setup, index: int) -> Worker:
    """A worker in this process. No device is bound: that would bind the caller."""
    device = device_for(index, setup.devices)
    worker = setup.worker_type(index, None if device is None else device.label, setup.attributes)
    if setup.worker_init is not None:
        worker.context = setup.worker_init(worker.device)
    return worker


class _Attempt:
    """One segment's run: its worker, result or error, and time."""

    __slots__ = ("error", "result", "seconds", "walker", "worker")

    def __init__(self, call: Getter, job: Job, walker: int, worker: int) -> None:
        self.walker = walker
        self.worker = worker
        self.result: Any = None
        self.error: MapError | None = None
        began = now_ns()
        try:
            self.result = mark_returned(call(walker), job)
        except Exception as error:
            self.error = SegmentError(
                f"segment of walker {walker} raised "
                f"{type(error).__module__}.{type(error).__qualname__}: {error}",
                walker=walker,
                remote_traceback="".join(traceback.format_exception(error)),
            )
            self.error.__cause__ = error
        self.seconds = (now_ns() - began) * 1e-9


class SerialMapper(Mapper):
    """Runs segments one after another in the calling thread. Takes the arguments of ``Mapper``.

    ``num_workers`` is accepted and ignored; there is one worker, number 0.
    """

    def _start(self, setup: Setup) -> None:
        self._worker = make_local_worker(setup, 0)

    def _stop(self) -> None:
        self.__dict__.pop("_worker", None)

    def _run(
        self, setup: Setup, arguments: Arguments, results: list[Any], *, each: bool
    ) -> Iterator[int]:
        job = Job(0, self._cycle, arguments.positional, arguments.named)
        call = make_call(setup, self._worker, job, _NoSources())
        errors: dict[int, MapError] = {}
        done: dict[int, Any] = {}
        self._times = {0: []}
        progress = self._options.progress
        for walker in range(arguments.count):
            with _caller_streams(setup):
                attempt = _Attempt(call, job, walker, 0)
            self._times[0].append(attempt.seconds)
            if attempt.error is not None:
                errors[walker] = attempt.error
            else:
                results[walker] = done[walker] = attempt.result
                if isinstance(attempt.result, Returned):
                    self._returned.append(walker)
            if progress is not None:
                progress(walker + 1, arguments.count)
            if errors and self._options.on_error == "stop":
                break
            if each and attempt.error is None:
                yield walker
        raise_first(errors, done)


class ThreadMapper(Mapper):
    """Runs segments in threads of this process: for segments that release the GIL.

    Takes the arguments of ``Mapper``. ``np.random`` and ``random`` are the process's, shared by
    all threads: with ``seed`` the segment must take its stream as ``rng``.
    """

    def _start(self, setup: Setup) -> None:
        if setup.seed is not None and "rng" not in setup.offered:
            raise ConfigError(
                f"seed is {setup.seed}, but threads share np.random and random: let the segment "
                "function take its stream as a parameter named rng, or use a process mapper"
            )
        self._executor = ThreadPoolExecutor(setup.num_workers, thread_name_prefix="ringwalk")
        self._local = threading.local()
        self._workers = iter(range(setup.num_workers))

    def _stop(self) -> None:
        executor = self.__dict__.pop("_executor", None)
        if executor is not None:
            executor.shutdown(wait=True, cancel_futures=True)
        self.__dict__.pop("_local", None)
        self.__dict__.pop("_workers", None)

    def _run(
        self, setup: Setup, arguments: Arguments, results: list[Any], *, each: bool
    ) -> Iterator[int]:
        job = Job(0, self._cycle, arguments.positional, arguments.named)

        def attempt(walker: int) -> _Attempt:
            if not hasattr(self._local, "worker"):
                self._local.worker = make_local_worker(setup, next(self._workers))
            worker = self._local.worker
            return _Attempt(make_call(setup, worker, job, _NoSources()), job, walker, worker.index)

        errors: dict[int, MapError] = {}
        done: dict[int, Any] = {}
        self._times = {worker: [] for worker in range(setup.num_workers)}
        progress = self._options.progress
        pending = {self._executor.submit(attempt, walker) for walker in range(arguments.count)}
        finished = 0
        try:
            while pending:
                ended, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in ended:
                    finished += 1
                    outcome = future.result()
                    self._times[outcome.worker].append(outcome.seconds)
                    if outcome.error is not None:
                        errors[outcome.walker] = outcome.error
                        continue
                    results[outcome.walker] = done[outcome.walker] = outcome.result
                    if isinstance(outcome.result, Returned):
                        self._returned.append(outcome.walker)
                    if each:
                        yield outcome.walker
                if progress is not None:
                    progress(finished, arguments.count)
                if errors and self._options.on_error == "stop":
                    pending = {future for future in pending if not future.cancel()}
        finally:
            _abandon(pending)
        raise_first(errors, done)


def _abandon(pending: set[Future[_Attempt]]) -> None:
    """Cancel what waits; threads cannot be ended, so wait for those that run."""
    wait([future for future in pending if not future.cancel()])


@contextmanager
def _caller_streams(setup: Setup) -> Iterator[None]:
    """Give the caller's own random state back after a segment was given its stream."""
    if setup.seed is None:
        yield
        return
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
