"""Independent pieces of linear algebra on several cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from caloforge.errors import MissingDependencyError
from caloforge.runtime.cores import usable_threads

__all__ = ["in_threads"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """``function`` of every item, in order, several at once; NumPy lets go of the interpreter meanwhile.

    Each thread multiplies on its own: one BLAS on several threads waits for the slowest of them at every
    small product, which on a busy machine costs several times as much as it gains.
    """
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:  # comes with scikit-learn
        raise MissingDependencyError("threadpoolctl", "evaluate") from error
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(usable_threads()) as pool:
        return list(pool.map(function, items))
