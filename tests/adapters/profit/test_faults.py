"""The faults of proFit's own runners and table, each with the outcome that it should have."""

from __future__ import annotations

import pytest

# Both ways of running: worker processes, and a stock profit-worker a run.
COMMANDS = ["profit-worker", "exec profit-worker"]


@pytest.fixture(params=COMMANDS, ids=["pool", "command"])
def command(request) -> str:
    return request.param


def test_growth_keeps_finished_rows(case) -> None:
    told = case("""
r = make("ident", 2, parallel=2)
r.spawn_array([{"u": 10.0}, {"u": 11.0}], wait=True)
r.spawn({"u": 12.0}, wait=True)
tell(rows=rows(r, 3), failed=list(r.failed))
""")
    assert told == {"rows": [[10, 11, 12]] * 2 + [[True] * 3], "failed": []}


def test_growth_keeps_rows_in_flight(case, command: str) -> None:
    told = case(f"""
for name in ("begun_7", "go_7", "begun_8", "go_8"):
    fifo(name)
r = make("told", 1, parallel=2, command={command!r})
r.spawn({{"u": 7.0}})
read("begun_7")
r.spawn({{"u": 8.0}})
read("begun_8")
let_go(7)
let_go(8)
r.wait_all()
tell(rows=rows(r, 2), failed=list(r.failed))
""")
    assert told == {"rows": [[7, 8]] * 2 + [[True] * 2], "failed": []}


def test_growth_before_a_worker_looked_is_no_wrong_result(case, command: str) -> None:
    told = case(f"""
r = make("ident", 1, parallel=8, command={command!r})
for k in range(6):
    r.spawn({{"u": 5.0 + k}})
r.wait_all()
tell(rows=rows(r, 6), failed=list(r.failed))
""")
    assert told == {"rows": [[5, 6, 7, 8, 9, 10]] * 2 + [[True] * 6], "failed": []}


def test_growth_stays_in_the_work_dir(case) -> None:
    told = case("""
os.mkdir("wd")
r = make("ident", 1, parallel=1, work_dir="wd")
for k in range(3):
    r.spawn({"u": float(k)}, wait=True)
tell(rows=rows(r, 3), here=os.listdir(), there=sorted(os.listdir("wd")))
""")
    assert told["rows"] == [[0, 1, 2]] * 2 + [[True] * 3]
    assert told["here"] == ["wd"]
    assert told["there"] == [".interface.npy.owner", "interface.npy", "log", "runner.log"]


@pytest.mark.parametrize("size", [3, 2, 3000])
def test_a_second_study_in_the_folder_is_refused(case, size: int) -> None:
    told = case(f"""
fifo("begun_7")
fifo("go_7")
r = make("told", 3, parallel=1)
r.spawn({{"u": 7.0}})
read("begun_7")
pid = os.fork()
if pid == 0:
    try:
        make("ident", {size}, logfile="r2.log")
    except Exception as error:
        with open("refusal", "w") as file:
            file.write(f"{{type(error).__name__}} {{error}}")
    os._exit(0)
os.waitpid(pid, 0)
let_go(7)
r.wait_all()
tell(rows=rows(r, 1), refusal=read("refusal"), pid=os.getpid(),
     loaded=len(np.load("interface.npy")))
""")
    assert told["rows"] == [[7], [7], [True]]
    assert told["loaded"] == 3
    assert told["refusal"].startswith("BusyError")
    assert f"belongs to process {told['pid']} on " in told["refusal"]


def test_a_worker_that_raises_leaves_a_traceback_and_aligned_rows(case, command: str) -> None:
    told = case(f"""
r = make("raises", 3, parallel=3, command={command!r})
r.spawn_array([{{"u": float(k)}} for k in range(3)], wait=True)
nan = np.isnan(r.output_data["f"]).tolist()
tell(failed=list(r.failed), nan=nan, inputs=r.input_data["u"].tolist(),
     outputs=np.nan_to_num(r.output_data["f"]).tolist(), trace=r.failed[1].traceback,
     code=r.failed[1].exitcode, log=read("log/run_001.log"), runner=read("runner.log"))
""")
    assert told["failed"] == [1]
    assert told["inputs"] == [0, 1, 2]
    assert told["nan"] == [False, True, False]
    assert told["outputs"] == [0, 0, 2]
    assert told["code"] == 1
    assert "run 1 failed" in told["runner"]
    if command == "profit-worker":
        assert "in raises" in told["trace"]
        assert "ValueError: no ones, please" in told["runner"]
        assert "ValueError: no ones, please" in told["log"]


def test_a_killed_worker_fails_its_run_with_the_signal(case, command: str) -> None:
    told = case(f"""
r = make("selfkill", 3, parallel=2, command={command!r})
r.spawn_array([{{"u": float(k)}} for k in range(3)], wait=True)
tell(failed=list(r.failed), code=r.failed[1].exitcode, rows=rows(r, 3))
""")
    assert told == {
        "failed": [1],
        "code": -9,
        "rows": [[0, 1, 2], [0, 0, 2], [True, False, True]],
    }


def test_a_killed_worker_s_run_is_tried_again(case, command: str) -> None:
    told = case(f"""
r = make("unlucky", 2, parallel=2, command={command!r}, retries=1)
r.spawn_array([{{"u": float(k)}} for k in range(2)], wait=True)
tell(failed=list(r.failed), rows=rows(r, 2))
""")
    assert told == {"failed": [], "rows": [[0, 1]] * 2 + [[True] * 2]}


def test_an_exit_without_a_result_is_a_failure(case, command: str) -> None:
    told = case(f"""
r = make("exit0", 1, parallel=1, command={command!r})
r.spawn({{"u": 1.0}}, wait=True)
tell(failed=list(r.failed), done=rows(r, 1)[2])
""")
    assert told == {"failed": [0], "done": [False]}


def test_a_hang_ends_at_the_timeout_with_all_that_it_started(case, command: str) -> None:
    # On a slow machine a worker may be ended before it has begun: the next one has more time.
    told = case(f"""
failed = []
for timeout in (4.0, 40.0, 400.0):
    r = make("hang", 1, parallel=1, command={command!r}, timeout=timeout)
    r.spawn({{"u": 1.0}}, wait=True)
    failed += [f.error == f"ran longer than {{timeout:g}} s" for f in r.failed.values()]
    r.clean()
    if os.path.exists("pids") and read("pids"):
        break
tell(gone=[gone(int(pid)) for pid in read("pids").split()], failed=set(failed) == {{True}})
""")
    assert told == {"gone": [True, True], "failed": True}


def test_cancel_ends_a_shell_command_and_its_children(case, command: str) -> None:
    told = case(f"""
os.mkdir("template")
fifo("pids")
worker = {{"class": "command", "command": "sleep 3600 & echo $$ $! > ../pids; wait"}}
r = make(worker, 1, parallel=1, command={command!r})
r.spawn({{"u": 1.0}})
pids = [int(word) for word in read("pids").split()]
r.cancel_all()
tell(gone=[gone(pid) for pid in pids], failed=[f.error for f in r.failed.values()])
""")
    assert told == {"gone": [True, True], "failed": ["was cancelled"]}


def test_workers_end_with_a_killed_runner(case, command: str) -> None:
    told = case(f"""
fifo("pids")
pid = os.fork()
if pid == 0:
    r = make("hang", 1, parallel=1, command={command!r})
    r.spawn({{"u": 1.0}}, wait=True)
pids = [int(word) for word in read("pids").split()]
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
ended = [gone(p) for p in pids]
again = make("ident", 1, parallel=1)
again.spawn({{"u": 1.0}}, wait=True)
tell(gone=ended, rows=rows(again, 1))
""")
    assert told == {"gone": [True, True], "rows": [[1], [1], [True]]}


def test_done_is_done_even_if_the_worker_died_then(case, command: str) -> None:
    told = case(f"""
r = make("done_then_dead", 2, parallel=1, command={command!r})
r.spawn_array([{{"u": float(k)}} for k in range(2)], wait=True)
tell(failed=list(r.failed), rows=rows(r, 2))
""")
    assert told == {"failed": [], "rows": [[0, 1]] * 2 + [[True] * 2]}


def test_a_failed_command_worker_does_not_move_the_next_run(case) -> None:
    """proFit's command worker leaves its process in the run's folder when it raises."""
    told = case("""
os.mkdir("template")
worker = {"class": "command", "command": "test -e ../ok && echo 5 > stdout || rm -f stdout",
          "post": {"class": "numpytxt", "path": "stdout", "names": "f"}}
r = make(worker, 2, parallel=1)
r.spawn({"u": 1.0}, wait=True)
open("ok", "w").close()
r.spawn({"u": 1.0}, wait=True)
tell(failed=list(r.failed), rows=rows(r, 2), here=sorted(os.listdir()))
""")
    assert told["failed"] == [0]
    assert told["rows"][2] == [False, True]
    assert told["rows"][1][1] == 5
    assert "run_001" not in told["here"]


def test_an_end_that_an_interrupted_wait_had_seen_is_told_by_the_next(case) -> None:
    told = case("""
r = make("ident", 1, parallel=1)
r.spawn({"u": 1.0})
step = r.engine._step
def interrupted(timeout):
    while r.engine.unfinished:
        step(timeout)
    r.engine._step = step
    raise KeyboardInterrupt
r.engine._step = interrupted
try:
    r.wait_all()
except KeyboardInterrupt:
    signal.alarm(60)
    r.wait_all()
tell(runs=list(r.runs), failed=list(r.failed), rows=rows(r, 1))
""")
    assert told == {"runs": [], "failed": [], "rows": [[1], [1], [True]]}
