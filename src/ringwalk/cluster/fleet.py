"""The nodes behind an engine: start their pools, send batches, end the pools."""

from __future__ import annotations

import logging
import socket
import uuid
from concurrent.futures import Executor, Future, wait
from dataclasses import replace
from pathlib import Path

from ringwalk.cluster.load import SPEC, Load, Reply
from ringwalk.cluster.node import retire, serve
from ringwalk.cluster.packing import Pack
from ringwalk.cluster.site import NodeInfo
from ringwalk.describe import text_of
from ringwalk.errors import RingwalkError, WorkerInitError

_FAREWELLS = 3
_FAREWELL_S = 10.0

log = logging.getLogger("ringwalk")


class Fleet:
    """One run on an engine's nodes, from ``init`` to ``cleanup``.

    An engine hands a call to any of its processes, so none can be addressed: a node that lacks
    something says so, and gets it with the load sent once more.
    """

    def __init__(self, engine: Executor, nodes: int, spec: Pack) -> None:
        self.engine = engine
        self.size = nodes
        self.run = uuid.uuid4().hex
        self.nodes: list[NodeInfo] = []
        self._spec = spec
        self._first_worker: dict[tuple[str, int], int] = {}

    def start(self) -> None:
        """Have the nodes make their pools.

        Raises WorkerInitError, or what a node raised at it.
        """
        hello = Load(self.run, spec=self._spec)
        try:
            replies = [self.engine.submit(serve, hello) for _ in range(self.size)]
            for future in replies:
                reply = future.result()
                if reply.failure is not None:
                    raise reply.failure.original()
                self.meet(reply.node)
        except RingwalkError:
            raise
        except Exception as error:  # engines raise what they like
            raise WorkerInitError(
                f"the engine {type(self.engine).__name__} could not start a pool on its nodes: "
                f"{type(error).__name__}: {text_of(error)}"
            ) from error

    def meet(self, node: NodeInfo) -> int:
        """Take note of a node; the number of its first worker among all workers."""
        key = (node.host, node.pid)
        if key not in self._first_worker:
            self._first_worker[key] = sum(known.workers for known in self.nodes)
            self.nodes.append(node)
            log.info("node %d: %s", len(self.nodes), node)
            if node.affinity == 1 and node.cpus > 1:
                log.warning(
                    "%s may run on 1 CPU only, but has %d: all workers of the node share that one. "
                    "With Slurm, start it with `srun -c %d`; with Open MPI, `--bind-to none`.",
                    node.host,
                    node.cpus,
                    node.cpus,
                )
        return self._first_worker[key]

    def send(self, load: Load) -> Future[Reply]:
        """Have a node run a load."""
        return self.engine.submit(serve, load)

    def supplied(self, load: Load, wants: tuple[str, ...], packs: dict[str, Pack]) -> Load:
        """The load with what a node lacks."""
        return replace(
            load,
            spec=self._spec if SPEC in wants else load.spec,
            broadcasts={**load.broadcasts, **{k: packs[k] for k in wants if k != SPEC}},
        )

    def gone(self) -> list[NodeInfo]:
        """Nodes on this machine whose process has ended."""
        here = socket.gethostname()
        local = (node for node in self.nodes if node.host == here)
        return [node for node in local if not Path(f"/proc/{node.pid}").exists()]

    def retire(self) -> None:
        """End the pools. One that is not reached ends with its process, or at the next run."""
        left = {(node.host, node.pid) for node in self.nodes}
        for _ in range(_FAREWELLS):
            try:
                futures = [self.engine.submit(retire, self.run) for _ in range(self.size)]
            except RuntimeError:  # the engine is broken, or was shut down by its owner
                return
            ended, late = wait(futures, _FAREWELL_S)
            for future in late:
                future.cancel()
            for future in ended:
                if future.cancelled() or future.exception() is not None:
                    return
                node = future.result()
                if node is not None:
                    left.discard((node.host, node.pid))
            if not left or late:
                return
