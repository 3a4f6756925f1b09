"""wepy's OpenMM runner on our mappers: states as arrays, kept contexts, platforms."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import openmm
import pytest
import wepy.runners.openmm as runners
from openmm import app

import ringwalk.adapters.wepy as ours
from ringwalk.adapters.wepy.fields import Fields
from ringwalk.adapters.wepy.simulations import Simulations
from ringwalk.adapters.wepy.states import ArrayState

# OpenMMRunner.__init__ of wepy 1.2 reads a global that does not exist.
runners.get_parameter_derivs = None

ATOMS = 3000  # arrays of this many are carried out of band


def make_system(atoms: int = 20) -> openmm.System:
    """Springs between neighbours, with a global parameter."""
    system = openmm.System()
    bonds = openmm.CustomBondForce("stiffness*(r-0.2)^2")
    bonds.addGlobalParameter("stiffness", 50.0)
    for k in range(atoms):
        system.addParticle(12.0)
        if k:
            bonds.addBond(k - 1, k)
    system.addForce(bonds)
    return system


def make_topology(system: openmm.System) -> app.Topology:
    topology = app.Topology()
    residue = topology.addResidue("X", topology.addChain())
    for _ in range(system.getNumParticles()):
        topology.addAtom("C", app.element.carbon, residue)
    return topology


def make_integrator(temperature: float = 300.0) -> openmm.Integrator:
    return openmm.LangevinMiddleIntegrator(temperature, 1.0, 0.001)


def make_state(system: openmm.System, **wanted: bool) -> openmm.State:
    context = openmm.Context(
        system, make_integrator(), openmm.Platform.getPlatformByName("Reference")
    )
    grid = np.arange(system.getNumParticles())
    context.setPositions(np.stack([0.21 * grid, 0.01 * np.sin(grid), 0 * grid], axis=1))
    context.setVelocities(np.random.default_rng(1).normal(size=(len(grid), 3)))
    context.setParameter("stiffness", 1 / 3)
    wanted = wanted or dict(runners.GET_STATE_KWARG_DEFAULTS)
    return context.getState(**wanted)


def make_runner(
    system: openmm.System, temperature: float = 300.0, platform: str = "Reference", **kwargs: Any
) -> Any:
    return runners.OpenMMRunner(
        system, make_topology(system), make_integrator(temperature), platform=platform, **kwargs
    )


def make_walkers(system: openmm.System, count: int = 4) -> list[Any]:
    state = runners.OpenMMState(make_state(system))
    return [runners.OpenMMWalker(state, 1 / count) for _ in range(count)]


def cycle(mapper: Any, walkers: list[Any], steps: int = 5) -> list[Any]:
    count = len(walkers)
    return list(
        mapper.map(walkers, [steps] * count, cycle_idx=[0] * count, walker_idx=range(count))
    )


def same(one: Any, other: Any) -> bool:
    """Bit by bit."""
    ours, theirs = one.dict(), other.dict()
    return ours.keys() == theirs.keys() and all(
        np.array_equal(ours[key], theirs[key]) for key in ours
    )


# --- states ------------------------------------------------------------------------------------


@pytest.fixture
def state() -> openmm.State:
    return make_state(make_system(ATOMS))


def test_an_array_state_tells_what_the_state_told(state: openmm.State) -> None:
    array = ArrayState(Fields.of(state))
    assert same(runners.OpenMMState(array), runners.OpenMMState(state))
    assert array.getStepCount() == state.getStepCount()
    assert array.getDataTypes() == state.getDataTypes()
    assert dict(array.getParameters()) == dict(state.getParameters()) == {"stiffness": 1 / 3}
    assert not array.is_made  # nothing of this needed the C++ object


def test_the_object_that_it_makes_is_equal_bit_by_bit(state: openmm.State) -> None:
    array = ArrayState(Fields.of(state))
    assert openmm.XmlSerializer.serialize(array) == openmm.XmlSerializer.serialize(state)
    assert array.is_made
    assert isinstance(array, openmm.State)
    assert array.getPositions()[7] == state.getPositions()[7]


def test_extreme_numbers_survive() -> None:
    system = make_system(3)
    context = openmm.Context(
        system, make_integrator(), openmm.Platform.getPlatformByName("Reference")
    )
    values = np.array([[5e-324, -0.0, 1.7e308], [1 / 3, np.pi, -2e-310], [1e22, 123456789.1, 0.1]])
    context.setPositions(values)
    array = ArrayState(Fields.of(context.getState(getPositions=True)))
    made = pickle.loads(pickle.dumps(array)).getPositions(asNumpy=True)._value
    assert made.tobytes() == values.tobytes()


def test_what_is_not_in_it_is_refused_as_by_a_state() -> None:
    array = ArrayState(Fields.of(make_state(make_system(), getEnergy=True)))
    for name in ("getPositions", "getVelocities", "getForces"):
        with pytest.raises(openmm.OpenMMException, match="does not contain"):
            getattr(array, name)(asNumpy=True)
    empty = ArrayState(Fields.of(make_state(make_system(), getPositions=True)))
    for name in ("getKineticEnergy", "getParameters"):
        with pytest.raises(openmm.OpenMMException, match="does not contain"):
            getattr(empty, name)()


def test_elsewhere_it_pickles_as_the_state_that_it_stands_for(state: openmm.State) -> None:
    again = pickle.loads(pickle.dumps(runners.OpenMMState(ArrayState(Fields.of(state)))))
    assert type(again.sim_state) is openmm.State
    assert same(again, runners.OpenMMState(state))


def test_a_deep_copy_is_of_its_own(state: openmm.State) -> None:
    original = runners.OpenMMState(ArrayState(Fields.of(state)))
    copied = copy.deepcopy(original)
    copied["positions"][0] = 9.0
    assert original["positions"][0, 0] != 9.0


def test_openmm_takes_it_for_a_state(state: openmm.State) -> None:
    context = openmm.Context(
        make_system(ATOMS), make_integrator(), openmm.Platform.getPlatformByName("Reference")
    )
    array = ArrayState(Fields.of(state))
    context.setState(array)
    assert array.is_made
    positions = context.getState(getPositions=True).getPositions(asNumpy=True)
    assert (positions == state.getPositions(asNumpy=True)).all()


# --- runs --------------------------------------------------------------------------------------


@pytest.fixture(params=["WorkerMapper", "TaskMapper"])
def start(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Starts our mapper with the CPU worker type and a runner; ends it with the test."""
    made: list[Any] = []
    persistent = request.param == "WorkerMapper"

    def make(runner: Any, num_workers: int = 2, num_threads: int = 1, **kwargs: Any) -> Any:
        if persistent:
            kwargs.setdefault("worker_type", ours.OpenMMCPUWorker)
            kwargs.setdefault("worker_attributes", {"num_threads": num_threads})
        else:
            kwargs.pop("keep_contexts", None)
            kwargs.setdefault("walker_task_type", ours.OpenMMCPUWalkerTaskProcess)
            kwargs.setdefault("num_threads", num_threads)
        mapper = getattr(ours, request.param)(
            segment_func=runner.run_segment, num_workers=num_workers, **kwargs
        )
        mapper.init()
        made.append(mapper)
        return mapper

    yield make
    for mapper in made:
        mapper.cleanup()


@pytest.mark.parametrize("atoms", [20, ATOMS])
def test_states_come_back_as_from_the_serial_mapper(start: Any, atoms: int) -> None:
    # At 0 K the integrator is deterministic.
    system = make_system(atoms)
    runner = make_runner(system, temperature=0.0)
    serial = ours.Mapper(runner.run_segment)
    serial.init()
    expected = walkers = make_walkers(system)
    mapper = start(runner)
    for _ in range(3):
        expected, walkers = cycle(serial, expected), cycle(mapper, walkers)
        for walker, other in zip(walkers, expected, strict=True):
            assert isinstance(walker, runners.OpenMMWalker)
            assert type(walker.state) is runners.OpenMMState
            assert not walker.state.sim_state.is_made
            assert same(walker.state, other.state)
    assert walkers[0].state["time"] == pytest.approx(0.015)
    assert walkers[0].state["positions"].flags.writeable


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_a_kept_context_gives_the_bits_of_a_fresh_one(platform: str) -> None:
    system = make_system(ATOMS)
    threads = {"Threads": "1"} if platform == "CPU" else {}
    runner = make_runner(system, temperature=0.0, platform=platform, platform_kwargs=threads)
    ends = []
    for keep in (True, False):
        walkers = make_walkers(system, 5)
        for k, walker in enumerate(walkers):  # no two alike: the one before must leave no trace
            fields = Fields.of(walker.state.sim_state)
            fields.positions[k] += 0.01  # type: ignore[index]
            walker.state = runners.OpenMMState(ArrayState(fields))
        mapper = ours.WorkerMapper(
            1, ours.OpenMMCPUWorker, segment_func=runner.run_segment, keep_contexts=keep
        )
        mapper.init()
        for _ in range(3):
            walkers = cycle(mapper, walkers)
        mapper.cleanup()
        ends.append(walkers)
    for kept, fresh in zip(*ends, strict=True):
        assert same(kept.state, fresh.state)
    assert not same(ends[0][0].state, ends[0][1].state)


def simulate(simulations: Simulations, system: openmm.System, topology: Any, **changes: Any) -> Any:
    given = {"integrator": make_integrator(), "platform": "Reference", **changes}
    platform = openmm.Platform.getPlatformByName(given["platform"])
    return simulations(topology, system, given["integrator"], platform)


def test_when_a_context_is_kept() -> None:
    system = make_system()
    topology = make_topology(system)
    simulations = Simulations(keep=True, seeded=False)
    first = simulate(simulations, system, topology)
    assert simulate(simulations, system, topology) is first
    first.context.setParameter("stiffness", 7.0)
    assert simulate(simulations, system, topology).context.getParameter("stiffness") == 50.0
    assert simulations.made == 1
    for changes in (
        {"integrator": make_integrator(10.0)},
        {"platform": "CPU"},
    ):
        assert simulate(simulations, system, topology) is not simulate(
            simulations, system, topology, **changes
        )
    made = simulations.made
    simulate(simulations, copy.copy(system), topology)
    assert simulations.made == made + 1


def test_what_remembers_is_not_kept() -> None:
    system = make_system()
    topology = make_topology(system)
    simulations = Simulations(keep=True, seeded=False)
    custom = openmm.CustomIntegrator(0.001)
    custom.addGlobalVariable("count", 0)
    simulate(simulations, system, topology, integrator=custom)
    simulate(simulations, system, topology, integrator=copy.copy(custom))
    assert simulations.made == 2
    barostat = openmm.System()
    barostat.addParticle(1.0)
    free = openmm.NonbondedForce()
    free.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    free.addParticle(0.0, 0.1, 0.0)
    barostat.addForce(free)
    barostat.setDefaultPeriodicBoxVectors([9, 0, 0], [0, 9, 0], [0, 0, 9])
    barostat.addForce(openmm.MonteCarloBarostat(1.0, 300.0))
    simulate(simulations, barostat, topology)
    simulate(simulations, barostat, topology)
    assert simulations.made == 4


def test_a_seed_makes_openmm_reproducible_on_any_number_of_workers(start: Any) -> None:
    system = make_system()
    ends = []
    for workers in (1, 2, 7):
        mapper = start(make_runner(system), workers, seed=11)
        walkers = make_walkers(system, 5)
        for _ in range(2):
            walkers = cycle(mapper, walkers)
        ends.append(walkers)
    for walkers in ends[1:]:
        assert all(same(a.state, b.state) for a, b in zip(ends[0], walkers, strict=True))
    positions = [walker.state["positions"].tobytes() for walker in ends[0]]
    assert len(set(positions)) == 5


def test_without_a_seed_clones_part(start: Any) -> None:
    system = make_system()
    walkers = cycle(start(make_runner(system)), make_walkers(system, 5))
    assert len({walker.state["positions"].tobytes() for walker in walkers}) == 5


class TellingRunner(runners.OpenMMRunner):  # type: ignore[misc]  # wepy has no types
    """Says what it was told, and what the context then has."""

    def run_segment(self, walker: Any, segment_length: int, **kwargs: Any) -> Any:
        platform, options = self._resolve_platform(
            kwargs.get("platform"), kwargs.get("platform_kwargs")
        )
        simulation = app.Simulation(
            self.topology,
            self.system,
            copy.copy(self.integrator),
            openmm.Platform.getPlatformByName(platform),
            options,
        )
        used = simulation.context.getPlatform()
        return used.getName(), {
            name: used.getPropertyValue(simulation.context, name)
            for name in used.getPropertyNames()
        }


def telling(platform: str, **kwargs: Any) -> Any:
    system = make_system()
    return TellingRunner(
        system, make_topology(system), make_integrator(), platform=platform, **kwargs
    )


def test_num_threads_is_honoured(start: Any) -> None:
    walkers = make_walkers(make_system())
    for name, properties in cycle(start(telling("CPU"), num_threads=3), walkers):
        assert name == "CPU"
        assert properties["Threads"] == "3"


def test_num_threads_leaves_other_platforms_alone(start: Any) -> None:
    walkers = make_walkers(make_system())
    assert {name for name, _ in cycle(start(telling("Reference"), num_threads=3), walkers)} == {
        "Reference"
    }


def test_the_platform_of_pre_cycle_reaches_the_workers(start: Any) -> None:
    runner = telling("Reference")
    walkers = make_walkers(make_system())
    mapper = start(runner, num_threads=2)
    runner.pre_cycle(platform="CPU", platform_kwargs={})
    assert {name for name, _ in cycle(mapper, walkers)} == {"CPU"}
    runner.post_cycle()
    assert {name for name, _ in cycle(mapper, walkers)} == {"Reference"}


def what_the_gpu_type_passes(walker: Any, steps: int, **kwargs: Any) -> Any:
    return kwargs["platform"], kwargs["platform_kwargs"]


@pytest.mark.parametrize("ids", [[0, 1], ["2", "5"], [3]])
def test_devices_are_handed_out_by_worker(ids: list[int | str]) -> None:
    """The tutorials' usage, asserted without a card."""
    walkers = make_walkers(make_system())
    for mapper in (
        ours.TaskMapper(
            walker_task_type=ours.OpenMMGPUWalkerTaskProcess,
            num_workers=2,
            platform="CUDA",
            device_ids=ids,
        ),
        ours.WorkerMapper(
            worker_type=ours.OpenMMGPUWorker, num_workers=2, platform="CUDA", device_ids=ids
        ),
    ):
        mapper.init(segment_func=what_the_gpu_type_passes)
        told = cycle(mapper, walkers)
        mapper.cleanup()
        assert {platform for platform, _ in told} == {"CUDA"}
        assert {options["DeviceIndex"] for _, options in told} <= set(map(str, ids))
