"""Which rows a slice, a list of numbers, a mask or fractions choose; of showers and of pixel events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import ConditionError, DataError
from caloforge.runtime.streams import checked_seed

__all__ = ["Index", "chosen_rows", "split_rows"]

Index = slice | NDArray[Any] | Sequence[int]


def chosen_rows(index: Index, n: int, what: str = "showers") -> NDArray[np.int64]:
    """Numbers of the rows of ``n`` that ``index`` chooses; DataError where it is none."""
    if isinstance(index, slice):
        return np.arange(*index.indices(n))
    chosen = np.asarray(index)
    if chosen.ndim != 1:
        raise DataError(
            f"{what} are chosen by a slice, a list of numbers or a mask, got {index!r}; "
            f"for a single one use {what}[i : i + 1]"
        )
    if chosen.dtype == bool:
        if chosen.shape != (n,):
            raise DataError(f"a mask for {n} {what} must have shape ({n},), got {chosen.shape}")
        chosen = np.flatnonzero(chosen)
    if len(chosen) and chosen.dtype.kind not in "iu":
        raise DataError(f"{what[:-1]} numbers must be whole numbers, got type {chosen.dtype}")
    chosen = chosen.astype(np.int64)
    bad = chosen[(chosen < -n) | (chosen >= n)]
    if len(bad):
        raise DataError(f"{what[:-1]} index {bad[0]} is out of range for {n} {what}")
    return np.where(chosen < 0, chosen + n, chosen)


def split_rows(n: int, fractions: Sequence[float], seed: int | None) -> list[NDArray[np.int64]]:
    """Disjoint parts of ``n`` rows with the given fractions, and what is left as a last part, if anything.

    Without a seed the order is kept, with one the rows are shuffled.
    """
    if not fractions or min(fractions) <= 0 or sum(fractions) > 1 + 1e-9:
        raise ConditionError(f"fractions must be positive and sum to at most 1, got {tuple(fractions)}")
    order = np.arange(n) if seed is None else np.random.default_rng(checked_seed(seed)).permutation(n)
    stops = [round(n * f) for f in np.cumsum(fractions)]
    if stops[-1] < n and sum(fractions) < 1 - 1e-9:
        stops.append(n)
    return [np.sort(order[a:b]) for a, b in zip([0, *stops[:-1]], stops, strict=True)]
