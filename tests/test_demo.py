"""The demo: its potential, its resampling, its verdict, and the command end to end."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringwalk.cli import main
from ringwalk.demo import Settings, comparison, potential
from ringwalk.demo.ensemble import DT, EDGES, KT, advance, neck_weight, resample, split_merge
from ringwalk.demo.estimate import BLOCKS, QUANTILE, estimate
from ringwalk.demo.run import simulate
from ringwalk.errors import ConfigError

weights_of_a_bin = st.lists(st.floats(1e-12, 1.0), min_size=1, max_size=30)


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ringwalk", *arguments], capture_output=True, text=True, check=False
    )


# --- potential -------------------------------------------------------------------------------


def energy_at(x: float, y: float) -> float:
    return float(potential.confined_energy(np.array([x]), np.array([y]))[0])


@given(st.floats(-1.6, 1.2), st.floats(-0.4, 2.0))
def test_gradient_is_the_slope_of_the_energy(x, y):
    h = 1e-5
    slope_x, slope_y = potential.confined_gradient(x, y)
    scale = 1.0 + abs(energy_at(x, y)) + abs(slope_x) + abs(slope_y)
    assert slope_x == pytest.approx(
        (energy_at(x + h, y) - energy_at(x - h, y)) / (2 * h), abs=1e-4 * scale
    )
    # The wall is continuous in its slope, not in its curvature: at its foot the two-sided
    # difference is off by stiffness * h / 4.
    assert slope_y == pytest.approx(
        (energy_at(x, y + h) - energy_at(x, y - h)) / (2 * h),
        abs=1e-4 * scale + potential.FLOOR_STIFFNESS * h / 4,
    )


@pytest.mark.parametrize(
    ("x", "y", "depth"),
    [(-0.558, 1.442, -146.700), (0.623, 0.028, -108.167), (-0.050, 0.467, -80.768)],
)
def test_minima_lie_where_the_literature_puts_them(x, y, depth):
    point = np.array([x, y])
    for _ in range(5):
        curvature = hessian(*point)
        point -= np.linalg.solve(curvature, potential.gradient(*point))
    assert (np.linalg.eigvalsh(hessian(*point)) > 0).all()
    assert point == pytest.approx([x, y], abs=6e-4)
    assert potential.energy(*point[:, None])[0] == pytest.approx(depth, abs=1e-3)


def hessian(x: float, y: float, h: float = 1e-5) -> np.ndarray:
    along_x = np.subtract(potential.gradient(x + h, y), potential.gradient(x - h, y))
    along_y = np.subtract(potential.gradient(x, y + h), potential.gradient(x, y - h))
    return np.stack([along_x, along_y]) / (2 * h)


def test_quadrature_of_a_harmonic_well_is_the_known_gaussian_integral():
    def well(x, y):
        return 20.0 * x**2 + 5.0 * (y - 0.3) ** 2

    found = potential.boltzmann_integral(well, 2.0, (-5.0, 5.0), (-9.0, 10.0))
    assert found == pytest.approx(2 * math.pi * 2.0 / math.sqrt(40.0 * 10.0), rel=1e-12)


def test_reference_agrees_with_a_plain_sum_over_a_grid():
    x = np.linspace(*potential.X_RANGE, 1201)
    y = np.arange(potential.Y_RANGE[0], potential.Y_RANGE[1], 0.0025) + 0.00125
    weight = np.exp(-potential.confined_energy(x[:, None], y) / KT).sum(axis=0)
    in_neck = y < potential.NECK
    summed = math.log(weight[~in_neck].sum() / weight[in_neck].sum())
    assert potential.reference_free_energy(KT) == pytest.approx(summed, abs=1e-3)


# --- segment ---------------------------------------------------------------------------------


def test_segment_takes_euler_maruyama_steps():
    start = np.array([-0.7, 0.79])
    (x, y), (r_x, r_y) = start, np.random.default_rng(3).standard_normal(2)
    slope_x, slope_y = potential.confined_gradient(x, y)
    kick = math.sqrt(2 * KT * DT)
    end = advance(start, 1, np.random.default_rng(3))
    assert end == pytest.approx((x - DT * slope_x + kick * r_x, y - DT * slope_y + kick * r_y))


# --- split and merge -------------------------------------------------------------------------


@given(weights_of_a_bin, st.integers(1, 40), st.integers(0, 2**32))
def test_split_and_merge_hit_the_target_and_keep_the_weight(weights, target, seed):
    walkers = [(weight, index) for index, weight in enumerate(weights)]
    made = split_merge(walkers, target, np.random.default_rng(seed))
    assert len(made) == target
    assert math.fsum(weight for weight, _ in made) == pytest.approx(math.fsum(weights), rel=1e-12)
    assert {index for _, index in made} <= set(range(len(weights)))


@given(weights_of_a_bin, st.integers(1, 40), st.integers(0, 2**32))
@settings(max_examples=30)
def test_split_and_merge_are_unbiased(weights, target, seed):
    """On average every walker's descendants carry the weight that it had."""
    rng = np.random.default_rng(seed)
    walkers = [(weight, index) for index, weight in enumerate(weights)]
    total = math.fsum(weights)
    draws = 300
    carried = np.zeros(len(weights))
    for _ in range(draws):
        for weight, index in split_merge(walkers, target, rng):
            carried[index] += weight / draws
    # Hoeffding: each draw lies in [0, total], so this is exceeded less than once in 10^9 cases.
    bound = total * math.sqrt(math.log(2e9 * len(weights)) / (2 * draws))
    assert np.abs(carried - weights).max() <= bound


def test_merge_lets_a_walker_live_as_often_as_its_weight_says():
    rng = np.random.default_rng(5)
    draws = 20_000
    lived = sum(split_merge([(0.2, 0), (0.8, 1)], 1, rng)[0][1] for _ in range(draws))
    assert abs(lived / draws - 0.8) < 5 * math.sqrt(0.8 * 0.2 / draws)


@given(st.integers(1, 80), st.integers(0, 2**32))
def test_resampling_keeps_walkers_and_the_weight_of_every_bin(n, seed):
    rng = np.random.default_rng(seed)
    positions = rng.normal([-0.7, 1.1], 0.3, size=(n, 2))
    weights = rng.dirichlet(np.full(n, 0.1)) + 1e-15
    parents, new_weights = resample(positions, weights, rng)
    assert len(parents) == len(new_weights) == n
    assert abs(math.fsum(new_weights) - math.fsum(weights)) <= 1e-12
    bins = np.searchsorted(EDGES, positions[:, 1])
    before = np.bincount(bins, weights)
    after = np.bincount(bins[parents], new_weights, minlength=len(before))
    assert after == pytest.approx(before, rel=1e-12)
    occupied = np.bincount(bins[parents])[np.unique(bins)]
    assert occupied.max() - occupied.min() <= 1


# --- verdict ---------------------------------------------------------------------------------


def test_estimate_of_a_noisy_record_covers_the_truth():
    true = 1e-3
    noise = np.random.default_rng(11).exponential(true, size=4000)
    found = estimate(noise.tolist())
    assert found.conclusive
    assert found.error == pytest.approx(1 / math.sqrt(3600), rel=0.5)
    assert found.agrees_with(math.log((1 - true) / true))
    assert not found.agrees_with(math.log((1 - true) / true) + 2 * QUANTILE * found.error + 0.1)


def test_estimate_leaves_out_the_climb():
    climb, rest = [1.0] * 100, [1e-3] * 900
    assert estimate(climb + rest).free_energy == pytest.approx(math.log(999.0))


def test_a_record_without_the_neck_proves_nothing():
    found = estimate([0.0] * 20 * BLOCKS)
    assert not found.conclusive
    assert found.free_energy == math.inf


def test_neck_weight_is_a_share():
    positions = np.array([[0.0, 0.5], [0.0, 1.5], [0.0, 0.8]])
    assert neck_weight(positions, np.array([1.0, 2.0, 1.0])) == 0.5


@pytest.mark.parametrize("wrong", [{"walkers": 0}, {"cycles": 10}, {"seed": -1}])
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(ConfigError, match=str(*wrong.values())):
        Settings(**wrong)


# --- runs ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_does_not_depend_on_the_number_of_workers():
    chosen = Settings(walkers=20, cycles=300, seed=4)
    seen: list[tuple[int, int]] = []
    one = simulate(chosen, 1, lambda *told: seen.append(told))
    two = simulate(chosen, 2, lambda *told: None)
    assert one.neck_weights == two.neck_weights
    assert one.weight_drift <= 1e-12
    assert seen == [(k, 300) for k in range(1, 301)]


@pytest.mark.slow
def test_comparison_times_every_way_and_they_agree(monkeypatch):
    monkeypatch.setattr(comparison, "WALKERS", 6)
    monkeypatch.setattr(comparison, "TURNS", 1)
    timings = comparison.compare(2, seed=1)
    assert [name.split(",")[0] for name in timings] == [
        "serial loop",
        "ProcessPoolExecutor",
        "ProcessPoolExecutor",
        "ringwalk WorkerMapper",
        "ringwalk TaskMapper",
    ]
    assert all(
        0 < timing.inside <= timing.wall * timing.workers
        for maps in timings.values()
        for timing in maps
    )
    assert comparison.table_of(timings).row_count == len(timings)


def test_comparison_refuses_a_way_that_ends_elsewhere(monkeypatch):
    def astray(workers, seed):
        turn = comparison.in_a_loop(workers, seed)
        turn.positions[3] += 1e-9
        return turn

    monkeypatch.setattr(comparison, "ways", lambda workers: {"a broken mapper": astray})
    with pytest.raises(comparison.ComparisonError, match="a broken mapper put walker 3"):
        comparison.compare(1, seed=1)


@pytest.mark.slow
def test_demo_passes_its_own_checks():
    done = demo("demo", "--walkers", "128", "--cycles", "600", "--workers", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" pass ") == 2
    assert "10.435 kT" in done.stdout
    for name in ("serial loop", "ProcessPoolExecutor", "WorkerMapper", "TaskMapper"):
        assert name in done.stdout
    assert done.stderr == ""  # no bar where nobody watches
    assert "\x1b" not in done.stdout


@pytest.mark.slow
def test_demo_fails_when_it_saw_too_little():
    done = demo("demo", "--walkers", "4", "--cycles", "300", "--workers", "1", "--no-comparison")
    assert done.returncode == 1
    assert "FAIL the error bar is too wide" in done.stdout
    assert "TaskMapper" not in done.stdout


# --- command line ----------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("--help",), ("demo", "--help")])
def test_help_tells_of_the_demo(arguments):
    done = demo(*arguments)
    assert done.returncode == 0
    assert "demo" in done.stdout
    assert done.stderr == ""


def test_refused_arguments_are_one_line_and_status_2(capsys):
    assert main(["demo", "--cycles", "3"]) == 2
    assert capsys.readouterr().err.startswith("ringwalk: 3 cycles are too few")


@pytest.mark.parametrize("arguments", [[], ["dance"]])
def test_an_unknown_command_is_a_usage_error(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: ringwalk" in capsys.readouterr().err
