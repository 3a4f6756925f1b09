"""Signals that come in an Undisturbed block are handled after it, whichever thread gets them."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from ringwalk._core.process import Undisturbed, fork


def test_ctrl_c_waits_for_the_end_of_the_outermost_block() -> None:
    seen = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012  where it is raised is the question
        with Undisturbed():
            with Undisturbed():
                os.kill(os.getpid(), signal.SIGINT)
                seen.append("inner")
            seen.append("outer")
        seen.append("after")
    assert seen == ["inner", "outer"]


def test_another_thread_may_get_the_signal() -> None:
    seen = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        with Undisturbed():
            sender = threading.Thread(
                target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            )
            sender.start()
            sender.join()
            seen.append("block")
        seen.append("after")
    assert seen == ["block"]


def test_ctrl_c_once_more_gets_through_to_a_block_that_hangs() -> None:
    lock = threading.Lock()
    lock.acquire()
    sender = threading.Thread(target=press_until, args=(released := threading.Event(),))
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012  that of the first press
        with Undisturbed():
            sender.start()
            with pytest.raises(KeyboardInterrupt):
                lock.acquire()
            released.set()
            sender.join()
        pytest.fail("the block has no end of its own")


def press_until(released: threading.Event) -> None:
    while not released.wait(0.5):
        os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_as_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Undisturbed():
        pass
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Undisturbed():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_fork_does_not_inherit_what_waits() -> None:
    terminated = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: terminated.append(number))
    try:
        with Undisturbed():
            os.kill(os.getpid(), signal.SIGTERM)
            pid = fork()
            if pid == 0:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                with Undisturbed():
                    pass
                os._exit(0)
        assert terminated == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert os.waitpid(pid, 0) == (pid, 0)


def test_a_child_forked_in_a_block_has_blocks_of_its_own() -> None:
    with Undisturbed():
        pid = fork()
        if pid == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            seen = 0
            try:
                with Undisturbed():
                    os.kill(os.getpid(), signal.SIGINT)
                    seen = 7
                os._exit(1)
            except KeyboardInterrupt:
                os._exit(seen)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
