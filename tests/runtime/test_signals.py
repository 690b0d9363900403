"""Signals wait for the step under way."""

from __future__ import annotations

import signal
import threading

import pytest

from caloforge.runtime.signals import catch_signals, interrupts_deferred, raise_interrupt


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with catch_signals() as interrupt:
        assert interrupt.signal == 0
        signal.raise_signal(number)
        assert interrupt.signal == number
        assert signal.getsignal(number) is before  # the second one acts as always
    assert signal.getsignal(number) is before


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
