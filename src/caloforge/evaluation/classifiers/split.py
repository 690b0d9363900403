"""Which showers train, choose and judge. Legend: ``n`` showers of a class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.evaluation.classifiers.inputs import Sample

__all__ = ["are_twins", "draw_rows", "part_sizes", "split_rows"]

SPLIT = (0.6, 0.2)
LEAST = 10

Rows = NDArray[np.int64]


def are_twins(samples: Sequence[Sample]) -> bool:
    """True where all samples have the same incident energies in the same order."""
    first = samples[0][0].conditions.energy
    return all(np.array_equal(first, showers.conditions.energy) for showers, _ in samples[1:])


def draw_rows(
    samples: Sequence[Sample], rng: np.random.Generator, *, twins: bool, most: int | None = None
) -> list[Rows]:
    """As many rows of each sample as the smallest has, or ``most``, sorted; of twins the same ones."""
    smallest = min(len(showers) for showers, _ in samples)
    n = smallest if most is None else min(smallest, most)
    if twins:
        rows = np.arange(n) if n == smallest else np.sort(rng.permutation(smallest)[:n])
        return [rows] * len(samples)
    return [np.sort(rng.permutation(len(showers))[:n]) for showers, _ in samples]


def part_sizes(n: int) -> tuple[int, int, int]:
    """Showers of a class of n that train, choose and judge: 60, 20 and 20 %; DataError below 10 showers."""
    if n < LEAST:
        raise DataError(f"a classifier needs at least {LEAST} showers of each class, got {n}")
    first, second = round(n * SPLIT[0]), round(n * (SPLIT[0] + SPLIT[1]))
    return first, second - first, n - second


def split_rows(sizes: Sequence[int], rng: np.random.Generator, *, twins: bool) -> list[Rows]:
    """Rows that train, choose and judge, of all classes together, whose rows lie one class after the other.

    Where row i of every class belongs together (``generate --like`` makes a shower for each energy of the
    reference), all go into the same part. Otherwise a network could learn a reference shower by heart, its
    exact energy at least, and then mistake the generated twin for it.
    """
    starts = np.cumsum([0, *sizes[:-1]])
    common = rng.permutation(sizes[0])
    parts: list[list[Rows]] = [[], [], []]
    for start, size in zip(starts, sizes, strict=True):
        order = start + (common if twins else rng.permutation(size))
        bounds = np.cumsum(part_sizes(size))[:-1]
        for part, rows in zip(parts, np.split(order, bounds), strict=True):
            part.append(rows)
    return [np.concatenate(part) for part in parts]
