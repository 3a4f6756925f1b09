"""Mappers: one contract, four ways to run the segments."""

from __future__ import annotations

from ringwalk.mappers.base import Mapper
from ringwalk.mappers.serial import SerialMapper
from ringwalk.mappers.task import TaskMapper
from ringwalk.mappers.thread import ThreadMapper
from ringwalk.mappers.worker import WorkerMapper

__all__ = ["Mapper", "SerialMapper", "TaskMapper", "ThreadMapper", "WorkerMapper"]
