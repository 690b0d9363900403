"""Independent pieces of linear algebra on several cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from caloforge.evaluation.packages import needed
from caloforge.runtime.cores import usable_threads

__all__ = ["in_threads"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """``function`` of every item, in order, several at once; NumPy lets go of the interpreter meanwhile.

    Each thread multiplies on its own: one BLAS on several threads waits for the slowest of them at every
    small product, which on a busy machine costs several times as much as it gains.
    """
    threadpool_limits = needed("threadpoolctl", "threadpoolctl").threadpool_limits
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(usable_threads()) as pool:
        return list(pool.map(function, items))
