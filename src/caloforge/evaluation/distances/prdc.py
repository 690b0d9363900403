"""Precision, recall, density and coverage (Naeem et al., arXiv:2002.09797), as the CaloChallenge uses them.

Legend: ``N`` showers of both samples pooled, ``K`` neighbours kept of each.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Showers
from caloforge.errors import DataError
from caloforge.evaluation.distances.neighbours import nearest_among
from caloforge.evaluation.distances.points import Points, log_energies
from caloforge.evaluation.progress import Progress
from caloforge.evaluation.results import Estimate

__all__ = ["MAX_SHOWERS", "drawn_rows", "prdc"]

MAX_SHOWERS = 10_000
PERMUTATIONS = 20
_POINTS_BYTES = 768 << 20
_CHUNK = 512

Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]


def prdc(
    reference: Showers,
    generated: Showers,
    *,
    k: int = 5,
    max_showers: int = MAX_SHOWERS,
    seed: int = 0,
    second: Showers | None = None,
    progress: Progress | None = None,
) -> dict[str, Estimate]:
    """Do generated showers lie among the real ones, and the other way round?

    A shower's ball reaches up to its k-th nearest neighbour in its own sample. Distances are Euclidean
    between log₁₀ of the cell energies in MeV, with 0.1 MeV for empty cells, rounded to steps of 0.2 %.

    * ``precision``: share of generated showers in the ball of any real one.
    * ``recall``: share of real showers in the ball of any generated one.
    * ``density``: how many real balls a generated shower is in, on average, over k.
    * ``coverage``: share of real showers with a generated one in their ball.

    The error is that of a mean over independent showers, with the balls as they are; that of the floor holds
    the fluctuations of the balls too. The floor is what both samples pooled and dealt out again at random
    have, 20 times; or reference and second reference.

    Args:
        reference, generated: showers on the same mesh.
        k: neighbours within a ball.
        max_showers: of a sample; of larger ones so many are drawn at random. All pairs are compared, so the
            time rises with the square.
        seed: of the draws.
        second: a second, independent reference.
        progress: called with a text and the fraction that is done.

    Raises:
        MeshError: the meshes differ.
        DataError: a sample has no more than k showers.
    """
    reference.require_same_cells(generated, "generated showers to compare")
    samples = [_drawn(s, max_showers, 2, seed + i) for i, s in enumerate((reference, generated))]
    for name, sample in zip(("reference", "generated"), samples, strict=True):
        if len(sample) <= k:
            raise DataError(f"{len(sample)} {name} showers; balls up to neighbour {k} need at least {k + 1}")
    points = Points(Showers.concatenate(samples), log_energies)
    real = np.arange(len(points)) < len(samples[0])
    share = min(real.mean(), 1 - real.mean())
    # so many that fewer than k of one sample are among them in hardly any shuffled list
    kept = int(np.ceil((k + 3 * np.sqrt(k) + 3) / share))
    numbers, squares = nearest_among(
        points, kept, progress and partial(progress, "comparing showers with their neighbours")
    )
    parts = _shares(numbers, squares, real, k, points)
    if second is not None:
        again = prdc(reference, second, k=k, max_showers=max_showers, seed=seed, progress=progress)
        floors = {name: (again[name].value, again[name].error) for name in parts}
    else:
        rng = np.random.default_rng(seed)
        dealt = [_shares(numbers, squares, rng.permutation(real), k) for _ in range(PERMUTATIONS)]
        means = {name: [d[name].mean() for d in dealt] for name in parts}
        floors = {name: (float(np.mean(m)), float(np.std(m, ddof=1))) for name, m in means.items()}
    return {
        name: Estimate(
            value=float(values.mean()),
            error=float(values.std() / np.sqrt(len(values))),
            floor=floors[name][0],
            floor_error=floors[name][1],
            floor_from="permutation" if second is None else "second reference",
            ideal=1.0,
            higher_is_better=True,
            showers=(len(samples[0]), len(samples[1])),
            outside=points.outside,
        )
        for name, values in parts.items()
    }


def drawn_rows(n: int, n_voxels: int, max_showers: int, samples: int, seed: int) -> Rows:
    """Numbers of the showers to use of n, rising: all, or as many as are allowed and fit into memory."""
    allowed = min(max_showers, _POINTS_BYTES // (2 * n_voxels * samples))
    if n <= allowed:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, size=allowed, replace=False))


def _drawn(showers: Showers, max_showers: int, samples: int, seed: int) -> Showers:
    rows = drawn_rows(len(showers), showers.mesh.n_voxels, max_showers, samples, seed)
    return showers if len(rows) == len(showers) else showers[rows]


def _shares(
    numbers: Rows, squares: Floats, real: Flags, k: int, points: Points | None = None
) -> dict[str, Floats]:
    """What the four numbers are means of, one value a shower.

    Args:
        numbers, squares: neighbours of each shower among both samples and squared distances, (N, K), sorted.
        real: which showers are in the first sample, (N,).
        k: neighbours within a ball.
        points: to look beyond the lists where fewer than k of a shower's own sample are in its list; without,
            such a shower's ball ends with its list.
    """
    other = real[numbers] != real[:, None]
    own = np.cumsum(~other, axis=1)
    complete = own[:, -1] >= k
    radii = np.take_along_axis(squares, (own >= k).argmax(axis=1)[:, None], axis=1)
    radii[~complete] = np.inf
    inside = other & (squares < radii)
    if points is not None:
        inside[~complete] = False
    balls = np.bincount(numbers[inside], minlength=len(real))  # of the other sample, that a shower is in
    guests = inside.sum(axis=1)  # of the other sample, in a shower's ball
    if points is not None:
        for rows in np.array_split(np.flatnonzero(~complete), -(-int((~complete).sum()) // _CHUNK) or 1):
            if len(rows):
                held = _balls_of(points, rows, real, k)
                balls += held.sum(axis=0)
                guests[rows] = held.sum(axis=1)
    return {
        "precision": (balls[~real] > 0).astype(np.float64),
        "recall": (balls[real] > 0).astype(np.float64),
        "density": balls[~real] / k,
        "coverage": (guests[real] > 0).astype(np.float64),
    }


def _balls_of(points: Points, rows: Rows, real: Flags, k: int) -> Flags:
    """Which showers of the other sample are in the balls of these showers, (rows, N)."""
    squares = points.squared_distances(rows, points, slice(0, len(points))).numpy()
    squares[np.arange(len(rows)), rows] = np.inf
    other = real[rows][:, None] != real
    radii = np.partition(np.where(other, np.inf, squares), k - 1, axis=1)[:, k - 1]
    return np.asarray(other & (squares < radii[:, None]))
