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
"""Seconds after which a signal comes again whose exception got lost."""
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

    before = _handlers(lambda number, known: number != signal.SIGHUP or known != signal.SIG_IGN)
    with _in_place_of(before, receive):
        yield interrupt
    if interrupt.signal and _is_told.get():
        signal.raise_signal(interrupt.signal)


@contextmanager
def stoppable(kept: Callable[[], str] | None = None) -> Iterator[None]:
    """In this block the `STOPPING` signals that would end the program at once raise `Stopped`.

    What a handler raises can get lost: Python drops it where it calls back for an object that goes, others do
    in an ``except:``. The signal then comes again; where the block ends before that, as in `catch_signals`.

    Args:
        kept: says what is kept and how to go on, where a signal, Ctrl-C too, ends the block. Of blocks within
            each other the outermost has the word, since it knows what was asked for.
    """
    stop: BaseException | None = None
    since, again, ended, at_the_end = -math.inf, False, threading.Event(), threading.Lock()

    def receive(number: int, frame: FrameType | None) -> None:
        nonlocal stop, since, again
        if again:
            again = False
            if ended.is_set() or _is_handled(stop):
                return
        else:
            before_that, since = since, time.monotonic()
            if since - before_that <= TOGETHER:
                return
        first, stop = stop is None, _stop(number)
        if first:
            threading.Thread(target=repeat, args=(number,), daemon=True).start()
        raise stop

    def repeat(number: int) -> None:
        nonlocal again
        while not ended.wait(AGAIN):
            with at_the_end:  # a signal without our handler would end the process
                if not ended.is_set() and signal.getsignal(number) is receive:
                    again = True
                    os.kill(os.getpid(), number)

    def without_ours(lost: sys.UnraisableHookArgs) -> None:
        if stop is None or lost.exc_value is not stop:
            hook(lost)

    ends_at_once = (signal.SIG_DFL, signal.default_int_handler)
    before, outer = _handlers(lambda number, known: known in ends_at_once), _is_told.get()
    hook = sys.unraisablehook
    with _in_place_of(before, receive):
        try:
            _is_told.set(outer or kept is not None)
            sys.unraisablehook = without_ours
            yield
            if stop is not None and _is_told.get():
                raise stop
        except (KeyboardInterrupt, Stopped) as end:
            if kept is None or outer:
                raise
            _is_told.set(False)
            raise_interrupt(end.number if isinstance(end, Stopped) else signal.SIGINT, kept())
        finally:
            with at_the_end:
                ended.set()
            stop = None
            sys.unraisablehook = hook
            _is_told.set(outer)


def _is_handled(error: BaseException | None) -> bool:
    """Whether ``except``, ``finally`` or ``with`` now deal with ``error``, or with one that came of it."""
    now = sys.exception()
    while now is not None and now is not error:
        now = now.__context__
    return now is not None


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Hold back the handlers of the `STOPPING` signals until the block ends, so that they never strike in it.

    A signal without a handler ends the process at once, as always. The second of two signals is forgotten.
    """
    caught: list[tuple[int, FrameType | None]] = []
    before = _handlers(lambda number, known: callable(known))
    try:
        with _in_place_of(before, lambda number, frame: caught.append((number, frame))):
            yield
    finally:
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
    if number != signal.SIGINT and not _is_told.get():
        log.warning("%s", message)
    raise _stop(number, message) from None


def _stop(number: int, message: str = "") -> KeyboardInterrupt | Stopped:
    return KeyboardInterrupt(message) if number == signal.SIGINT else Stopped(number, message)


def _handlers(where: Callable[[signal.Signals, Any], bool]) -> Handlers:
    """Handlers of the `STOPPING` signals, those for which ``where`` holds.

    None outside the main thread, where Python neither sets handlers nor runs them.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    known = {number: signal.getsignal(number) for number in STOPPING}
    return {number: each for number, each in known.items() if where(number, each)}


@contextmanager
def _in_place_of(handlers: Handlers, handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    try:
        _set(dict.fromkeys(handlers, handler))
        yield
    finally:
        _set(handlers)


def _set(handlers: Handlers) -> None:
    """Set handlers, all of them, also where one that is called meanwhile raises an exception."""
    left = list(handlers.items())
    try:
        while left:
            number, handler = left[-1]
            known = signal.SIG_DFL if handler is None else handler  # None: set by other than Python
            signal.signal(number, known)
            left.pop()
    finally:
        if left:
            _set(dict(left))
