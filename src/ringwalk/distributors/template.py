"""The template: a fresh interpreter that has imported some modules, and forks a task for each
request. Run as a script, with nothing but the standard library.

    supervisor --FORK, fds--> template --fork--> task: waits for its "go", then is the program
               <--pid, pidfd--    |                   '--> exits as the interpreter would
               --REAP pid-->  waitpid
               <--status, usage--

A task starts only when the supervisor has it on record (a byte on a pipe), so one that is asked
for and lost is never run twice. A template that is killed leaves its tasks running; the
supervisor adopts them. It never touches signals, logging or the environment, so what a task
finds there is what the interpreter and the imported modules made of it.

A task differs from a fresh process in this: string hashes are salted like its siblings', ``ps``
shows the template's command line, ``sys.modules`` holds what was imported before, and it ends
after its exit handlers and a flush, without tearing modules down.

    template.py <fd> <entry of sys.path> <module>...
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    sys.path[0] = sys.argv[2]  # not the folder of this file: its names are nobody's business

import atexit
import gc
import io
import os
import pickle
import random
import runpy
import signal
import socket
import threading
import time
import types
import warnings
from typing import Any, NoReturn

FORK, REAP = b"F", b"R"
READY, FORKED, STALE, REFUSED, REAPED = b"+", b"P", b"S", b"X", b"D"
PACKET = 100_000  # bytes
FDS = 4  # standard input, output, error; the "go"
_CHECK_S = 1.0  # how old knowledge of the files may be; a look at 1,200 takes 3 ms

Request = dict[str, Any]


def main(fd: int, modules: list[str]) -> None:
    channel = socket.socket(fileno=fd)
    channel.set_inheritable(False)
    before = _files()
    # Imports make next to no garbage; to look for it takes a sixth of their time.
    threshold = gc.get_threshold()
    gc.set_threshold(0)
    try:
        for module in modules:
            __import__(module)
        if threading.active_count() > 1:
            raise RuntimeError("these modules start threads, which no fork would have")
    except BaseException as error:  # the command itself will say what is wrong
        channel.send(REFUSED + repr(error).encode()[:PACKET])
        return
    if gc.get_threshold()[0] == 0:  # else a module has chosen its own
        gc.set_threshold(*threshold)
    gc.freeze()
    files = {**before, **_files()}
    channel.send(READY)
    serve(channel, files)


def serve(channel: socket.socket, files: dict[str, int]) -> None:
    """Answer until nobody asks any more."""
    checked = time.monotonic()
    while True:
        data, fds, _, _ = socket.recv_fds(channel, PACKET, FDS)
        if data[:1] == REAP:
            _, status, usage = os.wait4(int(data[1:]), 0)
            used = usage.ru_utime, usage.ru_stime, usage.ru_maxrss
            channel.send(REAPED + pickle.dumps((status, used)))
            continue
        if not data:
            return
        if time.monotonic() - checked > _CHECK_S:
            if any(_changed(path) != mark for path, mark in files.items()):
                channel.send(STALE)
                return_fds(fds)
                continue
            checked = time.monotonic()
        with warnings.catch_warnings():
            # Python 3.12 counts the threads that BLAS libraries keep, which survive forks.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            channel.close()
            become(pickle.loads(data[1:]), fds)
        os.setpgid(pid, pid)  # as the task does: whoever is first
        return_fds(fds)
        pidfd = os.pidfd_open(pid)
        socket.send_fds(channel, [FORKED + str(pid).encode()], [pidfd])
        os.close(pidfd)


def return_fds(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def become(request: Request, fds: list[int]) -> NoReturn:
    """Be the program, in a process that was just forked."""
    code = 1
    try:
        os.setpgid(0, 0)
        *streams, go = fds
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        if not os.read(go, 1):
            os._exit(1)  # terminated before it began
        return_fds(fds)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environ"])
        _set_buffering()
        _reseed()
        code = _run(request["argv"], request["module"])
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _run(argv: list[str], module: str | None) -> int:
    """Run the program and then what the interpreter runs at its end; the exit status."""
    sys.orig_argv = argv if module else [sys.executable, *argv]
    sys.modules["__main__"] = types.ModuleType("__main__")
    code = 0
    try:
        if module is None:
            sys.argv = argv
            _run_script(argv[0])
        else:
            # As the fresh interpreter would find it: not imported yet under its own name.
            parent, _, name = module.rpartition(".")
            if sys.modules.pop(module, None) is not None and parent:
                vars(sys.modules[parent]).pop(name, None)
            sys.argv = [argv[1], *argv[3:]]
            runpy._run_module_as_main(module)  # type: ignore[attr-defined]
    except SystemExit as stop:
        code = _status(stop.code)
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the interpreter does
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError):  # closed or taken away by the program
            continue
        except OSError:
            code = 120  # what the interpreter says of output that it could not write
    return code


def _run_script(path: str) -> None:
    with open(path, "rb") as file:
        program = compile(file.read(), path, "exec", dont_inherit=True)
    main = sys.modules["__main__"]
    main.__dict__.update(__file__=path, __builtins__=__builtins__)
    exec(program, main.__dict__)


def _status(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1


def _set_buffering() -> None:
    """By lines on a terminal, as the interpreter decides when it starts."""
    stream = sys.stdout
    if isinstance(stream, io.TextIOWrapper) and not stream.write_through:
        stream.reconfigure(line_buffering=stream.isatty())


def _reseed() -> None:
    random.seed()
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
    if hasattr(time, "tzset"):
        time.tzset()


def _files() -> dict[str, int]:
    """The files of all modules, and the folders in which modules come and go."""
    paths = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    paths.update(entry for entry in sys.path[1:] if os.path.isdir(entry))
    return {path: _changed(path) for path in paths if isinstance(path, str)}


def _changed(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[3:])
