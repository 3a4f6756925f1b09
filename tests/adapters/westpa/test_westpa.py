"""WESTPA with our work manager: real simulations by w_run, in processes of their own."""

from __future__ import annotations

import argparse
import os
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from ringwalk.adapters.westpa import RingwalkWorkManager, register
from ringwalk.adapters.westpa.tasks import reseed
from ringwalk.workers.streams import stream

EXAMPLE = Path(__file__).parents[3] / "examples" / "westpa_odld.py"

SYSTEM = """
import os, signal
import numpy as np
from westpa.core.binning import RectilinearBinMapper
from westpa.core.propagators import WESTPropagator
from westpa.core.systems import WESTSystem
import westpa.core.sim_manager, westpa.core.we_driver

# The master draws, too: which walkers are split and merged.
for module in (westpa.core.sim_manager, westpa.core.we_driver):
    module.MT19937 = lambda: np.random.MT19937(7)

class Walk(WESTPropagator):
    def __init__(self, rc=None):
        super().__init__(rc)
        self.rng = np.random.default_rng()

    def get_pcoord(self, state):
        state.pcoord = np.array([1.0], np.float32)

    def gen_istate(self, basis_state, initial_state):
        initial_state.pcoord = np.array([1.0], np.float32)
        initial_state.istate_status = initial_state.ISTATE_STATUS_PREPARED
        return initial_state

    def propagate(self, segments):
        for segment in segments:
            self.misbehave(segment)
            steps = self.rng.normal(scale=0.1, size=4) + np.random.normal(scale=0.1, size=4)
            segment.pcoord[1:, 0] = segment.pcoord[0, 0] + np.cumsum(steps)
            segment.status = segment.SEG_STATUS_COMPLETE
        return segments

    def misbehave(self, segment):
        mark = os.environ.get("KILL_ONCE")
        if mark and segment.n_iter == 2 and segment.seg_id == 3 and not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        if os.environ.get("INTERRUPT") and segment.n_iter == 2:
            os.killpg(os.getpgrp(), signal.SIGINT)
            signal.pause()

class System(WESTSystem):
    def initialize(self):
        self.pcoord_ndim, self.pcoord_dtype, self.pcoord_len = 1, np.float32, 5
        self.bin_mapper = RectilinearBinMapper([[-float("inf"), 0.7, 1.0, 1.3, float("inf")]])
        self.bin_target_counts = np.full(self.bin_mapper.nbins, 4)
"""

CONFIG = """
west:
  system: {driver: walk.System, module_path: $WEST_SIM_ROOT}
  propagation:
    max_total_iterations: 4
    max_run_wallclock: 0:10:00
    propagator: walk.Walk
    gen_istates: true
    block_size: 1
  data: {west_data_file: west.h5, datasets: [{name: pcoord}]}
"""


def tool(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ringwalk.adapters.westpa", *arguments],
        cwd=folder,
        env={**os.environ, "WEST_SIM_ROOT": str(folder), "HOME": str(folder), **variables},
        capture_output=True,
        text=True,
        timeout=100,
        process_group=0,
    )


@pytest.fixture
def simulation(tmp_path: Path) -> Path:
    (tmp_path / "walk.py").write_text(SYSTEM)
    (tmp_path / "west.cfg").write_text(CONFIG)
    made = tool(tmp_path, "w_init", "--bstate", "initial,1.0", "--segs-per-state", "8", "--serial")
    assert made.returncode == 0, made.stderr
    return tmp_path


def outcome(folder: Path) -> list[tuple[Any, Any]]:
    """Weights and progress coordinates of every iteration that was run."""
    with h5py.File(folder / "west.h5") as file:
        return [
            (group["seg_index"]["weight"], group["pcoord"][...])
            for name, group in sorted(file["iterations"].items())
            if group["seg_index"]["status"].all() and name <= "iter_00000004"
        ]


def run(folder: Path, workers: int, *flags: str, **variables: str) -> list[tuple[Any, Any]]:
    fresh = (folder / "west.h5").read_bytes()
    done = tool(
        folder, "w_run", "--work-manager=ringwalk", f"--n-workers={workers}", *flags, **variables
    )
    assert done.returncode == 0, done.stderr
    assert "WEST run complete" in done.stdout, done.stdout + done.stderr
    found = outcome(folder)
    assert len(found) == 4
    (folder / "west.h5").write_bytes(fresh)
    return found


def same_noise(one: list[tuple[Any, Any]], other: list[tuple[Any, Any]]) -> bool:
    """Whether segments of the same number made the same steps, wherever they started."""
    return all(
        np.allclose(np.diff(a[:n], axis=1), np.diff(b[:n], axis=1), atol=1e-5)
        for (_, a), (_, b) in zip(one, other, strict=True)
        for n in [min(len(a), len(b))]
    )


def test_a_seed_gives_the_same_noise_on_any_number_of_workers(simulation: Path) -> None:
    first = run(simulation, 1, "--ringwalk-seed=5")
    assert same_noise(first, run(simulation, 3, WM_RINGWALK_SEED="5"))
    assert not same_noise(first, run(simulation, 1, "--ringwalk-seed=6"))


def test_walkers_do_not_draw_the_same_numbers(simulation: Path) -> None:
    for _, pcoords in run(simulation, 2):
        steps = np.round(np.diff(pcoords[:, :, 0], axis=1), 5)
        # Whole segments: of hundreds of single steps two are equal to 5 digits by chance.
        assert len(np.unique(steps, axis=0)) == len(steps)


def test_a_killed_worker_changes_nothing(simulation: Path) -> None:
    mark = simulation / "killed"
    expected = run(simulation, 2, "--ringwalk-seed=5")
    assert same_noise(expected, run(simulation, 2, "--ringwalk-seed=5", KILL_ONCE=str(mark)))
    assert mark.exists()


def test_ctrl_c_ends_the_run_quietly(simulation: Path) -> None:
    done = tool(simulation, "w_run", "--work-manager=ringwalk", "--n-workers=2", INTERRUPT="1")
    assert done.returncode == 0
    assert "interrupted; shutting down" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_line_in_westrc_is_enough_for_plain_w_run(simulation: Path) -> None:
    (simulation / ".westrc").write_text(
        "_ringwalk: !!python/object/apply:ringwalk.adapters.westpa.register []\n"
    )
    done = subprocess.run(
        [Path(sys.executable).with_name("w_run"), "--work-manager", "ringwalk", "--n-workers=2"],
        cwd=simulation,
        env={**os.environ, "WEST_SIM_ROOT": str(simulation), "HOME": str(simulation)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "WEST run complete" in done.stdout, done.stdout + done.stderr


def test_the_study_gives_the_same_with_westpa_s_processes(tmp_path: Path) -> None:
    """The same weights and progress coordinates to the last bit; the example compares them."""
    done = subprocess.run(
        [sys.executable, EXAMPLE, "--iterations=3", "--workers=2"],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "the same weights and progress coordinates in every iteration" in done.stdout


def test_a_run_that_is_continued_is_the_same_by_serial_and_by_ringwalk(tmp_path: Path) -> None:
    """w_init, w_run, and w_run once more from what it left: to the last bit what serial gives."""
    example = runpy.run_path(str(EXAMPLE))
    outcomes = []
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    (fresh / "west.cfg").write_text(example["CONFIG"].format(iterations=2))
    states = ("--bstate", "initial,1.0", "--segs-per-state", "8")
    example["tool"](fresh, "w_init", *states, "--work-manager=ringwalk", "--n-workers=2")
    for manager in ("serial", "ringwalk"):
        folder = Path(shutil.copytree(fresh, tmp_path / manager))
        flags = (f"--work-manager={manager}", "--n-workers=2")
        example["tool"](folder, "w_run", *flags)
        begun = example["outcome"](folder)
        assert len(begun) == 2
        (folder / "west.cfg").write_text(example["CONFIG"].format(iterations=4))
        example["tool"](folder, "w_run", *flags)
        outcomes.append(example["outcome"](folder))
        assert len(outcomes[-1]) == 4
        assert all(map(_same, begun, outcomes[-1]))
    assert all(map(_same, *outcomes))


def _same(one: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    return np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])


# --- in this process --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: None,
        lambda: np.random.Generator(np.random.MT19937()),
        lambda: np.random.Generator(np.random.PCG64()),
        lambda: np.random.RandomState(),
        lambda: np.random.RandomState(np.random.PCG64()),
    ],
    ids=["none yet", "MT19937", "PCG64", "RandomState", "RandomState on PCG64"],
)
def test_a_propagator_s_generator_starts_each_segment_s_stream_anew(
    make: Callable[[], Any],
) -> None:
    def draw(propagator: Any, segment: int) -> tuple[float, ...]:
        reseed(propagator, stream(5, 1, segment))
        return tuple(propagator.rng.normal(size=3))

    one, other = SimpleNamespace(rng=make()), SimpleNamespace(rng=make())
    first = draw(one, 0), draw(one, 1), draw(one, 0)
    assert first == (first[0], draw(other, 1), draw(other, 0))  # whatever was drawn before
    assert first[0] != first[1]


class Propagator:
    """Keeps states as WESTPA's do."""

    def __init__(self) -> None:
        self.states = 0

    def clear_basis_initial_states(self) -> None:
        self.states = 0

    def prepare_iteration(self, n_iter: int, segments: list[Any]) -> None:
        pass

    def finalize_iteration(self, n_iter: int, segments: list[Any]) -> None:
        pass

    def get_pcoord(self, state: Any) -> None:
        self.states += 1
        state["seen"] = self.states, os.environ["WM_PROCESS_INDEX"]


def test_a_cleared_cache_is_cleared_in_every_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    import westpa
    from westpa.core import wm_ops

    monkeypatch.setattr(westpa.rc, "_propagator", Propagator())
    with RingwalkWorkManager(3) as manager:
        for _ in range(3):
            manager.submit(wm_ops.prep_iter, (1, [])).get_result()
            futures = manager.submit_many([(wm_ops.get_pcoord, ({},), None)] * 60)
            seen = [future.get_result()["seen"] for future in futures]
            for worker in {index for _, index in seen}:
                counts = [count for count, index in seen if index == worker]
                assert sorted(counts) == list(range(1, len(counts) + 1))


def test_each_worker_gets_its_device() -> None:
    with RingwalkWorkManager(2, devices=[0, 1]) as manager:
        futures = manager.submit_many([(_where, (), None)] * 40)
        assert {future.get_result() for future in futures} <= {("0", "0"), ("1", "1")}


def _where() -> tuple[str, str]:
    return os.environ["WM_PROCESS_INDEX"], os.environ["CUDA_VISIBLE_DEVICES"]


def test_registered_names_and_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    from westpa.work_managers.environment import WMEnvironment

    register()
    register("ringwalk2")
    environment = WMEnvironment()
    parser = argparse.ArgumentParser()
    environment.add_wm_args(parser)
    environment.process_wm_args(
        parser.parse_args(["--work-manager=ringwalk", "--n-workers=3", "--ringwalk-seed=4"])
    )
    manager = environment.make_work_manager()
    assert isinstance(manager, RingwalkWorkManager)
    assert (manager.n_workers, manager.seed) == (3, 4)
    monkeypatch.setenv("WM_RINGWALK_SEED", "many")
    environment.process_wm_args(parser.parse_args(["--work-manager=ringwalk"]))
    with pytest.raises(ValueError, match="the ringwalk seed is 'many'"):
        environment.make_work_manager()


def test_progress_is_told(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from westpa.work_managers.environment import WMEnvironment

    calls: list[tuple[int, int]] = []
    with RingwalkWorkManager(2, progress=lambda *told: calls.append(told)) as manager:
        for future in manager.submit_many([(os.getpid, (), None)] * 5):
            future.get_result()
    assert sorted(calls)[-1] == (5, 5)
    register()
    environment = WMEnvironment()
    parser = argparse.ArgumentParser()
    environment.add_wm_args(parser)
    flags = ["--work-manager=ringwalk", "--n-workers=2", "--ringwalk-progress"]
    environment.process_wm_args(parser.parse_args(flags))
    manager = environment.make_work_manager()
    assert manager._progress._reporter._asked == (True, "tasks")
    with manager:
        manager.submit(os.getpid).get_result()
    assert capfd.readouterr() == ("", "")  # no bar where nobody watches
    environment.process_wm_args(parser.parse_args(flags[:2]))
    monkeypatch.setenv("WM_RINGWALK_PROGRESS", "yes")
    with pytest.raises(ValueError, match="progress is 'yes'; give 0 or 1"):
        environment.make_work_manager()


def test_sigint_is_taken_up_by_its_handler() -> None:
    before = signal.getsignal(signal.SIGINT)
    manager = RingwalkWorkManager(2, shutdown_timeout=0.1)
    with manager:
        manager.install_sigint_handler()
        try:
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
            assert not manager.running
        finally:
            signal.signal(signal.SIGINT, before)
