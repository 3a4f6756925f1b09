"""What goes wrong beneath an MPIWorkManager. Started by mpiexec; the argument says what."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from faulty_tasks import WAITS, Unloadable, Unpicklable, die, interrupt

from ringwalk.errors import ClosedError
from ringwalk.futures.work_manager import MPIWorkManager


def identity(value: Any) -> Any:
    return value


def hold(begun: str, gate: str) -> str:
    Path(begun).read_bytes()
    Path(gate).read_bytes()
    return "held"


def raises(manager: MPIWorkManager, folder: Path) -> None:
    """Errors of tasks and of their pickles are their own; what follows is not affected."""
    for make, kind, told in (
        (lambda: manager.submit(int, ("x",)), ValueError, "invalid literal"),
        (lambda: manager.submit(identity, (Unpicklable(),)), pickle.PicklingError, "not me"),
        (lambda: manager.submit(Unpicklable), pickle.PicklingError, "not me"),
        (lambda: manager.submit(identity, (Unloadable(),)), ValueError, "refused to load"),
        (lambda: manager.submit(Unloadable), ValueError, "refused to load"),
    ):
        error = make().get_exception()
        assert isinstance(error, kind), repr(error)
        assert told in str(error), repr(error)
        results = [
            f.get_result() for f in manager.submit_many([(identity, (k,), {}) for k in range(9)])
        ]
        assert results == list(range(9))


def ctrl_c(manager: MPIWorkManager, folder: Path) -> None:
    """It ends each way to wait, and loses nothing."""
    for name, wait in WAITS.items():
        gate = folder / name
        os.mkfifo(gate)
        future = manager.submit(interrupt, (os.getpid(), str(gate)))
        try:
            gate.write_bytes(b"")  # it may come from here on
            wait(manager, future)
        except KeyboardInterrupt:
            pass
        else:
            raise AssertionError(f"{name} was not interrupted")
        assert not future.is_done()
        gate.write_bytes(b"")
        assert future.get_result() == "ended"


def shutdown(manager: MPIWorkManager, folder: Path) -> None:
    """What runs may finish, what waits is cancelled, more is refused."""
    names = [(folder / f"begun{k}", folder / f"gate{k}") for k in range(manager.n_workers)]
    for name in itertools.chain.from_iterable(names):
        os.mkfifo(name)
    running = [manager.submit(hold, (str(begun), str(gate))) for begun, gate in names]
    waiting = [manager.submit(identity, (k,)) for k in range(100)]
    for begun, _ in names:
        begun.write_bytes(b"")
    releasing = threading.Thread(target=lambda: [gate.write_bytes(b"") for _, gate in names])
    releasing.start()
    manager.shutdown()
    releasing.join()
    assert [future.get_result() for future in running] == ["held"] * manager.n_workers
    for k, future in enumerate(waiting):
        error = future.get_exception()
        assert isinstance(error, ClosedError) or (error is None and future.get_result() == k)
    try:
        manager.submit(identity, (1,))
    except ClosedError:
        return
    raise AssertionError("it took a task after its end")


def killed_rank(manager: MPIWorkManager, folder: Path) -> None:
    """MPI ends the whole job."""
    tell_what_it_has(manager)
    manager.submit(die).get_exception()


def killed_master(manager: MPIWorkManager, folder: Path) -> None:
    """So it does here."""
    tell_what_it_has(manager)
    manager.submit(signal.pause)
    die()


def exit_without_shutdown(manager: MPIWorkManager, folder: Path) -> None:
    """What was submitted is run first."""
    tell_what_it_has(manager)
    for k in range(20):
        manager.submit(Path.touch, (folder / str(k),))
    sys.exit()


def tell_what_it_has(manager: MPIWorkManager) -> None:
    pids = {future.get_result() for future in manager.submit_many([(os.getpid, (), {})] * 50)}
    print("pids", os.getpid(), *pids, flush=True)
    maps = Path("/proc/self/maps").read_text().split()
    print("memory", *{word for word in maps if word.startswith("/dev/shm/")}, flush=True)


FAULTS = (
    raises,
    ctrl_c,
    shutdown,
    killed_rank,
    killed_master,
    exit_without_shutdown,
)


def main() -> None:
    manager = MPIWorkManager()
    if not manager.is_master:
        manager.run()
        return
    faults = {fault.__name__: fault for fault in FAULTS}
    manager.startup()
    faults[sys.argv[1]](manager, Path(sys.argv[2]))
    manager.shutdown()
    print("done", flush=True)


if __name__ == "__main__":
    main()
