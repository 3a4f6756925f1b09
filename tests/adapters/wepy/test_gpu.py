"""OpenMM's CUDA platform through both mappers: a context a worker, none in the parent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import openmm
import pytest
import wepy.runners.openmm as runners
from openmm import app

import ringwalk.adapters.wepy as ours

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not os.path.exists("/dev/nvidiactl"), reason="no NVIDIA driver: /dev/nvidiactl"
    ),
]

runners.get_parameter_derivs = None


def nvidia_files() -> list[str]:
    """Open handles on NVIDIA devices: a process with a CUDA context has some."""
    found = []
    for fd in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(fd)
        except FileNotFoundError:  # the one that lists the folder
            continue
        if target.startswith("/dev/nvidia"):
            found.append(target)
    return found


class LookingRunner(runners.OpenMMRunner):  # type: ignore[misc]  # wepy has no types
    """Makes sure that the segment ran on the card."""

    def run_segment(self, *args: Any, **kwargs: Any) -> Any:
        walker = super().run_segment(*args, **kwargs)
        assert nvidia_files()
        assert kwargs["platform"] == "CUDA"
        return walker


@pytest.mark.parametrize("kind", ["WorkerMapper", "TaskMapper"])
def test_segments_run_on_the_card_and_the_parent_stays_clean(kind: str) -> None:
    assert "CUDA" in {
        openmm.Platform.getPlatform(k).getName() for k in range(openmm.Platform.getNumPlatforms())
    }, "install openmm-cuda-12 or openmm-cuda-13"
    system = openmm.System()
    topology = app.Topology()
    residue = topology.addResidue("X", topology.addChain())
    for _ in range(100):
        system.addParticle(12.0)
        topology.addAtom("C", app.element.carbon, residue)
    integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.001)
    state = runners.gen_walker_state([[0.1 * k, 0, 0] for k in range(100)], system, integrator)
    runner = LookingRunner(system, topology, integrator, platform="CUDA")
    types = {
        "WorkerMapper": {"worker_type": ours.OpenMMGPUWorker},
        "TaskMapper": {"walker_task_type": ours.OpenMMGPUWalkerTaskProcess},
    }[kind]
    # More workers than cards: they share the first.
    mapper = getattr(ours, kind)(num_workers=2, platform="CUDA", device_ids=[0], **types)
    mapper.init(segment_func=runner.run_segment)
    walkers = [runners.OpenMMWalker(state, 0.25) for _ in range(4)]
    for cycle in range(2):
        walkers = mapper.map(walkers, [50] * 4, cycle_idx=[cycle] * 4, walker_idx=range(4))
    mapper.cleanup()
    assert [walker.state["time"][0] for walker in walkers] == pytest.approx([0.1] * 4)
    assert len({walker.state["positions"].tobytes() for walker in walkers}) == 4
    assert nvidia_files() == []
