"""The engine on Dask distributed: one Dask worker a node, which may die or join late.

    with Client(scheduler_file="s.json") as client:
        with ClusterMapper(DaskEngine(client), segment, devices="auto") as mapper:
            ...

Start the Dask workers with ``--nworkers 1 --nthreads 2``: one batch is run while the next travels.

Dask runs the batch of a worker that died again by itself, up to its scheduler's own
``distributed.scheduler.allowed-failures`` (3). Set that to 0 for ``max_retries`` to be the limit.
A batch whose reply died with its worker before it was fetched is run again whatever is set: on
Dask, ``max_retries=0`` does not promise that no segment runs twice.
"""

from __future__ import annotations

from concurrent.futures import Executor, Future
from typing import Any

from distributed import Client, Worker, WorkerPlugin

from ringwalk.cluster.node import end_pool


class _EndPool(WorkerPlugin):  # type: ignore[misc]  # distributed has no types
    """A Dask worker that closes ends its pool first; one that is killed takes its pool along."""

    name = "ringwalk"

    def teardown(self, worker: Worker) -> None:
        end_pool()


class DaskEngine(Executor):
    """The workers of the client's cluster; wait for them before (``client.wait_for_workers``)."""

    def __init__(self, client: Client) -> None:
        self._client = client
        client.register_plugin(_EndPool())
        # Not pure: two calls with the same arguments are two calls.
        self._executor = client.get_executor(pure=False, retries=0)

    @property
    def num_workers(self) -> int:
        """Dask workers that the cluster has now."""
        return len(self._client.nthreads())

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = self._executor.submit(fn, *args, **kwargs)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Cancel what is open, or wait for it; the cluster stays."""
        self._executor.shutdown(wait=wait and not cancel_futures)
