"""The small messages that go over unnamed socket pairs, each one packet.

parent <-> template (one pair a pool)
    SPAWN worker, QUIT            parent to template
    SPAWNED worker pid (+ pidfd)  template to parent
    EXITED worker status          template to parent, after it reaped the worker
    REFUSED text                  template to parent: it cannot fork
    UNSAFE                        template to parent: unpickling gave it threads, and it ends

parent <-> worker (one pair a slot)
    READY, INIT_FAILED pickle     worker to parent
    WANT block                    worker to parent
    HAVE block (+ fd)             parent to worker

runner <-> process of a run (one pair a process)
    RUN id                        runner to process
    RAN id 0                      process to runner, when it succeeded
    RAN id 1 text                 process to runner: the error, a null character, its traceback

What a distributor tells its supervisor goes over such a pair as well, as packets of other form: see
``ringwalk.distributors.channel``.
"""

from __future__ import annotations

import errno
import socket
import struct
from enum import IntEnum

_HEAD = struct.Struct("<Bqq")
_FD = struct.Struct("i")
_MOST = 60_000  # bytes of text: well below what a socket takes in one packet
_PACKET = _HEAD.size + _MOST
_RIGHTS = socket.CMSG_SPACE(_FD.size)
# Plain numbers: to combine the flags takes as long as to receive.
_WAIT = int(socket.MSG_CMSG_CLOEXEC)
_NO_WAIT = _WAIT | int(socket.MSG_DONTWAIT)
_TRUNCATED = int(socket.MSG_CTRUNC)


class Kind(IntEnum):
    SPAWN = 1
    QUIT = 2
    SPAWNED = 3
    EXITED = 4
    REFUSED = 5
    READY = 6
    INIT_FAILED = 7
    WANT = 8
    HAVE = 9
    RUN = 10
    RAN = 11
    UNSAFE = 12


class Message:
    """One packet: a kind, two numbers, bytes, and at most one descriptor."""

    __slots__ = ("body", "fd", "first", "kind", "second")

    def __init__(
        self, kind: Kind, first: int = 0, second: int = 0, body: bytes = b"", fd: int | None = None
    ) -> None:
        self.kind = kind
        self.first = first
        self.second = second
        self.body = body
        self.fd = fd


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def pairs(count: int) -> list[tuple[socket.socket, socket.socket]]:
    """All of them, or an OSError and none."""
    made: list[tuple[socket.socket, socket.socket]] = []
    try:
        for _ in range(count):
            made.append(pair())
    except BaseException:
        for ends in made:
            for end in ends:
                end.close()
        raise
    return made


# Not socket.send_fds and recv_fds: before Python 3.12 they ignore their flags.


def send(channel: socket.socket, message: Message) -> None:
    """Send one message. Raises OSError when the peer is gone."""
    head = _HEAD.pack(message.kind, message.first, message.second)
    send_packet(channel, head + message.body[:_MOST], message.fd)


def receive(channel: socket.socket, *, wait: bool) -> Message | None:
    """The next message; None when there is none now, or when the peer is gone.

    Raises OSError with EMFILE when its descriptor found no room here: that message is lost.
    """
    packet = receive_packet(channel, wait=wait)
    if packet is None:
        return None
    data, fd = packet
    number, first, second = _HEAD.unpack_from(data)
    return Message(Kind(number), first, second, data[_HEAD.size :], fd)


def send_packet(channel: socket.socket, data: bytes, fd: int | None = None) -> None:
    """Send bytes, not none, and perhaps a descriptor. Raises OSError when the peer is gone."""
    if fd is None:
        channel.send(data, socket.MSG_NOSIGNAL)
    else:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _FD.pack(fd))]
        channel.sendmsg([data], rights, socket.MSG_NOSIGNAL)


def receive_packet(channel: socket.socket, *, wait: bool) -> tuple[bytes, int | None] | None:
    """Bytes and a descriptor, or as ``receive``."""
    try:
        data, rights, happened, _ = channel.recvmsg(_PACKET, _RIGHTS, _WAIT if wait else _NO_WAIT)
    except (BlockingIOError, ConnectionResetError):
        return None
    if not data:
        return None
    if happened & _TRUNCATED:
        raise OSError(
            errno.EMFILE,
            "no room for a descriptor that another process sent; raise the limit on open files "
            "(ulimit -n)",
        )
    fd = None
    for level, kind, packed in rights:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            (fd,) = _FD.unpack(packed[: _FD.size])
    return data, fd
