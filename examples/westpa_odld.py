"""A weighted-ensemble simulation, once with WESTPA's processes and once with ringwalk's workers.

A particle diffuses in one dimension over the potential U(x) = 2 cos(pi x) kT (overdamped Langevin
dynamics, Euler-Maruyama steps): x' = x - D U'(x) dt + sqrt(2 D dt) N(0, 1), in bins of width 0.2.

Both runs give the same weights and progress coordinates to the last bit, and the script checks
it. That takes more than seeds for the noise. WESTPA's master draws when it splits and merges,
from generators without a seed, and its bins are sets of objects, whose order is that of their
addresses: walkers of equal weight are taken in any order. See ``Seeded`` and ``OrderedBin``.

    python examples/westpa_odld.py --iterations 15 --workers 2

Needs: pip install 'ringwalk[westpa]'
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from westpa.core.binning import RectilinearBinMapper
from westpa.core.binning.bins import Bin
from westpa.core.propagators import WESTPropagator
from westpa.core.systems import WESTSystem

SEED = 2026
STEPS, DT, DIFFUSION, BARRIER = 20, 1e-3, 1.0, 2.0

CONFIG = """
west:
  system: {{driver: westpa_odld.System}}
  drivers: {{subgroup_function: westpa_odld.one_group}}
  plugins: [{{plugin: westpa_odld.Seeded}}]
  propagation:
    max_total_iterations: {iterations}
    max_run_wallclock: 1:00:00
    propagator: westpa_odld.Propagator
    gen_istates: false
    block_size: 1
  data: {{west_data_file: west.h5, datasets: [{{name: pcoord}}]}}
"""


class Propagator(WESTPropagator):
    """Draws the noise of a segment from (seed, iteration, segment), whoever runs it."""

    def get_pcoord(self, state: Any) -> None:
        state.pcoord = np.array([0.0])

    def propagate(self, segments: list[Any]) -> list[Any]:
        for segment in segments:
            rng = np.random.default_rng((SEED, segment.n_iter, segment.seg_id))
            noise = rng.normal(scale=math.sqrt(2 * DIFFUSION * DT), size=STEPS)
            x = segment.pcoord[0, 0]
            for step in range(STEPS):
                drift = BARRIER * math.pi * math.sin(math.pi * x)
                x += DIFFUSION * drift * DT + noise[step]
                segment.pcoord[step + 1, 0] = x
            segment.status = segment.SEG_STATUS_COMPLETE
        return segments


class OrderedBin(Bin):  # type: ignore[misc]
    """A bin whose walkers come in an order of their own, not in that of their addresses."""

    def __iter__(self) -> Iterator[Any]:
        return iter(sorted(super().__iter__(), key=_key))


def _key(segment: Any) -> tuple[float, int, int, bytes]:
    own = -1 if segment.seg_id is None else segment.seg_id
    return segment.weight, segment.parent_id, own, segment.pcoord.tobytes()


def one_group(we_driver: Any, ibin: int, **options: Any) -> list[OrderedBin]:
    """All walkers of a bin, in order: WESTPA's own makes a plain set of them."""
    return [OrderedBin(we_driver.next_iter_binning[ibin])]


class Mapper(RectilinearBinMapper):  # type: ignore[misc]
    def construct_bins(self, type_: Any = OrderedBin) -> Any:
        return super().construct_bins(type_)


class System(WESTSystem):
    def initialize(self) -> None:
        self.pcoord_ndim, self.pcoord_dtype, self.pcoord_len = 1, np.float64, STEPS + 1
        inner = np.round(np.arange(-0.9, 1.0, 0.2), 1)
        self.bin_mapper = Mapper([[-np.inf, *inner, np.inf]])
        self.bin_target_counts = np.full(self.bin_mapper.nbins, 16)


class Seeded:
    """A plugin: gives the master's generators a seed."""

    def __init__(self, sim_manager: Any, config: Any) -> None:
        sim_manager.rng = np.random.default_rng((SEED, 0))
        sim_manager.we_driver.rng = np.random.default_rng((SEED, 1))


def tool(folder: Path, *arguments: str) -> None:
    here = str(Path(__file__).resolve().parent)  # where WESTPA finds the classes of this file
    environment = {**os.environ, "WEST_SIM_ROOT": str(folder), "PYTHONPATH": here}
    command = [sys.executable, "-m", "ringwalk.adapters.westpa", *arguments]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)


def outcome(folder: Path) -> list[tuple[Any, Any]]:
    """Weights and progress coordinates of all segments, iteration by iteration."""
    with h5py.File(folder / "west.h5") as file:
        groups = [group for _, group in sorted(file["iterations"].items())]
        done = [group for group in groups if (group["seg_index"]["status"] == 2).all()]
        return [(group["seg_index"]["weight"], group["pcoord"][...]) for group in done]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--iterations", type=int, default=15)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--managers", nargs="+", default=["processes", "ringwalk"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        fresh = Path(name, "fresh")
        fresh.mkdir()
        (fresh / "west.cfg").write_text(CONFIG.format(iterations=options.iterations))
        tool(fresh, "w_init", "--bstate", "initial,1.0", "--segs-per-state", "16", "--serial")
        outcomes = []
        for manager in options.managers:
            folder = Path(shutil.copytree(fresh, Path(name, f"{len(outcomes)}")))
            began = time.perf_counter()
            tool(folder, "w_run", f"--work-manager={manager}", f"--n-workers={options.workers}")
            took = time.perf_counter() - began
            outcomes.append(outcome(folder))
            segments = sum(len(weights) for weights, _ in outcomes[-1])
            each = took / segments * 1e3
            print(f"{manager:10} {took:6.2f} s, {segments} segments, {each:.2f} ms each")
    assert len(outcomes[0]) == options.iterations
    for other in outcomes[1:]:
        for (weights, pcoords), (same_weights, same_pcoords) in zip(
            outcomes[0], other, strict=True
        ):
            np.testing.assert_array_equal(weights, same_weights)
            np.testing.assert_array_equal(pcoords, same_pcoords)
    print("the same weights and progress coordinates in every iteration")


if __name__ == "__main__":
    main()
