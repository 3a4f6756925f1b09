"""A parameter study with nothing but ringwalk and SciPy: when does an epidemic peak, and how high?

10,000 runs of the SIR equations (Kermack and McKendrick, 1927),

    s' = -beta s i,   i' = beta s i - gamma i,   r' = gamma i,   s + i + r = 1,

over a Sobol design in the contact rate beta and the recovery rate gamma (both a day). Each run is
checked against the exact height of the peak: with R = beta s0 / gamma > 1 it is
i0 + s0 - (1 + ln R) gamma / beta, else the epidemic only declines.

    python examples/parameter_study.py --runs 10000 --out study

writes study.npy, which is a table of all runs at any instant, study.npz and study.png.
Needs: pip install 'ringwalk[study]'
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp
from scipy.stats import qmc

from ringwalk.memory import RunTable, Status
from ringwalk.runners import PoolRunner

I0 = 1e-3
DAYS = 4000.0  # with beta close to gamma, the peak is late
LOW, HIGH = (0.05, 0.05), (0.8, 0.5)
FIELDS = {"beta": "f8", "gamma": "f8", "peak": "f8", "day": "f8"}


def simulate(row: Any) -> None:
    """One run: solve the equations, note the height and the day of the peak."""
    beta, gamma = float(row["beta"]), float(row["gamma"])

    def slope(t: float, y: np.ndarray) -> tuple[float, float]:
        s, i = y
        return -beta * s * i, beta * s * i - gamma * i

    def growth(t: float, y: np.ndarray) -> float:
        return beta * float(y[0]) - gamma

    growth.direction = -1  # type: ignore[attr-defined]  # a peak, not a dip
    solution = solve_ivp(
        slope, (0.0, DAYS), (1.0 - I0, I0), method="LSODA", events=growth, rtol=1e-8, atol=1e-10
    )
    if not solution.success:
        raise RuntimeError(f"no solution for beta={beta}, gamma={gamma}: {solution.message}")
    if solution.t_events[0].size:
        row["day"], row["peak"] = solution.t_events[0][0], solution.y_events[0][0][1]
    else:
        row["peak"] = max(solution.y[1])


def exact_peak(beta: np.ndarray, gamma: np.ndarray) -> np.ndarray:
    """Height of the peak, from s + i - gamma/beta ln s being constant."""
    ratio = beta * (1.0 - I0) / gamma
    peak = 1.0 - (1.0 + np.log(np.maximum(ratio, 1.0))) * gamma / beta
    return np.where(ratio > 1.0, peak, I0)


def design(runs: int, seed: int) -> np.ndarray:
    """A scrambled Sobol design of beta and gamma."""
    points = qmc.Sobol(2, seed=seed).random_base2(math.ceil(math.log2(runs)))[:runs]
    scaled = qmc.scale(points, LOW, HIGH)
    return np.rec.fromarrays(scaled.T, names="beta,gamma")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=None, help="default: all usable CPUs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("study"), help="path without suffix")
    arguments = parser.parse_args()

    start = time.perf_counter()
    path = arguments.out.with_suffix(".npy")
    with (
        RunTable(FIELDS, path=path, replace=True) as table,
        PoolRunner(simulate, table, parallel=arguments.workers, timeout=60, retries=1) as runner,
    ):
        runner.spawn_array(design(arguments.runs, arguments.seed))
        runner.wait_all()
        rows = table.rows.copy()
        for failure in runner.failed.values():
            print(f"run {failure.run_id}: {failure.error}\n{failure.traceback}")
    took = time.perf_counter() - start

    done = rows[rows["status"] == Status.DONE]
    error = np.abs(done["peak"] - exact_peak(done["beta"], done["gamma"])).max()
    busy = (rows["end"] - rows["start"]).sum()
    np.savez(arguments.out.with_suffix(".npz"), **{name: done[name] for name in FIELDS})
    plot(done, arguments.out.with_suffix(".png"))
    print(f"{len(done)} of {len(rows)} runs done in {took:.1f} s, {busy:.1f} s of them computing")
    print(f"largest error of a peak: {error:.1e}")
    if len(done) < len(rows) or error > 1e-5:
        raise SystemExit(1)


def plot(done: np.ndarray, path: Path) -> None:
    """Height and day of the peak over the two rates."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, name, label in zip(
        figure.subplots(1, 2),
        ("peak", "day"),
        ("infected at the peak", "day of the peak"),
        strict=True,
    ):
        points = axes.scatter(done["beta"], done["gamma"], c=done[name], s=3)
        axes.set(xlabel="beta (1/day)", ylabel="gamma (1/day)", title=label)
        figure.colorbar(points, ax=axes)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
