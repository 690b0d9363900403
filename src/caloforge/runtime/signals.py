"""Ctrl-C and SIGTERM that wait for the step under way, so that what is done can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

__all__ = ["Interrupt", "catch_signals", "raise_interrupt"]


@dataclass
class Interrupt:
    """Set by the first Ctrl-C or SIGTERM, so that the step under way is finished; the second one kills."""

    signal: int = 0


@contextmanager
def catch_signals() -> Iterator[Interrupt]:
    """Collect SIGINT and SIGTERM in an `Interrupt`; does nothing outside the main thread."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def receive(number: int, frame: FrameType | None) -> None:
        interrupt.signal = number
        for key, handler in before.items():
            signal.signal(key, handler)

    for number in before:
        signal.signal(number, receive)
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_interrupt(number: int, message: str) -> None:
    """Stop as the signal asks: KeyboardInterrupt for Ctrl-C, otherwise an exit with the signal's status."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt(message)
    raise SystemExit(128 + number)
