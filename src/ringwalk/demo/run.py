"""``ringwalk demo``: a weighted ensemble climbs out of a well, and the answer is checked.

    WalkerBlock --map, in place--> every walker one segment on, by its worker
         ^                               |
         '---- split and merge <---------'        once a cycle

The run passes if the free energy that it finds agrees with the quadrature of the Boltzmann
weight within its own statistical error, and if the walkers' total weight stayed 1 to 1e-12.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from rich.console import Console

from ringwalk import WalkerBlock, WorkerMapper
from ringwalk.config import resolve_num_workers
from ringwalk.demo.comparison import compare, table_of
from ringwalk.demo.ensemble import DT, KT, STEPS, neck_weight, resample, segment
from ringwalk.demo.estimate import FEWEST_CYCLES, QUANTILE, Estimate, estimate
from ringwalk.demo.potential import WELL, reference_free_energy
from ringwalk.errors import ConfigError
from ringwalk.observe.progress import Progress, Reporter

WALKERS = 256
CYCLES = 1000
SEED = 1979

#: How far the total weight may drift from 1 by rounding.
WEIGHT_TOLERANCE = 1e-12


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line can change.

    Attributes:
        workers: ``None`` for one a usable core.
    """

    walkers: int = WALKERS
    cycles: int = CYCLES
    workers: int | None = None
    seed: int = SEED
    comparison: bool = True

    def __post_init__(self) -> None:
        if self.walkers < 1:
            raise ConfigError(f"the demo needs walkers, got {self.walkers}")
        if self.cycles < FEWEST_CYCLES:
            raise ConfigError(
                f"{self.cycles} cycles are too few for an error bar, use {FEWEST_CYCLES} or more"
            )
        if self.seed < 0:
            raise ConfigError(f"the seed is {self.seed}, use 0 or more")


@dataclass(frozen=True, slots=True)
class Run:
    """What a simulation leaves behind."""

    neck_weights: list[float]
    weight_drift: float
    seconds: float


def demo(settings: Settings) -> bool:
    """Simulate, check, compare and print; return whether all checks passed."""
    workers = resolve_num_workers(settings.workers)
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"Weighted ensemble in the Müller-Brown potential: {settings.walkers} walkers, "
        f"{settings.cycles} cycles of {STEPS} steps, kT = {KT:g}, dt = {DT:g}, "
        f"{workers} workers, seed {settings.seed}"
    )
    cycles = Reporter(True, "cycles")
    run = simulate(settings, workers, cycles.tell)
    cycles.end()
    passed = _report(settings, run, console)
    if settings.comparison:
        turns = Reporter(True, "comparison")
        timings = compare(workers, settings.seed, turns.tell)
        turns.end()
        console.print(table_of(timings))
    return passed


def simulate(settings: Settings, workers: int, progress: Progress) -> Run:
    """Run the ensemble; tell of each cycle."""
    rng = np.random.default_rng(settings.seed)
    record: list[float] = []
    drift = 0.0
    begin = perf_counter()
    with (
        WalkerBlock(settings.walkers, positions=((2,), "f8"), weight="f8") as block,
        WorkerMapper(segment, workers, seed=settings.seed) as mapper,
    ):
        block["positions"] = WELL
        block["weight"] = 1.0 / settings.walkers
        for cycle in range(settings.cycles):
            mapper.map(block, itertools.repeat(STEPS))
            positions, weights = block["positions"], block["weight"]
            record.append(neck_weight(positions, weights))
            parents, new_weights = resample(positions, weights, rng)
            block.resample(parents)
            block["weight"] = new_weights
            drift = max(drift, abs(math.fsum(new_weights.tolist()) - 1.0))
            progress(cycle + 1, settings.cycles)
    return Run(record, drift, perf_counter() - begin)


def _report(settings: Settings, run: Run, console: Console) -> bool:
    """Print what was found and what is exact; return whether the two agree."""
    found = estimate(run.neck_weights)
    reference = reference_free_energy(KT)
    agrees = found.conclusive and found.agrees_with(reference)
    conserved = run.weight_drift <= WEIGHT_TOLERANCE
    segments = settings.walkers * settings.cycles
    console.print(
        f"  {segments:,} segments in {run.seconds:.1f} s, {segments / run.seconds:,.0f} a second, "
        "splitting and merging included"
    )
    console.print(
        f"  free energy of the neck  {found.free_energy:.3f} +- {found.error:.3f} kT\n"
        f"  exact, by quadrature     {reference:.3f} kT"
    )
    console.print(f"  {_verdict(agrees)} {_judgement(found, reference)}")
    console.print(
        f"  {_verdict(conserved)} total weight stayed 1 within {run.weight_drift:.1e} "
        f"(limit {WEIGHT_TOLERANCE:g})"
    )
    return agrees and conserved


def _judgement(found: Estimate, reference: float) -> str:
    if not found.conclusive:
        return "the error bar is too wide to check anything: raise --cycles or --walkers"
    return (
        f"off by {abs(found.free_energy - reference):.3f} kT, tolerance {found.tolerance:.3f} kT "
        f"({QUANTILE} standard errors and the time step's bias)"
    )


def _verdict(good: bool) -> str:
    return "[green]pass[/green]" if good else "[red]FAIL[/red]"
