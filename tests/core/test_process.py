"""Fork and parent-death signal: the child is the interpreter's, and dies with its parent."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from ringwalk._core import process
from ringwalk._core.process import die_with_parent


def script(text: str, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", text, *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False)


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


def test_fork_waits_for_threads_that_the_kernel_holds_up(tmp_path: Path) -> None:
    """One in a page fault, say, or in mmap, may have left a BLAS call or a lock half done.

    Here it is in posix_spawn, whose child cannot go on before somebody writes to a pipe.
    """
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    done = script(
        "import ctypes, os, sys, threading, time\n"
        "from pathlib import Path\n"
        "from ringwalk._core.process import fork\n"
        "pipe = sys.argv[1]\n"
        "libc = ctypes.CDLL(None)\n"
        "actions = ctypes.create_string_buffer(256)\n"
        "libc.posix_spawn_file_actions_init(actions)\n"
        "libc.posix_spawn_file_actions_addopen(actions, 9, pipe.encode(), os.O_RDONLY, 0)\n"
        "argv = (ctypes.c_char_p * 2)(b'true', None)\n"
        "spawn = lambda: libc.posix_spawn(None, b'/bin/true', actions, None, argv, None)\n"
        "thread = threading.Thread(target=spawn)\n"
        "thread.start()\n"
        "stat = Path(f'/proc/self/task/{thread.native_id}/stat')\n"
        "while stat.read_text().rpartition(')')[2].split()[0] != 'D': os.sched_yield()\n"
        "start = time.monotonic()\n"
        "pid = fork()\n"
        "if pid == 0: os._exit(0)\n"
        "print('waited' if time.monotonic() - start >= 1 else 'forked at once')\n"
        "os.waitpid(pid, 0)\n"
        "os.close(os.open(pipe, os.O_WRONLY))\n"
        "thread.join()\n"
        "os.wait()\n",
        str(pipe),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "waited\n", "")


def test_a_fork_holds_nothing_while_its_guard_is_busy() -> None:
    done = script(
        "import os\n"
        "from ringwalk._core.process import fork\n"
        "said = []\n"
        "class Guard:\n"
        "    busy = 2\n"
        "    def acquire(self):\n"
        "        said.append('try')\n"
        "        self.busy -= 1\n"
        "        return self.busy < 0\n"
        "    def release(self):\n"
        "        said.append('release')\n"
        "os.register_at_fork(before=lambda: said.append('before'),\n"
        "    after_in_parent=lambda: said.append('parent'))\n"
        "pid = fork(Guard())\n"
        "if pid == 0: os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
        "print(*said)\n"
    )
    assert done.stderr == ""
    assert done.stdout == "before try parent before try parent before try release parent\n"


def test_a_guard_that_raises_leaves_the_hooks_undone(fork: Any) -> None:
    class Guard:
        def acquire(self) -> bool:
            raise LookupError("guard")

        def release(self) -> None:
            raise AssertionError("it was not had")

    def body() -> None:
        lock = threading.Lock()
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release)
        with pytest.raises(LookupError, match="guard"):
            process.fork(Guard())
        assert not lock.locked()

    assert fork(body).join() == 0


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
