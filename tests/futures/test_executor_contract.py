"""The executor contract, on Ringwalk's executor and on the standard library's own two."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from ringwalk import Executor
from ringwalk.testing import EXECUTOR_CHECKS, Check

EXECUTORS = {
    "ringwalk": Executor,
    "processes": partial(ProcessPoolExecutor, mp_context=multiprocessing.get_context("forkserver")),
    "threads": ThreadPoolExecutor,
}


@pytest.mark.parametrize("check", EXECUTOR_CHECKS, ids=str)
@pytest.mark.parametrize("executor", EXECUTORS)
def test_contract(executor: str, check: Check) -> None:
    make: Any = EXECUTORS[executor]
    before = set(threading.enumerate())
    check(make)
    # After shutdown(wait=False) the library's pool ends in a thread of its own.
    for thread in set(threading.enumerate()) - before:
        thread.join()
