"""Many nodes: Ringwalk's pools beneath an engine that exists already.

    with mpi_engine() as engine:
        if engine is not None:
            with ClusterMapper(engine, segment) as mapper:
                mapper.map(block)

The engine, any ``concurrent.futures.Executor`` with one slot a node, moves batches between nodes;
shared memory serves the cores within each.
"""

from __future__ import annotations

from ringwalk.cluster.broadcast import Broadcast
from ringwalk.cluster.mapper import ClusterMapper
from ringwalk.cluster.site import NodeInfo

__all__ = ["Broadcast", "ClusterMapper", "NodeInfo"]
