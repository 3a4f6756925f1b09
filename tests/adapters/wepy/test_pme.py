"""OpenMM's PME in the parent, which leaves threads behind, and workers that are forked then."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

PME = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np, openmm
from openmm import app
import wepy.runners.openmm as runners
import ringwalk.adapters.wepy as ours
runners.get_parameter_derivs = None

def system_of_ions():
    system, force = openmm.System(), openmm.NonbondedForce()
    force.setNonbondedMethod(openmm.NonbondedForce.PME)
    force.setCutoffDistance(0.9)
    system.setDefaultPeriodicBoxVectors([2, 0, 0], [0, 2, 0], [0, 0, 2])
    for k in range(64):
        system.addParticle(23.0)
        force.addParticle((-1.0) ** k, 0.25, 0.4)
    system.addForce(force)
    return system

system = system_of_ions()
topology = app.Topology()
residue = topology.addResidue("X", topology.addChain())
for _ in range(64):
    topology.addAtom("Na", app.element.sodium, residue)
integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.001)
grid = np.stack(np.meshgrid(*[np.arange(4) * 0.5] * 3), -1).reshape(-1, 3)
# It computes forces, so that threads of OpenMM's FFT stay in this process.
state = runners.gen_walker_state(grid, system, integrator)
runner = runners.OpenMMRunner(system, topology, integrator, platform=sys.argv[2])
worker_type = {
    "WorkerMapper": {"worker_type": ours.OpenMMCPUWorker},
    "TaskMapper": {"walker_task_type": ours.OpenMMCPUWalkerTaskProcess},
}[sys.argv[1]]
mapper = getattr(ours, sys.argv[1])(num_workers=2, **worker_type)
mapper.init(segment_func=runner.run_segment)
walkers = [runners.OpenMMWalker(state, 0.5) for _ in range(2)]
for _ in range(2):
    walkers = mapper.map(walkers, [5, 5], cycle_idx=[0, 0], walker_idx=[0, 1])
mapper.cleanup()
print(walkers[0].state["time"])
"""


@pytest.mark.parametrize("kind", ["WorkerMapper", "TaskMapper"])
@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_pme_in_the_parent_does_not_hang_the_workers(
    kind: str, platform: str, tmp_path: Any
) -> None:
    # A script without the guard for fresh interpreters, as the tutorials' are.
    script = tmp_path / "script.py"
    script.write_text(PME)
    answer = subprocess.run(
        [sys.executable, script, kind, platform],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert "[0.01" in answer.stdout
