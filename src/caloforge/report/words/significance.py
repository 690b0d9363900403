"""What a distance from chance says: the one place where standard deviations become words."""

from __future__ import annotations

import math
from statistics import NormalDist

from caloforge.evaluation.results import Significance
from caloforge.evaluation.significance import HINT, SIGMAS

__all__ = ["among", "sigma_text", "significance", "standing"]


def significance(sigmas: float) -> Significance:
    """What so many standard deviations beyond chance (`Estimate.sigmas`) say."""
    if math.isnan(sigmas):
        return Significance(sigmas=sigmas, says="not known")
    if sigmas >= SIGMAS:
        return Significance(sigmas=sigmas, says="told apart")
    if sigmas <= -SIGMAS:
        return Significance(sigmas=sigmas, says="below chance")
    return Significance(sigmas=sigmas, says="hint" if sigmas >= HINT else "agrees")


def among(sigmas: float, n: int) -> float:
    """Standard deviations that say as much of a single number as these of the largest of n (Bonferroni)."""
    if math.isnan(sigmas):
        return sigmas
    p = min(0.5, n * math.erfc(sigmas / math.sqrt(2)) / 2)
    return NormalDist().inv_cdf(1 - p) if p > 1e-15 else sigmas


def standing(sigmas: float) -> str:
    """``hint, 2.9 σ``; empty where it is not known."""
    return "" if math.isnan(sigmas) else f"{significance(sigmas).says}, {sigma_text(sigmas)}"


def sigma_text(sigmas: float) -> str:
    """``2.9 σ``, never rounded up: 2.98 is no 3.0."""
    if math.isinf(sigmas) or abs(sigmas) >= 100:
        return f"{'> ' if sigmas > 0 else '< −'}100 σ"
    return f"{math.trunc(10 * sigmas) / 10:.1f} σ".replace("-", "−")
