"""Alanine dipeptide by OpenMM, the same ensemble through two mappers.

    pip install ringwalk[openmm]
    python examples/openmm_alanine.py --walkers 8 --cycles 5

Positions and velocities of every walker lie in a WalkerBlock. A context is built once a worker by
``worker_init`` and handed to each segment; the segment writes what it reached into its own
row. The parent builds the System, which is plain data, but never a Context: a Context may start
threads or a GPU driver, and neither survives a fork.

The random seed of each segment is drawn from the mapper's stream of (seed, cycle, walker), so a
run gives the same trajectories on any number of workers and by either mapper. It exits with 1 if
a check fails.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import openmm
from openmm import app, unit

from ringwalk import Row, TaskMapper, WalkerBlock, WorkerMapper

PDB = Path(__file__).with_name("alanine.pdb")
TEMPERATURE = 300.0  # K
FRICTION = 10.0  # 1/ps
TIME_STEP = 0.002  # ps, with bonds to hydrogen held rigid
GAS_CONSTANT = 0.00831446261815324  # kJ/mol/K

#: Atoms of the backbone dihedral phi: C of ACE, then N, CA, C of ALA.
PHI = (4, 6, 8, 14)

Array = npt.NDArray[np.float64]


def build_system(pdb: app.PDBFile) -> openmm.System:
    """Parametrise the molecule in vacuum with Amber ff14SB."""
    forcefield = app.ForceField("amber14-all.xml")
    return forcefield.createSystem(
        pdb.topology, nonbondedMethod=app.NoCutoff, constraints=app.HBonds
    )


def make_context(system: openmm.System, platform: str, device: Any) -> openmm.Context:
    """Build one worker's context; ``device`` is its entry of ``devices=``, none here."""
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE, FRICTION, TIME_STEP)
    # One thread: the workers already share out the cores.
    properties = {"Threads": "1"} if platform == "CPU" else {}
    return openmm.Context(
        system, integrator, openmm.Platform.getPlatformByName(platform), properties
    )


def segment(walker: Row, n_steps: int, context: openmm.Context, rng: np.random.Generator) -> None:
    """Run one walker for ``n_steps`` and write where it ended into its row."""
    integrator = context.getIntegrator()
    integrator.setRandomNumberSeed(int(rng.integers(1, 2**31)))
    context.reinitialize()  # a new seed is read only here
    context.setTime(walker.time)
    context.setPositions(walker.positions)
    context.setVelocities(walker.velocities)
    integrator.step(n_steps)
    state = context.getState(positions=True, velocities=True, energy=True)
    walker.positions = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    walker.velocities = state.getVelocities(asNumpy=True).value_in_unit(
        unit.nanometer / unit.picosecond
    )
    walker.time = state.getTime().value_in_unit(unit.picosecond)
    walker.potential = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    walker.kinetic = state.getKineticEnergy().value_in_unit(unit.kilojoule_per_mole)


def make_block(n: int, pdb: app.PDBFile, system: openmm.System, seed: int) -> WalkerBlock:
    """Put every walker at the structure of the file, with thermal velocities of its own."""
    start = pdb.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    atoms = range(system.getNumParticles())
    masses = np.array([system.getParticleMass(i).value_in_unit(unit.dalton) for i in atoms])
    block = WalkerBlock(
        n,
        positions=(start.shape, "f8"),
        velocities=(start.shape, "f8"),
        time="f8",
        potential="f8",
        kinetic="f8",
    )
    spread = np.sqrt(GAS_CONSTANT * TEMPERATURE / masses)[:, None]
    block["positions"] = start
    block["velocities"] = np.random.default_rng(seed).normal(size=(n, *start.shape)) * spread
    return block


def degrees_of_freedom(system: openmm.System) -> int:
    """Count what the temperature is spread over; the net drift is taken out by the force field."""
    return 3 * int(system.getNumParticles()) - int(system.getNumConstraints()) - 3


def dihedral(positions: Array, atoms: tuple[int, int, int, int] = PHI) -> float:
    """Return the dihedral angle of four atoms in degrees, in the IUPAC sign."""
    a, b, c, d = positions[list(atoms)]
    along = (c - b) / np.linalg.norm(c - b)
    first, second = np.cross(b - a, c - b), np.cross(c - b, d - c)
    return math.degrees(math.atan2(np.cross(first, second) @ along, first @ second))


def run(
    make_mapper: Callable[..., WorkerMapper | TaskMapper],
    block: WalkerBlock,
    context_maker: Callable[[Any], openmm.Context],
    options: argparse.Namespace,
) -> float:
    """Advance every walker through all cycles; return seconds."""
    with make_mapper(
        segment, options.workers, worker_init=context_maker, seed=options.seed
    ) as mapper:
        begin = perf_counter()
        for _ in range(options.cycles):
            mapper.map(block, itertools.repeat(options.steps))
        return perf_counter() - begin


def report(name: str, block: WalkerBlock, freedom: int, seconds: float, segments: int) -> None:
    """Print one line a walker and the speed."""
    print(f"{name}: {segments} segments in {seconds:.2f} s, {1e3 * seconds / segments:.2f} ms each")
    print("  walker  time/ps  potential/(kJ/mol)  temperature/K  phi/degrees")
    for index, walker in enumerate(block):
        temperature = 2 * walker.kinetic / (freedom * GAS_CONSTANT)
        print(
            f"  {index:6d}  {walker.time:7.3f}  {walker.potential:18.2f}  {temperature:13.1f}"
            f"  {dihedral(walker.positions):11.1f}"
        )


def failures(name: str, block: WalkerBlock, expected_time: float) -> list[str]:
    """Return what is wrong with the walkers of a finished run."""
    found = []
    if not (np.isfinite(block["potential"]).all() and np.isfinite(block["kinetic"]).all()):
        found.append(f"{name}: an energy is not finite")
    if not np.allclose(block["time"], expected_time, rtol=0.0, atol=1e-6):
        found.append(f"{name}: walkers are at {block['time']} ps instead of {expected_time} ps")
    for one, other in itertools.combinations(range(len(block)), 2):
        if np.allclose(block["positions"][one], block["positions"][other]):
            found.append(f"{name}: walkers {one} and {other} did not diverge")
    return found


def main() -> int:
    options = parse_options()
    pdb = app.PDBFile(str(PDB))
    system = build_system(pdb)
    context_maker = partial(make_context, system, options.platform)
    expected_time = options.cycles * options.steps * TIME_STEP
    found: list[str] = []
    ends: list[Array] = []
    for mapper_type in (WorkerMapper, TaskMapper):
        name = mapper_type.__name__
        with make_block(options.walkers, pdb, system, options.seed) as block:
            seconds = run(mapper_type, block, context_maker, options)
            segments = options.walkers * options.cycles
            report(name, block, degrees_of_freedom(system), seconds, segments)
            found += failures(name, block, expected_time)
            ends.append(block["positions"])
    if not np.array_equal(ends[0], ends[1]):
        found.append("the same seed gave other trajectories with the other mapper")
    for failure in found:
        print(f"FAIL {failure}", file=sys.stderr)
    if not found:
        print(
            "all checks passed: energies finite, walkers apart, time advanced, "
            "the same trajectories by both mappers"
        )
    return 1 if found else 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Alanine dipeptide by OpenMM through two mappers.")
    parser.add_argument("--walkers", type=int, default=8)
    parser.add_argument("--cycles", type=int, default=5)
    parser.add_argument("--steps", type=int, default=500, help="steps a segment, 2 fs each")
    parser.add_argument("--workers", type=int, default=None, help="default: one a usable core")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--platform", choices=("Reference", "CPU"), default="Reference")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
