"""Signals that stop a program: they wait for the step under way, so that what is done can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

__all__ = ["STOPPING", "Interrupt", "catch_signals", "interrupts_deferred", "raise_interrupt"]

STOPPING = (signal.SIGINT, signal.SIGTERM)
"""Signals that ask a program to stop: Ctrl-C, and what batch systems send."""

Handlers = dict[signal.Signals, Any]


@dataclass
class Interrupt:
    """Set by the first signal, so that the step under way is finished; the second one does as without us.

    Attributes:
        signal: number of the signal; 0 where there was none.
    """

    signal: int = 0


@contextmanager
def catch_signals() -> Iterator[Interrupt]:
    """Collect the first of the `STOPPING` signals in an `Interrupt`; does nothing outside the main thread."""
    interrupt = Interrupt()

    def receive(number: int, frame: FrameType | None) -> None:
        interrupt.signal = number
        _set(before)

    before = _replaced(receive)
    try:
        yield interrupt
    finally:
        _set(before)


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Hold back the handlers of the `STOPPING` signals until the block ends, so that they never strike in it.

    A signal without a handler ends the process at once, as always. The second of two signals is forgotten.
    """
    caught: list[tuple[int, FrameType | None]] = []
    before = _replaced(lambda number, frame: caught.append((number, frame)), handled_only=True)
    try:
        yield
    finally:
        _set(before)
        for number, frame in caught[:1]:
            before[signal.Signals(number)](number, frame)


def raise_interrupt(number: int, message: str) -> None:
    """Stop as the signal asks: KeyboardInterrupt for Ctrl-C, otherwise an exit with the signal's status."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt(message)
    raise SystemExit(128 + number)


def _replaced(handler: Callable[[int, FrameType | None], None], *, handled_only: bool = False) -> Handlers:
    """Set ``handler`` for the signals; returns the handlers before.

    Empty outside the main thread, where Python neither sets handlers nor runs them.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    before = {number: signal.getsignal(number) for number in STOPPING}
    if handled_only:
        before = {number: known for number, known in before.items() if callable(known)}
    for number in before:
        signal.signal(number, handler)
    return before


def _set(handlers: Handlers) -> None:
    for number, handler in handlers.items():
        signal.signal(
            number, signal.SIG_DFL if handler is None else handler
        )  # None: set by other than Python
