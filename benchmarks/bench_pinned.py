"""How fast do walkers' rows get to a GPU and back, in a pinned block and in a pageable one?

Timed in the worker, around ``cudaMemcpy`` alone. The limit is the same copy from and to memory that
CUDA itself allocated (``cudaHostAlloc``).
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.interleave import quartiles
from benchmarks.scoreboard import Scoreboard, Verdict
from ringwalk import Row, WalkerBlock, WorkerMapper

NBYTES = 16 << 20
WALKERS = 8
ROUNDS = 5

pytestmark = pytest.mark.skipif(
    not Path("/dev/nvidiactl").exists(), reason="no NVIDIA driver: /dev/nvidiactl"
)


def runtime() -> Any:
    """cuda-python, imported in workers only."""
    from cuda.bindings import runtime

    return runtime


def checked(answer: tuple[Any, ...]) -> Any:
    status, *values = answer
    assert int(status) == 0, status
    return values[0] if values else None


def make_buffers(device: int) -> tuple[int, int]:
    """Addresses of memory on the card and of memory that CUDA pinned as it allocated it."""
    cuda = runtime()
    on_card = checked(cuda.cudaMalloc(NBYTES))
    return on_card, checked(cuda.cudaHostAlloc(NBYTES, cuda.cudaHostAllocDefault))


def there_and_back(row: Row, context: tuple[int, int], own: bool) -> tuple[float, float]:
    """Seconds of a copy to the card and of one from it."""
    cuda = runtime()
    on_card, allocated = context
    host = allocated if own else row.state.ctypes.data
    kinds = cuda.cudaMemcpyKind
    began = time.perf_counter()
    checked(cuda.cudaMemcpy(on_card, host, NBYTES, kinds.cudaMemcpyHostToDevice))
    there = time.perf_counter()
    checked(cuda.cudaMemcpy(host, on_card, NBYTES, kinds.cudaMemcpyDeviceToHost))
    return there - began, time.perf_counter() - there


def turn(*, pinned: bool, own: bool = False) -> tuple[float, float]:
    """GB/s there and back, medians over the walkers of a second map."""
    segment = partial(there_and_back, own=own)
    with (
        WalkerBlock(WALKERS, state=(NBYTES, "u1")) as block,
        WorkerMapper(
            segment, 1, devices=[0], worker_init=make_buffers, pin_blocks=pinned
        ) as mapper,
    ):
        block["state"] = 7
        mapper.map(block)
        seconds = np.median(mapper.map(block), axis=0)
        assert (block["state"] == 7).all()
    return NBYTES / seconds[0] / 1e9, NBYTES / seconds[1] / 1e9


CONTESTANTS = {
    "pinned block": partial(turn, pinned=True),
    "pageable block": partial(turn, pinned=False),
    "cudaHostAlloc": partial(turn, pinned=True, own=True),
}


def bench_pinned(scoreboard: Scoreboard) -> None:
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTESTANTS}
    for number in range(ROUNDS):
        for name in list(CONTESTANTS) if number % 2 == 0 else reversed(CONTESTANTS):
            rates[name].append(CONTESTANTS[name]())
    for way, title in enumerate(("to the card", "from the card")):
        by_name = {name: np.array(turns)[:, way] for name, turns in rates.items()}
        ours = by_name.pop("pinned block")
        for (rival, theirs), target in zip(by_name.items(), (">= 1", "limit"), strict=True):
            scoreboard.verdicts.append(_verdict(title, ours, rival, theirs, target))


def _verdict(
    title: str,
    ours: npt.NDArray[np.float64],
    rival: str,
    theirs: npt.NDArray[np.float64],
    target: str,
) -> Verdict:
    ratios = ours / theirs
    ratio = float(np.median(ratios))
    return Verdict(
        f"rows of {NBYTES >> 20} MiB {title}, by cudaMemcpy in a worker",
        "pinned block",
        f"{np.median(ours):.3g} GB/s",
        rival,
        f"{np.median(theirs):.3g} GB/s",
        ratio,
        quartiles(ratios),
        target,
        None if target == "limit" else ratio >= 1,
    )
