"""``ringwalk bench``: its contestants return right results, its table has them all."""

from __future__ import annotations

import json

import pytest

from ringwalk.cli import contests, main

ARGUMENTS = ["bench", "--workers", "2", "--turns", "1"]


@pytest.mark.slow
def test_every_contestant_is_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(contests, "_SECONDS", 1e-9)
    assert main([*ARGUMENTS, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    medians = report["seconds a walker"]
    assert {name: list(taken) for name, taken in medians.items()} == {
        contest.name: list(contest.contestants) for contest in contests.make_contests(2)
    }
    assert all(taken > 0 for contest in medians.values() for taken in contest.values())


@pytest.mark.slow
def test_a_wrong_result_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contests, "_is_more", lambda results: False)
    with pytest.raises(RuntimeError, match="wrong results"):
        main(ARGUMENTS)


def test_turns_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--turns", "0"]) == 2
    assert "--turns is 0" in capsys.readouterr().err
