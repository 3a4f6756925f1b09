"""What a summary says in plain language: what to change, the dearest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringwalk.observe.summary import Summary

if TYPE_CHECKING:
    from ringwalk.observe.timeline import Timeline

# Shares of the time below which a remark would send people after noise.
_BETWEEN = 0.1
_TAIL = 0.1
_OVERHEAD = 0.1
_DEVICE_GAP = 0.2
_MUCH_DATA = 100_000  # bytes a walker
_MEMORY = 0.8


def advise(timeline: Timeline, summary: Summary, machine_memory: int) -> list[str]:
    """Sentences; at least one."""
    if not len(timeline) and not timeline.stuck:
        return ["No segment ran, so there is nothing to say: ask for the timeline after a map."]
    found = [
        *_between(summary),
        *_tail(timeline, summary),
        *_overhead(timeline, summary),
        *_devices(summary),
    ]
    sentences = [f"{worker.text} {worker.advice}" for worker in timeline.stuck]
    sentences += [text for _, text in sorted(found, key=lambda item: -item[0])]
    sentences += [*_deaths(summary), *_memory(timeline, machine_memory)]
    return sentences or [
        f"Nothing stands out: workers spent {summary.share(summary.busy):.0%} of the maps' time in "
        "segments. To be faster, make the segments faster or use more workers."
    ]


Weighted = list[tuple[float, str]]  # share of the time that it costs, and the sentence


def _between(summary: Summary) -> Weighted:
    share = summary.between / summary.wall if summary.wall else 0.0
    if share < _BETWEEN:
        return []
    return [
        (
            share,
            f"No map ran in {share:.0%} of the time: that is what your program does between maps "
            "(resampling, analysis, writing files). More workers cannot help there; make that "
            "part faster first, or map larger pieces.",
        )
    ]


def _tail(timeline: Timeline, summary: Summary) -> Weighted:
    share = summary.share(summary.tail)
    if share < _TAIL:
        return []
    begin = f"Workers waited {share:.0%} of the maps' time for the last segments to end. "
    a_map = summary.walkers / max(1, summary.maps)
    if a_map < timeline.workers:
        advice = (
            f"A map had {a_map:.0f} walkers for {timeline.workers} workers: use fewer workers, or "
            "give each segment more threads (threads_per_worker=)."
        )
    elif summary.longest > 1.5 * summary.segment:
        advice = (
            f"The longest segment took {time_text(summary.longest)}, the median "
            f'{time_text(summary.segment)}: schedule="longest" hands out the long ones first.'
        )
    elif a_map % timeline.workers:
        advice = (
            f"A map had {a_map:.0f} walkers for {timeline.workers} workers: in the last round some "
            f"had none. A multiple of {timeline.workers} fills them all."
        )
    else:
        advice = "Some workers were slower than others: look whether something else uses the CPUs."
    return [(share, begin + advice)]


def _overhead(timeline: Timeline, summary: Summary) -> Weighted:
    share = summary.share(summary.overhead)
    if share < _OVERHEAD:
        return []
    begin = (
        f"{share:.0%} of the workers' time went into handing walkers out and taking results in "
        f"({time_text(summary.overhead_per_walker)} a walker, beside a segment of "
        f"{time_text(summary.segment)}). "
    )
    data = (summary.bytes_in + summary.bytes_out) / max(1, summary.walkers)
    if timeline.mapper == "TaskMapper":
        advice = "TaskMapper forks a process a walker; WorkerMapper keeps its workers."
    elif data > _MUCH_DATA and summary.copies > 1:
        advice = (
            f"A walker's data, {size_text(data)} in and out, were copied {summary.copies} times: "
            "keep walkers in a WalkerBlock: one copy."
        )
    else:
        advice = "Do more in one segment: more steps, or several walkers."
    return [(share, begin + advice)]


def _devices(summary: Summary) -> Weighted:
    use = summary.device_use
    if not use:
        return []
    least = min(use, key=use.__getitem__)
    if (gap := max(use.values()) - use[least]) < _DEVICE_GAP:
        return []
    return [
        (
            gap / len(use),
            f"Device {least} had a segment in {use[least]:.0%} of the maps' time, the busiest one "
            f"in {max(use.values()):.0%}: use a number of workers that is a multiple of the "
            f"{len(use)} devices.",
        )
    ]


def _deaths(summary: Summary) -> list[str]:
    found = []
    if summary.died:
        found.append(
            f"{_count(summary.died, 'attempt')} died, which cost {time_text(summary.lost)} of "
            "worker time: a crash, a kill for want of memory, or an overrun timeout=. The error or "
            "the kernel's log (dmesg) says which."
        )
    if summary.failed:
        found.append(
            f"{_count(summary.failed, 'segment')} raised; the map's error has the traceback."
        )
    return found


def _memory(timeline: Timeline, machine: int) -> list[str]:
    memory = timeline.memory
    most = memory.parent + sum(memory.workers.values())
    if not machine or most < _MEMORY * machine:
        return []
    return [
        f"Parent and workers together had up to {size_text(most)} in memory, of "
        f"{size_text(machine)} that there are (shared pages are counted more than once): with more "
        "workers the kernel may kill one."
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def time_text(seconds: float) -> str:
    if not seconds:
        return "0 s"
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def size_text(count: float) -> str:
    for scale, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:.0f} bytes"
