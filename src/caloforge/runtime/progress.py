"""How far something is: bars on a terminal; elsewhere nothing, or a plain line now and then."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from caloforge.runtime.screen import Screen

__all__ = ["Display"]

SECONDS_BETWEEN_LINES = 10.0


class Display:
    """Shows on standard error what is being done and how far it is, one bar for each thing.

    A context manager, to be called with every step::

        with Display("showers") as show:
            show("generating", 20, 100)

    Args:
        unit: what is counted, whose number a second is shown; ``"B"`` for bytes.
        enabled: False shows nothing at all.
        transient: remove the bars at the end.
    """

    def __init__(self, unit: str = "", *, enabled: bool = True, transient: bool = False) -> None:
        self._unit, self._enabled, self._transient = unit, enabled, transient
        self._screen: Screen | None = None
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last_line = -SECONDS_BETWEEN_LINES

    def __enter__(self) -> Display:
        from caloforge.runtime.screen import Screen

        self._screen = Screen(stderr=True)
        if self._enabled and self._screen.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            amount, speed, text = (
                TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("amount", "speed", "text")
            )
            self._bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                amount,
                speed,
                TimeRemainingColumn(),
                text,
                console=self._screen,
                transient=self._transient,
                refresh_per_second=5,
            )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def __call__(self, what: str, done: float, total: float | None = 1.0, text: str = "") -> None:
        """Show that ``done`` of ``total`` is done, where a terminal shows bars.

        Args:
            what: what is being done; a new bar for each.
            done: how many, or which fraction where the total is 1.
            total: of how many; None where that is not known.
            text: shown behind the bar, such as a loss; an empty one leaves what is there.
        """
        if self._bars is None:
            return
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total, amount="", speed="", text="")
            self._bars.tasks[self._tasks[what]].completed = done  # where it starts is no speed
        task = self._tasks[what]
        fields: dict[str, Any] = {"amount": self._amount(done, total)}
        if text:
            fields["text"] = text
        self._bars.update(task, completed=done, total=total, **fields)
        speed = self._bars.tasks[task].speed
        if self._unit and speed:
            per_second = self._size(speed) if self._unit == "B" else f"{speed:.3g} {self._unit}"
            self._bars.tasks[task].fields["speed"] = f"{per_second}/s"

    def line(self, text: str, *, last: bool = False) -> None:
        """Write a line where there is no terminal: at most one in ten seconds, and the last."""
        now = time.monotonic()
        if self._bars is None and (last or now - self._last_line >= SECONDS_BETWEEN_LINES):
            self._last_line = now
            self.note(text)

    def note(self, text: str) -> None:
        """Write a line that stays, on a terminal above the bars."""
        if self._screen is not None and self._enabled:
            self._screen.print(text, markup=False, highlight=False, soft_wrap=True)

    def _amount(self, done: float, total: float | None) -> str:
        if total == 1:
            return f"{done:.0%}"
        count = self._size if self._unit == "B" else "{:.0f}".format
        return count(done) if total is None else f"{count(done)}/{count(total)}"

    @staticmethod
    def _size(number: float) -> str:
        from rich.filesize import decimal

        return decimal(int(number))
