"""Workers of a parent in which a library has threads, against a stand-in for such a library.

Like polars and jax, it starts a thread with its first call and believes in a forked child that it
still has it: a call there never returns. Each case runs in a process of its own.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from textwrap import dedent

import pytest

LIBRARY = """
#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int started, asked, answered;

static void *serve(void *unused)
{
    pthread_mutex_lock(&lock);
    for (;;) {
        while (answered == asked)
            pthread_cond_wait(&changed, &lock);
        answered = asked;
        pthread_cond_broadcast(&changed);
    }
    return unused;
}

int compute(int value)
{
    pthread_mutex_lock(&lock);
    if (!started++) {
        pthread_t thread;
        pthread_create(&thread, 0, serve, 0);
    }
    asked++;
    pthread_cond_broadcast(&changed);
    while (answered != asked)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    return 2 * value;
}
"""

PRELUDE = """
import ctypes, os, sys, threading, warnings
from ringwalk import Executor, TaskMapper, WorkerMapper
from ringwalk.errors import RingwalkWarning
from ringwalk.workers.fork_safety import unsafe_threads

LIBRARY = sys.argv[1]

def work(k):
    return ctypes.CDLL(LIBRARY).compute(k)

"""
HANGS_S = 60


def build(folder: Path, name: str) -> Path:
    source = folder / "pool.c"
    source.write_text(LIBRARY)
    target = folder / name
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    command = [*compiler, "-shared", "-fPIC", "-pthread", "-o", str(target), str(source)]
    subprocess.run(command, check=True)
    return target


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("pool"), "libpooled.so")


def run(code: str, library: Path, folder: Path) -> None:
    script = folder / "case.py"
    script.write_text(PRELUDE + dedent(code))
    command = [sys.executable, "-W", "error", str(script), str(library)]
    ran = subprocess.run(command, timeout=HANGS_S, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_threads_are_named_by_their_library(library: Path, tmp_path: Path) -> None:
    code = """
        assert unsafe_threads() == ()
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait)
        thread.start()
        assert unsafe_threads() == ()  # Python's own
        work(0)
        assert unsafe_threads() == ("libpooled",), unsafe_threads()
        stop.set()
        thread.join()
    """
    run(code, library, tmp_path)


def test_threads_of_a_harmless_library_do_not_count(tmp_path: Path) -> None:
    code = """
        before = len(os.listdir("/proc/self/task"))
        work(0)
        assert len(os.listdir("/proc/self/task")) == before + 1
        assert unsafe_threads() == ()
    """
    run(code, build(tmp_path, "libblosc-stand-in.so"), tmp_path)


def test_every_front_is_right_after_the_parent_used_the_library(
    library: Path, tmp_path: Path
) -> None:
    code = """
        if __name__ == "__main__":
            with TaskMapper(work, 2) as tasks:
                assert tasks.map(range(4)) == [0, 2, 4, 6]
                assert tasks.started == "fork"
                work(0)
                reason = "spawn (threads of libpooled)"
                for _ in range(2):
                    assert tasks.map(range(4)) == [0, 2, 4, 6]
                    assert tasks.started == tasks.timeline.started == reason
            assert tasks.timeline.started == reason
            with WorkerMapper(work, 2) as workers:
                assert workers.map(range(4)) == [0, 2, 4, 6]
                assert workers.started == reason
            with Executor(2) as executor:
                assert list(executor.map(work, range(4))) == [0, 2, 4, 6]
    """
    run(code, library, tmp_path)


def test_what_unpickling_starts_is_not_forked(library: Path, tmp_path: Path) -> None:
    """The function brings an object that uses the library as soon as it is unpickled."""
    code = """
        class Uses:
            def __reduce__(self):
                return (eval, (f"__import__('ctypes').CDLL({LIBRARY!r}).compute(1)",))

        uses = Uses()
        if __name__ == "__main__":
            with WorkerMapper(lambda k: (uses, work(k)), 2, start_method="spawn") as workers:
                assert workers.map(range(4)) == [(2, 0), (2, 2), (2, 4), (2, 6)]
    """
    run(code, library, tmp_path)


def test_what_cannot_be_pickled_is_forked_with_a_warning(library: Path, tmp_path: Path) -> None:
    code = """
        work(0)
        held = threading.Lock()
        for make in (TaskMapper, WorkerMapper):
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                with make(lambda k: (held.locked(), k), 2) as mapper:
                    assert mapper.map(range(3)) == [(False, 0), (False, 1), (False, 2)]
                    assert mapper.started == "fork (threads of libpooled)"
            (warning,) = said
            assert warning.category is RingwalkWarning
            assert "threads of libpooled" in str(warning.message)
    """
    run(code, library, tmp_path)


def test_a_task_of_a_clean_template_that_dies_is_told(library: Path, tmp_path: Path) -> None:
    code = """
        from ringwalk import MapError

        def die(k):
            if k == 2:
                os.kill(os.getpid(), 9)
            if k == 3:
                os._exit(7)
            return k, os.getpid()

        work(0)
        with TaskMapper(die, 2, on_error="finish") as mapper:
            try:
                mapper.map(range(6))
            except MapError as error:
                assert sorted(error.results) == [0, 1, 4, 5]
                assert len({pid for _, pid in error.results.values()}) == 4
                assert (error.errors[2].signal, error.errors[3].exitcode) == (9, 7)
            else:
                raise AssertionError
            assert len(mapper.map([0, 1])) == 2
    """
    run(code, library, tmp_path)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_task_mapper_obeys_orders(method: str, library: Path, tmp_path: Path) -> None:
    code = f"""
        with TaskMapper(lambda k: os.getpid(), 2, start_method={method!r}) as mapper:
            assert len(set(mapper.map(range(4)))) == 4
            assert mapper.started == {method!r}
    """
    run(code, library, tmp_path)
