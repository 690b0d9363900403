"""Nearest neighbours of showers, in blocks: no matrix of all pairs is ever held.

Legend: ``N`` showers, ``K`` neighbours kept, ``C`` candidates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.distances.points import Points
from caloforge.evaluation.progress import Fraction

if TYPE_CHECKING:
    import torch

__all__ = ["nearest_among", "nearest_in_windows"]

BLOCK = 1024

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


def nearest_among(points: Points, count: int, report: Fraction | None = None) -> tuple[Rows, Floats]:
    """The nearest other points of every point: their numbers and squared distances in steps, (N, K), sorted.

    Every pair is computed once. The memory taken is that of a few blocks of 1024 × 1024 pairs and of the
    result, which does not depend on the blocks but for the order of equal distances.

    Args:
        points: N of them.
        count: K, at most N − 1 of which are found.
        report: of progress.
    """
    import torch

    n, count = len(points), min(count, len(points) - 1)
    squares = torch.full((n, count), torch.inf, dtype=torch.float64)
    numbers = torch.zeros((n, count), dtype=torch.int64)
    blocks = [slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]
    # blocks on the diagonal first: they set limits that let few candidates through afterwards
    pairs = [(a, a) for a in blocks] + [(a, b) for i, a in enumerate(blocks) for b in blocks[i + 1 :]]
    for done, (a, b) in enumerate(pairs, start=1):
        found = points.squared_distances(a, points, b)
        if a == b:
            found.fill_diagonal_(torch.inf)
            values, places = found.topk(min(count, len(found)), largest=False)
            squares[a, : values.shape[1]], numbers[a, : values.shape[1]] = values, places + a.start
        else:
            _keep_nearest(squares[a], numbers[a], found, b.start)
            _keep_nearest(squares[b], numbers[b], found.T, a.start)
        if report is not None:
            report(done / len(pairs))
    return numbers.numpy(), squares.numpy()


def _keep_nearest(squares: torch.Tensor, numbers: torch.Tensor, found: torch.Tensor, start: int) -> None:
    """Put what is nearer among ``found`` (n, c), for the points from ``start`` on, into the lists (n, K)."""
    import torch

    rows, places = torch.nonzero(found < squares[:, -1:], as_tuple=True)
    if not len(rows):
        return
    # the candidates of each row side by side, rows without any left out
    per_row = torch.bincount(rows, minlength=len(squares))
    touched = torch.nonzero(per_row)[:, 0]
    first = per_row.cumsum(0) - per_row
    seat = torch.arange(len(rows)) - first[rows]
    line = torch.cumsum(per_row > 0, 0)[rows] - 1
    shape = (len(touched), int(per_row.max()))
    candidates = torch.full(shape, torch.inf, dtype=torch.float64)
    candidates[line, seat] = found[rows, places]
    names = torch.zeros(shape, dtype=torch.int64)
    names[line, seat] = places + start
    values = torch.cat([squares[touched], candidates], dim=1)
    names = torch.cat([numbers[touched], names], dim=1)
    kept, order = values.topk(squares.shape[1], largest=False)
    squares[touched], numbers[touched] = kept, names.gather(1, order)


def nearest_in_windows(
    queries: Points, targets: Points, starts: Rows, stops: Rows, report: Fraction | None = None
) -> tuple[Rows, Floats]:
    """The nearest target of each query among targets start … stop − 1 of its own, (N,).

    Args:
        queries: N of them.
        targets: in an order in which the windows of neighbouring queries overlap.
        starts, stops: the window of each query, (N,), both rising.
        report: of progress.

    Returns:
        Numbers of the targets (−1 for an empty window) and squared distances in steps (infinite there).
    """
    import torch

    numbers, squares = np.full(len(queries), -1), np.full(len(queries), np.inf)
    rows = BLOCK // 2
    for begin in range(0, len(queries), rows):
        block = slice(begin, min(begin + rows, len(queries)))
        low, high = torch.from_numpy(starts[block])[:, None], torch.from_numpy(stops[block])[:, None]
        for left in range(int(low[0]), int(high[-1]), BLOCK):
            columns = slice(left, min(left + BLOCK, int(high[-1])))
            found = queries.squared_distances(block, targets, columns)
            place = torch.arange(columns.start, columns.stop)
            found[(place < low) | (place >= high)] = torch.inf
            least, where = (t.numpy() for t in found.min(dim=1))
            nearer = least < squares[block]
            squares[block][nearer], numbers[block][nearer] = least[nearer], where[nearer] + left
        if report is not None:
            report(block.stop / len(queries))
    return numbers, squares
