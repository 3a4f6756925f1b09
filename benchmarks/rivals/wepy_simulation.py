"""One OpenMM simulation by wepy's own manager, for whichever mapper: what it costs beside MD.

    python -m benchmarks.rivals.wepy_simulation wepy|ringwalk WorkerMapper|TaskMapper|Mapper

A box of water (openmmtools), short segments, walkers that are not resampled. Prints JSON: processor
seconds of the process tree, those of them inside ``Simulation.step``, and the wall time.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
import time
import warnings
from typing import Any

EDGE_ANGSTROM = 62.0  # 23,568 atoms
WALKERS = 4
STEPS = 20
CYCLES = 2
WORKERS = 2

os.environ["OPENMM_CPU_THREADS"] = "1"


def main(package: str, kind: str, edge: float) -> dict[str, Any]:
    import openmm
    import wepy.runners.openmm as runners
    from openmm import app, unit
    from openmmtools.testsystems import WaterBox
    from wepy.resampling.resamplers.resampler import NoResampler
    from wepy.sim_manager import Manager

    # OpenMMRunner.__init__ of wepy 1.2 reads a global that does not exist.
    runners.get_parameter_derivs = None
    in_md = multiprocessing.get_context("fork").Value("d", 0.0)
    step = app.Simulation.step

    def timed_step(self: Any, steps: int) -> None:
        before = time.process_time()
        step(self, steps)
        with in_md.get_lock():
            in_md.value += time.process_time() - before

    app.Simulation.step = timed_step
    box = WaterBox(box_edge=edge * unit.angstrom, cutoff=9 * unit.angstrom)

    def integrator() -> openmm.Integrator:
        return openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.001)

    runner = runners.OpenMMRunner(
        box.system,
        box.topology,
        integrator(),
        platform="CPU",
        platform_kwargs={"Threads": "1"},
    )
    # No forces: PME in this process would have wepy's forked workers hang.
    context = openmm.Context(
        box.system, integrator(), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(box.positions)
    state = runners.OpenMMState(
        context.getState(getPositions=True, getVelocities=True, getParameters=True)
    )
    del context
    walkers = [runners.OpenMMWalker(state, 1 / WALKERS) for _ in range(WALKERS)]
    mapper = make_mapper(package, kind)
    manager = Manager(walkers, runner=runner, resampler=NoResampler(), work_mapper=mapper)
    cpu, began = cpu_seconds(), time.monotonic()
    ended, _ = manager.run_simulation(CYCLES, [STEPS] * CYCLES)
    wall = time.monotonic() - began
    for process in multiprocessing.active_children():
        process.terminate()
        process.join()
    assert [w.state["time"][0] for w in ended] == [ended[0].state["time"][0]] * WALKERS
    assert abs(ended[0].state["time"][0] - CYCLES * STEPS * 0.001) < 1e-9
    return {
        "atoms": box.system.getNumParticles(),
        "cpu_s": cpu_seconds() - cpu,
        "md_s": in_md.value,
        "wall_s": wall,
    }


def make_mapper(package: str, kind: str) -> Any:
    if package == "wepy":
        import wepy.runners.openmm as types
        from wepy.work_mapper import mapper, task_mapper

        mappers = {**vars(mapper), **vars(task_mapper)}
    else:
        import ringwalk.adapters.wepy as types

        mappers = vars(types)
    if kind == "Mapper":
        return mappers[kind]()
    if kind == "WorkerMapper":
        return mappers[kind](num_workers=WORKERS, worker_type=types.OpenMMCPUWorker)
    return mappers[kind](num_workers=WORKERS, walker_task_type=types.OpenMMCPUWalkerTaskProcess)


def cpu_seconds() -> float:
    """Of this process and of all that it has reaped."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    edge = float(sys.argv[3]) if len(sys.argv) > 3 else EDGE_ANGSTROM
    print(json.dumps(main(sys.argv[1], sys.argv[2], edge)))
