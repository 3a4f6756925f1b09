"""ClusterMapper: the mapper contract on many nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Literal, SupportsIndex

from ringwalk._core.ownership import is_owner
from ringwalk.cluster.call import Call
from ringwalk.cluster.cutter import Cutter
from ringwalk.cluster.fleet import Fleet
from ringwalk.cluster.node import Spec
from ringwalk.cluster.packing import Pack
from ringwalk.cluster.site import NodeInfo
from ringwalk.config import resolve_num_workers
from ringwalk.describe import text_of
from ringwalk.errors import ClosedError, ConfigError
from ringwalk.mappers.arguments import Arguments
from ringwalk.mappers.base import Batches, Mapper, raise_first
from ringwalk.mappers.options import check_choice, check_integer
from ringwalk.mappers.worker import check_worker_type
from ringwalk.workers.devices import check_devices
from ringwalk.workers.launch import StartMethod
from ringwalk.workers.setup import SegmentFunc, Setup
from ringwalk.workers.worker import Worker

Engine = Executor | Callable[[], Executor]


class ClusterMapper(Mapper):
    """Runs segments on nodes: a WorkerMapper on each, beneath an engine that moves batches.

    Takes all arguments of ``Mapper`` but ``schedule``, each for one node, and:

    Args:
        engine: any ``concurrent.futures.Executor`` with one slot a node, which stays the caller's;
            or a function that makes one, which ``cleanup`` then shuts down. ``mpi.mpi_engine``
            and ``dask.DaskEngine`` are such.
        num_workers: of each node. Default: the CPUs that the engine's process there may use.
        devices: of each node, as it was granted them.
        nodes: how many slots the engine has. Default: its ``num_workers`` if it tells, else 1.
        batch_size: walkers in a batch. Default: about 0.1 s of work, learnt from the replies.
        worker_type: a subclass of ``ringwalk.Worker``.
        start_method: of the workers, see ``WorkerMapper``. Never "fork" in an MPI rank or beside
            threads: the default is "spawn".

    ``max_retries`` also says how often a batch is sent again whose node was lost, on an engine that
    survives that. Memory: each node has room for all rows of a block that is mapped.
    Cleaned up or aborted, a map's running segments first come to their end.
    """

    supports_timeout = True

    def __init__(
        self,
        engine: Engine,
        segment_func: SegmentFunc | None = None,
        num_workers: SupportsIndex | None = None,
        devices: Sequence[int | str] | Literal["auto"] | None = None,
        *,
        nodes: SupportsIndex | None = None,
        batch_size: SupportsIndex | None = None,
        worker_type: type[Worker] | None = None,
        start_method: StartMethod = "spawn",
        **options: Any,
    ) -> None:
        super().__init__(segment_func, num_workers, None, **options)
        if not (isinstance(engine, Executor) or callable(engine)):
            raise ConfigError(
                f"engine is {engine!r}; give a concurrent.futures.Executor or a function that "
                "makes one"
            )
        check_devices(devices)  # which of them exist, only the nodes can tell
        check_choice("start_method", start_method, ("fork", "spawn", "forkserver"))
        if self._options.schedule != "input":
            raise ConfigError(
                f"schedule is {self._options.schedule!r}; ClusterMapper hands walkers out in the "
                "order of the input: leave schedule out, or sort them"
            )
        self._engine = engine
        self._granted = devices
        self._slots = None if nodes is None else _positive("nodes", nodes)
        self._batch_size = None if batch_size is None else _positive("batch_size", batch_size)
        self._worker_type = check_worker_type("worker_type", worker_type)
        self._start_method: StartMethod = start_method
        self._asked: int | None = None
        self._epoch = 0
        self._fleet: Fleet | None = None

    def init(
        self,
        segment_func: SegmentFunc | None = None,
        num_workers: SupportsIndex | None = None,
        *,
        cycle: SupportsIndex = 0,
    ) -> None:
        """Start a pool on each node; see ``Mapper.init``.

        Raises WorkerInitError also where the engine cannot reach its nodes.
        """
        given = None if num_workers is None else resolve_num_workers(num_workers)
        self._asked = self._num_workers or given
        super().init(segment_func, num_workers, cycle=cycle)

    def _start(self, setup: Setup) -> None:
        options = {
            "segment_func": setup.segment_func,
            "num_workers": self._asked,
            "devices": self._granted,
            "worker_init": setup.worker_init,
            "worker_type": setup.worker_type,
            "attributes": setup.attributes,
            "seed": setup.seed,
            "inputs": setup.inputs,
            "threads_per_worker": self._threads,
            "on_error": self._options.on_error,
            "timeout": self._options.timeout,
            "max_retries": self._options.max_retries,
            "start_method": self._start_method,
        }
        try:
            spec = Pack.of(Spec(options), code=True)
        except Exception as error:  # pickling runs user code
            raise ConfigError(
                "the segment function, worker_init or attributes cannot be pickled: "
                f"{text_of(error)}; nodes share no memory with this process, so all of it has to "
                "travel"
            ) from error
        engine = self._engine if isinstance(self._engine, Executor) else self._engine()
        slots = self._slots or int(getattr(engine, "num_workers", 1))
        self._fleet = Fleet(engine, slots, spec)
        self._cutter = Cutter(slots, self._batch_size)
        self._fleet.start()
        self._cutter.workers = max(node.workers for node in self._fleet.nodes)

    def _stop(self) -> None:
        fleet, self._fleet = self._fleet, None
        if fleet is None or not is_owner(self._owner):
            return
        fleet.retire()
        if fleet.engine is not self._engine:
            fleet.engine.shutdown()

    def _run(
        self, setup: Setup, arguments: Arguments, results: list[Any], *, each: bool
    ) -> Batches:
        if self._fleet is None:
            raise ClosedError("the mapper's nodes are gone; call cleanup() and init() again")
        self._epoch += 1
        call = Call(
            self._fleet,
            self._cutter,
            arguments,
            self._options,
            results,
            self._recorded(),
            epoch=self._epoch,
            cycle=self._cycle,
        )
        try:
            call.fill()
            while call.open:
                fresh = call.advance()
                self._check_open(setup)
                self._progress.tell(call.finished, arguments.count)
                if each and not call.errors:
                    yield fresh
        finally:
            if is_owner(self._owner):  # a forked child may end an iterator, not what it waits for
                call.abandon()
            self._recorded().waves.sort(key=lambda wave: wave.first)
        self._returned = call.returned
        if call.errors:
            raise_first(call.errors, call.done())

    @property
    def num_workers(self) -> int | None:
        """Workers of each node, as asked for; where nothing was, of the largest node."""
        if self._fleet is None:
            return self._num_workers
        return self._asked or self._cutter.workers

    @property
    def worker_type(self) -> type[Worker]:
        """The class whose objects run the segments."""
        return self._worker_type

    @property
    def nodes(self) -> tuple[NodeInfo, ...]:
        """The nodes that have answered so far."""
        return () if self._fleet is None else tuple(self._fleet.nodes)


def _positive(name: str, value: SupportsIndex) -> int:
    number = check_integer(name, value)
    if number < 1:
        raise ConfigError(f"{name} is {number}; give 1 or more")
    return number
