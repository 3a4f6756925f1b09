"""One piece of shared memory: made, mapped, found again, given up.

The memory is made by ``multiprocessing.shared_memory`` under a temporary name that says who made
it. Anonymous memory loses that name as soon as its descriptor is open, before it takes any space.
Named memory is filled and mapped first and then linked to the user's name, so that nobody ever sees
a half-made block. Python's resource tracker thus only ever knows the temporary name, while it
exists: it can neither warn about a block nor remove one that somebody else still uses.

Guarantees: every page exists before a segment is handed out, so a full ``/dev/shm`` is an error
here and not a SIGBUS later; the mapping lives while any array on it lives, whatever was closed.

Does not: lock, or judge what is in the memory.
"""

from __future__ import annotations

import mmap
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

from ringwalk._core import headroom
from ringwalk._core.ownership import is_owner, owner_token
from ringwalk._core.process import Undisturbed
from ringwalk.errors import ClosedError, ConfigError, HeapFullError
from ringwalk.memory.header import Header
from ringwalk.memory.owner import Owner
from ringwalk.memory.reclaim import (
    FOLDER,
    named_path,
    reclaim_named,
    reclaim_once,
    unfinished_name,
    unlink_if_same,
)

# From 3.13 the resource tracker need not be told at all. Before that, SharedMemory itself tells it
# on creation and takes it back on unlink, both of which happen within _temporary_file.
_SHARED_MEMORY_OPTIONS: dict[str, Any] = {}
# From 3.13 a mapping can do without a second descriptor of its own.
_MAP_OPTIONS: dict[str, Any] = {}
if sys.version_info >= (3, 13):
    _SHARED_MEMORY_OPTIONS["track"] = False
    _MAP_OPTIONS["trackfd"] = False
# The pages of so much memory take longer to make than asking how much there is.
_CHECK_FROM = 16 << 20


class Segment:
    """A mapping, the descriptor behind it, and in the owner of a named block the name.

    ``close`` gives up the descriptor and the name. Collecting the segment, or ending the
    interpreter, does the same. None of them unmaps anything: the mapping goes with the last
    reference to it, and arrays on it are such references.
    """

    __slots__ = ("__weakref__", "_memory", "_release", "fd")

    fd: int
    _memory: mmap.mmap | None
    _release: Callable[[], object]

    def __init__(self, fd: int, size: int, *, unlink: Path | None = None) -> None:
        """Map ``fd`` and take it over; ``unlink`` is the name that this process must remove."""
        try:
            self._memory = mmap.mmap(fd, size, **_MAP_OPTIONS)
        except BaseException:
            os.close(fd)
            raise
        self.fd = fd
        self._release = weakref.finalize(self, _give_up, fd, unlink, owner_token())

    @classmethod
    def create(cls, header: Header) -> Segment:
        """Make zeroed memory that begins with ``header``, under ``header.name`` if it has one."""
        reclaim_once()
        # A Ctrl-C would be lost in the destructor of SharedMemory, or leave a descriptor open.
        with Undisturbed():
            if header.name is None:
                return cls._anonymous(header)
            return cls._named(header, named_path(header.name))

    @classmethod
    def _anonymous(cls, header: Header) -> Segment:
        with _temporary_file(header.owner) as made:
            fd = os.open(made, os.O_RDWR | os.O_CLOEXEC)
        return cls._filled(fd, header)

    @classmethod
    def _named(cls, header: Header, target: Path) -> Segment:
        with _temporary_file(header.owner) as made:
            fd = os.open(made, os.O_RDWR | os.O_CLOEXEC)
            segment = cls._filled(fd, header, unlink=target)
            try:
                _publish(made, target)
            except BaseException:
                segment.close()
                raise
        return segment

    @classmethod
    def attach(cls, name: str) -> Segment:
        """Map the segment that another process made under ``name``."""
        path = named_path(name)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise ConfigError(
                f"cannot attach the block {name!r}: {error.strerror} ({path}); it exists from its "
                "WalkerBlock.create until its owner closes it or ends"
            ) from error
        uid = os.fstat(fd).st_uid
        if uid != os.geteuid():
            os.close(fd)
            # Whoever owns the file can cut it short, and that would kill this process.
            raise ConfigError(
                f"the block {name!r} belongs to user {uid}, not to this one ({os.geteuid()}); "
                "choose a name that nobody else uses"
            )
        return cls._map_whole(fd, f"the block {name!r}")

    @classmethod
    def from_fd(cls, fd: int) -> Segment:
        """Map the segment behind a duplicate of ``fd``."""
        try:
            duplicate = os.dup(fd)
        except OSError as error:
            raise ConfigError(
                f"cannot map descriptor {fd}: {error.strerror}; send it with SCM_RIGHTS, or name "
                "it in pass_fds, so that it is open in this process"
            ) from error
        return cls._map_whole(duplicate, f"descriptor {fd}")

    def close(self) -> None:
        """Give up the descriptor and, in the owner, the name. May be called again."""
        self._release()
        self._memory = None

    @property
    def memory(self) -> mmap.mmap:
        if self._memory is None:
            raise ClosedError("this memory was given up")
        return self._memory

    @classmethod
    def _filled(cls, fd: int, header: Header, *, unlink: Path | None = None) -> Segment:
        try:
            _allocate(fd, header.total_bytes)
            os.pwrite(fd, header.encode(), 0)
        except BaseException:
            os.close(fd)
            raise
        return cls(fd, header.total_bytes, unlink=unlink)

    @classmethod
    def _map_whole(cls, fd: int, source: str) -> Segment:
        size = os.fstat(fd).st_size
        if size == 0:
            os.close(fd)
            raise ConfigError(f"{source} is not a WalkerBlock: it has no bytes to map")
        try:
            return cls(fd, size)
        except OSError as error:
            raise ConfigError(f"{source} cannot be mapped: {error.strerror}") from error


@contextmanager
def _temporary_file(owner: Owner) -> Iterator[Path]:
    """An empty piece of shared memory that has a name for as long as the context lasts."""
    maker = SharedMemory(unfinished_name(owner), create=True, size=1, **_SHARED_MEMORY_OPTIONS)
    try:
        yield FOLDER / maker.name
    finally:
        maker.close()
        maker.unlink()


def _give_up(fd: int, unlink: Path | None, owner: int) -> None:
    # A forked child inherits this call, but the name stays its parent's.
    if unlink is not None and is_owner(owner):
        unlink_if_same(unlink, fd)
    os.close(fd)


def _allocate(fd: int, size: int) -> None:
    # A memory cgroup that is full does not refuse: the kernel kills somebody.
    if size >= _CHECK_FROM and size > headroom.available()[0]:
        headroom.refuse(size)
    try:
        os.posix_fallocate(fd, 0, size)
    except (OSError, OverflowError) as error:
        folder = os.statvfs(FOLDER)
        free = folder.f_bavail * folder.f_frsize
        raise HeapFullError(
            f"no shared memory for a block of {size:,} bytes ({error}); {FOLDER} has {free:,} "
            "free: use fewer or smaller walkers, or enlarge it (docker run --shm-size)"
        ) from error


def _publish(made: Path, target: Path) -> None:
    """Give finished memory its public name, unless a living block has it."""
    try:
        os.link(made, target)
    except FileExistsError as error:
        if reclaim_named(target):
            _publish(made, target)
            return
        raise ConfigError(
            f"{target} exists, and not from a process that has ended; close that block, attach to "
            "it with WalkerBlock.attach, or choose another name"
        ) from error
