"""What proFit promises of a runner and an interface, on ours."""

from __future__ import annotations

import pytest


def test_runs_are_done_and_ids_count_up(case) -> None:
    told = case("""
r = make("ident", 2, parallel=2)
r.spawn({"u": 3.0}, wait=True)
first = r.next_run_id, dict(r.runs)
r.spawn_array(np.array([(4.0,), (5.0,)], [("u", "f8")]), wait=True, progress=True)
tell(first=first, rows=rows(r, 3), next=r.next_run_id, runs=list(r.runs), failed=list(r.failed),
     log=read("runner.log"), logs=sorted(os.listdir("log")),
     flat=r.flat_output_data.ravel().tolist())
""")
    assert told["first"] == [1, {}]
    assert told["rows"] == [[3, 4, 5]] * 2 + [[True] * 3]
    assert (told["next"], told["runs"], told["failed"]) == (3, [], [])
    assert told["logs"] == ["run_000.log", "run_001.log", "run_002.log"]
    assert told["flat"] == [3, 4, 5]
    for line in ("spawn run 2", "run 2 done"):
        assert line in told["log"]


def test_workers_are_kept_and_logs_are_not_mixed(case) -> None:
    told = case("""
r = make("ident", 64, parallel=2)
before = len(os.listdir("/proc/self/fd"))
r.spawn_array([{"u": float(k)} for k in range(64)], wait=True)
lines = [len(read(f"log/run_{k:03d}.log").splitlines()) for k in range(64)]
fds = len(os.listdir("/proc/self/fd")) - before
tell(lines=lines, fds=fds, rows=rows(r, 64))
""")
    assert told["lines"] == [2] * 64
    assert told["fds"] <= 9  # epoll, keeper, and three a worker
    assert told["rows"][1] == list(range(64))


def test_shapes_types_and_times_are_proFit_s(case) -> None:  # noqa: N802
    told = case("""
kind = RunnerInterface["ringwalk"]
r = kind(3, {"u": {"dtype": np.float64}, "k": {"dtype": np.int64}},
         {"f": {"dtype": np.float64, "size": (1, 1)}, "G": {"dtype": np.float64, "size": (3, 2)}})
r.input["k"][1] = 7
w = WorkerInterface["ringwalk"](1)
early = w.time
w.retrieve()
w.output["f"], w.output["G"], w.time = 1.5, [2.5, 3.5], 4
before = bool(r.internal["DONE"][1])
w.transmit()
k = int(w.input["k"])
names = w.input.dtype.names, w.output.dtype.names
w.clean()
w.clean()
loaded = np.load("interface.npy")
r.resize(2)
small = r.size
old = r.output
r.resize(8)
tell(early=early, before=before, k=k, names=names, size=[small, r.size], config=r.config,
     G=r.output["G"][1].tolist(), internal=r.internal[1].tolist(), shared=bool(
     np.shares_memory(old, r.output)), loaded=loaded["f"].tolist(), all=loaded.dtype.names)
r.clean()
r.clean()
assert os.listdir() == []
""")
    assert told["early"] is None
    assert told["before"] is False
    assert told["k"] == 7
    assert told["names"] == [["u", "k"], ["f", "G"]]
    assert told["all"] == ["u", "k", "DONE", "TIME", "f", "G"]
    assert told["size"] == [3, 8]
    assert told["config"] == {"class": "ringwalk", "path": "interface.npy"}
    assert told["G"] == [2.5, 3.5]
    assert told["internal"] == [True, 4]
    assert told["shared"] is True
    assert told["loaded"] == [0, 1.5, 0]


@pytest.mark.parametrize("command", ["profit-worker", "exec profit-worker"])
def test_spawn_array_never_exceeds_parallel(case, command: str) -> None:
    told = case(f"""
r = make("ident", 4, parallel=2, command={command!r})
most = 0
spawn = r.spawn
def watched(params):
    global most
    spawn(params)
    most = max(most, len(r.runs))
r.spawn = watched
r.spawn_array([{{"u": float(k)}} for k in range(5)], wait=True)
tell(most=most, rows=rows(r, 5))
""")
    assert told == {"most": 2, "rows": [[0, 1, 2, 3, 4]] * 2 + [[True] * 5]}


def test_stock_workers_attach_while_the_table_grows(case) -> None:
    """``profit-worker`` with proFit's own memmap interface, at size 1 to begin with."""
    told = case("""
r = make("ident", 1, parallel=2, command="exec profit-worker")
r.spawn_array([{"u": float(k)} for k in range(5)], wait=True)
tell(rows=rows(r, 5), environment=r.interface.config)
""")
    assert told["rows"] == [[0, 1, 2, 3, 4]] * 2 + [[True] * 5]


def test_stock_interfaces_work_with_our_runner(case) -> None:
    told = case("""
r = make("ident", 3, interface="memmap", parallel=2)
r.spawn_array([{"u": float(k)} for k in range(3)], wait=True)
tell(rows=rows(r, 3))
""")
    assert told["rows"] == [[0, 1, 2]] * 2 + [[True] * 3]


def test_fill_makes_room(case) -> None:
    told = case("""
r = make("ident", 1, parallel=1)
r.fill(np.array([(1.0,), (2.0,)], [("u", "f8")]), offset=1)
r.fill_output(np.array([(4.0,)], [("f", "f8")]), offset=4)
tell(size=r.interface.size, rows=rows(r, 5))
""")
    assert told == {
        "size": 6,
        "rows": [[0, 1, 2, 0, 0], [0, 0, 0, 0, 4], [False] * 5],
    }


def test_what_the_constructor_takes(case) -> None:
    told = case("""
r = make("ident", 1, work_dir="not/there", parallel="all")
r.spawn({"u": 2.0}, wait=True)
r.cancel(0)
s = repr(r)
json.dumps(r.config)
done = rows(r, 1)
r.clean()
tell(rows=done, repr=s, left=os.listdir("not/there"), here=os.listdir())
""")
    assert told["rows"] == [[2], [2], [True]]
    assert told["repr"].startswith("<RingwalkRunner (profit-worker, parallel=")
    assert told["left"] == []
    assert told["here"] == ["not"]


def test_another_start_method_of_multiprocessing_changes_nothing(case) -> None:
    told = case("""
import multiprocessing
multiprocessing.set_start_method("spawn")
r = make("ident", 1, parallel=1)
r.spawn({"u": 2.0}, wait=True)
tell(rows=rows(r, 1))
""")
    assert told["rows"] == [[2], [2], [True]]


def test_flags_of_another_interface_do_not_leak(case) -> None:
    told = case("""
import zmq
z = RunnerInterface["zeromq"](1, {"u": {"dtype": np.float64}},
    {"f": {"dtype": np.float64, "size": (1, 1)}}, address="tcp://127.0.0.1", port=0)
r = make("ident", 1, parallel=1)
tell(names=np.load("interface.npy").dtype.names)
""")
    assert told["names"] == ["u", "DONE", "TIME", "f"]


def test_labels_are_replaced_on_request(case) -> None:
    told = case("""
before = set(Runner.labels)
drop_in.replace()
r = make("ident", 1, runner="fork", interface="memmap", parallel=1)
r.spawn({"u": 2.0}, wait=True)
tell(rows=rows(r, 1), same=before == set(Runner.labels), config=r.interface.config["class"],
     kinds=[isinstance(r, drop_in.RingwalkRunner),
            isinstance(r.interface, drop_in.RingwalkRunnerInterface),
            issubclass(WorkerInterface["memmap"], drop_in.RingwalkWorkerInterface)])
""")
    assert told["rows"] == [[2], [2], [True]]
    assert told["same"] is True
    assert told["config"] == "memmap"
    assert told["kinds"] == [True] * 3
