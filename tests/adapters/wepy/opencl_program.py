"""Real OpenCL contexts in workers: one scenario, named by the argument, in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import sys
from pathlib import Path
from typing import Any

import openmm
import pytest
import wepy.runners.openmm as runners
from openmm import app

import ringwalk.adapters.wepy as ours
from ringwalk import Executor, GpuInParentError, WorkerMapper
from ringwalk.futures.work_manager import ProcessWorkManager
from ringwalk.memory import RunTable
from ringwalk.runners import PoolRunner
from ringwalk.workers.gpu_runtimes import initialised_runtime

ATOMS = 20

runners.get_parameter_derivs = None


def make_system() -> openmm.System:
    system = openmm.System()
    for _ in range(ATOMS):
        system.addParticle(12.0)
    return system


def integrator() -> openmm.Integrator:
    return openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.001)


def make_context(device: object) -> openmm.Context:
    platform = openmm.Platform.getPlatformByName("OpenCL")
    properties = {"DeviceIndex": str(device)}
    context = openmm.Context(make_system(), integrator(), platform, properties)
    context.setPositions([[0.1 * k, 0, 0] for k in range(ATOMS)])
    return context


def is_initialised() -> bool:
    runtime = initialised_runtime()
    return runtime is not None and runtime.name == "OpenCL on CPUs"


def steps(context: openmm.Context) -> tuple[int, str, bool]:
    """Process, device, and whether the runtime is seen there."""
    context.getIntegrator().step(5)
    device = context.getPlatform().getPropertyValue(context, "DeviceIndex")
    return os.getpid(), device, is_initialised()


class LookingRunner(runners.OpenMMRunner):  # type: ignore[misc]  # wepy has no types
    """Notes process and device of each segment, and dies once where it is told to."""

    def __init__(self, notes: Path, *, dies: bool, **arguments: Any) -> None:
        super().__init__(platform="OpenCL", **arguments)
        self._notes, self._dies = notes, dies

    def run_segment(self, *args: Any, **kwargs: Any) -> Any:
        walker = super().run_segment(*args, **kwargs)
        assert is_initialised()
        assert kwargs["platform"] == "OpenCL"
        device = kwargs["platform_kwargs"]["DeviceIndex"]
        if self._dies and not any(self._notes.glob("died-*")):
            (self._notes / f"died-{device}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        (self._notes / f"{os.getpid()}-{device}").touch()
        return walker


def wepy_mapper(kind: str, *, dies: bool) -> None:
    notes = Path(sys.argv[2])
    topology = app.Topology()
    residue = topology.addResidue("X", topology.addChain())
    for _ in range(ATOMS):
        topology.addAtom("C", app.element.carbon, residue)
    parts = {"system": make_system(), "topology": topology, "integrator": integrator()}
    positions = [[0.1 * k, 0, 0] for k in range(ATOMS)]
    state = runners.gen_walker_state(positions, parts["system"], parts["integrator"])
    types = {
        "WorkerMapper": {"worker_type": ours.OpenMMGPUWorker},
        "TaskMapper": {"walker_task_type": ours.OpenMMGPUWalkerTaskProcess},
    }[kind]
    mapper = getattr(ours, kind)(num_workers=2, platform="OpenCL", device_ids=[0, 1], **types)
    mapper.init(segment_func=LookingRunner(notes, dies=dies, **parts).run_segment)
    walkers = [runners.OpenMMWalker(state, 0.25) for _ in range(4)]
    for cycle in range(2):
        walkers = mapper.map(walkers, [10] * 4, cycle_idx=[cycle] * 4, walker_idx=range(4))
    mapper.cleanup()
    assert len({walker.state["positions"].tobytes() for walker in walkers}) == 4
    assert len(list(notes.glob("died-*"))) == dies
    ran = [note.name.split("-") for note in notes.glob("[0-9]*-*")]
    assert {device for _, device in ran} == {"0", "1"}
    if kind == "WorkerMapper":
        assert len(ran) in (2, 2 + dies)  # the one that died may have noted a segment before
    else:
        assert len(ran) == 8
    assert not is_initialised()


contexts: list[openmm.Context] = []


def init() -> None:
    contexts.append(make_context(os.environ["CUDA_VISIBLE_DEVICES"]))


def task(_: int) -> tuple[int, str, bool, int]:
    return (*steps(contexts[0]), len(contexts))


def executor() -> None:
    with Executor(2, devices=[0, 1], initializer=init) as pool:
        found = set(pool.map(task, range(20)))
    assert {device for _, device, _, _ in found} <= {"0", "1"}  # one may have been quick
    assert len(found) == len({pid for pid, *_ in found}) <= 2
    assert all(seen and made == 1 for *_, seen, made in found)
    assert not is_initialised()


both = multiprocessing.get_context("fork").Barrier(2)


def step_in_context(_: int, context: openmm.Context) -> tuple[int, str, bool]:
    both.wait(60)  # so that each worker takes one
    return steps(context)


def worker_init() -> None:
    """With one that is killed while it waits for the next map."""
    options = {"devices": [0, 1], "worker_init": make_context, "start_method": "fork"}
    with WorkerMapper(step_in_context, 2, **options) as mapper:
        before = set(mapper.map(range(2)))
        assert {device for _, device, _ in before} == {"0", "1"}
        pidfd = os.pidfd_open(min(before)[0])
        victim, its_device, _ = min(before)
        os.kill(victim, signal.SIGKILL)
        select.select([pidfd], [], [], 60)
        os.close(pidfd)
        after = set(mapper.map(range(2)))
    (successor,) = {pid for pid, *_ in after} - {pid for pid, *_ in before}
    assert (successor, its_device, True) in after
    assert not is_initialised()


def on_device(index: int) -> tuple[int, str, bool]:
    return steps(make_context(index % 2))


def context_in_parent() -> None:
    steps(make_context(0))
    assert is_initialised()
    for start in (
        lambda: WorkerMapper(on_device, 2, start_method="fork").init(),
        lambda: Executor(2, start_method="fork").submit(on_device, 0).result(),
    ):
        with pytest.raises(GpuInParentError, match="OpenCL on CPUs is initialised"):
            start()
    with WorkerMapper(on_device, 2, start_method="spawn") as mapper:
        found = mapper.map(range(4))
    assert [(device, seen) for _, device, seen in found] == [("0", True), ("1", True)] * 2


def work_manager() -> None:
    with ProcessWorkManager(2) as manager:
        futures = [manager.submit(on_device, (k,)) for k in range(4)]
        found = [future.get_result() for future in futures]
    assert [(device, seen) for _, device, seen in found] == [("0", True), ("1", True)] * 2
    assert not is_initialised()


def run(row: Any) -> None:
    _, device, seen = on_device(int(row["u"]))
    assert seen
    row["f"] = float(device)


def parameter_study() -> None:
    with RunTable({"u": "f8", "f": "f8"}) as table, PoolRunner(run, table, parallel=2) as runner:
        runner.spawn_array({"u": k} for k in range(4))
        runner.wait_all()
        assert table["f"].tolist() == [0.0, 1.0, 0.0, 1.0], runner.failed
    assert not is_initialised()


SCENARIOS = {
    "WorkerMapper": lambda: wepy_mapper("WorkerMapper", dies=False),
    "TaskMapper": lambda: wepy_mapper("TaskMapper", dies=False),
    "death in WorkerMapper": lambda: wepy_mapper("WorkerMapper", dies=True),
    "death in TaskMapper": lambda: wepy_mapper("TaskMapper", dies=True),
    "executor": executor,
    "worker_init": worker_init,
    "context in parent": context_in_parent,
    "work manager": work_manager,
    "parameter study": parameter_study,
}

if __name__ == "__main__":
    assert not is_initialised(), "import openmm starts no runtime"
    SCENARIOS[sys.argv[1]]()
    print("right")
