"""Where progress is reported: bars on standard error, a function of the caller's, or nowhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from caloforge.runtime.progress import Display

__all__ = ["Fraction", "Progress", "reporting"]

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction of it that is."""
Fraction = Callable[[float], None]
"""Called with the fraction that is done."""


@contextmanager
def reporting(progress: bool | Progress) -> Iterator[Progress]:
    """What to call to report progress: bars on stderr, the given function, or nothing."""
    if not isinstance(progress, bool):
        yield progress
        return
    with Display(enabled=progress, transient=True) as show:
        yield show
