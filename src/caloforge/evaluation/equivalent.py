"""What a generator is worth in showers of Geant4, observable by observable.

Legend: ``B`` bins of a profile.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.results import Comparison, EquivalentShowers, Histogram, Profile

__all__ = ["equivalent_of_means", "equivalent_of_profiles", "equivalent_showers"]

Floats = NDArray[np.float64]

SIGMAS = 2.0


def equivalent_showers(differences: Floats, variances: Floats, n1: int, n2: int) -> EquivalentShowers:
    """The size of a Geant4 sample whose errors are as large as the generator's bias.

    However many showers a generator makes, they share its bias β; n showers of Geant4 have the error σ/√n. So
    they are worth n = B / Σ (β/σ)², the sum running over the bins of a profile. Of Σ (δ/σ)² of the measured
    differences δ the part that chance gives, B (1/n₁ + 1/n₂), is taken off; where nothing is left no bias is
    seen, and only ``at_least`` is known. The idea of an equivalent number of true events is that of A. Butter
    et al., "GANplifying event samples" (SciPost Phys. 10 (2021) 139, arXiv:2008.06545), who compare fitted
    distributions; here it is applied to means, whose bias can be had from one sample. Bins are taken as
    independent.

    Args:
        differences: of the means, (B,).
        variances: σ² of one shower of the reference, (B,); bins in which nothing varies are left out.
        n1, n2: showers of the two samples.
    """
    varies = variances > 0
    bins, chance = int(varies.sum()), 1 / n1 + 1 / n2
    if not bins:
        return EquivalentShowers(showers=math.nan, at_least=math.nan, bins=0)
    bias = float((differences[varies] ** 2 / variances[varies]).sum()) - bins * chance
    spread = chance * math.sqrt(2 * bins + 4 * max(bias, 0.0) / chance)
    return EquivalentShowers(
        showers=bins / bias if bias > 0 else math.nan,
        at_least=bins / (max(bias, 0.0) + SIGMAS * spread + SIGMAS**2 * chance),
        bins=bins,
    )


def equivalent_of_means(
    features: Mapping[str, Comparison], histograms: Iterable[Histogram], n1: int, n2: int
) -> dict[str, EquivalentShowers]:
    """Of the mean of every feature that is a number of the whole shower."""
    found = {}
    for name in (h.name for h in histograms if h.layer is None and h.name in features):
        mean = features[name]
        shift = np.array([mean.generated_mean - mean.reference_mean])
        found[name] = equivalent_showers(shift, np.array([mean.reference_std**2]), n1, n2)
    return found


def equivalent_of_profiles(profiles: Iterable[Profile], n1: int, n2: int) -> dict[str, EquivalentShowers]:
    """Of every profile."""
    return {
        p.name: equivalent_showers(p.generated - p.reference, p.reference_error**2 * n1, n1, n2)
        for p in profiles
    }
