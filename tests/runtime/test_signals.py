"""Signals wait for the step under way."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from caloforge.runtime import signals
from caloforge.runtime.signals import (
    Stopped,
    catch_signals,
    interrupts_deferred,
    raise_interrupt,
    signals_held_back,
    stoppable,
)


def test_interrupts_wait() -> None:
    seen = []

    def work() -> None:
        with interrupts_deferred():
            signal.raise_signal(signal.SIGINT)
            seen.append("after")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert seen == ["after"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", signals.STOPPING)
def test_the_first_signal_is_noted(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with catch_signals() as interrupt:
        assert interrupt.signal == 0
        signal.raise_signal(number)
        assert interrupt.signal == number
        for other in signals.STOPPING:  # of a launcher, which means the same
            signal.raise_signal(other)
        assert interrupt.signal == number
    assert signal.getsignal(number) is before


def test_a_later_signal_acts_as_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "TOGETHER", 0.0)
    with catch_signals() as interrupt:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert interrupt.signal == signal.SIGTERM


def test_who_asked_not_to_hear_of_a_closed_terminal_does_not() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with catch_signals() as interrupt, stoppable():
            signal.raise_signal(signal.SIGHUP)
            assert interrupt.signal == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", signals.STOPPING)
def test_a_block_that_is_stopped_says_what_is_kept(
    number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    ends: dict[int, type[BaseException]] = {signal.SIGINT: KeyboardInterrupt}
    with (
        pytest.raises(ends.get(number, Stopped), match="a half is kept") as error,
        stoppable(),
        stoppable(lambda: "a half is kept"),
        stoppable(lambda: "that of a step within is not what was asked for"),
    ):
        signal.raise_signal(number)
    if number != signal.SIGINT:
        assert error.value.code == 128 + number
        assert caplog.messages == ["a half is kept"]
        assert signal.getsignal(number) == signal.SIG_DFL


def test_what_a_step_within_says_is_left_to_the_whole(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Stopped, match="a half is kept"), stoppable(lambda: "a half is kept"):
        raise_interrupt(signal.SIGTERM, "a third")
    with pytest.raises(Stopped, match="a third"), stoppable():
        raise_interrupt(signal.SIGTERM, "a third")
    assert caplog.messages == ["a half is kept", "a third"]


def test_children_hear_no_signal_that_stops() -> None:
    code = "import os, signal\nfor n in (1, 2, 10, 15): os.kill(os.getpid(), n)\nprint('alive')"
    with signals_held_back():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "alive\n")
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_deferred_signal_is_noted_too() -> None:
    with catch_signals() as interrupt:
        with interrupts_deferred():
            signal.raise_signal(signal.SIGTERM)
            assert interrupt.signal == 0
        assert interrupt.signal == signal.SIGTERM


def test_other_threads_are_left_alone() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with catch_signals() as interrupt, interrupts_deferred():
            seen.append((interrupt.signal, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(0, before)]


def test_a_program_ends_as_the_signal_asks() -> None:
    with pytest.raises(KeyboardInterrupt, match="kept"):
        raise_interrupt(signal.SIGINT, "kept")
    with pytest.raises(SystemExit) as error:
        raise_interrupt(signal.SIGTERM, "kept")
    assert error.value.code == 128 + signal.SIGTERM


@pytest.mark.parametrize(("number", "end"), [(signal.SIGTERM, Stopped), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_is_heard_where_python_drops_exceptions(number: int, end: type[BaseException]) -> None:
    class Goes:
        def __del__(self) -> None:
            signal.raise_signal(number)
            for _ in range(1000):  # the handler runs here at the latest
                pass

    def work() -> None:
        with stoppable():
            Goes()
            time.sleep(5)

    with pytest.raises(end):
        work()


def test_a_signal_too_late_for_a_step_is_heard_by_who_goes_on() -> None:
    with catch_signals():  # nobody goes on: what was made is made
        signal.raise_signal(signal.SIGUSR1)
    made: list[int] = []

    def make(step: int) -> None:
        with catch_signals():
            signal.raise_signal(signal.SIGUSR1)
            made.append(step)

    with pytest.raises(Stopped, match="1 of 3"), stoppable(lambda: f"{len(made)} of 3"):
        [make(step) for step in range(3)]
    assert made == [0]
