"""Fork and parent-death signal: the child is the interpreter's, and dies with its parent."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from typing import Any

import pytest

from ringwalk._core import process
from ringwalk._core.process import die_with_parent


def script(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)


def test_fork_runs_the_interpreters_hooks() -> None:
    done = script(
        "import os\n"
        "from ringwalk._core.process import fork\n"
        "os.register_at_fork(before=lambda: os.write(1, b'before '),\n"
        "    after_in_parent=lambda: os.write(1, b'parent '),\n"
        "    after_in_child=lambda: os.write(1, b'child '))\n"
        "pid = fork()\n"
        "if pid == 0: os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    assert (done.returncode, done.stderr) == (0, "")
    words = done.stdout.split()
    assert words[0] == "before"
    assert sorted(words) == ["7", "before", "child", "parent"]


def test_fork_does_not_warn_of_other_threads() -> None:
    done = script(
        "import os, threading, warnings\n"
        "from ringwalk._core.process import fork\n"
        "warnings.simplefilter('error')\n"
        "over = threading.Event()\n"
        "thread = threading.Thread(target=over.wait)\n"
        "thread.start()\n"
        "pid = fork()\n"
        "if pid == 0: os._exit(threading.active_count())\n"
        "over.set()\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_a_refused_fork_is_an_error(fork: Any) -> None:
    def body() -> None:
        if os.getuid() == 0:  # the limit does not hold for root
            os.setuid(65534)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        with pytest.raises(OSError, match="fork failed") as caught:
            process.fork()
        assert caught.value.errno == errno.EAGAIN

    assert fork(body).join() == 0


def test_no_fork_while_the_interpreter_shuts_down() -> None:
    done = script(
        "import sys\n"
        "from ringwalk._core.process import fork\n"
        "class Last:\n"
        "    def __del__(self, write=__import__('os').write, fork=fork):\n"
        "        try: fork()\n"
        "        except RuntimeError as error: write(1, str(error).encode())\n"
        "last = Last()\n"
    )
    assert done.returncode == 0
    assert done.stdout == "the interpreter is shutting down: no process can be forked now"


def family(fork: Any, grandchild: Any) -> Any:
    """A child that forks the grandchild and waits to be killed."""

    def body() -> None:
        parent = os.getpid()
        if process.fork() == 0:
            try:
                grandchild(parent)
            finally:
                os._exit(0)
        signal.pause()

    return fork(body)


def test_a_process_dies_with_its_parent(fork: Any, pipe: tuple[int, int]) -> None:
    source, end = pipe

    def grandchild(parent: int) -> None:
        assert die_with_parent(parent)
        os.write(end, b"armed")
        while True:
            signal.pause()

    child = family(fork, grandchild)
    os.close(end)
    assert os.read(source, 5) == b"armed"
    child.kill()
    # The end of the file says that the grandchild, the last to hold the other end, is gone.
    assert os.read(source, 1) == b""
    assert child.join() == -signal.SIGKILL


def test_another_signal_can_be_asked_for(fork: Any, pipe: tuple[int, int]) -> None:
    source, end = pipe

    def grandchild(parent: int) -> None:
        over: list[int] = []
        signal.signal(signal.SIGUSR1, lambda *_: over.append(os.write(end, b"signalled")))
        assert die_with_parent(parent, signal.SIGUSR1)
        os.write(end, b"armed")
        while not over:
            os.sched_yield()

    child = family(fork, grandchild)
    os.close(end)
    assert os.read(source, 5) == b"armed"
    child.kill()
    assert os.read(source, 9) == b"signalled"
    assert os.read(source, 1) == b""


def test_a_parent_that_is_gone_already_is_noticed(fork: Any, pipe: tuple[int, int]) -> None:
    source, end = pipe

    def grandchild(parent: int) -> None:
        os.write(end, b"born")
        while os.getppid() == parent:
            os.sched_yield()
        os.write(end, b"gone" if not die_with_parent(parent) else b"here")

    child = family(fork, grandchild)
    os.close(end)
    assert os.read(source, 4) == b"born"
    child.kill()
    assert os.read(source, 4) == b"gone"


def test_an_unknown_signal_is_refused() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        die_with_parent(os.getppid(), 4096)


def test_orphans_are_adopted() -> None:
    done = script(
        "import os\n"
        "from ringwalk._core.process import adopt_orphans\n"
        "adopt_orphans()\n"
        "reading, writing = os.pipe()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    if os.fork() == 0:\n"
        "        os.read(reading, 1)\n"  # until the middle one is gone
        "        os._exit(9)\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "os.write(writing, b'.')\n"
        "print(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "9\n", "")
