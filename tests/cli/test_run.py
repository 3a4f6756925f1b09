"""``ringwalk run``: files in, a function over their rows, results out."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ringwalk import WalkerBlock
from ringwalk.cli import main

MODULE = """
import os
import signal
import time


def energy(x, k):
    return 0.5 * k * float((x ** 2).sum())


def both(x, k):
    return {"energy": energy(x, k), "force": -k * x}


def total(row):
    return row.sum()


def label(name, count, share):
    return f"{name}:{count + 1}:{share / 2}"


def draw(k, rng):
    return rng.random()


def fragile(k):
    if k == 2:
        raise ValueError("atoms overlap")
    if k == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return k


def odd(k):
    return {"a": 1} if k else 3


def ragged(k):
    return list(range(k))


def nothing(k):
    return None


def always_fails(k):
    return 1 / 0


def sometimes_text(k):
    return "diverged" if k == 1 else 0.5 * k


def sometimes_truth(k):
    return k > 0 if k == 1 else k


def note(k, rng):
    with open("ran", "a") as file:
        file.write(f"{k} ")
    if k % 2 and not os.path.exists("mended"):
        raise ValueError(k)
    return {"k": k, "drawn": rng.random()}


def slow(k):
    if k >= 4:
        open(f"waits-{k}", "w").close()
        time.sleep(600)
    return k


class Model:
    @staticmethod
    def double(k):
        return 2 * k
"""

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Run:
    """Runs the command on a module in the current folder, of a name of its own for each test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # what the command puts there goes with it
    module = f"segments_{abs(hash(request.node.name))}"
    (tmp_path / f"{module}.py").write_text(MODULE)

    def call(function: str, over: str, *arguments: str) -> int:
        return main(["run", f"{module}:{function}", "--over", over, "--workers", "2", *arguments])

    return call


def results(path: str) -> dict[str, npt.NDArray[Any]]:
    with np.load(path) as archive:
        return {name: archive[name] for name in archive}


X = np.arange(12.0).reshape(4, 3)
K = np.array([1, 2, 3, 4])


def test_columns_of_an_npz_are_named_arguments(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("data.npz", x=X, k=K)
    assert run("energy", "data.npz") == 0
    assert capsys.readouterr().out == "4 of 4 rows: row, result in data-results.npz\n"
    found = results("data-results.npz")
    np.testing.assert_array_equal(found["result"], 0.5 * K * (X**2).sum(axis=1))
    assert found["row"].tolist() == [0, 1, 2, 3]


def test_a_dict_becomes_columns(run: Run) -> None:
    np.savez("data.npz", x=X, k=K)
    assert run("both", "data.npz", "--out", "out.npz") == 0
    found = results("out.npz")
    assert set(found) == {"row", "energy", "force"}
    np.testing.assert_array_equal(found["force"], -K[:, None] * X)


def test_rows_of_an_npy(run: Run) -> None:
    np.save("plain.npy", X)
    assert run("total", "plain.npy") == 0
    assert results("plain-results.npz")["result"].tolist() == X.sum(axis=1).tolist()
    table = np.zeros(4, dtype=[("x", "f8", (3,)), ("k", "i8")])
    table["x"], table["k"] = X, K
    np.save("table.npy", table)
    assert run("energy", "table.npy") == 0
    found = results("table-results.npz")["result"]
    np.testing.assert_array_equal(found, 0.5 * K * (X**2).sum(axis=1))


def test_a_csv_has_numbers_and_texts(run: Run) -> None:
    Path("data.csv").write_text('name,count,share\n"a, b",1,0.5\nc,2,3\n\n')
    assert run("label", "data.csv") == 0
    assert results("data-results.npz")["result"].tolist() == ["a, b:2:0.25", "c:3:1.5"]


def test_a_saved_block_is_data(run: Run) -> None:
    with WalkerBlock(4, x=((3,), "f8"), k="i8") as block:
        block["x"], block["k"] = X, K
        block.save("block.npz")
    assert run("energy", "block.npz") == 0
    assert len(results("block-results.npz")["result"]) == 4


def test_a_seed_gives_each_row_its_stream(run: Run) -> None:
    np.savez("data.npz", k=np.arange(6))
    draws = []
    for out in ("one.npz", "two.npz"):
        assert run("draw", "data.npz", "--seed", "7", "--out", out) == 0
        draws.append(results(out)["result"].tolist())
    assert draws[0] == draws[1]
    assert len(set(draws[0])) == 6


@pytest.mark.slow
def test_what_finished_is_written(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("data.npz", k=np.arange(6))
    assert run("fragile", "data.npz", "--retries", "0") == 1
    said = capsys.readouterr()
    assert said.out == "4 of 6 rows: row, result in data-results.npz\n"
    assert "row 2: ValueError: atoms overlap" in said.err
    assert "row 3: " in said.err
    assert "SIGKILL" in said.err
    found = results("data-results.npz")
    assert found["row"].tolist() == found["result"].tolist() == [0, 1, 4, 5]


def test_a_mistake_neither_fills_the_terminal_nor_costs_results(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("data.npz", k=np.arange(30))
    Path("data-results.npz").write_bytes(b"of an earlier run")
    assert run("always_fails", "data.npz") == 1
    said = capsys.readouterr()
    assert said.out == "0 of 30 rows: nothing written\n"
    assert said.err.count("ZeroDivisionError") == 10
    assert said.err.endswith("ringwalk: 20 more rows failed\n")
    assert Path("data-results.npz").read_bytes() == b"of an earlier run"


@pytest.mark.parametrize(
    ("function", "said", "kept"),
    [
        ("odd", "dicts with other keys", [3, {"a": 1}]),
        ("ragged", "differs in shape", [[], [0]]),
        ("nothing", "no number, text or array", [None, None]),
        (
            "sometimes_text",
            "is a number in some rows (0.0), text in some rows ('diverged')",
            [0.0, "diverged"],
        ),
        ("sometimes_truth", "a truth value in some rows (True)", [0, True]),
    ],
)
def test_results_that_are_no_columns_are_kept(
    run: Run, function: str, said: str, kept: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("data.npz", k=np.array([0, 1]))
    assert run(function, "data.npz") == 1
    assert said in capsys.readouterr().err
    pickled = Path("data-results.pickle").read_bytes()
    assert pickle.loads(pickled) == dict(enumerate(kept))


def test_a_trace_tells_what_ran(run: Run) -> None:
    np.savez("data.npz", k=np.arange(6))
    assert run("Model.double", "data.npz", "--trace", "trace.json") == 0
    events = json.loads(Path("trace.json").read_text())["traceEvents"]
    assert len([event for event in events if event["ph"] == "X"]) >= 6


def test_methods_can_be_named(run: Run) -> None:
    np.savez("data.npz", k=np.arange(3))
    assert run("Model.double", "data.npz") == 0
    assert results("data-results.npz")["result"].tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("function", "over", "arguments", "said"),
    [
        ("missing", "data.npz", (), "cannot find"),
        ("total", "data.npz", (), "missing a required argument: 'row'"),
        ("both", "one.npz", (), "missing a required argument: 'x'"),
        ("energy", "plain.npy", (), "missing a required argument: 'k'"),
        ("note", "data.npz", ("--resume",), "got an unexpected keyword argument 'x'"),
        ("draw", "one.npz", ("--resume", "--out", "uneven.npz"), "cannot resume from uneven.npz"),
        ("Model.__doc__", "data.npz", (), "cannot be called"),
        ("energy", "nowhere.npz", (), "No such file"),
        ("energy", "data.txt", (), "none of .npz, .npy, .csv"),
        ("energy", "uneven.npz", (), "differ in length"),
        ("energy", "ragged.csv", (), "row 1 has 1 fields"),
        ("energy", "empty.csv", (), "has no rows"),
        ("energy", "pickled.npy", (), "allow_pickle"),
        ("energy", "data.npz", ("--out", "no/such/folder.npz"), "a folder that exists"),
        ("energy", "data.npz", ("--retries", "-1"), "max_retries is -1"),
    ],
)
def test_bad_input_is_refused(
    run: Run,
    function: str,
    over: str,
    arguments: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.savez("data.npz", x=X, k=K)
    np.savez("uneven.npz", x=X, k=K[:2])
    np.savez("one.npz", k=K)
    np.save("plain.npy", X)
    np.save("pickled.npy", np.array([{}], dtype=object))
    Path("ragged.csv").write_text("a,b\n1,2\n3\n")
    Path("empty.csv").write_text("a,b\n")
    assert run(function, over, *arguments) == 2
    assert said in capsys.readouterr().err
    assert not list(Path().glob("*-results.npz"))


def test_resume_runs_the_rows_that_are_missing(run: Run) -> None:
    np.savez("data.npz", k=np.arange(6))
    assert run("note", "data.npz", "--seed", "7") == 1
    assert results("data-results.npz")["row"].tolist() == [0, 2, 4]
    Path("mended").touch()
    Path("ran").unlink()
    assert run("note", "data.npz", "--seed", "7", "--resume") == 0
    assert sorted(Path("ran").read_text().split()) == ["1", "3", "5"]
    resumed = results("data-results.npz")
    assert run("note", "data.npz", "--seed", "7", "--out", "whole.npz") == 0
    whole = results("whole.npz")
    assert resumed.keys() == whole.keys() == {"row", "k", "drawn"}
    for name, column in whole.items():
        np.testing.assert_array_equal(resumed[name], column)


def test_resume_without_an_earlier_run_runs_all(run: Run) -> None:
    np.savez("data.npz", k=np.arange(3))
    assert run("Model.double", "data.npz", "--resume") == 0
    assert results("data-results.npz")["result"].tolist() == [0, 2, 4]


def test_ctrl_c_writes_what_finished(run: Run, tmp_path: Path) -> None:
    np.savez("data.npz", k=np.arange(8))
    (module,) = tmp_path.glob("segments_*.py")
    command = [sys.executable, "-m", "ringwalk", "run", f"{module.stem}:slow", "--over", "data.npz"]
    process = subprocess.Popen(
        [*command, "--workers", "2", "--no-progress"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while len(list(tmp_path.glob("waits-*"))) < 2 and process.poll() is None:
        time.sleep(0.01)
    time.sleep(2)  # rows are taken in as they finish, at the latest at the look once a second
    os.killpg(process.pid, signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "4 of 8 rows: row, result in data-results.npz\n"
    assert errors == "ringwalk: interrupted; the same command with --resume runs the others\n"
    assert results("data-results.npz")["result"].tolist() == [0, 1, 2, 3]
