"""Executor: ``concurrent.futures.Executor`` on the pool that ``WorkerMapper`` has, too.

    with Executor(max_workers=4) as executor:
        future = executor.submit(pow, 2, 10)
        assert future.result() == 1024

A worker that dies costs its task one attempt; the executor goes on. Large numpy arrays travel
through shared memory. What differs from ``ProcessPoolExecutor`` is told in docs/executor.md.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Literal, SupportsIndex

from ringwalk.config import resolve_num_workers, usable_cpus
from ringwalk.errors import ConfigError, RingwalkError
from ringwalk.futures.calls import run_call
from ringwalk.futures.engine import Engine
from ringwalk.futures.future import Future
from ringwalk.mappers.options import check_choice, check_integer
from ringwalk.memory.buffers import Inputs
from ringwalk.observe.progress import Progress
from ringwalk.workers.devices import resolve_devices
from ringwalk.workers.launch import START_METHODS, StartMethod
from ringwalk.workers.setup import Setup
from ringwalk.workers.worker import Worker


def _run_initializer(initializer: Callable[..., object], initargs: Sequence[Any], _: Any) -> None:
    initializer(*initargs)


class Executor(concurrent.futures.Executor):
    """Runs calls in worker processes, which start with the first ``submit``.

    Args:
        max_workers: default: the CPUs that this process may use.
        initializer: called with ``initargs`` once in each worker, before its first task.
        max_retries: how often a call whose process died is run again; 0 promises that nothing
            is executed twice.
        devices: GPUs to share out among the workers: a list, "auto", or None to bind nothing.
        start_method: "auto" forks where that is safe, so that workers inherit everything as it is
            at the first ``submit``, and starts a fresh interpreter where a library has threads in
            this process that a forked worker would wait for. "fork", "spawn" and "forkserver"
            order one of them.
        inputs: "copy" gives calls private copies of their arguments; "readonly" gives views of
            large arrays that refuse writing, which saves that copy.
        worker_type: a subclass of ``ringwalk.Worker``; its objects live in the workers.
        threads_per_worker: BLAS/OpenMP threads a worker may use; default: usable CPUs / workers.
        progress: True draws a bar on stderr, where that is a terminal; a function is called with
            (finished, submitted) calls as they finish, from whichever thread notices.

    Raises:
        ConfigError: an argument was refused.
    """

    def __init__(
        self,
        max_workers: SupportsIndex | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: Sequence[Any] = (),
        max_retries: int = 1,
        devices: Sequence[int | str] | Literal["auto"] | None = None,
        start_method: StartMethod = "auto",
        inputs: Inputs = "copy",
        worker_type: type[Worker] = Worker,
        threads_per_worker: SupportsIndex | None = None,
        progress: Progress | bool | None = None,
    ) -> None:
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer is {initializer!r}; give a function or None")
        check_choice("start_method", start_method, START_METHODS)
        check_choice("inputs", inputs, ("copy", "readonly"))
        if not 0 <= check_integer("max_retries", max_retries) <= 255:
            raise ConfigError(f"max_retries is {max_retries}; give 0 to 255")
        if isinstance(max_workers, int) and max_workers < 1:
            raise ConfigError(f"max_workers must be greater than 0, it is {max_workers}")
        workers = resolve_num_workers(max_workers)
        threads = (
            max(1, usable_cpus() // workers)
            if threads_per_worker is None
            else check_integer("threads_per_worker", threads_per_worker)
        )
        setup = Setup(
            segment_func=run_call,
            num_workers=workers,
            devices=resolve_devices(devices),
            worker_init=(
                None
                if initializer is None
                else partial(_run_initializer, initializer, tuple(initargs))
            ),
            worker_type=worker_type,
            inputs=inputs,
            threads=threads,
        )
        self._engine = Engine(setup, start_method, max_retries, progress)
        self._max_workers = workers
        self._finalizer = weakref.finalize(self, self._engine.retire)
        self._finalizer.atexit = False  # the engine's own exit handler waits for open tasks

    @property
    def max_workers(self) -> int:
        """The number of worker processes."""
        return self._max_workers

    def start(self) -> None:
        """Start the workers now, and wait until each has run the initializer.

        Raises WorkerInitError, GpuInParentError, OSError.
        """
        self._engine.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Have ``fn(*args, **kwargs)`` called in a worker.

        What cannot be pickled is the future's exception, as in the standard library.

        Raises:
            ClosedError: after ``shutdown``. A RuntimeError.
            BrokenExecutorError: no worker can be had. A BrokenProcessPool.
            ForkedError: in a forked child of the process that made the executor.
        """
        future = Future(self._engine)
        try:
            self._engine.submit(future, fn, args, kwargs)
        except (RingwalkError, OSError):
            raise
        except Exception as error:  # pickling runs user code
            future.set_exception(error)
        return future

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Results of ``fn`` over the iterables, in order.

        Args:
            timeout: seconds from this call within which each result must be there.
            chunksize: items a task.
            buffersize: chunks that may be submitted and not yet yielded; None submits all now.

        Raises:
            TimeoutError: from the iterator. What is not running then is cancelled.
        """
        if chunksize < 1:
            raise ValueError(f"chunksize is {chunksize}; give 1 or more")
        if buffersize is not None:
            if not isinstance(buffersize, int):
                raise TypeError(f"buffersize must be an integer or None, not {buffersize!r}")
            if buffersize < 1:
                raise ValueError(f"buffersize must be None or > 0, not {buffersize}")
        deadline = None if timeout is None else time.monotonic() + timeout
        items = zip(*iterables, strict=False)
        if chunksize == 1:
            calls: Iterator[tuple[Any, ...]] = ((fn, *item) for item in items)
        else:
            calls = ((_run_chunk, fn, chunk) for chunk in _chunks(items, chunksize))
        submitted = deque(self.submit(*call) for call in itertools.islice(calls, buffersize))
        results = self._results(calls, submitted, deadline, refill=buffersize is not None)
        return results if chunksize == 1 else itertools.chain.from_iterable(results)

    def _results(
        self,
        calls: Iterator[tuple[Any, ...]],
        submitted: deque[Future],
        deadline: float | None,
        *,
        refill: bool,
    ) -> Iterator[Any]:
        try:
            while submitted:
                if refill and (call := next(calls, None)) is not None:
                    submitted.append(self.submit(*call))
                left = None if deadline is None else deadline - time.monotonic()
                yield _result_of(submitted.popleft(), left)
        finally:
            for future in submitted:
                future.cancel()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks; with ``wait``, return when all have finished and the workers ended.

        Without it the same happens later, at the latest when the interpreter exits.
        """
        if cancel_futures:
            for sink in self._engine.cancel_waiting():
                assert isinstance(sink, Future)
                sink.note_cancelled()
            self._engine.nudge()
        if wait:
            self._engine.close()
        else:
            self._engine.retire()

    def kill_workers(self) -> None:
        """End at once: open futures fail with BrokenExecutorError, running tasks are killed."""
        self._engine.close(grace=0)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """As ``shutdown()``; after a Ctrl-C, as ``kill_workers()``."""
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.kill_workers()
        else:
            self.shutdown()


def _run_chunk(fn: Callable[..., Any], chunk: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [fn(*item) for item in chunk]


def _chunks(items: Iterator[Any], size: int) -> Iterator[tuple[Any, ...]]:
    while chunk := tuple(itertools.islice(items, size)):
        yield chunk


def _result_of(future: Future, timeout: float | None) -> Any:
    try:
        return future.result(timeout)
    finally:
        future.cancel()
        del future  # a traceback must not keep the result alive
