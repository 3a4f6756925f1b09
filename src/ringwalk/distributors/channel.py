"""What a distributor tells its supervisor: numbered messages over an unnamed socket pair.

A message is one packet, so it is sent whole or not at all. A sender that was interrupted cannot
know which, and sends it again; the receiver drops the number that it has seen. What is too long
for a packet travels as a memory file.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from socket import socket
from typing import NamedTuple, TypeAlias

from ringwalk.distributors.journal import SINGLE
from ringwalk.workers.messages import receive_packet, send_packet

_MOST = 32_000  # bytes in a packet; beyond, the descriptor of a memory file goes instead


class Submit(NamedTuple):
    """One command, or the same for each step of an array.

    Attributes:
        job: its number, unique across runs; the ids derive from it.
        environ: what the whole environment is from now on, as the kernel takes it; None where it
            did not change.
        extra: variables of this job on top of it.
    """

    job: int
    steps: Sequence[int] | None
    command: str | list[str]
    environ: list[bytes] | None
    extra: dict[str, str]
    cwd: str
    stdout: str | None
    stderr: str | None

    def ids(self) -> dict[str, int]:
        """Each id with its step; ``SINGLE`` if this is no array."""
        if self.steps is None:
            return {str(self.job): SINGLE}
        return {f"{self.job}_{step}": step for step in self.steps}


class Terminate(NamedTuple):
    """Drop these from the queue, end those that run."""

    ids: list[str]


class Stop(NamedTuple):
    """Drop and end all, then leave; ``grace`` seconds between SIGTERM and SIGKILL."""

    grace: float


Word: TypeAlias = Submit | Terminate | Stop
# A word travels as a bare tuple, with the place of its class here: to pickle a class and to find it
# again takes longer than all the rest.
_WORDS = (Submit, Terminate, Stop)


def say(channel: socket, number: int, word: Word) -> None:
    """Send one message. Raises BlockingIOError when the receiver has not kept up."""
    what = (number, _WORDS.index(type(word)), *word)
    data = pickle.dumps(what, pickle.HIGHEST_PROTOCOL)
    if len(data) <= _MOST:
        send_packet(channel, data)
        return
    memory = os.memfd_create("ringwalk-message", os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(data)
        send_packet(channel, b"@", memory)
    finally:
        os.close(memory)


def hear(channel: socket) -> tuple[int, Word] | None:
    """The next message; None when there is none now, or when nobody will send one."""
    packet = receive_packet(channel, wait=False)
    if packet is None:
        return None
    data, memory = packet
    if memory is not None:
        with open(memory, "rb") as file:
            file.seek(0)
            data = file.read()
    number, which, *fields = pickle.loads(data)
    return number, _WORDS[which](*fields)
