"""Every schedule of a few processes on the real core, with every place to die; then with mistakes.

``explore/`` tries them (``explore/explore.h`` tells how). Here it is built, its counts are read,
and single lines of the core are changed to see that each such mistake is found.
"""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

EXPLORE = Path(__file__).resolve().parent / "explore"
CORE = EXPLORE.parents[2] / "ext" / "csrc"
FLAGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-g"]
if platform.machine() == "x86_64":
    FLAGS.append("-fcf-protection=none")  # a stack is put back behind a shadow stack's back
# -Os leaves the fewest old values on stacks, so that states that are alike look alike.
WATCHED = [*FLAGS, "-Os", "-fsanitize=thread"]

OWN = ("main", "explore", "processes", "seen", "hooks", "system")
CASES = {
    *("ring.push_pop_pop", "ring.push_pop_pop_buffered"),
    *("sleep.all", "sleep.any", "sleep.all_death", "sleep.any_death"),
    *("sleep.all_buffered", "sleep.any_buffered", "sleep.one_by_one"),
    *("watch.one", "watch.two_maps", "watch.one_by_one", "watch.death", "watch.buffered"),
    *("board.three_tasks", "board.hinted_twice", "board.first_fails", "board.no_retry"),
    *("board.two_maps", "board.hinted_early", "board.hinted_early_buffered"),
    *("heap.hand_over", "heap.hand_over_buffered", "heap.successor"),
}

LINE = re.compile(
    r"(?P<case>[\w.]+) states=(?P<states>\d+) steps=\d+ ends=(?P<ends>\d+) schedules=\S+ failed=0"
)


class Mistake(NamedTuple):
    file: str
    right: str
    wrong: str
    case: str
    complaint: str


RING_SWAP = "if (rw_cas_acq_rel(&ring->words->head, &head, head + 1)) {"
RING_CELLS = """    for (uint64_t i = 0; i < count; i++)
        rw_store_relaxed(&ring->cells[(tail + i) & (ring->capacity - 1)], numbers[i]);
"""
RING_TAIL = "    rw_store_release(&ring->words->tail, tail + count);\n"
RESULT = """    t->result_kind = kind;
    t->result_value = value;
    t->result_length = length;
"""
END = "    rw_store_relaxed(&slot->running, 0);\n"
COUNT = "    /* sync: pairs with rw_board_sleep. */\n    rw_add_seq_cst(&slot->done, 1);\n"
COMMIT = "    rw_store_release(&t->state, (word & ~UINT64_C(0xff)) | state);\n"
ARM = "    t->input_offset = input_offset;\n"
PREPARE = "        uint32_t key = rw_eventcount_prepare(work);\n"
LOOK = "        status = rw_board_take(board, ring, worker, task);\n"
MODE = "    rw_store32_seq_cst(&board->words->mode, mode);\n"
DONE = "    uint64_t done = rw_board_done(board);\n"
UNWATCH = "    rw_eventcount_unwatch(work, worker);\n"
BUMP = "    rw_add32_seq_cst(&ec->seq, 1);\n"
COUNT_ON = """    if (count > 0 && rw_load32_seq_cst(&ec->watcher) != 0)
        count--;
"""
CLOSING = "rw_load32_seq_cst(&board->words->closing)"
HOLD_BIT = """    rw_or_release(&heap->blocks[block].holders[holder / 64], 1ULL << (holder % 64));
    /* sync: pairs with is_free's loads; after the bit, so that a count that was seen means a bit
     * that is seen. */
"""
HOLD_COUNT = "    rw_add_release(&heap->words->holds, 1);\n"

MISTAKES = {
    "pop-takes-by-a-plain-store": Mistake(
        "ring.c",
        RING_SWAP,
        "rw_store_release(&ring->words->head, head + 1);\n        if (true) {",
        "ring.push_pop_pop",
        "a number came out twice",
    ),
    "pop-reads-the-cell-late": Mistake(
        "ring.c",
        "            *number = value;",
        "            *number = rw_load_relaxed(&ring->cells[head & (ring->capacity - 1)]);\n"
        "            (void)value;",
        "ring.push_pop_pop",
        "a number came out that was not next",
    ),
    "push-publishes-before-the-cells": Mistake(
        "ring.c",
        RING_CELLS,
        RING_TAIL + RING_CELLS,
        "ring.push_pop_pop",
        "a number came out that was not next",
    ),
    "push-publishes-in-no-order": Mistake(
        "ring.c",
        RING_TAIL,
        RING_TAIL.replace("release", "relaxed"),
        "ring.push_pop_pop_buffered",
        "a number came out that was not next",
    ),
    "push-overwrites-what-nobody-took": Mistake(
        "ring.c",
        "    if (count > room)\n        count = room;\n",
        "    if (count > room + 1)\n        count = room + 1;\n",
        "ring.push_pop_pop",
        "somebody waits for ever",
    ),
    "claim-by-a-plain-store": Mistake(
        "board.c",
        "    if (!rw_cas_acq_rel(state, &word, next))\n        return RW_STALE;\n    rw_store",
        "    rw_store_release(state, next);\n    rw_store",
        "board.hinted_twice",
        "a task did not run exactly once",
    ),
    "claim-of-any-map": Mistake(
        "board.c",
        " || RW_WORD_EPOCH(word) != number >> 32)",
        ")",
        "board.two_maps",
        "it goes round for ever",
    ),
    "commit-before-the-result": Mistake(
        "board.c",
        RESULT,
        COMMIT.replace("(word", "(rw_load_relaxed(&t->state)") + RESULT,
        "board.three_tasks",
        "a result is torn",
    ),
    "commit-in-no-order": Mistake(
        "board.c",
        COMMIT,
        COMMIT.replace("release", "relaxed"),
        "board.hinted_early_buffered",
        "a result is torn",
    ),
    "arm-in-no-order": Mistake(
        "board.c",
        "    rw_store_release(&t->state, RW_WORD(RW_TASK_READY, 0",
        "    rw_store_relaxed(&t->state, RW_WORD(RW_TASK_READY, 0",
        "board.hinted_early_buffered",
        "a result is torn",  # the clearing of its time came after it
    ),
    "count-before-the-commit": Mistake(
        "board.c",
        COMMIT + END + COUNT,
        COUNT + COMMIT + END,
        "sleep.any",
        "somebody waits for ever",
    ),
    "cancel-by-a-plain-store": Mistake(
        "board.c",
        "return rw_cas_acq_rel(state, &word, next);",
        "rw_store_release(state, next);\n    return true;",
        "board.first_fails",
        "a task was final and changed",
    ),
    "parent-announces-in-no-order": Mistake(
        "board.c",
        MODE + DONE,
        MODE.replace("seq_cst", "release") + DONE,
        "sleep.all_buffered",
        "somebody waits for ever",
    ),
    "parent-looks-before-it-announces": Mistake(
        "board.c",
        MODE + DONE,
        DONE + MODE,
        "sleep.all",
        "somebody waits for ever",
    ),
    "worker-sleeps-without-a-second-look": Mistake(
        "board.c",
        PREPARE + LOOK,
        LOOK + PREPARE,
        "sleep.all",
        "somebody waits for ever",
    ),
    "worker-asks-for-the-end-too-early": Mistake(
        "board.c",
        f"{PREPARE}{LOOK}        if (status != RW_EMPTY || {CLOSING})",
        f"bool closing = {CLOSING};\n{PREPARE}{LOOK}        if (status != RW_EMPTY || closing)",
        "sleep.all",
        "somebody waits for ever",
    ),
    "who-was-woken-passes-nothing-on": Mistake(
        "board.c",
        "board->straight_ns == 0 && rw_load32_relaxed(&board->words->singly)",
        "board->straight_ns == 1",
        "sleep.one_by_one",
        "somebody waits for ever",
    ),
    "notify-says-nothing": Mistake(
        "eventcount.c",
        BUMP + COUNT_ON,
        COUNT_ON,
        "sleep.all",
        "somebody waits for ever",
    ),
    "a-watcher-leaves-without-a-word": Mistake(
        "board.c",
        UNWATCH,
        "",
        "watch.two_maps",
        "somebody waits for ever",
    ),
    "notify-asks-for-a-watcher-too-early": Mistake(
        "eventcount.c",
        BUMP + COUNT_ON,
        COUNT_ON + BUMP,
        "watch.buffered",
        "somebody waits for ever",
    ),
    "a-dead-watcher-is-counted-on": Mistake(
        "board.c",
        "    if (rw_eventcount_unwatch(work, worker))\n        rw_eventcount_notify(work, 1);\n",
        "    (void)work, (void)worker;\n",
        "watch.death",
        "somebody waits for ever",
    ),
    "free-without-a-second-count": Mistake(
        "heap.c",
        "    return rw_load_acquire(&heap->words->holds) == holds;\n",
        "    return holds <= UINT64_MAX;\n",
        "heap.hand_over",
        "a block was given away while somebody held it",
    ),
    "hold-counts-before-the-bit": Mistake(
        "heap.c",
        HOLD_BIT + HOLD_COUNT,
        HOLD_COUNT + HOLD_BIT,
        "heap.hand_over",
        "a block was given away while somebody held it",
    ),
}


def compile_c(source: Path, into: Path, flags: list[str], *first: Path) -> Path:
    made = into / f"{source.stem}.o"
    folders = [f"-I{folder}" for folder in (*first, EXPLORE, CORE)]
    subprocess.run(["gcc", *flags, *folders, "-c", source, "-o", made], check=True)
    return made


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The objects that a checker is linked from, by name."""
    into = tmp_path_factory.mktemp("explore")
    own = [EXPLORE / f"{name}.c" for name in OWN]
    cases = sorted(EXPLORE.glob("explore_*.c"))
    core = [CORE / f"{name}.c" for name in ("ring", "board", "eventcount", "patience")]
    made = {source.stem: compile_c(source, into, [*FLAGS, "-O2"]) for source in own}
    return made | {source.stem: compile_c(source, into, WATCHED) for source in (*cases, *core)}


def explore(parts: dict[str, Path], folder: Path, *cases: str) -> subprocess.CompletedProcess[str]:
    program = folder / "explore"
    subprocess.run(["gcc", *parts.values(), "-o", program], check=True)
    return subprocess.run([program, *cases], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_no_schedule_breaks_a_promise(parts: dict[str, Path], tmp_path: Path) -> None:
    done = explore(parts, tmp_path)
    print(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    found = [LINE.fullmatch(line) for line in done.stdout.splitlines()]
    assert {line["case"] for line in found if line} == CASES
    assert all(line and int(line["states"]) > 400 and int(line["ends"]) > 0 for line in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_found(parts: dict[str, Path], tmp_path: Path, name: str) -> None:
    mistake = MISTAKES[name]
    text = (CORE / mistake.file).read_text()
    assert text.count(mistake.right) == 1
    changed = tmp_path / mistake.file
    changed.write_text(text.replace(mistake.right, mistake.wrong))
    # That of the heap's cases includes heap.c.
    source = EXPLORE / "explore_heap.c" if mistake.file == "heap.c" else changed
    made = compile_c(source, tmp_path, WATCHED, tmp_path)
    done = explore({**parts, source.stem: made}, tmp_path, mistake.case)
    told = (done.stderr or done.stdout).splitlines()[0]
    assert (done.returncode, told) == (1, f"{mistake.case}: {mistake.complaint}, after")
