"""Signals that stop a program: they wait for the step under way, so that what is done can be saved."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import Any

__all__ = [
    "STOPPING",
    "Interrupt",
    "Stopped",
    "catch_signals",
    "interrupts_deferred",
    "raise_interrupt",
    "signals_held_back",
    "stoppable",
]

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Signals that ask a program to stop: Ctrl-C, those of batch systems, and that of a closed terminal."""
TOGETHER = 2.0
"""Seconds in which further signals mean the same: a terminal and a launcher may each send one."""
AGAIN = 0.1
"""Seconds after which a signal comes once more that struck where Python drops exceptions."""
log = logging.getLogger(__name__)
_is_told: ContextVar[bool] = ContextVar("is_told", default=False)
"""True in a block of `stoppable` that says what is kept."""

Handlers = dict[signal.Signals, Any]


class Stopped(SystemExit):
    """The end that a signal other than Ctrl-C asks for, with the status that shells know it by, 128 + n.

    Attributes:
        number: of the signal.
        message: what is kept and how to go on; "" where nobody has said.
    """

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(128 + number)
        self.number, self.message = number, message

    def __str__(self) -> str:
        return self.message


@dataclass
class Interrupt:
    """Set by the first signal, so that the step under way is finished; a later one does as without us.

    Attributes:
        signal: number of the signal; 0 where there was none.
    """

    signal: int = 0


@contextmanager
def catch_signals() -> Iterator[Interrupt]:
    """Collect the first of the `STOPPING` signals in an `Interrupt`; does nothing outside the main thread.

    Where one came and the block ended nevertheless, it was too late for this step; in a block of `stoppable`
    that says what is kept, and so may go on with other steps, it comes once more.
    """
    interrupt, since = Interrupt(), 0.0

    def receive(number: int, frame: FrameType | None) -> None:
        nonlocal since
        if not interrupt.signal:
            interrupt.signal, since = number, time.monotonic()
        elif time.monotonic() - since > TOGETHER:
            _set(before)
            signal.raise_signal(number)

    before = _replaced(receive, lambda number, known: number != signal.SIGHUP or known != signal.SIG_IGN)
    try:
        yield interrupt
    finally:
        _set(before)
    if interrupt.signal and _is_told.get():
        signal.raise_signal(interrupt.signal)


@contextmanager
def stoppable(kept: Callable[[], str] | None = None) -> Iterator[None]:
    """In this block the `STOPPING` signals that would end the program at once raise `Stopped`.

    Python drops what is raised while it calls back for an object that goes; the signal then comes once more.

    Args:
        kept: says what is kept and how to go on, where a signal, Ctrl-C too, ends the block. Of blocks within
            each other the outermost has the word, since it knows what was asked for.
    """
    since = -math.inf

    def receive(number: int, frame: FrameType | None) -> None:
        nonlocal since
        before_that, since = since, time.monotonic()
        if since - before_that > TOGETHER:
            raise Stopped(number)

    def not_heard(lost: sys.UnraisableHookArgs) -> None:
        nonlocal since
        if not isinstance(lost.exc_value, KeyboardInterrupt | Stopped):
            hook(lost)
            return
        number = lost.exc_value.number if isinstance(lost.exc_value, Stopped) else signal.SIGINT
        since = -math.inf
        again = threading.Timer(AGAIN, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    before, outer = _replaced(receive, lambda number, known: known == signal.SIG_DFL), _is_told.get()
    _is_told.set(outer or kept is not None)
    hook, sys.unraisablehook = sys.unraisablehook, not_heard
    try:
        yield
    except (KeyboardInterrupt, Stopped) as stop:
        if kept is None or outer:
            raise
        _is_told.set(False)
        raise_interrupt(stop.number if isinstance(stop, Stopped) else signal.SIGINT, kept())
    finally:
        sys.unraisablehook = hook
        _is_told.set(outer)
        _set(before)


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Hold back the handlers of the `STOPPING` signals until the block ends, so that they never strike in it.

    A signal without a handler ends the process at once, as always. The second of two signals is forgotten.
    """
    caught: list[tuple[int, FrameType | None]] = []
    before = _replaced(
        lambda number, frame: caught.append((number, frame)), lambda number, known: callable(known)
    )
    try:
        yield
    finally:
        _set(before)
        for number, frame in caught[:1]:
            before[signal.Signals(number)](number, frame)


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Processes that are started in this block never get the `STOPPING` signals; this one, afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def raise_interrupt(number: int, message: str) -> None:
    """Stop as the signal asks: KeyboardInterrupt for Ctrl-C, otherwise `Stopped`, with a word in the log."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt(message) from None
    if not _is_told.get():
        log.warning("%s", message)
    raise Stopped(number, message) from None


def _replaced(
    handler: Callable[[int, FrameType | None], None], where: Callable[[signal.Signals, Any], bool]
) -> Handlers:
    """Set ``handler`` for the signals ``where`` theirs is to be replaced; returns the handlers before.

    Empty outside the main thread, where Python neither sets handlers nor runs them.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    known = {number: signal.getsignal(number) for number in STOPPING}
    before = {number: each for number, each in known.items() if where(number, each)}
    for number in before:
        signal.signal(number, handler)
    return before


def _set(handlers: Handlers) -> None:
    for number, handler in handlers.items():
        signal.signal(
            number, signal.SIG_DFL if handler is None else handler
        )  # None: set by other than Python
