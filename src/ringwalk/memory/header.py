"""The first pages of a block's memory: everything that another process needs to use the rest.

    0        128                  192                   header_bytes        + generation_bytes
    | fixed  | front, writer word | description (text)  | generation 0 rows | generation 1 rows |

The fixed part is written once, before any other process can see the memory. The front word says
which generation is the front; only ``WalkerBlock.swap`` writes it. The writer word says whose map
writes the block, see ``writer``. Nothing else lies on their cache line.

A header is decoded from a private copy and checked against the size of its memory, so a foreign or
damaged file is refused with a reason. The checks guard against mistakes, not against an attacker
who runs as the same user.
"""

from __future__ import annotations

import ast
import mmap
import struct
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from ringwalk.errors import ConfigError
from ringwalk.memory.fields import Fields, describe_fields, fields_from, record_dtype
from ringwalk.memory.owner import Owner

MAGIC = b"RINGWALK"
VERSION = 1
FRONT_WORD = slice(128, 136)
WRITER_WORD = slice(136, 144)

# magic, version, walkers, stride, header bytes, description bytes, owner (pid, start, namespace)
_FIXED = struct.Struct("=8s8Q")
_DESCRIPTION_START = 192


@dataclass(frozen=True, slots=True)
class Header:
    """The layout of one block. Sizes follow from the fields; the stored ones only confirm them."""

    n: int
    fields: Fields
    record: np.dtype[Any]
    name: str | None
    owner: Owner
    description: bytes

    @classmethod
    def of(cls, n: int, fields: Fields, name: str | None) -> Header:
        """Lay out a new block that belongs to the calling process."""
        description = repr((name, describe_fields(fields))).encode()
        return cls(n, fields, record_dtype(fields), name, Owner.current(), description)

    @property
    def header_bytes(self) -> int:
        return _whole_pages(_DESCRIPTION_START + len(self.description))

    @property
    def generation_bytes(self) -> int:
        return _whole_pages(self.n * self.record.itemsize)

    @property
    def total_bytes(self) -> int:
        return self.header_bytes + 2 * self.generation_bytes

    def encode(self) -> bytes:
        fixed = _FIXED.pack(
            MAGIC,
            VERSION,
            self.n,
            self.record.itemsize,
            self.header_bytes,
            len(self.description),
            self.owner.pid,
            self.owner.started,
            self.owner.namespace,
        )
        return fixed.ljust(_DESCRIPTION_START, b"\0") + self.description

    @classmethod
    def decode(cls, memory: mmap.mmap, source: str) -> Header:
        """Read the header of mapped memory; ``source`` names it in the error message."""
        fixed = memory[: _FIXED.size]
        owner = read_owner(fixed)
        if owner is None:
            raise ConfigError(f"{source} is not a WalkerBlock: it does not begin with {MAGIC!r}")
        _, version, n, stride, header_bytes, length, *_ = _FIXED.unpack(fixed)
        if version != VERSION:
            raise ConfigError(
                f"{source} was laid out by version {version} and this ringwalk reads version "
                f"{VERSION}; use the same ringwalk in both processes"
            )
        description = memory[_DESCRIPTION_START : _DESCRIPTION_START + length]
        try:
            name, fields = _parse(description)
            header = cls(n, fields, record_dtype(fields), name, owner, description)
        except (ValueError, TypeError, SyntaxError) as error:
            raise ConfigError(f"the header of {source} is damaged: {error}") from error
        found = (stride, header_bytes, len(memory))
        expected = (header.record.itemsize, header.header_bytes, header.total_bytes)
        if found != expected:
            raise ConfigError(
                f"the header of {source} does not fit its memory: (row stride, header bytes, "
                f"total bytes) are {found}, its fields need {expected}; create the block again"
            )
        front = int.from_bytes(memory[FRONT_WORD], sys.byteorder)
        if front not in (0, 1):
            raise ConfigError(f"the header of {source} is damaged: its front generation is {front}")
        return header


def read_owner(head: bytes) -> Owner | None:
    """The owner that the first bytes of a header name; ``None`` if they are no header."""
    if len(head) < _FIXED.size or not head.startswith(MAGIC):
        return None
    return Owner(*_FIXED.unpack_from(head)[-3:])


def _parse(description: bytes) -> tuple[str | None, Fields]:
    name, fields = ast.literal_eval(description.decode())
    return name, fields_from(fields)


def _whole_pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
