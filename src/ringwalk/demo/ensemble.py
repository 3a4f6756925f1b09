"""The weighted ensemble: one walker's segment, the bins, and the split/merge between segments.

G. A. Huber and S. Kim, Biophys. J. 70, 97 (1996). Every walker carries a statistical weight;
each bin along the way up is kept equally full by splitting heavy walkers and merging light
ones, so that the rare top is sampled by as many walkers as the common bottom. ``resample``
guarantees: the number of walkers stays, the weight of every bin stays (to rounding, about
1e-16 a call), and the expectation of any weighted average stays.

It does not adapt its bins and recycles nobody: this is an equilibrium ensemble.
"""

from __future__ import annotations

import heapq
import math
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ringwalk.demo.potential import NECK, confined_gradient

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: Temperature in the units of the surface: the neck lies 10 kT above the well, so that a lone
#: walker would be there once in 34,000 independent looks.
KT = 8.0

#: Time step, at unit mobility. Euler-Maruyama widens a harmonic well of curvature k to the
#: variance kT / (k (1 - k dt / 2)); with the curvatures 4068 and 411 of the deep well this puts
#: the free energy of the neck off by (4068 + 411) dt / 4 = 0.011 kT. STEP_BIAS allows for twice
#: that, and it is still small beside the statistical error of the run.
DT = 1e-5
STEP_BIAS = 0.02

#: Steps a segment. A walker relaxes in the well within some 250 steps; segments have to be
#: shorter, or it falls back before it can be split.
STEPS = 40

#: Inner edges of the bins in y: at most 1.5 kT apart between the well and the neck.
EDGES = np.linspace(NECK, 1.4, 11)


class Walker(Protocol):
    """What a segment needs of a walker; a row of a ``WalkerBlock`` has it."""

    positions: Array


def advance(positions: Array, n_steps: int, rng: np.random.Generator) -> tuple[float, float]:
    """Run overdamped Langevin dynamics from ``positions``; return where it ends.

    The Euler-Maruyama scheme at unit mobility:

        x' = x - dt grad U(x) + sqrt(2 kT dt) R,    R ~ N(0, 1)
    """
    x, y = positions.tolist()
    noise = rng.standard_normal((n_steps, 2)) * math.sqrt(2.0 * KT * DT)
    for kick_x, kick_y in noise.tolist():
        slope_x, slope_y = confined_gradient(x, y)
        x += kick_x - DT * slope_x
        y += kick_y - DT * slope_y
    return x, y


def segment(walker: Walker, n_steps: int, rng: np.random.Generator) -> None:
    """Advance one walker in place: what the mapper runs, once a walker and cycle."""
    walker.positions[:] = advance(walker.positions, n_steps, rng)


def neck_weight(positions: Array, weights: Array) -> float:
    """Return the share of the total weight that is in the neck."""
    return float(weights[positions[:, 1] < NECK].sum() / weights.sum())


def resample(positions: Array, weights: Array, rng: np.random.Generator) -> tuple[Indices, Array]:
    """Even out the walkers over the occupied bins; return (parent, weight) of each new walker.

    Where the walkers do not divide evenly, the first bins get one more.
    """
    bins = np.searchsorted(EDGES, positions[:, 1])
    occupied = np.unique(bins)
    share, rest = divmod(len(weights), len(occupied))
    chosen: list[tuple[float, int]] = []
    for rank, bin_index in enumerate(occupied):
        members = np.flatnonzero(bins == bin_index)
        walkers = list(zip(weights[members].tolist(), members.tolist(), strict=True))
        chosen += split_merge(walkers, share + (rank < rest), rng)
    new_weights, parents = zip(*chosen, strict=True)
    return np.array(parents, dtype=np.intp), np.array(new_weights)


def split_merge(
    walkers: list[tuple[float, int]], target: int, rng: np.random.Generator
) -> list[tuple[float, int]]:
    """Turn one bin's (weight, index) pairs into ``target`` pairs of nearly equal weight.

    Split: a walker becomes as many equal clones as it has ideal weights. Merge: while there are
    too many, the two lightest become one of their joint weight, and which of them lives on is
    drawn in proportion to weight; that is what keeps averages unbiased. While there are too
    few, the heaviest is halved.
    """
    ideal = math.fsum(weight for weight, _ in walkers) / target
    heap: list[tuple[float, int]] = []
    for weight, walker in walkers:
        clones = max(1, int(weight / ideal))
        heap += [(weight / clones, walker)] * clones
    heapq.heapify(heap)
    while len(heap) > target:
        light, first = heapq.heappop(heap)
        heavier, second = heapq.heappop(heap)
        joint = light + heavier
        heapq.heappush(heap, (joint, first if rng.random() * joint < light else second))
    while len(heap) < target:
        heap.sort()
        weight, walker = heap.pop()
        heap += [(weight / 2.0, walker)] * 2
    return heap
