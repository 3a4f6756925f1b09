"""The number of workers: which source wins, and what is refused."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringwalk.config import MAX_WORKERS, NUM_WORKERS_VARIABLE, resolve_num_workers, usable_cpus
from ringwalk.errors import ConfigError


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the settings of the batch job that may be running these tests out of the way."""
    for name in list(os.environ):
        if name.startswith("SLURM_") or name == NUM_WORKERS_VARIABLE:
            monkeypatch.delenv(name)


@pytest.fixture
def one_core() -> Iterator[None]:
    granted = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(granted)})
    yield
    os.sched_setaffinity(0, granted)


class Machine:
    """A /proc and a cgroup mount of our own making, in real files."""

    def __init__(self, folder: Path, memberships: str) -> None:
        self.cgroup_root = folder / "cgroup"
        self.proc = folder / "proc"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self" / "cgroup").write_text(memberships)

    def limit(self, path: str, text: str) -> None:
        file = self.cgroup_root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")

    def usable_cpus(self) -> int:
        return usable_cpus(cgroup_root=self.cgroup_root, proc=self.proc)


AFFINITY = len(os.sched_getaffinity(0))


def test_argument_wins_over_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NUM_WORKERS_VARIABLE, "5")
    assert resolve_num_workers(3) == 3


def test_environment_wins_over_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NUM_WORKERS_VARIABLE, "5")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "7")
    assert resolve_num_workers(None) == 5


def test_default_is_what_is_usable() -> None:
    assert resolve_num_workers(None) == min(usable_cpus(), MAX_WORKERS)


def test_default_is_cut_to_what_a_mapper_can_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "512")
    assert usable_cpus() == 512
    assert resolve_num_workers(None) == MAX_WORKERS


@pytest.mark.parametrize("value", [0, -1, True, False, 2.0, "2", MAX_WORKERS + 1])
def test_refused_arguments_are_shown(value: object) -> None:
    with pytest.raises(ConfigError, match=f"num_workers is {value!r}; pass an integer"):
        resolve_num_workers(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1, MAX_WORKERS])
def test_the_ends_of_the_range_are_accepted(value: int) -> None:
    assert resolve_num_workers(value) == value


@pytest.mark.parametrize("value", ["0", "-2", "two", "", "2.5", str(MAX_WORKERS + 1)])
def test_refused_environment_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(NUM_WORKERS_VARIABLE, value)
    with pytest.raises(ConfigError, match=f"{NUM_WORKERS_VARIABLE} is .*{value}.*unset it"):
        resolve_num_workers(None)


def test_slurm_cpus_per_task_wins_over_limits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = Machine(tmp_path, "0::/\n")
    machine.limit("cpu.max", "100000 100000")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", str(AFFINITY + 1))
    assert machine.usable_cpus() == AFFINITY + 1


@pytest.mark.parametrize("value", ["0", "-1", "many", ""])
def test_bad_slurm_cpus_per_task_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", value)
    with pytest.raises(ConfigError, match=f"SLURM_CPUS_PER_TASK is '{value}'"):
        usable_cpus()


@pytest.mark.usefixtures("one_core")
def test_affinity_limits() -> None:
    assert usable_cpus() == 1


def test_without_any_cgroup_affinity_is_the_limit(tmp_path: Path) -> None:
    assert usable_cpus(cgroup_root=tmp_path, proc=tmp_path) == AFFINITY


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        pytest.param({"a/b/cpu.max": "100000 100000"}, 1, id="own"),
        pytest.param({"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 50000"}, 1, id="parent"),
        pytest.param({"cpu.max": "100000 100000"}, 1, id="container-root"),
        pytest.param({"a/b/cpu.max": "10000 100000"}, 1, id="never-none"),
        pytest.param({"a/b/cpu.max": "110000 100000"}, min(2, AFFINITY), id="rounds-up"),
        pytest.param({"a/b/cpu.max": "max 100000"}, AFFINITY, id="no-limit"),
        pytest.param({"a/b/cpu.max": "99900000 100000"}, AFFINITY, id="above-affinity"),
        pytest.param({"other/cpu.max": "100000 100000"}, AFFINITY, id="not-ours"),
    ],
)
def test_version_2_quota_anywhere_above_us(
    tmp_path: Path, limits: dict[str, str], expected: int
) -> None:
    machine = Machine(tmp_path, "0::/a/b\n")
    for path, text in limits.items():
        machine.limit(path, text)
    assert machine.usable_cpus() == expected


def test_cgroup_outside_of_the_mount_still_obeys_its_root(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "0::/../outside\n")
    machine.limit("cpu.max", "100000 100000")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "cpu.max").write_text("10000 100000\n")
    assert machine.usable_cpus() == 1


@pytest.mark.parametrize(
    ("quota", "expected"), [("50000", 1), ("-1", AFFINITY)], ids=["limit", "no-limit"]
)
def test_version_1_quota(tmp_path: Path, quota: str, expected: int) -> None:
    machine = Machine(tmp_path, "5:memory:/a\n3:cpu,cpuacct:/a/b\n0::/a\n")
    machine.limit("cpu/a/cpu.cfs_quota_us", quota)
    machine.limit("cpu/a/cpu.cfs_period_us", "50000")
    assert machine.usable_cpus() == expected


def test_version_2_tree_of_a_hybrid_system_has_no_say(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "3:cpu:/\n0::/\n")
    machine.limit("cpu.max", "100000 100000")
    assert machine.usable_cpus() == AFFINITY


@pytest.mark.usefixtures("one_core")
@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"SLURM_CPUS_ON_NODE": "8"}, "SLURM_CPUS_ON_NODE=8 has 8"),
        ({"SLURM_CPUS_ON_NODE": "1", "SLURM_CPUS_PER_TASK": "4"}, "SLURM_CPUS_PER_TASK=4 has 4"),
    ],
)
def test_one_core_of_a_larger_slurm_job_is_reported(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variables: dict[str, str],
    text: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    usable_cpus()
    [record] = caplog.records
    assert (record.name, record.levelno) == ("ringwalk", logging.WARNING)
    assert text in record.getMessage()
    assert "srun -c" in record.getMessage()


@pytest.mark.usefixtures("one_core")
@pytest.mark.skipif(os.cpu_count() == 1, reason="one core is all that this machine has")
def test_one_core_of_a_larger_machine_is_reported_under_slurm_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usable_cpus()
    assert not caplog.records
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    usable_cpus()
    assert f"the machine has {os.cpu_count()}" in caplog.text


@pytest.mark.usefixtures("one_core")
@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_CPUS_ON_NODE": "1"},
        {"SLURM_CPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "1"},
    ],
    ids=["one-core-node", "one-core-asked-for"],
)
def test_one_core_that_is_meant_is_not_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert usable_cpus() == 1
    assert not caplog.records
