"""Whole studies by ``profit run``: the shipped example, all ways to plug in, failures, Ctrl-C."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent

STUDY = """
ntrain: 5
include: {include}
variables:
    u: Halton()
    f: Output
run:
    runner: {runner}
    interface: {interface}
    worker: {worker}
"""


def plugin(*options: str) -> str:
    """What a user is told to include."""
    return subprocess.check_output(
        [sys.executable, "-m", "ringwalk.adapters.profit", *options], text=True
    ).strip()


def profit(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    environment = {key: environment[key] for key in environment if key != "PROFIT_INCLUDES"}
    return subprocess.Popen(
        ["profit", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def table_of(path: Path) -> np.ndarray:
    return np.genfromtxt(path, names=True)


def test_the_shipped_example_with_one_line_more(
    sdist: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    shutil.copytree(sdist / "examples" / "mockup", tmp_path / "mockup")
    study = tmp_path / "mockup" / "study"
    config = study / "profit.yaml"
    before = config.read_text()
    one_line = f"include: [../mockup.py, {plugin('--replace')}]"
    config.write_text(before.replace("include: ../mockup.py", one_line))
    files = set(os.listdir(study))
    run = profit(study, environment, "run")
    _, errors = run.communicate()
    assert run.returncode == 0, errors
    inputs, outputs = table_of(study / "input.txt"), table_of(study / "output.txt")
    assert inputs.shape == outputs.shape == (30,)
    # The example's function: Rosenbrock's, of shifted arguments.
    x, y = inputs["u"] - 5.25, 1 + 3 * (inputs["v"] - 0.6)
    np.testing.assert_allclose(outputs["f"], (1 - x) ** 2 + 2 * (y - x**2) ** 2, rtol=1e-6)
    log = (study / "runner.log").read_text()
    assert all(f"run {k} done" in log for k in range(30))
    left = set(os.listdir(study)) - files
    assert left == {"input.txt", "output.txt", "interface.npy", "log", "runner.log"}
    assert len(os.listdir(study / "log")) == 30
    assert len(np.load(study / "interface.npy")) == 30
    for option, remaining in (([], {"input.txt", "output.txt"}), (["--all"], set())):
        clean = profit(study, environment, "clean", *option)
        _, errors = clean.communicate()
        assert clean.returncode == 0, errors
        assert set(os.listdir(study)) - files == remaining


WAYS = {
    "own labels": ("plugin", "{class: ringwalk, parallel: 2, timeout: 60}", "ringwalk"),
    "replaced": ("replace", "fork", "memmap"),
    "mixed": ("plugin", "local", "ringwalk"),
    "command": ("plugin", "{class: ringwalk, command: exec profit-worker}", "{class: ringwalk}"),
}


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_plug_in(way: str, tmp_path: Path, environment: dict[str, str]) -> None:
    which, runner, interface = WAYS[way]
    include = plugin(*(["--replace"] if which == "replace" else []))
    (tmp_path / "profit.yaml").write_text(
        STUDY.format(
            include=[include, str(HERE / "workers.py")],
            runner=runner,
            interface=interface,
            worker="ident",
        )
    )
    run = profit(tmp_path, environment, "run")
    _, errors = run.communicate()
    assert run.returncode == 0, errors
    inputs, outputs = table_of(tmp_path / "input.txt"), table_of(tmp_path / "output.txt")
    np.testing.assert_allclose(outputs["f"], inputs["u"])
    assert len(inputs) == 5


def test_a_config_in_python(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "profit.py").write_text(
        f"import sys as _sys\n_sys.path.insert(0, {str(HERE)!r})\n"
        "import workers as _workers\nimport ringwalk.adapters.profit as _drop_in\n"
        "ntrain = 5\nvariables = {'u': 'Halton()', 'f': 'Output'}\n"
        "run = {'runner': 'ringwalk', 'interface': 'ringwalk', 'worker': 'ident'}\n"
    )
    run = profit(tmp_path, environment, "run", "profit.py")
    _, errors = run.communicate()
    assert run.returncode == 0, errors
    inputs, outputs = table_of(tmp_path / "input.txt"), table_of(tmp_path / "output.txt")
    np.testing.assert_allclose(outputs["f"], inputs["u"])


def test_a_failed_run_keeps_its_line_and_profit_says_so(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "profit.yaml").write_text(
        STUDY.format(
            include=[plugin("--replace"), str(HERE / "workers.py")],
            runner="{class: fork, parallel: 2}",
            interface="memmap",
            worker="picky",
        )
    )
    run = profit(tmp_path, environment, "run")
    _, errors = run.communicate()
    assert run.returncode == 1
    assert "ValueError: too much" in errors
    inputs, outputs = table_of(tmp_path / "input.txt"), table_of(tmp_path / "output.txt")
    too_much = inputs["u"] > 0.6
    assert 0 < too_much.sum() < len(inputs)
    assert f"{too_much.sum()} runs failed: {np.flatnonzero(too_much).tolist()}" in errors
    np.testing.assert_allclose(outputs["f"], np.where(too_much, np.nan, inputs["u"]))
    assert ".interface.npy.owner" not in os.listdir(tmp_path)


def test_ctrl_c_ends_profit_and_its_workers(tmp_path: Path, environment: dict[str, str]) -> None:
    os.mkfifo(tmp_path / "pids")
    (tmp_path / "profit.yaml").write_text(
        STUDY.format(
            include=[plugin(), str(HERE / "workers.py")],
            runner="{class: ringwalk, parallel: 1}",
            interface="ringwalk",
            worker="hang",
        )
    )
    run = profit(tmp_path, environment, "run")
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    watched = [os.pidfd_open(pid) for pid in pids]
    os.killpg(run.pid, signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 1, errors
    for pidfd in watched:
        assert select.select([pidfd], [], [], 10)[0] == [pidfd]
        os.close(pidfd)
    assert ".interface.npy.owner" not in os.listdir(tmp_path)
