"""Independent pieces of linear algebra on several cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from caloforge.evaluation.packages import needed
from caloforge.runtime.cores import usable_threads

__all__ = ["threads"]


@contextmanager
def threads() -> Iterator[Callable[..., Iterator[Any]]]:
    """A ``map`` that takes several items at once, in order; NumPy lets go of the interpreter meanwhile.

    Each thread multiplies on its own: one BLAS on several threads waits for the slowest of them at every
    small product, which on a busy machine costs several times as much as it gains. Finding the BLAS takes
    milliseconds: hence one ``map`` for many small products.
    """
    threadpool_limits = needed("threadpoolctl", "threadpoolctl").threadpool_limits
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(usable_threads()) as pool:
        yield pool.map
