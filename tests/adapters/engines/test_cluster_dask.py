"""ClusterMapper over a real Dask cluster whose workers die."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster

from ringwalk import Row, WalkerBlock
from ringwalk.cluster import Broadcast, ClusterMapper
from ringwalk.cluster.dask import DaskEngine
from ringwalk.errors import NodeLostError

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def client() -> Iterator[Client]:
    # Else Dask itself would send the batch of a dead worker again, three times.
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(2)
        yield client


def advance(row: Row, by: float, table: dict[str, object]) -> int:
    row.x += by
    row.y[:] = table["values"][:3]  # type: ignore[index]
    return os.getpid()


def kill_once(k: int, mark: str) -> int:
    """Kills its node when it comes to walker 9, the first time."""
    if k == 9:
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return k
        template = Path(f"/proc/{os.getppid()}/stat").read_text()
        os.kill(int(template.rsplit(")", 1)[1].split()[1]), signal.SIGKILL)
        signal.pause()
    return k


def test_dask_workers_serve_as_nodes_and_may_die(client: Client, tmp_path: Path) -> None:
    engine = DaskEngine(client)
    table = Broadcast({"values": np.arange(10_000.0)})
    with (
        WalkerBlock(60, x="f8", y=((3,), "f8")) as block,
        ClusterMapper(engine, advance, 2) as mapper,
    ):
        for _ in range(2):
            pids = mapper.map(block, itertools.repeat(2.0), itertools.repeat(table))
        assert (block["x"] == 4).all()
        assert (block["y"] == [0, 1, 2]).all()
        assert os.getpid() not in pids
        assert {node.pid for node in mapper.nodes} <= set(client.run(os.getpid).values())

    def kill(retries: int) -> list[int]:
        with ClusterMapper(engine, kill_once, 1, batch_size=4, max_retries=retries) as mapper:
            return mapper.map(range(30), itertools.repeat(str(tmp_path / str(retries))))

    with pytest.raises(NodeLostError, match="KilledWorker") as caught:
        kill(0)
    assert caught.value.host
    # What else the worker had, or had not sent yet, is lost with it.
    assert {8, 9, 10, 11} <= set(caught.value.errors)
    assert set(caught.value.results).isdisjoint(caught.value.errors)
    client.wait_for_workers(2)
    assert kill(3) == list(range(30))
