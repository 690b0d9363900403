"""The kernel physics distance (Kansal et al., arXiv:2211.10295), as the CaloChallenge uses it.

Legend: ``P`` showers of both samples pooled, ``D`` features, ``B`` pairs of draws.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.distances.matrix import Floats, Pool, Rows, dealt_again, draw, with_floor
from caloforge.evaluation.distances.parallel import threads
from caloforge.evaluation.results import Estimate

__all__ = ["BATCHES", "BATCH_SIZE", "kpd", "polynomial_mmd"]

BATCHES = 10
BATCH_SIZE = 10_000
PERMUTATIONS = 5
_BLOCK = 2048


def kpd(
    reference: NDArray[np.floating],
    generated: NDArray[np.floating],
    *,
    seed: int = 0,
    floor: bool = True,
    second: NDArray[np.floating] | None = None,
    batches: int = BATCHES,
    batch_size: int = BATCH_SIZE,
) -> Estimate:
    """KPD between two samples: the median of the unbiased squared MMD of ten pairs of draws.

    The kernel is (x·y / D + 1)⁴; each pair has 10,000 showers of each sample, drawn with replacement. The
    error is half the range from 16.275 % to 83.725 % of the ten. Values are as they are; tables often quote
    them times 10³.

    Args:
        reference, generated: features, (N, D) and (M, D); see `feature_matrix`.
        seed: of the draws. The package ``jetnet`` draws the same showers from the same seed (its own is 42).
        floor: also give what two samples of one origin have: of ``reference`` and ``second`` where that is
            given, else of both samples pooled and dealt out again at random, five times. Their scatter
            also enters the error of a second reference's floor.
        second: features of a second, independent reference, (K, D).
        batches, batch_size: the protocol's, to be changed in tests only.

    Raises:
        DataError: the matrices do not fit together or hold NaN.
    """
    matrices = (reference, generated) if second is None else (reference, generated, second)
    pool = Pool(*matrices)
    x, y, *others = pool.rows
    showers = len(x), len(y)
    together = len(x) + len(y) <= 2 * np.sqrt(batches) * batch_size  # one kernel of all pairs costs less
    draws = _draws(x, y, seed, batches, batch_size)
    per_deal = batches if together else 1
    dealt = PERMUTATIONS if floor else 0
    for i, rows in enumerate(dealt_again(x, y, seed, dealt)):
        draws += _draws(*rows, seed + 1 + i, per_deal, batch_size)
    values = _mmd_of(pool, draws, together)
    value = _median_error(values[:batches])
    if not floor:
        return Estimate(value=value[0], error=value[1], showers=showers)
    levels = np.median(values[batches:].reshape(dealt, per_deal), axis=1)
    against = None
    if others:
        draws = _draws(x, others[0], seed, batches, batch_size)
        against = _median_error(_mmd_of(pool, draws, together))
    return with_floor(value, levels, against, showers)


def polynomial_mmd(pool: Floats, first: Rows, second: Rows) -> Floats:
    """Unbiased squared MMD of pairs of samples with the kernel k(x, y) = (x·y / D + 1)⁴, (B,).

    With u and v the counts of a pair of n showers each, the estimator is

        [u'Ku − Σ u k(x,x) + v'Kv − Σ v k(x,x)] / (n (n − 1)) − 2 u'Kv / n²
        = [a'Ka − Σ (u + v) k(x,x)] / (n (n − 1)) + 2 u'Kv / (n² (n − 1)),    a = u − v.

    The kernel of two showers is computed once for all samples, half of the pairs by symmetry, in blocks
    and in single precision: rounding errors have random signs in a'Ka and cancel.

    Args:
        pool: features, (P, D).
        first, second: how often each row is in the samples, (P, B), all columns summing to the same n.
    """
    n = int(first[:, 0].sum())
    used = np.flatnonzero(first.any(axis=1) | second.any(axis=1))
    rows, u, v = pool[used], first[used], second[used]
    self_terms = (np.einsum("pd,pd->p", rows, rows) / rows.shape[1] + 1) ** 4 @ (u + v)
    # a last column of ones makes the product x·y / D + 1
    z = np.ones((len(rows), rows.shape[1] + 1), dtype=np.float32)
    np.divide(rows, np.sqrt(rows.shape[1]), out=z[:, :-1], casting="same_kind")
    del rows
    weights = np.concatenate([u - v, u + v], axis=1, dtype=np.float32)
    starts = range(0, len(z), _BLOCK)

    def form(corner: tuple[int, int]) -> Floats:
        i, j = corner
        kernel = z[i : i + _BLOCK] @ z[j : j + _BLOCK].T
        np.square(kernel, out=kernel)
        np.square(kernel, out=kernel)
        part: Floats = np.einsum(
            "pb,pb->b", weights[i : i + _BLOCK], kernel @ weights[j : j + _BLOCK], dtype=np.float64
        )
        return part if i == j else 2 * part

    with threads() as each:
        forms = np.stack([*each(form, [(i, j) for i in starts for j in starts if j >= i])])
    difference, total = np.split(forms.sum(axis=0), 2)
    cross = (total - difference) / 4
    return np.asarray((difference - self_terms) / (n * (n - 1)) + 2 * cross / (n**2 * (n - 1)))


def _draws(first: Rows, second: Rows, seed: int, batches: int, size: int) -> list[tuple[Rows, Rows]]:
    """Pairs of draws from two sets of rows."""
    pairs = []
    for i in range(batches):
        rng = np.random.default_rng(seed + 1000 * i)
        pairs.append((draw(rng, first, size), draw(rng, second, size)))
    return pairs


def _mmd_of(pool: Pool, draws: list[tuple[Rows, Rows]], together: bool) -> Floats:
    """MMD² of all draws: with one kernel for all, or, where a draw is a small part of the pool, one each."""
    found = []
    for pairs in [draws] if together else [[pair] for pair in draws]:
        used = np.unique(np.concatenate([rows for pair in pairs for rows in pair]))
        counts = [
            np.stack(
                [np.bincount(np.searchsorted(used, rows), minlength=len(used)) for rows in sample], axis=1
            )
            for sample in zip(*pairs, strict=True)
        ]
        found.append(polynomial_mmd(pool.take(used), *counts))
    return np.concatenate(found)


def _median_error(values: Floats) -> tuple[float, float]:
    low, high = np.percentile(values, [16.275, 83.725])
    return float(np.median(values)), float(high - low) / 2
