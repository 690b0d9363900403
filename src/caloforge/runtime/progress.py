"""One way to show on a terminal how far something is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Show", "progress_bar"]


class Show(Protocol):
    """Says how many are done of how many, or how many more, and what is being done; None leaves it."""

    def __call__(
        self,
        done: int | None = None,
        total: int | None = None,
        *,
        advance: int | None = None,
        what: str | None = None,
    ) -> None: ...


@contextmanager
def progress_bar(
    what: str,
    total: int | None = None,
    done: int = 0,
    *,
    unit: str = "",
    wanted: bool = True,
    transient: bool = False,
) -> Iterator[Show]:
    """A function that moves a bar on standard error, and does nothing where no terminal shows it.

    Args:
        what: what is being done.
        total: how many there are, where that is known yet.
        done: how many were done before.
        unit: what is counted, to show the speed.
        wanted: False for no bar.
        transient: remove the bar at the end.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not (wanted and console.is_terminal):
        yield lambda done=None, total=None, *, advance=None, what=None: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed_told]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=transient) as bar:
        task = bar.add_task(what, total=total, completed=done, speed_told="")

        def show(
            done: int | None = None,
            total: int | None = None,
            *,
            advance: int | None = None,
            what: str | None = None,
        ) -> None:
            bar.update(task, completed=done, total=total, advance=advance, description=what)
            speed = bar.tasks[0].speed
            if unit and speed:
                bar.update(task, speed_told=f"{speed:.3g} {unit}/s")

        yield show
