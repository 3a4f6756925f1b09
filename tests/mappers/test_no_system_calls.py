"""While there is work, a worker makes no system call: it wakes nobody and sleeps on nothing.

From one walker on, the worker's kernel kills it at its first system call (seccomp). If the map ends
all the same, without a retry, then the first call came after the last commit: the wake-up of the
parent, which learns the rest from the worker's death.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
from typing import Any

import pytest

from ringwalk import WalkerBlock, WorkerDied, WorkerMapper

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_SECCOMP_MODE_FILTER = 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF
_KILL_PROCESS, _ALLOW = 0x80000000, 0x7FFF0000
# The clock is read for every segment: usually without a call, but that is the kernel's choice.
_CLOCK_GETTIME = {"x86_64": 228, "aarch64": 113}[platform.machine()]


def forbid_system_calls() -> None:
    """From now on, any system call but the clock's ends this process with SIGSYS."""
    instructions = (
        (_LOAD, 0, 0, 0),
        (_JUMP_IF_EQUAL, 0, 1, _CLOCK_GETTIME),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _KILL_PROCESS),
    )
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    held = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0),
    ):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")


WALKERS = 1000
FORBIDDEN_FROM = 10  # the first segments load the map and warm up


def silent(k: int, calls_at: int) -> int:
    if k == FORBIDDEN_FROM:
        forbid_system_calls()
    if k == calls_at:
        os.getppid()
    return k


def test_values() -> None:
    with WorkerMapper(silent, num_workers=1, max_retries=0) as mapper:
        assert mapper.map(range(WALKERS), [-1] * WALKERS) == list(range(WALKERS))


def test_rows() -> None:
    def add(row: Any) -> None:
        if row.index == FORBIDDEN_FROM:
            forbid_system_calls()
        row.x += 1

    with WalkerBlock(WALKERS, x=((3,), "f8")) as block:
        with WorkerMapper(add, num_workers=1, max_retries=0) as mapper:
            mapper.map(block)
        assert (block["x"] == 1).all()


def test_a_call_would_be_seen() -> None:
    with WorkerMapper(silent, num_workers=1, max_retries=0) as mapper:
        with pytest.raises(WorkerDied) as caught:
            mapper.map(range(WALKERS), [WALKERS // 2] * WALKERS)
        assert (caught.value.walker, caught.value.signal) == (WALKERS // 2, signal.SIGSYS)
