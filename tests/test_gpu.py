"""Mappers on a real GPU: a context a worker, none in the parent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringwalk import Mapper, Row, WalkerBlock

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not os.path.exists("/dev/nvidiactl"), reason="no NVIDIA driver: /dev/nvidiactl"
    ),
]


def nvidia_files() -> list[str]:
    """Open handles on NVIDIA devices: a process with a CUDA context has some."""
    found = []
    for fd in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(fd)
        except FileNotFoundError:  # the one that lists the folder
            continue
        if target.startswith("/dev/nvidia"):
            found.append(target)
    return found


def make_context(device: Any) -> Any:
    torch = pytest.importorskip("torch", reason="torch with CUDA runs the segments")
    assert torch.cuda.device_count() == 1, "a worker sees its one device"
    return torch.ones(1000, device="cuda")


def scale(row: Row, context: Any, device: Any) -> int:
    import torch

    on_card = torch.as_tensor(np.array(row.x), device="cuda") * context
    row.x = (on_card * 2).cpu().numpy()
    assert nvidia_files()
    return int(device)


def test_segments_run_on_the_card_and_the_parent_stays_clean(process_mapper: type[Mapper]) -> None:
    pytest.importorskip("torch", reason="torch with CUDA runs the segments")
    with WalkerBlock(4, x=((1000,), "f4")) as block:
        block["x"] = 3.0
        with process_mapper(scale, num_workers=2, devices=[0], worker_init=make_context) as mapper:
            assert mapper.map(block) == [0] * 4
            assert mapper.map(block) == [0] * 4
        assert (block["x"] == 12.0).all()
    assert nvidia_files() == []
