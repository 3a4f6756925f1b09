"""What ``__main__`` defines means in the workers what it means here, at the time of the call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Each name of PROGRAM that is checked is printed with what a serial program would have given.
PROGRAM = """
import sys
from ringwalk import Executor, WorkerMapper

def helper(x): return "old", x
LIMIT = 1
PARAMS = {"dt": 1}
PREPARED = {}
class Walker:
    scale = 1
    def __init__(self, k): self.k = k
    def show(self): return LIMIT, self.scale, self.k
def uses(x): return helper(x), LIMIT, PARAMS["dt"]
def shows(w): return w.show(), type(w) is Walker
def same(x): return x
def applied(f, x): return f(x)
def prepare(): PREPARED["model"] = 1
def prepared(): return dict(PREPARED)
def check(what, got, wanted): print(what, got == wanted, "" if got == wanted else (got, wanted))

if __name__ == "__main__":
    method = METHOD
    with Executor(1, start_method=method, initializer=prepare) as executor:
        def call(f, *args): return executor.submit(f, *args).result()
        check("first", call(uses, 0), uses(0))
        check("object", call(shows, Walker(1)), shows(Walker(1)))
        def helper(x): return "new", x
        check("helper", call(uses, 1), uses(1))
        LIMIT = -0.0
        check("global", repr(call(uses, 1)), repr(uses(1)))
        check("method's global", call(shows, Walker(3)), shows(Walker(3)))
        PARAMS["dt"] = 7
        check("in place", call(uses, 1), uses(1))
        check("in an argument", call(applied, uses, 1), uses(1))
        uses.__defaults__ = (5,)
        check("default", call(uses), uses())
        Walker.scale = 2
        check("attribute", call(shows, Walker(3)), shows(Walker(3)))
        show, back = Walker.show, call(same, Walker(5))
        check("returned", (type(back) is Walker, back.k, Walker.show is show), (True, 5, True))
        LIMIT = 9
        check("ours as it was", back.show(), (9, 2, 5))
        class Walker:
            def __init__(self, k): self.k = k
            def show(self): return "another class", self.k
        check("class", call(shows, Walker(3)), shows(Walker(3)))
        if method == "fork":
            check("initializer", call(prepared), {"model": 1})
    with WorkerMapper(shows, num_workers=1, start_method=method) as mapper:
        check("map", mapper.map([Walker(1)]), [shows(Walker(1))])
        class Walker:
            def __init__(self, k): self.k = k
            def show(self): return "a later class", self.k
        check("map, later", mapper.map([Walker(1)])[0][0], ("a later class", 1))
    print("end")
"""
CHECKS = 14


def run(how: str, method: str, tmp_path: Path) -> list[str]:
    program = PROGRAM.replace("METHOD", repr(method))
    script = tmp_path / "script.py"
    script.write_text(program)
    command, text = {
        "script": ([str(script)], None),
        "-c": (["-c", program], None),
        "stdin": (["-"], program),
    }[how]
    done = subprocess.run(
        [sys.executable, *command], input=text, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("how", ["script", "-c", "stdin"])
def test_a_call_means_the_function_as_it_is(how: str, method: str, tmp_path: Path) -> None:
    *lines, end = run(how, method, tmp_path)
    assert end == "end"
    assert len(lines) == CHECKS + (method == "fork")
    assert [line for line in lines if " True" not in line] == []


def test_a_removed_script_is_not_needed(tmp_path: Path) -> None:
    program = "import os; os.remove(__file__)\n" + PROGRAM.replace("METHOD", "'spawn'")
    script = tmp_path / "script.py"
    script.write_text(program)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1:] == ["end"], done.stderr


UNPICKLABLE = """
import threading
from ringwalk import Executor
def helper(): return 1
def uses(): return helper()
with Executor(1) as executor:
    print(executor.submit(uses).result())
    lock = threading.Lock()
    def helper():
        with lock: return 2
    print(type(executor.submit(uses).exception()).__name__)
    def helper(): return 3
    print(executor.submit(uses).result())
"""


def test_what_cannot_be_sent_is_refused_and_the_old_does_not_run() -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNPICKLABLE], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines() == ["1", "TypeError", "3"], done.stderr
