"""The node's side: one pool a process, made for the first load, and loads run on it.

The engine calls ``serve`` in its processes, from any thread. A load of another run ends the pool
of the run before. What the segments do wrong comes back as data; an exception out of ``serve`` is
a fault of the node.

The pool ends with the process, however that ends.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.util import Finalize
from typing import Any

from ringwalk._core.board import now_ns
from ringwalk.cluster.load import SPEC, Load, Reply
from ringwalk.cluster.node_mapper import NodeMapper
from ringwalk.cluster.packing import Pack
from ringwalk.cluster.records import narrowed
from ringwalk.cluster.site import NodeInfo, Surroundings, look_around
from ringwalk.describe import text_of
from ringwalk.errors import ConfigError, MapError, TransferError
from ringwalk.mappers.transaction import Transaction
from ringwalk.workers.failure import Failure


@dataclass(frozen=True, slots=True)
class Spec:
    """What a node's pool is made of: arguments of ``WorkerMapper``."""

    options: Mapping[str, Any]


class Node:
    """The pool of this process, and for which run it was made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run = ""
        self._mapper: NodeMapper | None = None
        self._info = NodeInfo("", 0)
        self._surroundings = Surroundings()
        self._ends_at_exit = False

    def serve(self, load: Load) -> Reply:
        with self._lock:
            began = time.perf_counter()
            if self._run != load.run and load.spec is None:
                return Reply(load.run, load.epoch, load.number, look_around(0, ()), (SPEC,))
            try:
                mapper = self._mapper_of(load)
                wants = mapper.missing(load)
                if wants or not load.count:
                    return Reply(load.run, load.epoch, load.number, self._info, wants)
                with self._surroundings:
                    wave = mapper.run(load)
            except Exception as error:  # the pool cannot be made, or is gone: the caller decides
                failure = Failure.of(error, "start")
                self.end()
                info = look_around(0, ())
                return Reply(load.run, load.epoch, load.number, info, failure=failure)
            return self._reply(load, mapper, wave, began)

    def retire(self, run: str) -> NodeInfo | None:
        """End the pool if it is of this run; says who did it."""
        with self._lock:
            if self._run != run:
                return None
            info = self._info
            self.end()
            return info

    def _mapper_of(self, load: Load) -> NodeMapper:
        if self._mapper is None or self._run != load.run:
            self.end()
            assert load.spec is not None
            spec: Spec = load.spec.open()
            self._surroundings = Surroundings()
            rank = self._surroundings.rank
            if rank is not None and spec.options["start_method"] == "fork":
                raise ConfigError(
                    f"start_method='fork' in an MPI rank ({rank} is set): a forked worker would "
                    "take itself for the rank; use start_method='spawn'"
                )
            mapper = NodeMapper(**spec.options)
            with self._surroundings:
                mapper.init()
            self._run, self._mapper, self._info = load.run, mapper, mapper.describe()
            if not self._ends_at_exit:
                # Processes of multiprocessing run no exit handlers but its own, and then wait for
                # their children: a pool's wait for the end of this process.
                Finalize(None, self.end, exitpriority=100)
                self._ends_at_exit = True
        return self._mapper

    def end(self) -> None:
        """End the pool, whoever's it is."""
        mapper, self._mapper, self._run = self._mapper, None, ""
        if mapper is not None:
            mapper.cleanup()

    def _reply(self, load: Load, mapper: NodeMapper, wave: Transaction, began: float) -> Reply:
        errors = dict(wave.errors)
        results = _packed(wave, errors)
        records = wave.wave.records
        finished = None
        if errors:
            finished = tuple(walker for walker in wave.outcome() if walker not in errors)
        return Reply(
            load.run,
            load.epoch,
            load.number,
            self._info,
            results=results,
            finished=finished,
            errors=tuple(errors.values()),
            returned=tuple(wave.returned),
            # A copy: the engine sends it when the next load may be at work already.
            rows=tuple(rows.copy() for rows in mapper.worked_rows(load)),
            armed=len(records),
            records=narrowed(records),
            clock_ns=now_ns(),
            seconds=time.perf_counter() - began,
        )


def _packed(wave: Transaction, errors: dict[int, MapError]) -> Pack:
    """The results in one piece. Those that cannot be sent on become errors."""
    try:
        return Pack.of(wave.results)
    except Exception:  # pickling runs user code
        kept = list(wave.results)
    for k, result in enumerate(kept):
        try:
            Pack.of(result)
        except Exception as error:  # pickling runs user code
            kept[k] = None
            walker = wave.first + k
            errors[walker] = TransferError(
                f"the result of walker {walker} cannot be pickled to leave its node: "
                f"{text_of(error)}",
                walker=walker,
            )
            errors[walker].__cause__ = error
    return Pack.of(kept)


_node = Node()


def _forget() -> None:
    """In a forked process: the pool, and a lock that its parent may hold, are the parent's."""
    global _node
    _inherited.append(_node)  # not to be collected here
    _node = Node()


_inherited: list[Node] = []
os.register_at_fork(after_in_child=_forget)


def serve(load: Load) -> Reply:
    """Run a load on this process's pool. What engines are given to call."""
    return _node.serve(load)


def retire(run: str) -> NodeInfo | None:
    """End this process's pool if it is of this run."""
    return _node.retire(run)


def end_pool() -> None:
    """End this process's pool, whoever's it is: the process is about to end."""
    _node.end()
