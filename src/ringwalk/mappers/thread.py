"""ThreadMapper: the contract on threads of the calling process."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from ringwalk._core.process import Undisturbed
from ringwalk.errors import ConfigError, MapError
from ringwalk.mappers.arguments import Arguments
from ringwalk.mappers.base import Batches, Mapper, raise_first
from ringwalk.mappers.local import Attempt, local_job, make_local_worker
from ringwalk.workers.job import NoSources, Returned, make_call, make_marker
from ringwalk.workers.setup import Setup
from ringwalk.workers.worker import Worker


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
        self._free = deque(range(setup.num_workers))  # slots that no thread has taken yet

    def _stop(self) -> None:
        executor = self.__dict__.pop("_executor", None)
        if executor is not None:
            executor.shutdown(wait=True, cancel_futures=True)
        self.__dict__.pop("_local", None)
        self.__dict__.pop("_free", None)

    def _run(
        self, setup: Setup, arguments: Arguments, results: list[Any], *, each: bool
    ) -> Batches:
        job = local_job(setup, arguments, self._cycle)
        mark = make_marker(job, NoSources())
        history = self._recorded()

        def attempt(walker: int) -> Attempt:
            if not hasattr(self._local, "worker"):
                self._local.worker = self._take_slot(setup)
            worker = self._local.worker
            call = make_call(setup, worker, job, NoSources())
            return Attempt(call, mark, walker, worker.index, history.began_ns)

        errors: dict[int, MapError] = {}
        done: dict[int, Any] = {}
        pending: set[Future[Attempt]] = set()
        # Not the library's wait: a Ctrl-C in there keeps locks that the threads need to end.
        ended: SimpleQueue[Future[Attempt]] = SimpleQueue()
        finished = 0
        try:
            for walker in range(arguments.count):
                with Undisturbed():  # or it runs on when nobody knows of it
                    future = self._executor.submit(attempt, walker)
                    pending.add(future)
                    future.add_done_callback(ended.put)
            while pending:
                future = ended.get()
                self._check_open(setup)
                if future.cancelled():
                    continue
                pending.remove(future)
                finished += 1
                outcome = future.result()
                history.ran.append(outcome.ran)
                if not outcome.book(errors, done):
                    if self._options.on_error == "stop":
                        pending = _uncancelled(pending)
                else:
                    results[outcome.walker] = outcome.result
                    if isinstance(outcome.result, Returned):
                        self._returned.append(outcome.walker)
                    if each:
                        yield (outcome.walker,)
                self._progress.tell(finished, arguments.count)
        finally:
            # Threads cannot be ended. Of one that is done, an interrupt may have lost the news.
            left = {future for future in _uncancelled(pending) if future.running()}
            while left:
                left.discard(ended.get())
        raise_first(errors, done)

    def _take_slot(self, setup: Setup) -> Worker:
        index = self._free.popleft()
        try:
            return make_local_worker(setup, index)
        except BaseException:
            self._free.append(index)
            raise


def _uncancelled(pending: set[Future[Attempt]]) -> set[Future[Attempt]]:
    """Cancel what waits; the others."""
    with Undisturbed():
        return {future for future in pending if not future.cancel()}
