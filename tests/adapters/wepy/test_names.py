"""Every public name of the modules that the adapter replaces can be imported from it."""

from __future__ import annotations

from types import FunctionType, ModuleType
from typing import Any

import pytest
import wepy.work_mapper.mapper
import wepy.work_mapper.task_mapper

import ringwalk.adapters.wepy as adapter


def of_work_mapper(value: Any) -> bool:
    """Whether it is a class or function of wepy's two modules, not something that they import."""
    return getattr(value, "__module__", "").startswith("wepy.work_mapper")


@pytest.mark.parametrize(
    "module",
    [wepy.work_mapper.mapper, wepy.work_mapper.task_mapper],
    ids=["mapper", "task_mapper"],
)
def test_scripts_change_nothing_but_the_module(module: ModuleType) -> None:
    names = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and isinstance(value, (type, FunctionType, str))
        and (isinstance(value, str) or of_work_mapper(value))
    }
    assert {"Task", "TaskException"} <= names
    assert names <= set(dir(adapter))
    for name in names:
        assert getattr(adapter, name) is not None


def test_what_is_not_replaced_is_wepys_own() -> None:
    for name in ("Worker", "Task", "ABCMapper", "WrapperException"):
        assert getattr(adapter, name) is getattr(wepy.work_mapper.mapper, name)
    assert adapter.WalkerTaskProcess is wepy.work_mapper.task_mapper.WalkerTaskProcess
