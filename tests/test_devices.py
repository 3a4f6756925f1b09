"""Devices: what was granted, what was asked for, and what a worker then sees."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from ringwalk.errors import ConfigError
from ringwalk.workers.devices import (
    VARIABLES,
    Device,
    bind_device,
    device_for,
    resolve_devices,
)


@pytest.fixture(autouse=True)
def nothing_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def two_gpus(tmp_path: Path) -> Path:
    """A /proc of a machine with two NVIDIA GPUs."""
    for bus_id in ("0000:07:00.0", "0000:0b:00.0"):
        (tmp_path / "driver" / "nvidia" / "gpus" / bus_id).mkdir(parents=True)
    return tmp_path


def visible(devices: tuple[Device, ...] | None) -> list[str]:
    assert devices is not None
    return [device.visible for device in devices]


def labels(devices: tuple[Device, ...] | None) -> list[int | str]:
    assert devices is not None
    return [device.label for device in devices]


def test_none_binds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert resolve_devices(None) is None
    assert device_for(3, None) is None


@pytest.mark.parametrize(
    ("value", "entries"),
    [
        ("4,7", ["4", "7"]),
        (" 4 , 7 ", ["4", "7"]),
        ("GPU-8932f937,MIG-a1b2", ["GPU-8932f937", "MIG-a1b2"]),
        ("0,-1,2", ["0"]),
    ],
    ids=["indices", "spaces", "uuids", "stops-at-invalid"],
)
def test_auto_takes_the_granted_list(
    monkeypatch: pytest.MonkeyPatch, two_gpus: Path, value: str, entries: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    devices = resolve_devices("auto", proc=two_gpus)
    assert visible(devices) == entries
    assert labels(devices) == list(range(len(entries)))


def test_auto_counts_the_machine_where_nothing_was_granted(two_gpus: Path) -> None:
    assert resolve_devices("auto", proc=two_gpus) == (Device(0, "0"), Device(1, "1"))


@pytest.mark.parametrize("value", ["", "NoDevFiles", "-1"])
def test_auto_does_not_take_what_was_withheld(
    monkeypatch: pytest.MonkeyPatch, two_gpus: Path, value: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    with pytest.raises(ConfigError, match=f"CUDA_VISIBLE_DEVICES is '{value}'.*devices=None"):
        resolve_devices("auto", proc=two_gpus)


def test_auto_without_any_gpu_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"found no GPU.*devices=None.*set CUDA_VISIBLE_DEVICES"):
        resolve_devices("auto", proc=tmp_path)


@pytest.mark.parametrize("variable", VARIABLES[1:])
def test_other_vendors_lists_are_read_and_bound(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "2,3")
    assert resolve_devices([1]) == (Device(1, "3", variable),)


def test_cuda_variable_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "5")
    assert resolve_devices("auto") == (Device(0, "5", "CUDA_VISIBLE_DEVICES"),)


def test_integers_are_positions_in_the_granted_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    devices = resolve_devices([1, 0])
    assert visible(devices) == ["7", "4"]
    assert labels(devices) == [1, 0]


def test_integers_stand_for_themselves_where_nothing_was_granted() -> None:
    assert resolve_devices(range(2)) == (Device(0, "0"), Device(1, "1"))


def test_strings_are_entries_of_the_granted_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert resolve_devices(["7"]) == (Device("7", "7"),)


def test_uuid_is_taken_at_its_word_beside_granted_indices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert resolve_devices(["GPU-8932f937"]) == (Device("GPU-8932f937", "GPU-8932f937"),)


@pytest.mark.parametrize(
    ("value", "devices"),
    [("4,7", [2]), ("4,7", ["0"]), ("GPU-a", ["GPU-b"]), ("", [0]), ("NoDevFiles", ["GPU-a"])],
)
def test_devices_that_were_not_granted_are_refused(
    monkeypatch: pytest.MonkeyPatch, value: str, devices: Sequence[int | str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    with pytest.raises(ConfigError, match=f"{devices[0]!r}.*CUDA_VISIBLE_DEVICES='{value}' grants"):
        resolve_devices(devices)


@pytest.mark.parametrize(
    "devices",
    [[], [-1], [True], [0.0], [None], [""], ["-1"], ["0,1"], ["NoDevFiles"], "0,1", "all", b"0", 2],
    ids=repr,
)
def test_what_is_no_list_of_devices_is_refused(devices: object) -> None:
    with pytest.raises(ConfigError, match="pass a list such as"):
        resolve_devices(devices)  # type: ignore[arg-type]


def test_duplicates_are_refused_however_they_are_spelt(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="'1' twice"):
        resolve_devices([0, 1, 1])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    with pytest.raises(ConfigError, match="'7' twice, as 1 and '7'"):
        resolve_devices([1, "7"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,3")
    with pytest.raises(ConfigError, match="'3' twice"):
        resolve_devices("auto")


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_workers_share_devices_evenly(workers: int) -> None:
    devices = resolve_devices([0, 1, 2])
    load = Counter(device_for(worker, devices) for worker in range(workers))
    assert None not in load
    assert len(load) == min(workers, 3)
    assert max(load.values()) - min(load.values()) <= 1


def test_bound_process_and_its_children_see_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    device = device_for(1, resolve_devices("auto"))
    assert device is not None
    bind_device(device)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    child = [sys.executable, "-c", "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"]
    assert subprocess.check_output(child, text=True) == "7\n"
    # A mapper inside a bound worker starts from that one device.
    assert resolve_devices([0]) == (Device(0, "7"),)
