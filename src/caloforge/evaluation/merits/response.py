"""χ² of the total energy in bins of the incident one, by which ATLAS chooses its GANs (arXiv:2109.02551)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.data.matching import discrete_values, places_among
from caloforge.data.showers import Showers
from caloforge.evaluation.features import compute_features
from caloforge.evaluation.merits import MERITS
from caloforge.evaluation.separation import bin_places

__all__ = ["energy_chi2"]

SHOWERS_PER_BIN, MOST_BINS = 100, 12
"""Of the incident energy, where it is continuous."""
QUANTILES = 10
"""Bins of the total energy in each of them, equally filled by the reference."""

Floats = NDArray[np.float64]


@MERITS.add("energy-chi2")
def energy_chi2(reference: Showers, generated: Showers, seed: int = 0) -> float:
    """χ² over degrees of freedom of ΣE/E_inc of two samples, over bins of E_inc; 1 where both are alike.

    Σ (√(n₂/n₁)·h₁ − √(n₁/n₂)·h₂)²/(h₁ + h₂) of n₁ and n₂ showers, over the ten bins of ΣE/E_inc that the
    reference fills equally in each bin of the incident energy.
    """
    first, second = (compute_features(showers) for showers in (reference, generated))
    chi2, freedom = 0.0, 0
    for a, b in zip(*_by_energy(first.incident_energy, second.incident_energy), strict=True):
        ratios = first.e_ratio[a], second.e_ratio[b]
        if min(map(len, ratios)) == 0:
            continue
        edges = np.unique(np.quantile(ratios[0], np.linspace(0, 1, QUANTILES + 1)[1:-1]))
        h1, h2 = (
            np.bincount(bin_places(ratio, edges), minlength=len(edges) + 1).astype(np.float64)
            for ratio in ratios
        )
        n1, n2 = h1.sum(), h2.sum()
        filled = h1 + h2 > 0
        difference = np.sqrt(n2 / n1) * h1 - np.sqrt(n1 / n2) * h2
        chi2 += float((difference[filled] ** 2 / (h1 + h2)[filled]).sum())
        freedom += int(filled.sum()) - 1
    return chi2 / max(freedom, 1)


def _by_energy(first: Floats, second: Floats) -> tuple[list[NDArray[np.bool_]], list[NDArray[np.bool_]]]:
    """Which showers of both samples are in each bin of the incident energy."""
    distinct = discrete_values(first)
    if len(distinct):
        places, n_bins = [places_among(energy, distinct) for energy in (first, second)], len(distinct)
    else:
        n_bins = int(np.clip(len(first) // SHOWERS_PER_BIN, 1, MOST_BINS))
        inner = np.quantile(first, np.linspace(0, 1, n_bins + 1)[1:-1])
        places = [np.searchsorted(inner, energy, side="right") for energy in (first, second)]
    chosen = [[place == i for i in range(n_bins)] for place in places]
    return chosen[0], chosen[1]
