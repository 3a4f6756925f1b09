"""The keeper: a small process that ends marked processes when their owner is gone.

A program's parent-death signal ends one process, not what that started. So every command, and
every process of a run, carries a mark in its environment, which all that it starts inherit, a
daemon in a session of its own included. The keeper waits for its owner to end (pidfd), or to say
so (a byte on its standard input), and kills what still carries the mark.

Run as a script by a fresh interpreter, so that a kill of the owner meets nothing of the owner's:
no thread, no lock, no descriptor. It must import nothing beyond the standard library, and only what
waiting needs before there is something to kill: ``contextlib`` and ``signal`` would double the
processor time that it takes from an owner that has just begun its work, 9 ms.

    keeper.py <pid of the owner> <mark>

Does not see: a process that cleared its environment, or runs as another user.
"""

from __future__ import annotations

import os
import select
import sys

VARIABLE = "RINGWALK_COMMAND"
_MOST = 1 << 21  # bytes of an environment: what the kernel takes with a stack of 8 MiB
_LOOKS = 1000  # a millisecond apart, at a process in exec; it may be stuck there for ever


def marked(mark: str) -> dict[int, int]:
    """Living processes whose environment carries ``mark``, or one below it: pid -> open pidfd."""
    wanted = f"{VARIABLE}={mark}".encode()
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or not _carries(entry, wanted):
            continue
        try:
            pidfd = os.pidfd_open(int(entry))
        except ProcessLookupError:  # ended meanwhile
            continue
        # Asked again, now that the number cannot pass to another process unnoticed.
        if _carries(entry, wanted):
            found[int(entry)] = pidfd
        else:
            os.close(pidfd)
    return found


def kill_marked(mark: str) -> None:
    """SIGKILL until none is left: one may fork between a look and the signal."""
    while found := marked(mark):
        import contextlib
        import signal

        for pidfd in found.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        for pidfd in found.values():
            gone = select.poll()
            gone.register(pidfd, select.POLLIN)
            gone.poll(1000)
            os.close(pidfd)


def _carries(entry: str, wanted: bytes) -> bool:
    try:
        variables = _environment(entry).split(b"\0")
    except OSError:  # ended meanwhile, or not ours to look into
        return False
    return any(variable == wanted or variable.startswith(wanted + b".") for variable in variables)


def _environment(entry: str) -> bytes:
    # Empty for a zombie, so what has ended is not found; and for a while in every exec, when the
    # old program is gone and the new one is not laid out. No event tells when that is over.
    for _ in range(_LOOKS):
        with open(f"/proc/{entry}/environ", "rb", buffering=0) as file:
            data = file.read(_MOST)  # in one call: between two the program may change
        if data or not _has_another(entry):
            return data
        select.poll().poll(1)
    return b""


def _has_another(entry: str) -> bool:
    """Whether an environment that was read as empty is, or will be, something else."""
    with open(f"/proc/{entry}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    memory, code, start, end = (fields[k] for k in (20, 24, 47, 48))
    return memory != b"0" and (code == b"0" or start != end)


def main(owner: int, mark: str) -> None:
    waiting = select.poll()
    waiting.register(0, select.POLLIN)
    try:
        waiting.register(os.pidfd_open(owner), select.POLLIN)
    except ProcessLookupError:
        pass
    else:
        # An owner that ended before this was open is no longer the parent.
        if os.getppid() == owner:
            waiting.poll()
    kill_marked(mark)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
