"""WalkerBlock between processes: names, descriptors, forks, killed owners, quiet exits.

Every child runs with warnings as errors and must leave standard error empty; that would show the
complaints of Python's resource tracker and of finalisers too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ringwalk.errors import ConfigError
from ringwalk.memory import WalkerBlock
from ringwalk.memory.fields import FieldSpec
from ringwalk.memory.owner import Owner

SHM = Path("/dev/shm")
PRELUDE = "import os, sys\nfrom ringwalk.memory import WalkerBlock\n"


def command(script: str, *arguments: object) -> list[str]:
    return [sys.executable, "-W", "error", "-c", PRELUDE + script, *map(str, arguments)]


def run(script: str, *arguments: object, pass_fds: tuple[int, ...] = ()) -> str:
    """Run ``script`` in a fresh interpreter to its quiet end; what it printed."""
    done = subprocess.run(
        command(script, *arguments), capture_output=True, text=True, pass_fds=pass_fds
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def name() -> Iterator[str]:
    """A block name that no other run uses; it must be free again afterwards."""
    unique = f"test-{os.getpid()}"
    yield unique
    assert [entry for entry in os.listdir(SHM) if f"-{os.getpid()}" in entry] == []


@pytest.fixture
def owner(name: str) -> Iterator[subprocess.Popen[str]]:
    """A living process that owns a block called ``name`` with weights 1."""
    script = """
block = WalkerBlock.create(3, {"weight": "f8"}, name=sys.argv[1])
block["weight"] = 1
print("ready", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        command(script, name),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()
    WalkerBlock.create(0, {"unused": "i1"}, name=name).close()


ATTACHER = """
what, way = sys.argv[1:]
block = WalkerBlock.attach(what) if way == "name" else WalkerBlock.from_fd(int(what))
assert block["positions"].tolist() == [[[0, 1, 2]], [[3, 4, 5]]], block["positions"]
assert block["kind"].dtype == [("id", ">u2"), ("tag", "S3")]
block.begin(1).positions += 0.5
block.begin(0)
block[0].kind = (7, b"abc")
block.begin(0)
block.swap()
print(block.name)
"""


@pytest.mark.parametrize("way", ["name", "descriptor"])
def test_another_process_attaches_and_changes_the_walkers(name: str, way: str) -> None:
    kind = np.dtype([("id", ">u2"), ("tag", "S3")])
    fields: dict[str, FieldSpec] = {"positions": ((1, 3), "f4"), "kind": kind}
    with WalkerBlock.create(2, fields, name=name) as block:
        block["positions"] = np.arange(6).reshape(2, 1, 3)
        argument = name if way == "name" else block.fileno()
        output = run(ATTACHER, argument, way, pass_fds=(block.fileno(),))
        assert output == f"{name}\n"
        assert block["positions"].tolist() == [[[0, 1, 2]], [[3.5, 4.5, 5.5]]]
        assert block[0].kind.tolist() == (7, b"abc")
        assert WalkerBlock.attach(name).fields == block.fields
        assert (SHM / f"ringwalk.{name}").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="No such file"):
        WalkerBlock.attach(name)


def test_a_name_is_taken_while_its_owner_lives(name: str, owner: subprocess.Popen[str]) -> None:
    with pytest.raises(ConfigError, match="choose another name"):
        WalkerBlock.create(1, {"a": "f8"}, name=name)
    run('WalkerBlock(1, a="f8")\nWalkerBlock.attach(sys.argv[1]).close()', name)
    assert WalkerBlock.attach(name)["weight"].tolist() == [1, 1, 1]
    _, errors = owner.communicate()
    assert errors == ""
    with pytest.raises(ConfigError, match="No such file"):
        WalkerBlock.attach(name)


def test_the_block_of_a_killed_owner_goes_with_the_next_first_block(
    name: str, owner: subprocess.Popen[str]
) -> None:
    attached = WalkerBlock.attach(name)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert (SHM / f"ringwalk.{name}").exists()
    run('WalkerBlock(1, a="f8")')
    assert not (SHM / f"ringwalk.{name}").exists()
    assert attached["weight"].tolist() == [1, 1, 1]


def test_the_name_of_a_killed_owner_can_be_used_again(
    name: str, owner: subprocess.Popen[str]
) -> None:
    WalkerBlock(1, a="f8")
    owner.send_signal(signal.SIGKILL)
    # Not waited for: a zombie must count as dead.
    os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
    with WalkerBlock.create(2, {"weight": "f4"}, name=name) as block:
        assert WalkerBlock.attach(name).fields == block.fields
        assert block["weight"].tolist() == [0, 0]


def test_reclaiming_spares_the_living_and_the_foreign_and_takes_half_made_blocks(
    name: str,
) -> None:
    me = Owner.current()
    dead = subprocess.Popen(["true"])
    dead.wait()
    stale = SHM / f"ringwalk-{dead.pid}-1-{me.namespace}-{os.getpid()}"
    spared = [
        SHM / f"ringwalk-{me.pid}-{me.started}-{me.namespace}-{os.getpid()}",
        SHM / f"ringwalk-{dead.pid}-1-{me.namespace + 1}-{os.getpid()}",
        SHM / f"ringwalk-garbage-{name}",
        SHM / f"ringwalk.{name}-empty",
        SHM / f"ringwalk.{name}-text",
    ]
    fifo, link = SHM / f"ringwalk.{name}-fifo", SHM / f"ringwalk.{name}-link"
    for path in (stale, *spared):
        path.touch()
    spared[-1].write_bytes(b"RINGWALK" + b"\xff" * 200)
    os.mkfifo(fifo)
    link.symlink_to(spared[-1])
    try:
        run('WalkerBlock(1, a="f8")')
        assert not stale.exists()
        assert all(path.exists() for path in (*spared, fifo, link))
    finally:
        for path in (stale, *spared, fifo, link):
            path.unlink(missing_ok=True)


def test_an_owner_counts_as_dead_only_when_certain() -> None:
    me = Owner.current()
    assert not me.is_dead()
    assert Owner(me.pid, me.started + 1, me.namespace).is_dead()
    assert not Owner(me.pid, me.started + 1, me.namespace + 1).is_dead()
    assert not Owner(2**63, 1, me.namespace).is_dead()


@pytest.mark.slow
def test_a_forked_child_uses_the_block_and_leaves_the_name(name: str) -> None:
    script = """
block = WalkerBlock.create(2, {"weight": "f8"}, name=sys.argv[1])
child = os.fork()
if child == 0:
    block.begin(0).weight = 5
    block.swap()
    if sys.argv[2] == "close":
        block.close()
    sys.exit()  # runs the finalisers that the child inherited
assert os.waitpid(child, 0)[1] == 0
assert block["weight"].tolist() == [5, 0]
WalkerBlock.attach(sys.argv[1]).close()
"""
    run(script, name, "close")
    run(script, name, "exit")


@pytest.mark.slow
def test_arrays_outlive_close_and_collection_and_exit_quietly(name: str) -> None:
    script = """
import gc
source = WalkerBlock(2, a=(3, "f8"))
kept = []
for make in (
    lambda: WalkerBlock(2, a=(3, "f8")),
    lambda: WalkerBlock.create(2, {"a": (3, "f8")}, name=sys.argv[1]),
    lambda: WalkerBlock.from_fd(source.fileno()),
    lambda: source.take([0, 1]),
):
    for leave in ("close", "collect"):
        block = make()
        column, row = block["a"], block[1]
        if leave == "close":
            block.close()
        del block
        gc.collect()
        column[:] = 4
        assert row.a.tolist() == [4, 4, 4]
        kept.append((column, row))  # alive at exit
assert not [entry for entry in os.listdir("/dev/shm") if sys.argv[1] in entry]
"""
    run(script, name)


def damage(offset: int, data: bytes) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(data)

    return apply


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damage(0, b"nonsense"), "not a WalkerBlock"),
        (damage(8, b"\2"), "version 2"),
        (damage(16, b"\xff\xff"), "does not fit"),
        (damage(24, b"\1"), "does not fit"),
        (damage(128, b"\2"), "front generation is 2"),
        (damage(192, b"(((("), "damaged"),
        (lambda path: os.truncate(path, 5000), "does not fit"),
        (lambda path: os.truncate(path, 10), "not a WalkerBlock"),
        (lambda path: os.truncate(path, 0), "no bytes"),
    ],
)
def test_attaching_checks_the_header(
    name: str, spoil: Callable[[Path], None], message: str
) -> None:
    block = WalkerBlock.create(2, {"a": "f8"}, name=name)
    fd = block.fileno()
    # From here on the block itself may not be read: part of its memory may be gone.
    spoil(SHM / f"ringwalk.{name}")
    with pytest.raises(ConfigError, match=message):
        WalkerBlock.attach(name)
    with pytest.raises(ConfigError, match=message):
        WalkerBlock.from_fd(fd)
    block.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_block_of_another_user_is_refused(name: str) -> None:
    with WalkerBlock.create(1, {"a": "f8"}, name=name):
        os.chown(SHM / f"ringwalk.{name}", 12345, -1)
        with pytest.raises(ConfigError, match="belongs to user 12345"):
            WalkerBlock.attach(name)


def test_descriptors_and_names_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="descriptor 9999"):
        WalkerBlock.from_fd(9999)
    (tmp_path / "file").write_bytes(b"x" * 8192)
    with open(tmp_path / "file", "rb") as file, pytest.raises(ConfigError, match="mapped"):
        WalkerBlock.from_fd(file.fileno())
    with open(tmp_path / "file", "r+b") as file, pytest.raises(ConfigError, match="not a Walker"):
        WalkerBlock.from_fd(file.fileno())
    for name in ("", "a/b", ".hidden", "a b", "x" * 201, 7):
        with pytest.raises(ConfigError, match="cannot name a block"):
            WalkerBlock.create(1, {"a": "f8"}, name=name)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="cannot name a block"):
            WalkerBlock.attach(name)  # type: ignore[arg-type]
