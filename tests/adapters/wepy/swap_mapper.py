"""A pytest plugin that puts Ringwalk's mappers in the place of wepy's, before tests bind them."""

from __future__ import annotations

import wepy.work_mapper.mapper
import wepy.work_mapper.task_mapper
import wepy.work_mapper.worker

from ringwalk.adapters.wepy import Mapper, TaskMapper, WorkerMapper

wepy.work_mapper.mapper.Mapper = Mapper
wepy.work_mapper.mapper.WorkerMapper = WorkerMapper
wepy.work_mapper.worker.WorkerMapper = WorkerMapper
wepy.work_mapper.task_mapper.TaskMapper = TaskMapper


def pytest_terminal_summary(terminalreporter) -> None:  # type: ignore[no-untyped-def]
    terminalreporter.write_line(f"mappers: {WorkerMapper.__module__}, {TaskMapper.__module__}")
