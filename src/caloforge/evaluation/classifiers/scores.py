"""Numbers that say how well scores tell classes apart: AUC, JSD, calibration. Legend: ``n`` showers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.packages import needed

__all__ = ["auc", "auc_and_jsd", "auc_error", "auc_noise", "delong_error", "log_posterior", "temperature"]

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def auc_noise(n_real: int, n_generated: int) -> float:
    """Standard deviation of the AUC of scores that say nothing, √((n₁ + n₂ + 1) / (12 n₁ n₂))."""
    return float(np.sqrt((n_real + n_generated + 1) / (12 * n_real * n_generated)))


def auc(scores: Floats, labels: Labels) -> Floats:
    """Areas under the ROC curves of scores (..., n) for labels (n,), 1 real and 0 generated.

    The share of pairs in which the real shower scores higher, ties counting half (Mann-Whitney).
    """
    rankdata = needed("scipy.stats").rankdata
    real = labels == 1
    n_real, n_generated = int(real.sum()), int((~real).sum())
    ranks = np.asarray(rankdata(scores, axis=-1), dtype=np.float64)[..., real].sum(axis=-1)
    return np.asarray((ranks - n_real * (n_real + 1) / 2) / (n_real * n_generated))


def auc_error(auc: float, n: int) -> float:
    """Standard error of an AUC from n showers of each class.

    J. A. Hanley, B. J. McNeil, Radiology 143 (1982) 29:
    σ² = [A (1 − A) + (n − 1) (Q₁ + Q₂ − 2 A²)] / n², Q₁ = A / (2 − A), Q₂ = 2 A² / (1 + A).
    """
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    return float(np.sqrt(max(auc * (1 - auc) + (n - 1) * (q1 + q2 - 2 * auc**2), 0.0)) / n)


def delong_error(real: Floats, generated: Floats) -> float:
    """Standard error of the AUC of these scores, √(var₁ / n₁ + var₀ / n₀).

    var are the variances of the shares of the other class that each shower's score beats
    (E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, Biometrics 44 (1988) 837).
    """
    variance = 0.0
    for own, other in ((real, generated), (generated, real)):
        ordered = np.sort(other)
        below, up_to = (np.searchsorted(ordered, own, side=side) for side in ("left", "right"))
        variance += float(np.var((below + up_to) / (2 * len(other)))) / len(own)
    return float(np.sqrt(variance))


def auc_and_jsd(
    scores: Floats, labels: Labels, calibration: tuple[Floats, Labels], floor: float = 1e-6
) -> tuple[float, float]:
    """Area under the ROC curve, and JSD = 1 − BCE / ln 2 of the calibrated scores, in bits.

    The JSD is at most 1; for equal samples it scatters around 0 and may be slightly negative, since the
    calibration, isotonic and within floor … 1 − floor, comes from other showers.

    Args:
        scores: probabilities of being real, (n,), with ``labels`` 1 for real and 0 for generated.
        calibration: scores and labels of the showers that calibrate.
        floor: least calibrated probability; the CaloChallenge takes 10⁻⁶.
    """
    regression = needed("sklearn.isotonic", "scikit-learn").IsotonicRegression
    isotonic = regression(y_min=floor, y_max=1 - floor, out_of_bounds="clip").fit(*calibration)
    p = np.asarray(isotonic.predict(scores), dtype=np.float64)
    bce = -np.mean(np.where(labels == 1, np.log(p), np.log1p(-p)))
    return float(auc(scores, labels)), float(1 - bce / np.log(2))


def log_posterior(logits: Floats) -> Floats:
    """Natural logarithms of the softmax over the classes, (n, K)."""
    return np.asarray(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))


def temperature(logits: Floats, labels: Labels) -> float:
    """The factor a in [0.01, 10] for which the softmax of a · logits (n, K) has the least cross-entropy.

    A network that was trained too long is too sure of itself; a < 1 puts that right without changing the
    order of the showers (arXiv:1706.04599).
    """
    minimize_scalar = needed("scipy.optimize").minimize_scalar

    def cross_entropy(log_a: float) -> float:
        chosen = log_posterior(np.exp(log_a) * logits)[np.arange(len(labels)), labels]
        return -float(chosen.mean())

    found = minimize_scalar(cross_entropy, bounds=(np.log(0.01), np.log(10.0)), method="bounded")
    return float(np.exp(found.x))
