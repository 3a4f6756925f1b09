"""The mapper contract: init, map, cleanup. Each class says only how it runs the segments.

    with WorkerMapper(segment, num_workers=4) as mapper:
        results = mapper.map(walkers, itertools.repeat(1000))

A map is a transaction: it returns one result a walker, in order, or raises a MapError that has
the results of what did finish, and the rows of walker blocks are as they were.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NoReturn, Self, SupportsIndex

from ringwalk._core.ownership import is_owner, owner_token
from ringwalk._core.process import Undisturbed
from ringwalk.closing import Room
from ringwalk.config import resolve_num_workers, usable_cpus
from ringwalk.errors import BusyError, ClosedError, ConfigError, ForkedError, MapError
from ringwalk.mappers.arguments import Arguments
from ringwalk.mappers.history import History
from ringwalk.mappers.options import (
    OnError,
    Options,
    Schedule,
    check_choice,
    check_integer,
    check_seed,
)
from ringwalk.memory.buffers import Inputs
from ringwalk.memory.writer import writing
from ringwalk.observe.memory import peak_of
from ringwalk.observe.progress import Progress, Reporter
from ringwalk.observe.timeline import Memory, Timeline
from ringwalk.workers.devices import resolve_devices
from ringwalk.workers.job import Returned
from ringwalk.workers.setup import SegmentFunc, Setup, WorkerInit, offered_names
from ringwalk.workers.worker import Worker

SegmentTimes = dict[int, list[float]]
Batches = Generator[Sequence[int]]  # of walkers


class Mapper(ABC):
    """Maps a segment function over walkers.

    Args:
        segment_func: run for each walker, with one element of each argument of ``map``. If it
            names a parameter ``device``, ``context`` or ``rng``, it gets the worker's device,
            the value of ``worker_init``, or a ``numpy.random.Generator`` of its own.
        num_workers: default: the CPUs that this process may use.
        devices: GPUs to share out among the workers: a list, "auto", or None to bind nothing.
        worker_init: called once a worker with its device, before its first segment.
        seed: gives each (walker, cycle) its own random stream, the same for any number of workers.
        on_error: "stop" hands out no more walkers once one failed; "finish" runs them all.
        timeout: seconds a segment may run (process mappers).
        max_retries: how often a segment whose process died is run again (process mappers). 0
            promises that no segment is executed twice.
        progress: True draws a bar on stderr, where that is a terminal; a function is called with
            (finished, all) walkers as they finish.
        schedule: "longest" hands out first what took longest in the last map, so that no worker
            is left alone with a long segment at the end; a function of the last map's seconds
            says so where walkers were resampled. "input", the default, keeps the order (process
            mappers; results always come in the order of the walkers).
        inputs: "copy" gives segments private copies of their arguments; "readonly" gives views
            of large arrays that refuse writing, which saves a copy of those that walkers share or
            that came as results (small arrays come as private copies). Neither lets a segment
            change the caller's objects. Rows of a WalkerBlock are always written in place.
        threads_per_worker: BLAS/OpenMP threads a worker may use; default: usable CPUs / workers.
        attributes: anything; workers see it as ``worker.attributes``.

    Raises:
        ConfigError: an argument was refused.
    """

    supports_timeout = False

    def __init__(
        self,
        segment_func: SegmentFunc | None = None,
        num_workers: SupportsIndex | None = None,
        devices: Sequence[int | str] | Literal["auto"] | None = None,
        *,
        worker_init: WorkerInit | None = None,
        seed: SupportsIndex | None = None,
        on_error: OnError = "stop",
        timeout: float | None = None,
        max_retries: int = 1,
        progress: Progress | bool | None = None,
        schedule: Schedule = "input",
        inputs: Inputs = "copy",
        threads_per_worker: SupportsIndex | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        _check_callable("segment_func", segment_func)
        _check_callable("worker_init", worker_init)
        check_choice("inputs", inputs, ("copy", "readonly"))
        if timeout is not None and not self.supports_timeout:
            raise ConfigError(
                f"{type(self).__name__} cannot end a segment that overruns timeout={timeout!r}; "
                "use WorkerMapper or TaskMapper, whose processes can be killed"
            )
        self._segment_func = segment_func
        self._num_workers = None if num_workers is None else resolve_num_workers(num_workers)
        self._devices = resolve_devices(devices)
        self._worker_init = worker_init
        self._seed = check_seed(seed)
        self._options = Options(on_error, timeout, max_retries, schedule)
        self._progress = Reporter(progress, "walkers")
        self._inputs: Inputs = inputs
        self._threads = (
            None
            if threads_per_worker is None
            else check_integer("threads_per_worker", threads_per_worker)
        )
        self._attributes = dict(attributes or {})
        self._worker_type: type[Worker] = Worker
        self._setup: Setup | None = None
        self._cycle = 0
        self._history: History | None = None  # of the last map
        self._returned: list[int] = []  # walkers whose segment returned its own row
        self._lock = threading.Lock()
        self._mapping_thread: int | None = None
        self._room = Room()
        self._owner = owner_token()

    # --- life --------------------------------------------------------------------------------

    def init(
        self,
        segment_func: SegmentFunc | None = None,
        num_workers: SupportsIndex | None = None,
        *,
        cycle: SupportsIndex = 0,
    ) -> None:
        """Start the workers.

        ``segment_func`` given here takes precedence over the constructor's; ``num_workers``
        given to the constructor takes precedence over the one given here. May be called again
        after ``cleanup``; while the mapper is running it is refused. With a ``seed``, give the
        ``cycle`` at which an earlier run ended, or this one repeats its random streams.

        Raises:
            ConfigError: no segment function anywhere, or a bad argument.
            WorkerInitError: a worker could not start, or its ``worker_init`` raised. Workers that
                have nothing to prepare are not waited for: then the next ``map`` says so.
            GpuInParentError: this process has started a GPU runtime and would have to be forked.
        """
        with self._room.inside(self._end):
            self._init(segment_func, num_workers, cycle)

    def _init(
        self,
        segment_func: SegmentFunc | None,
        num_workers: SupportsIndex | None,
        cycle: SupportsIndex,
    ) -> None:
        if self._setup is not None:
            raise BusyError("the mapper is running already; call cleanup() before init()")
        _check_callable("segment_func", segment_func)
        func = segment_func or self._segment_func
        if func is None:
            raise ConfigError("no segment_func: give one to the constructor or to init")
        first_cycle = check_integer("cycle", cycle)
        if first_cycle < 0:
            raise ConfigError(
                f"cycle is {first_cycle}; give the number of the first map, 0 or more"
            )
        workers = self._num_workers or resolve_num_workers(num_workers)
        threads = self._threads or max(1, usable_cpus() // workers)
        if not is_owner(self._owner):  # forked, from the middle of another thread's map perhaps
            self._owner = owner_token()
            self._lock, self._mapping_thread = threading.Lock(), None
        self._cycle = first_cycle
        self._history = None
        setup = Setup(
            segment_func=func,
            num_workers=workers,
            devices=self._devices,
            worker_init=self._worker_init,
            worker_type=self._worker_type,
            attributes=self._attributes,
            seed=self._seed,
            offered=offered_names(func),
            inputs=self._inputs,
            threads=threads,
        )
        try:
            self._start(setup)
        except BaseException:
            self._stop()
            raise
        self._setup = setup

    def cleanup(self) -> None:
        """End the workers. Idempotent; results that were returned stay valid.

        A map that runs in another thread ends with ClosedError, and the workers after it. So they
        do when this is called in a map itself, by its progress function or a signal handler; then
        this does not wait for it.
        """
        self._room.clear(self._end)

    def _end(self) -> None:
        self._setup = None
        self._stop()

    def __enter__(self) -> Self:
        self.init()
        return self

    def __exit__(self, *exception: object) -> None:
        self.cleanup()

    # --- map ---------------------------------------------------------------------------------

    def map(self, *args: Iterable[Any], **kwargs: Iterable[Any]) -> list[Any]:
        """Run the segment for every walker; results in input order.

        Each argument has one element a walker: a sequence, any iterable, a ``WalkerBlock``
        (whose rows the segment gets and writes in place), or ``itertools.repeat(value)``.

        Raises:
            ConfigError: unequal lengths or unusable arguments; nothing was started.
            MapError: a walker failed for good. Blocks are as they were before the call.
            ClosedError: the mapper is not running, or was closed meanwhile.
            BusyError: another map, of any process, writes one of the blocks.
        """
        with self._mapping() as setup, self._room.inside(self._end):
            self._check_open(setup)
            arguments = Arguments.of(args, kwargs)
            self._history = History.begin(setup, arguments, self._cycle)
            self._returned = []
            results: list[Any] = [None] * arguments.count
            with writing(arguments.blocks):
                for _ in self._run(setup, arguments, results, each=False):
                    pass
                self._finish(arguments, results)
            return results

    def map_unordered(
        self, *args: Iterable[Any], **kwargs: Iterable[Any]
    ) -> Iterator[tuple[int, Any]]:
        """Run the segment for every walker; yield ``(walker, result)`` as they finish.

        The rows of a block become visible when the last walker has finished. Closing the iterator
        early aborts the map. Raises as ``map`` does, when the next element is asked for.
        """
        with self._mapping() as setup:
            with self._room.inside(self._end):
                self._check_open(setup)
                arguments = Arguments.of(args, kwargs)
                self._history = History.begin(setup, arguments, self._cycle)
                self._returned = []
                results: list[Any] = [None] * arguments.count
                columns = [*arguments.positional, *arguments.named.values()]
            with writing(arguments.blocks):
                with self._room.inside(self._end):
                    run = self._run(setup, arguments, results, each=True)
                try:
                    while (fresh := self._next(setup, run)) is not None:
                        for walker in fresh:
                            result = results[walker]
                            if isinstance(result, Returned):
                                block = columns[result.column].block  # type: ignore[union-attr]
                                result = block.begun(walker)
                            yield walker, result
                            self._check_owner()  # a forked child has the iterator, too
                    with self._room.inside(self._end):
                        self._check_open(setup)
                        self._finish(arguments, results)
                finally:
                    with self._room.inside(self._end):
                        run.close()

    def _next(self, setup: Setup, run: Batches) -> Sequence[int] | None:
        with self._room.inside(self._end):
            self._check_open(setup)
            return next(run, None)

    def _check_open(self, setup: Setup) -> None:
        """Raise ClosedError if somebody wants the mapper closed, or closed it, since a map began.

        For every class of mapper to call when it looks around in a map.
        """
        if self._room.closing or self._setup is not setup:
            raise ClosedError("cleanup() was called while the map ran; init() starts workers again")

    def _finish(self, arguments: Arguments, results: list[Any]) -> None:
        """All walkers succeeded: what the segments wrote becomes the state of the blocks."""
        columns = [*arguments.positional, *arguments.named.values()]
        with Undisturbed():  # a Ctrl-C finds all of it done, or nothing
            for block in arguments.blocks:
                block.swap()
            for walker in self._returned:
                block = columns[results[walker].column].block
                results[walker] = block[walker]
            self._cycle += 1

    @contextmanager
    def _mapping(self) -> Iterator[Setup]:
        """One map at a time: other threads wait, a map from inside a map is refused."""
        if self._setup is None:
            raise ClosedError("the mapper is not running; call init() or use it in a with block")
        self._check_owner()
        if self._mapping_thread == threading.get_ident():
            raise BusyError("map was called from inside a running map of the same mapper")
        with self._lock:
            setup = self._setup
            if setup is None:
                raise ClosedError("cleanup() was called while another map ran")
            self._mapping_thread = threading.get_ident()
            try:
                yield setup
            finally:
                self._mapping_thread = None
                self._progress.end()
                if self._history is not None:
                    self._history.end()

    def _check_owner(self) -> None:
        if not is_owner(self._owner):
            raise ForkedError(
                "this mapper belongs to the process that forked this one; make a mapper here"
            )

    # --- what a mapper says of itself --------------------------------------------------------

    @property
    def segment_func(self) -> SegmentFunc | None:
        """The function that ``map`` runs; before ``init``, the constructor's."""
        return self._segment_func if self._setup is None else self._setup.segment_func

    @property
    def num_workers(self) -> int | None:
        """The number of workers; before ``init``, the constructor's."""
        return self._num_workers if self._setup is None else self._setup.num_workers

    @property
    def worker_segment_times(self) -> SegmentTimes:
        """Worker index -> seconds of each segment that it ran in the last map."""
        if self._history is None:
            return {worker: [] for worker in range(self.num_workers or 0)}
        return self._history.segment_seconds()

    @property
    def timeline(self) -> Timeline:
        """What ran where and when in the last map; also of one that failed. Empty before one.

        Put together when it is asked for; until then a map only keeps what the board has.
        """
        history = self._history
        if history is None:
            workers = self.num_workers or 0
            history = History(self._cycle, workers, (), 0, 0)
        return history.timeline(type(self).__name__, self._memory(), self._how_started())

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What was given as ``attributes``."""
        return self._attributes

    @property
    def cycle(self) -> int:
        """Number of the next map, which selects its random streams: maps that succeeded since
        ``init``, and the number that this was given."""
        return self._cycle

    def _recorded(self) -> History:
        """The history of the map that runs."""
        assert self._history is not None
        return self._history

    def _how_started(self) -> str:
        """How its processes were started; empty where there are none."""
        return ""

    def _memory(self) -> Memory:
        return Memory(parent=peak_of("self"))

    def __getstate__(self) -> dict[str, Any]:
        if self._setup is not None:
            self._refuse_pickle()
        state = self.__dict__.copy()
        del state["_lock"], state["_room"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
        self._room = Room()

    def _refuse_pickle(self) -> NoReturn:
        raise TypeError("a running mapper cannot be pickled or copied: call cleanup() first")

    # --- what a class of mapper must say ----------------------------------------------------

    @abstractmethod
    def _start(self, setup: Setup) -> None:
        """Make the workers."""

    @abstractmethod
    def _stop(self) -> None:
        """End them. Idempotent."""

    @abstractmethod
    def _run(
        self, setup: Setup, arguments: Arguments, results: list[Any], *, each: bool
    ) -> Batches:
        """Run all walkers, filling results; with each, yield those that succeeded as they do.

        Raises MapError when one failed; a GeneratorExit or any other exception at a yield
        aborts the map.
        """


def raise_first(errors: dict[int, MapError], results: Mapping[int, Any]) -> None:
    """Raise the error of the lowest walker, if there is one, with all that finished.

    Empties ``errors``: what is raised refers to its callers' frames, and none of them may refer to
    it, or the results stay until the collector finds the cycle.
    """
    if not errors:
        return
    first = errors[min(errors)]
    first.results = results
    first.errors = dict(sorted(errors.items()))
    errors.clear()
    try:
        raise first
    finally:
        del first


def _check_callable(name: str, value: Any) -> None:
    if value is not None and not callable(value):
        raise ConfigError(f"{name} is {value!r}; give a function")
