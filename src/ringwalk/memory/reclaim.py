"""The names of shared memory, and clearing away those whose owner died.

    /dev/shm/ringwalk-<pid>-<start>-<pid namespace>-<random>   while a segment is being made
    /dev/shm/ringwalk.<name>                                   a named block; the owner is inside

Guarantees: nothing that belongs to a living process is removed, nor anything that merely looks
like ours; a foreign file under our prefix is left where it is and never raises.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
from functools import cache
from pathlib import Path

from ringwalk.errors import ConfigError
from ringwalk.memory.header import read_owner
from ringwalk.memory.owner import Owner

FOLDER = Path("/dev/shm")

_NAMED_PREFIX = "ringwalk."
_UNFINISHED = re.compile(r"ringwalk-(\d+)-(\d+)-(\d+)-[0-9a-f]+")
_ALLOWED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_HEAD_BYTES = 128


def unfinished_name(owner: Owner) -> str:
    """A fresh name for memory in the making, from which a later process can tell its maker."""
    return f"ringwalk-{owner.pid}-{owner.started}-{owner.namespace}-{secrets.token_hex(8)}"


def named_path(name: str) -> Path:
    """Where the block that a user calls ``name`` lies."""
    if not isinstance(name, str) or not _ALLOWED.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot name a block; use up to 200 letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit"
        )
    return FOLDER / (_NAMED_PREFIX + name)


@cache
def reclaim_once() -> None:
    """Remove what dead processes left, the first time that this process makes a block."""
    reclaim()


def reclaim() -> list[Path]:
    """Remove what dead processes left; return what this call removed."""
    return [path for path in _ours() if _remove(path)]


def find_left() -> list[Path]:
    """What ``reclaim`` would remove now."""
    return [path for path in _ours() if (owner := _owner_of(path)) is not None and owner.is_dead()]


def _ours() -> list[Path]:
    """What has a name of ours, in a fixed order, whosever it is."""
    names = (entry for entry in os.listdir(FOLDER) if _is_our_name(entry))
    return [FOLDER / name for name in sorted(names)]


def _is_our_name(entry: str) -> bool:
    return entry.startswith(_NAMED_PREFIX) or _UNFINISHED.fullmatch(entry) is not None


def _remove(path: Path) -> bool:
    if path.name.startswith(_NAMED_PREFIX):
        return reclaim_named(path)
    # Nobody but the maker knows or keeps this name, so no lock is needed to judge it.
    owner = _owner_of(path)
    if owner is None or not owner.is_dead():
        return False
    try:
        path.unlink()
    except OSError:
        return False
    return True


def _owner_of(path: Path) -> Owner | None:
    if unfinished := _UNFINISHED.fullmatch(path.name):
        return Owner(*map(int, unfinished.groups()))
    try:
        fd = _opened(path)
    except OSError:
        return None
    try:
        return read_owner(os.pread(fd, _HEAD_BYTES, 0)) if _is_file(fd) else None
    finally:
        os.close(fd)


def _opened(path: Path) -> int:
    # Without O_NONBLOCK the open of a stray FIFO would wait for a writer.
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)


def reclaim_named(path: Path) -> bool:
    """Remove a named block if its owner is dead; true if this call removed it.

    Two processes may find the same dead block, and the first may already have put a living one
    in its place when the second removes it. So each locks the file that it judged, and removes
    the name only while it still leads to that file: nobody else may then take the name, since a
    block is published only under a free one.
    """
    try:
        fd = _opened(path)
    except OSError:
        return False
    try:
        owner = read_owner(os.pread(fd, _HEAD_BYTES, 0)) if _is_file(fd) else None
        if owner is None or not owner.is_dead():
            return False
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return unlink_if_same(path, fd)
    except OSError:
        # Locked means that another process is removing it right now.
        return False
    finally:
        os.close(fd)


def unlink_if_same(path: Path, fd: int) -> bool:
    """Remove ``path`` if it still leads to the open file ``fd``; true if it did."""
    try:
        if not os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd)):
            return False
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _is_file(fd: int) -> bool:
    return stat.S_ISREG(os.fstat(fd).st_mode)
