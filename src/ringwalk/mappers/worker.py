"""WorkerMapper: persistent worker processes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ringwalk.errors import ConfigError
from ringwalk.mappers.process import ProcessMapper
from ringwalk.memory.pinned import check_can_pin
from ringwalk.workers.launch import StartMethod
from ringwalk.workers.setup import SegmentFunc, Setup, offered_names
from ringwalk.workers.worker import Worker


class WorkerMapper(ProcessMapper):
    """Runs segments in worker processes that live from ``init`` to ``cleanup``.

    Takes all arguments of ``Mapper``, and:

    Args:
        worker_type: a subclass of ``ringwalk.Worker``, to change how a worker runs a segment.
        start_method: "fork" inherits the segment function and everything it refers to, as they
            are at ``init``. "spawn" and "forkserver" start fresh interpreters, for parents that
            use threads or CUDA; the segment function then travels by pickle or cloudpickle, and
            scripts need the usual ``if __name__ == "__main__":``. "auto" (default) forks where
            that is safe, and spawns where a library has threads here that a forked worker would
            wait for, or CUDA is initialised. ``started`` tells what was chosen.
        bind: "cores" gives each worker a core of its own, "nodes" all cores of one NUMA node, the
            nodes in turns; of the cores that this process may use. None leaves it to the kernel.
        harden: let no other process of this user open the memory or descriptors of the parent
            and its workers. Privileged ones still can, and what is open by ``init`` stays open.
            From ``init`` on and until it ends the parent, too, leaves no core dump and refuses
            debuggers and profilers from outside (gdb, strace, py-spy). Unless it is root, its
            workers are no longer the first to be killed when memory runs out. The names of
            walker blocks, temporary ones included, stay open to the user.
        monitor: let ``ringwalk top`` of the same user show what the workers do.
        pin_blocks: have each worker register the walker blocks that it gets with CUDA as pinned
            memory, so that copies between rows and its GPU run at the speed of the bus. Needs
            cuda-python or CuPy.

    A value that ``itertools.repeat`` gives to all walkers is sent once a map. If it can be changed,
    each segment gets its own copy: small parts are decoded again, large arrays are copied only
    where they are written.
    """

    def __init__(
        self,
        *args: Any,
        worker_type: type[Worker] | None = None,
        start_method: StartMethod = "auto",
        pin_blocks: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        if pin_blocks:
            check_can_pin()
        self._pin_blocks = pin_blocks
        self._start_method = self._check_start_method(start_method)
        self._worker_type = check_worker_type("worker_type", worker_type)

    @property
    def worker_type(self) -> type[Worker]:
        """The class whose objects run the segments."""
        return self._worker_type

    def renew(self, segment_func: SegmentFunc, *, as_started: bool = False) -> None:
        """Have the next maps run this function, as it is now, in the workers that run already.

        It is pickled here, and sent with the next map if its pickle is another one than before. A
        worker unpickles it once. So a bound method takes what was set on its object since ``init``
        along, and what segments set on the worker's copy stays there.

        Args:
            as_started: for a call right after ``init``: workers have the function already, and it
                is not sent before it changes.

        Raises:
            ClosedError: the mapper is not running.
            Whatever pickling raises; the mapper then keeps the function it has.
        """
        with self._mapping() as setup, self._room.inside(self._end):
            self._check_open(setup)
            self._running_pool().renew(segment_func, as_started=as_started)
            self._setup = replace(
                setup, segment_func=segment_func, offered=offered_names(segment_func)
            )

    def _start(self, setup: Setup) -> None:
        setup = replace(setup, pin_blocks=self._pin_blocks)
        self._open_pool(setup, "persistent", self._start_method).crew.fill(None)


def check_worker_type(name: str, value: type[Worker] | None) -> type[Worker]:
    if value is None:
        return Worker
    if not (isinstance(value, type) and issubclass(value, Worker)):
        raise ConfigError(f"{name} is {value!r}; give a subclass of ringwalk.Worker")
    return value
