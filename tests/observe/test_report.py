"""What the report computes, what it advises, and how it looks in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ringwalk import WorkerMapper
from ringwalk.observe.advice import advise
from ringwalk.observe.report import page
from ringwalk.observe.summary import Summary
from ringwalk.observe.timeline import Memory, Timeline

Fake = Callable[..., Timeline]
GIB = 1 << 30
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def test_time_is_split_without_a_rest(fake: Fake) -> None:
    # Worker 0: lead 1, busy 3, gap 1, busy 1, tail 3, finale 1. Worker 1: lead 1, busy 8, finale 1.
    timeline = fake(
        [(0, 0, 1.0, 4.0, "done"), (2, 0, 5.0, 6.0, "done"), (1, 1, 1.0, 9.0, "done")],
        workers=2,
        end=10.0,
    )
    summary = Summary.of(timeline)
    assert (summary.wall, summary.between, summary.available) == (10.0, 0.0, 20.0)
    assert (summary.busy, summary.tail, summary.overhead) == (12.0, 3.0, 5.0)
    assert summary.overhead_per_walker == pytest.approx(5 / 3)
    assert summary.worker_use.tolist() == [0.4, 0.8]
    assert summary.imbalance == pytest.approx(8 / 6 - 1)
    assert (summary.segment, summary.longest) == (3.0, 8.0)


def test_a_device_is_used_once_by_two_workers_at_once(fake: Fake) -> None:
    timeline = fake(
        [(0, 0, 0.0, 4.0, "done"), (1, 1, 1.0, 2.0, "done"), (2, 2, 3.0, 6.0, "done"),
         (3, 0, 8.0, 9.0, "done")],
        workers=3,
        end=10.0,
        devices=("a",),
    )  # fmt: skip
    assert Summary.of(timeline).device_use == {"a": pytest.approx(0.7)}


def test_deaths_and_gaps_are_counted(fake: Fake) -> None:
    timeline = fake(
        [(0, 0, 0.0, 1.0, "died"), (0, 0, 1.0, 3.0, "done"), (1, 0, 7.0, 8.0, "failed")],
        workers=1,
        end=8.0,
        spans=[(0.0, 3.0), (7.0, 8.0)],
    )
    summary = Summary.of(timeline)
    assert (summary.died, summary.failed, summary.lost) == (1, 1, 1.0)
    assert (summary.between, summary.walkers, summary.maps) == (4.0, 2, 2)


def test_a_map_that_failed_and_its_repetition_are_two(fake: Fake) -> None:
    timeline = fake(
        [(0, 0, 0.0, 1.0, "failed"), (0, 0, 2.0, 3.0, "done"), (1, 0, 3.0, 4.0, "done")],
        workers=1,
        end=4.0,
        spans=[(0.0, 1.0), (2.0, 4.0)],
        cycle=5,
    )
    assert Summary.of(timeline).walkers == 3


def test_an_empty_timeline_has_a_report(fake: Fake) -> None:
    timeline = fake([], workers=2, end=0.0)
    assert "no segment ran" in page(timeline).lower()


@pytest.mark.parametrize(
    ("bars", "options", "said"),
    [
        ([(0, 0, 0.0, 10.0, "done")], {"workers": 1}, "Nothing stands out"),
        ([(0, 0, 0.0, 10.0, "done")], {"workers": 4}, "1 walkers for 4 workers: use fewer"),
        (
            [(0, 0, 0.0, 1.0, "done"), (1, 1, 0.0, 1.0, "done"), (2, 0, 1.0, 10.0, "done")],
            {"workers": 2},
            'schedule="longest"',
        ),
        (
            [(0, 0, 0.0, 5.0, "done"), (1, 1, 0.0, 5.0, "done"), (2, 0, 5.0, 10.0, "done")],
            {"workers": 2},
            "A multiple of 2",
        ),
        ([(k, 0, k, k + 0.5, "done") for k in range(10)], {"workers": 1}, "Do more in one segment"),
        (
            [(k, 0, k, k + 0.5, "done") for k in range(10)],
            {"workers": 1, "mapper": "TaskMapper"},
            "WorkerMapper keeps its workers",
        ),
        (
            [(k, 0, k, k + 0.5, "done") for k in range(10)],
            {"workers": 1, "bytes_in": 1_000_000, "copies": 3},
            "WalkerBlock",
        ),
        (
            [(0, 0, 0.0, 2.0, "done"), (1, 0, 8.0, 10.0, "done")],
            {"workers": 1, "spans": [(0.0, 2.0), (8.0, 10.0)]},
            "No map ran in 60% of the time",
        ),
        (
            [(0, 0, 0.0, 10.0, "done"), (1, 1, 0.0, 1.0, "done")],
            {"workers": 2, "devices": ("a", "b")},
            "Device b had a segment in 10%",
        ),
        ([(0, 0, 0.0, 10.0, "died")], {"workers": 1}, "1 attempt died, which cost 10 s"),
        ([(0, 0, 0.0, 10.0, "failed")], {"workers": 1}, "1 segment raised"),
        (
            [(0, 0, 0.0, 10.0, "done")],
            {"workers": 1, "memory": Memory(parent=GIB, workers={0: 6 * GIB})},
            "up to 7 GiB in memory, of 8 GiB",
        ),
    ],
)
def test_advice(fake: Fake, bars: list[object], options: dict[str, object], said: str) -> None:
    timeline = fake(bars, end=10.0, **options)
    advice = advise(timeline, Summary.of(timeline), 8 * GIB)
    assert said in " ".join(advice)


def test_the_dearest_comes_first(fake: Fake) -> None:
    timeline = fake(
        [(0, 0, 0.0, 2.0, "done"), (1, 1, 0.0, 1.0, "done"), (2, 0, 8.0, 10.0, "done"),
         (3, 1, 8.0, 9.0, "done")],
        workers=2,
        end=10.0,
        spans=[(0.0, 2.0), (8.0, 10.0)],
    )  # fmt: skip
    first, second = advise(timeline, Summary.of(timeline), 8 * GIB)
    assert first.startswith("No map ran")
    assert second.startswith("Workers waited 25%")


class Reader(HTMLParser):
    """The page's tags, those that fetch something, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [name for name, _ in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def work(walker: int) -> float:
    return float(np.linalg.norm(np.ones((40, 40)) * walker))


def test_the_page_fetches_nothing(tmp_path: Path) -> None:
    with WorkerMapper(work, 2) as mapper:
        mapper.map(range(100))
        mapper.timeline.report(tmp_path / "report.html")
    reader = Reader()
    reader.feed((tmp_path / "report.html").read_text())
    assert reader.fetched == []
    assert not {"script", "link", "img", "iframe"} & set(reader.tags)
    assert "100 segments in 1 map" in reader.text


def test_a_long_timeline_is_a_small_file(fake: Fake) -> None:
    bars = [(k, k % 2, k * 1e-5, k * 1e-5 + 1e-5, "done") for k in range(50_000)]
    assert len(page(fake(bars, workers=2, end=0.5))) < 200_000


@pytest.mark.parametrize(
    ("seconds", "labels"),
    [
        (0.868, ["0 s", "200 ms", "400 ms", "600 ms", "800 ms"]),
        (2.0, ["0 s", "500 ms", "1 s", "1.5 s"]),  # one at the end would be cut
        (0.0, ["0 s"]),
    ],
)
def test_times_are_round(fake: Fake, seconds: float, labels: list[str]) -> None:
    text = page(fake([(0, 0, 0.0, seconds, "done")], workers=1, end=seconds))
    assert re.findall('class="time"[^>]*>([^<]*)<', text) == labels


def test_names_are_escaped(fake: Fake) -> None:
    timeline = fake([(0, 0, 0.0, 1.0, "done")], workers=1, end=1.0, devices=("<b>",))
    assert "<b>" not in page(timeline)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
def test_a_browser_lays_it_out(fake: Fake, tmp_path: Path) -> None:
    bars = [(k, k % 2, 0.1 * (k // 2), 0.1 * (k // 2) + 0.08, "done") for k in range(20)]
    fake(bars, workers=2, end=1.0).report(tmp_path / "report.html")
    assert CHROMIUM is not None
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1040,1400",
        f"--screenshot={tmp_path / 'shot.png'}",
        (tmp_path / "report.html").as_uri(),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    from matplotlib.image import imread

    picture = (imread(tmp_path / "shot.png")[:, :, :3] * 255).round().astype(int)
    blue = (picture == (0x44, 0x77, 0xAA)).all(-1)
    assert picture.shape[:2] == (1400, 1040)
    assert blue.sum() > 2000, "neither the split bar nor the workers' bars are drawn"
    assert len({tuple(pixel) for pixel in picture.reshape(-1, 3)}) > 10, "no text"
