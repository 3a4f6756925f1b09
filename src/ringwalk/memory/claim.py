"""One owner for a file: a small text beside it says who, and refuses everybody else.

    study/interface.npy
    study/.interface.npy.owner      {"pid": 123, "started": ..., "namespace": ..., "host": ...}

The text appears whole (made under another name, then linked) and goes when the owner lets go of it
or its interpreter ends. After a kill it stays, and the next one who asks finds its owner dead; so
does one under the other name, which says who made it.

Guarantee: of those on one machine who ask at once, one gets it. On a file system that several
machines share, an owner on another machine counts as alive, because nobody can tell.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import socket
import time
import weakref
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ringwalk._core.ownership import is_owner, owner_token
from ringwalk.errors import BusyError, ConfigError
from ringwalk.memory.owner import Owner
from ringwalk.memory.reclaim import unlink_if_same


@dataclass(frozen=True, slots=True)
class _Record:
    pid: int
    started: int
    namespace: int
    host: str
    since: str

    @classmethod
    def current(cls) -> _Record:
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        return cls(**asdict(Owner.current()), host=socket.gethostname(), since=now)

    def is_dead(self) -> bool:
        owner = Owner(self.pid, self.started, self.namespace)
        return self.host == socket.gethostname() and owner.is_dead()


class Claim:
    """This process's ownership of ``path``, until ``release``, collection or exit.

    Raises:
        BusyError: a living process owns it; the message says which.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f".{path.name}.owner")
        fd = _take(self._path, path)
        self.release = weakref.finalize(self, _release, self._path, fd, owner_token())
        """Let go of the file. Idempotent; a forked child leaves its parent's claim alone."""


def _take(claim: Path, path: Path) -> int:
    _reclaim_unfinished(claim)
    record = _Record.current()
    made = claim.with_name(_unfinished_name(claim.name, record))
    fd = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, json.dumps(asdict(record)).encode())
        while True:
            try:
                os.link(made, claim)
            except FileExistsError:
                _evict(claim, path)
            else:
                return fd
    except BaseException:
        os.close(fd)
        raise
    finally:
        made.unlink()


def _unfinished_name(claim: str, record: _Record) -> str:
    # Threads share a process id, hence the random end.
    maker = f"{record.pid}-{record.started}-{record.namespace}-{record.host}"
    return f"{claim}-{maker}-{secrets.token_hex(8)}"


def _reclaim_unfinished(claim: Path) -> None:
    """Remove what those who made a claim on the same file were killed over."""
    ours = re.compile(re.escape(claim.name) + r"-(\d+)-(\d+)-(\d+)-(.+)-[0-9a-f]{16}")
    for name in os.listdir(claim.parent):
        if found := ours.fullmatch(name):
            pid, started, namespace, host = found.groups()
            if _Record(int(pid), int(started), int(namespace), host, since="").is_dead():
                claim.with_name(name).unlink(missing_ok=True)  # another may be at it, too


def _evict(claim: Path, path: Path) -> None:
    """Remove a dead owner's claim, or raise."""
    try:
        fd = os.open(claim, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        # Of two who find it dead, the second must not remove what the first has put there since.
        fcntl.flock(fd, fcntl.LOCK_EX)
        holder = _read(fd, claim)
        if not holder.is_dead():
            raise BusyError(
                f"{path} belongs to process {holder.pid} on {holder.host}, since {holder.since}: "
                "wait for it or end it, or use another folder. Nothing of it was changed"
                + ("" if holder.host == socket.gethostname() else _ELSEWHERE.format(claim))
            )
        unlink_if_same(claim, fd)
    finally:
        os.close(fd)


_ELSEWHERE = ". If that machine has lost it, remove {}"


def _read(fd: int, claim: Path) -> _Record:
    try:
        return _Record(**json.loads(os.pread(fd, 4096, 0)))
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{claim} does not say who owns the table ({error}); remove it if nobody does"
        ) from error


def _release(claim: Path, fd: int, owner: int) -> None:
    if is_owner(owner):
        with suppress(OSError):  # the folder itself may be gone
            unlink_if_same(claim, fd)
    os.close(fd)
