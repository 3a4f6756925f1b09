"""A program that ends in a certain way with a front open: ends.py FRONT START_METHOD END ORDER.

ORDER says what else hangs on the interpreter's exit, and whether it was registered before or after
what the package registers. Each would hold up or forestall a clean-up that relies on its place.
"""

from __future__ import annotations

import atexit
import faulthandler
import sys

ORDERS = ("finalize first", "multiprocessing first", "finalize last", "pools of others")
ENDS = ("return", "raise", "exit", "SIGINT", "SIGTERM")
kept: list[object] = []


def finalize() -> None:
    """What ``weakref.finalize`` has the interpreter do at exit takes its place with the first."""
    import tempfile

    kept.append(tempfile.TemporaryDirectory())


def before(order: str) -> None:
    if order == "finalize first":
        finalize()
    elif order == "multiprocessing first":
        import multiprocessing.util  # registers what joins its children  # noqa: F401

        atexit.register(int)


def after(order: str) -> None:
    if order == "finalize last":
        finalize()
        atexit.register(finalize)
    elif order == "pools of others":
        import concurrent.futures
        import multiprocessing

        executor = concurrent.futures.ProcessPoolExecutor(1)
        assert executor.submit(int).result() == 0
        pool = multiprocessing.Pool(1)
        assert pool.apply(int) == 0
        kept.extend((executor, pool))


def main() -> None:
    front_name, method, end, order = sys.argv[1:]
    before(order)
    import fronts

    front, use = fronts.open_front(front_name, method)
    front.__enter__()
    use()
    after(order)
    if end.startswith("SIG"):
        print("running", flush=True)
        while True:
            use()
    if end == "raise":
        raise ValueError("reporter failed")
    if end == "exit":
        sys.exit(3)


if __name__ == "__main__":
    faulthandler.dump_traceback_later(50, exit=True)
    main()
