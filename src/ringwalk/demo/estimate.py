"""What a run says about the free energy of the neck, and how sure it can be of that.

The record of a run is one number a cycle: the weight in the neck. Its first tenth, the climb
from the well, is left out. The rest is cut into blocks much longer than the memory of the
ensemble, so that the scatter of the block means gives the standard error of their mean.
(H. Flyvbjerg and H. G. Petersen, J. Chem. Phys. 91, 461 (1989), tell why blocks.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ringwalk.demo.ensemble import STEP_BIAS

BLOCKS = 20
#: Fewer cycles would leave blocks shorter than the memory of the ensemble, some 10 cycles.
FEWEST_CYCLES = 300

#: Student's t for 19 degrees of freedom: a sound run is further off once in 10,000 times.
QUANTILE = 4.9

#: A run whose tolerance is wider has not seen enough of the neck to check anything. Its error
#: bar cannot be trusted either: what a short run misses most are rare walkers of high weight.
WIDEST_TOLERANCE = 1.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """The free energy of the neck relative to the well, in kT, with its standard error."""

    free_energy: float
    error: float

    @property
    def tolerance(self) -> float:
        """How far from the exact value a sound run may be."""
        return QUANTILE * self.error + STEP_BIAS

    @property
    def conclusive(self) -> bool:
        return self.tolerance <= WIDEST_TOLERANCE

    def agrees_with(self, reference: float) -> bool:
        return abs(self.free_energy - reference) <= self.tolerance


def estimate(neck_weights: Sequence[float]) -> Estimate:
    """Average the record of a run; both numbers are infinite if the neck was never reached."""
    kept = np.asarray(neck_weights[len(neck_weights) // 10 :])
    means = kept[len(kept) % BLOCKS :].reshape(BLOCKS, -1).mean(axis=1)
    mean = float(means.mean())
    if mean == 0.0:
        return Estimate(math.inf, math.inf)
    error = float(means.std(ddof=1)) / math.sqrt(BLOCKS)
    # d ln(p / (1 - p)) = dp / (p (1 - p))
    return Estimate(math.log((1.0 - mean) / mean), error / (mean * (1.0 - mean)))
