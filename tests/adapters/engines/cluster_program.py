"""A map over MPI ranks that checks itself. Started by mpiexec or srun; the tests say how."""

from __future__ import annotations

import itertools
import os
import socket
from typing import Any

import numpy as np

from ringwalk import Row, SegmentError, WalkerBlock
from ringwalk.cluster import Broadcast, ClusterMapper
from ringwalk.cluster.mpi import mpi_engine


def advance(row: Row, by: float, table: dict[str, Any], rng: np.random.Generator) -> Any:
    """Writes its row, and says where it ran."""
    row.x += by
    row.y[:] = table["values"][:3]
    return socket.gethostname(), os.getpid(), size_of_own_world(), rng.random()


def size_of_own_world() -> int:
    """A worker is no rank of the job: it may even use MPI for itself, if it ends that as well."""
    from mpi4py import MPI

    if not MPI.Is_finalized():
        os.environ["SIZE_OF_OWN_WORLD"] = str(MPI.COMM_WORLD.Get_size())
        MPI.Finalize()  # or its shared memory stays
    return int(os.environ["SIZE_OF_OWN_WORLD"])


def double(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array * 2


def fail_at_3(k: int) -> int:
    if k == 3:
        raise KeyError(k)
    return k


def bound(k: int, device: int | str) -> str:
    return os.environ["CUDA_VISIBLE_DEVICES"]


def error_of(mapper: ClusterMapper) -> SegmentError:
    try:
        mapper.map(range(8))
    except SegmentError as error:
        return error
    raise AssertionError("a segment that fails must fail the map")


def main() -> None:
    with mpi_engine() as engine:
        if engine is None:
            return
        table = Broadcast({"values": np.arange(10_000.0)})
        with (
            WalkerBlock(100, x="f8", y=((3,), "f8")) as block,
            ClusterMapper(engine, advance, 2, seed=1) as mapper,
        ):
            told = [mapper.map(block, itertools.repeat(2.0), itertools.repeat(table))]
            told += [mapper.map(block, itertools.repeat(2.0), itertools.repeat(table))]
            assert (block["x"] == 4).all()
            assert (block["y"] == [0, 1, 2]).all()
            assert os.getpid() not in {pid for call in told for _, pid, _, _ in call}
            assert {size for call in told for _, _, size, _ in call} == {1}
            assert len({number for call in told for *_, number in call}) == 200
            nodes = {(node.host, node.pid) for node in mapper.nodes}
            assert len(nodes) == engine.num_workers
            hosts = sorted({host for host, _ in nodes})
        with ClusterMapper(engine, double, 1) as mapper:
            arrays = [np.full(1_000_000, float(k)) for k in range(4)]
            assert all(
                np.array_equal(a * 2, b) for a, b in zip(arrays, mapper.map(arrays), strict=True)
            )
        with ClusterMapper(engine, fail_at_3, 1, batch_size=2, on_error="finish") as mapper:
            error = error_of(mapper)
            assert (error.walker, error.completed) == (3, [0, 1, 2, 4, 5, 6, 7])
        if "CUDA_VISIBLE_DEVICES" in os.environ:  # a batch system granted some
            with ClusterMapper(engine, bound, 2, "auto", batch_size=50) as mapper:
                seen = set(mapper.map(range(500)))
                for node in mapper.nodes:
                    print(f"devices of {node.host}: {','.join(node.devices)}", flush=True)
                    assert seen <= set(node.devices)
        print(f"mapped over {len(nodes)} nodes on {' '.join(hosts)}", flush=True)


if __name__ == "__main__":
    main()
