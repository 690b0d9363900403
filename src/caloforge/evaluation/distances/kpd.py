"""The kernel physics distance (Kansal et al., arXiv:2211.10295), as the CaloChallenge uses it.

Legend: ``P`` showers of both samples pooled, ``D`` features, ``B`` pairs of draws.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.distances.matrix import Floats, check_matrix, normalise, small_sample_note
from caloforge.evaluation.results import Estimate

__all__ = ["BATCHES", "BATCH_SIZE", "kpd", "polynomial_mmd"]

BATCHES = 10
BATCH_SIZE = 10_000
PERMUTATIONS = 5
_BLOCK = 2048

Counts = NDArray[np.int64]


def kpd(
    reference: NDArray[np.floating],
    generated: NDArray[np.floating],
    *,
    seed: int = 0,
    floor: bool = True,
    second: NDArray[np.floating] | None = None,
    batches: int = BATCHES,
    batch_size: int = BATCH_SIZE,
    device: str = "cpu",
) -> Estimate:
    """KPD between two samples: the median of the unbiased squared MMD of ten pairs of draws.

    The kernel is (x·y / D + 1)⁴; each pair has 10,000 showers of each sample, drawn with replacement. The error
    is half the range from 16.275 % to 83.725 % of the ten. Values are as they are; tables often quote them
    times 10³.

    Args:
        reference, generated: features, (N, D) and (M, D); see `feature_matrix`.
        seed: of the draws. The package ``jetnet`` draws the same showers from the same seed (its own is 42).
        floor: also give what two samples of one origin have: of ``reference`` and ``second`` where that is
            given, else of both samples pooled and dealt out again at random, five times.
        second: features of a second, independent reference, (K, D).
        batches, batch_size: the protocol's, to be changed in tests only.
        device: where torch multiplies.

    Raises:
        DataError: the matrices do not fit together or hold NaN.
    """
    x = check_matrix(reference, "reference")
    y = check_matrix(generated, "generated", x.shape[1])
    others = [] if second is None else [check_matrix(second, "second reference", x.shape[1])]
    x, y, *others = normalise(x, y, *others)
    note = small_sample_note(x, y)
    pool, sizes = np.concatenate([x, y]), (len(x), len(y))
    draws = _draws(np.arange(len(pool)), sizes, seed, batches, batch_size)
    dealt = PERMUTATIONS if floor and not others else 0
    together = len(pool) <= 2 * np.sqrt(batches) * batch_size
    per_deal = batches if together else 1
    for i in range(dealt):
        order = np.random.default_rng((seed, i, 1)).permutation(len(pool))
        draws += _draws(order, sizes, seed + 1 + i, per_deal, batch_size)
    values = _all_mmd(pool, draws, together, device)
    value, error = _median(values[:batches])
    if not floor:
        return Estimate(value, error, note=note)
    if others:
        level = kpd(x, others[0], seed=seed, floor=False, batches=batches, batch_size=batch_size, device=device)
        return Estimate(value, error, level.value, level.error, "second reference", note=note)
    levels = np.median(values[batches:].reshape(dealt, per_deal), axis=1)
    return Estimate(
        value, error, float(levels.mean()), float(levels.std(ddof=1)), "permutation", note=note
    )


def polynomial_mmd(pool: Floats, first: Counts, second: Counts, *, device: str = "cpu") -> Floats:
    """Unbiased squared MMD of pairs of samples with the kernel k(x, y) = (x·y / D + 1)⁴, (B,).

    With u and v the counts of a pair of n showers each, the estimator is

        [u'Ku − Σ u k(x,x) + v'Kv − Σ v k(x,x)] / (n (n − 1)) − 2 u'Kv / n²
        = [a'Ka − Σ (u + v) k(x,x)] / (n (n − 1)) + 2 u'Kv / (n² (n − 1)),    a = u − v.

    The kernel of each pair of showers is computed once for all samples, half of it by symmetry, in blocks and in
    single precision: in a'Ka its rounding errors have random signs and cancel, see docs/distances.md.

    Args:
        pool: features, (P, D).
        first, second: how often each row is in the samples, (P, B), all columns summing to the same n.
        device: where torch multiplies.
    """
    import torch

    n = int(first[:, 0].sum())
    used = np.flatnonzero(first.any(axis=1) | second.any(axis=1))
    rows, u, v = pool[used], first[used], second[used]
    diagonal = ((rows**2).sum(axis=1) / rows.shape[1] + 1) ** 4
    self_terms = diagonal @ (u + v)
    # a column of ones makes the product x·y / D + 1
    extended = np.concatenate([rows / np.sqrt(rows.shape[1]), np.ones((len(rows), 1))], axis=1)
    z = torch.from_numpy(extended.astype(np.float32)).to(device)
    weights = torch.from_numpy(np.concatenate([u - v, u + v], axis=1).astype(np.float32)).to(device)
    forms = torch.zeros(weights.shape[1], dtype=torch.float64, device=device)
    for i in range(0, len(z), _BLOCK):
        left, w_left = z[i : i + _BLOCK], weights[i : i + _BLOCK].double()
        for j in range(i, len(z), _BLOCK):
            kernel = (left @ z[j : j + _BLOCK].T).square_().square_()
            form = (w_left * (kernel @ weights[j : j + _BLOCK])).sum(dim=0)
            forms += form if i == j else 2 * form
    difference, total = np.split(forms.cpu().numpy(), 2)
    cross = (total - difference) / 4
    return np.asarray((difference - self_terms) / (n * (n - 1)) + 2 * cross / (n**2 * (n - 1)))


def _draws(
    order: NDArray[np.int64], sizes: tuple[int, int], seed: int, batches: int, batch_size: int
) -> list[tuple[Counts, Counts]]:
    """Counts (P,) of pairs of draws from the first and the last part of the pool in this order."""
    counts, total = [], len(order)
    for i in range(batches):
        rng = np.random.default_rng(seed + 1000 * i)
        first = order[rng.choice(sizes[0], size=batch_size)]
        second = order[sizes[0] + rng.choice(sizes[1], size=batch_size)]
        counts.append((np.bincount(first, minlength=total), np.bincount(second, minlength=total)))
    return counts


def _all_mmd(pool: Floats, draws: list[tuple[Counts, Counts]], together: bool, device: str) -> Floats:
    """MMD² of all draws: with one kernel for all, or, where a draw is a small part of the pool, one each."""
    if together:
        first, second = (np.stack(counts, axis=1) for counts in zip(*draws, strict=True))
        return polynomial_mmd(pool, first, second, device=device)
    return np.concatenate([polynomial_mmd(pool, u[:, None], v[:, None], device=device) for u, v in draws])


def _median(values: Floats) -> tuple[float, float]:
    low, high = np.percentile(values, [16.275, 83.725])
    return float(np.median(values)), float(high - low) / 2
