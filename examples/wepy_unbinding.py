"""A guest leaves its host: a weighted ensemble with wepy's REVO, before and after one change.

    pip install ringwalk[wepy] openmmtools
    python examples/wepy_unbinding.py [cycles] [steps] [walkers]

CB7 and its guest B2 in implicit solvent (openmmtools) on OpenMM's CPU platform, 2 workers, one
thread each. wepy's runner, resampler, manager and HDF5 reporter are the same in both runs; only the
mapper and the worker type come from elsewhere. Prints the wall and processor time of each.
"""

from __future__ import annotations

import gc
import multiprocessing
import resource
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import openmm
import openmmtools.testsystems
import wepy.runners.openmm
import wepy.work_mapper.mapper
from wepy.reporter.hdf5 import WepyHDF5Reporter
from wepy.resampling.distances.distance import Distance
from wepy.resampling.resamplers.revo import REVOResampler
from wepy.runners.openmm import UNIT_NAMES, OpenMMRunner, OpenMMState
from wepy.sim_manager import Manager
from wepy.util.mdtraj import mdtraj_to_json_topology
from wepy.walker import Walker

import ringwalk.adapters.wepy

# wepy 1.2: OpenMMRunner.__init__ reads a global of this name, which its module does not define.
wepy.runners.openmm.get_parameter_derivs = None

HOST_ATOMS = 126  # of CB7, which come first


class GuestDistance(Distance):
    """How different two walkers are: by the distance of the guest's centre from the host's."""

    def image(self, state: Any) -> Any:
        positions = state["positions"]
        return np.linalg.norm(
            positions[:HOST_ATOMS].mean(axis=0) - positions[HOST_ATOMS:].mean(axis=0)
        )

    def image_distance(self, image_a: Any, image_b: Any) -> Any:
        return abs(image_a - image_b)


def make_runner(system: openmm.System, topology: openmm.app.Topology) -> OpenMMRunner:
    integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.002)
    return OpenMMRunner(
        system,
        topology,
        integrator,
        platform="CPU",
        platform_kwargs={"Threads": "1"},
        get_state_kwargs={"enforcePeriodicBox": False},
    )


def make_state(system: openmm.System, positions: Any) -> OpenMMState:
    context = openmm.Context(
        system,
        openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.002),
        openmm.Platform.getPlatformByName("Reference"),
    )
    context.setPositions(positions)
    return OpenMMState(
        context.getState(
            getPositions=True,
            getVelocities=True,
            getForces=True,
            getEnergy=True,
            getParameters=True,
        )
    )


def run(name: str, make_mapper: Any, cycles: int, steps: int, walkers: int, folder: Path) -> None:
    """One simulation, from the same start."""
    molecules = openmmtools.testsystems.HostGuestImplicit()
    state = make_state(molecules.system, molecules.positions)
    distance = GuestDistance()
    resampler = REVOResampler(
        merge_dist=0.1, char_dist=0.05, distance=distance, init_state=state, pmax=0.5, seed=1
    )
    topology = mdtraj_to_json_topology(mdtraj.Topology.from_openmm(molecules.topology))
    reporter = WepyHDF5Reporter(
        file_path=str(folder / f"{name.split()[0]}.wepy.h5"),
        mode="w",
        save_fields=("positions", "box_vectors"),
        resampler=resampler,
        topology=topology,
        units=dict(UNIT_NAMES),
    )
    manager = Manager(
        [Walker(state, 1 / walkers) for _ in range(walkers)],
        runner=make_runner(molecules.system, molecules.topology),
        resampler=resampler,
        work_mapper=make_mapper(),
        reporters=[reporter],
    )
    began, used = time.monotonic(), cpu_seconds()
    ended, _ = manager.run_simulation(cycles, [steps] * cycles)
    wall = time.monotonic() - began
    # wepy reaps its workers and its server process only when nothing refers to them any more.
    del manager
    gc.collect()
    multiprocessing.active_children()
    used = cpu_seconds() - used
    furthest = max(distance.image(walker.state) for walker in ended)
    weight = sum(walker.weight for walker in ended)
    print(
        f"{name}: {wall / cycles:.3f} s a cycle, {used / cycles:.3f} processor seconds; "
        f"{walkers} walkers, weight {weight:.6f}, guest up to {furthest:.2f} nm away",
        flush=True,
    )


def cpu_seconds() -> float:
    """Of this process and of all that it has reaped."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    cycles, steps, walkers = (*map(int, sys.argv[1:]), *(5, 100, 8)[len(sys.argv) - 1 :])
    warnings.simplefilter("ignore")  # of wepy and its packages
    before = partial(
        wepy.work_mapper.mapper.WorkerMapper,
        num_workers=2,
        worker_type=wepy.runners.openmm.OpenMMCPUWorker,
    )
    after = partial(
        ringwalk.adapters.wepy.WorkerMapper,
        num_workers=2,
        worker_type=ringwalk.adapters.wepy.OpenMMCPUWorker,
    )
    with tempfile.TemporaryDirectory() as folder:
        run("before (wepy)", before, cycles, steps, walkers, Path(folder))
        run("after (ringwalk)", after, cycles, steps, walkers, Path(folder))


if __name__ == "__main__":
    main()
