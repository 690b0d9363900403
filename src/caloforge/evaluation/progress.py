"""Where progress is reported: bars on standard error, a function of the caller's, or nowhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Progress", "reporting"]

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction of it that is."""


@contextmanager
def reporting(progress: bool | Progress) -> Iterator[Progress]:
    """What to call to report progress: bars on stderr, the given function, or nothing."""
    if not isinstance(progress, bool):
        yield progress
        return
    if not progress:
        yield lambda text, fraction: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    tasks: dict[str, Any] = {}
    with Bars(console=Console(stderr=True), transient=True) as bars:

        def show(text: str, fraction: float) -> None:
            if text not in tasks:
                tasks[text] = bars.add_task(text, total=1.0)
            bars.update(tasks[text], completed=fraction)

        yield show
