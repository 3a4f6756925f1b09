"""A cycle of wepy's GPU workers on two devices, for whichever mapper: what contexts cost.

    python -m benchmarks.rivals.wepy_contexts wepy|ringwalk [platform]

Needs two devices of the platform, OpenCL by default: tests/adapters/wepy/test_opencl.py says how to
have them on any machine. Prints JSON: seconds of the first cycle and the median of the later ones.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

ATOMS, WALKERS, STEPS, CYCLES = 100, 4, 10, 4


def main(package: str, platform: str) -> dict[str, Any]:
    import openmm
    import wepy.runners.openmm as runners
    from openmm import app

    runners.get_parameter_derivs = None  # a global that wepy 1.2 reads and does not define
    system, topology = openmm.System(), app.Topology()
    residue = topology.addResidue("X", topology.addChain())
    for _ in range(ATOMS):
        system.addParticle(12.0)
        topology.addAtom("C", app.element.carbon, residue)
    integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.001)
    positions = [[0.1 * k, 0, 0] for k in range(ATOMS)]
    state = runners.gen_walker_state(positions, system, integrator)
    runner = runners.OpenMMRunner(system, topology, integrator, platform=platform)
    walkers = [runners.OpenMMWalker(state, 1 / WALKERS) for _ in range(WALKERS)]
    mapper = make_mapper(package, platform)
    mapper.init(segment_func=runner.run_segment)
    seconds = []
    for cycle in range(CYCLES):
        began = time.perf_counter()
        counts = range(WALKERS)
        walkers = list(
            mapper.map(walkers, [STEPS] * WALKERS, cycle_idx=[cycle] * WALKERS, walker_idx=counts)
        )
        seconds.append(time.perf_counter() - began)
    mapper.cleanup()
    return {"first_s": seconds[0], "warm_s": statistics.median(seconds[1:])}


def make_mapper(package: str, platform: str) -> Any:
    if package == "wepy":
        import wepy.runners.openmm as types
        from wepy.work_mapper.mapper import WorkerMapper
    else:
        import ringwalk.adapters.wepy as types
        from ringwalk.adapters.wepy import WorkerMapper
    return WorkerMapper(
        num_workers=2, worker_type=types.OpenMMGPUWorker, platform=platform, device_ids=[0, 1]
    )


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "OpenCL")))
