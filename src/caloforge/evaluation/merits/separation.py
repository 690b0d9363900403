"""The mean separation power of everything that is histogrammed."""

from __future__ import annotations

import numpy as np

from caloforge.data.showers import Showers
from caloforge.evaluation.binning import log_edges
from caloforge.evaluation.features import compute_features
from caloforge.evaluation.histograms import CellCounts, histogram_plans
from caloforge.evaluation.merits import MERITS
from caloforge.evaluation.physics import ClusterObservables, depth_of_maximum, observable_plans
from caloforge.evaluation.physics.shapes import longitudinal_observables
from caloforge.evaluation.separation import bin_places, separation_power

__all__ = ["mean_separation"]

CELL_BINS = 50


@MERITS.add("separation")
def mean_separation(reference: Showers, generated: Showers, seed: int = 0) -> float:
    """Mean separation power of groups of histograms: features, observables of the shower, energies of cells.

    A group, such as the energies of all layers, counts once. Each histogram has two more bins for what lies
    outside. What chance alone gives is not taken off.
    """
    lit = reference.energies[reference.energies > 0]
    edges = log_edges(float(lit.min()), float(lit.max()), CELL_BINS)
    depth = depth_of_maximum(reference)
    features, observables, cells = [], [], []
    for showers in (reference, generated):
        cluster, counts = ClusterObservables(showers.mesh, depth), CellCounts(edges)
        features.append(compute_features(showers, visitors=[cluster, counts]))
        observables.append(longitudinal_observables(features[-1]) | cluster.columns())
        cells.append(counts.per_shower.sum(axis=0, dtype=np.float64))
    groups: dict[str, list[float]] = {"cell_energy": [separation_power(cells[0], cells[1])]}
    plans = [
        *histogram_plans(features[0], features[1], float(lit.min())),
        *observable_plans(observables[0], observables[1], reference.mesh),
    ]
    for plan in plans:
        first, second = (
            np.bincount(bin_places(values, plan.edges), minlength=len(plan.edges) + 1)
            for values in plan.values
        )
        groups.setdefault(plan.group, []).append(separation_power(first, second))
    return float(np.mean([np.mean(powers) for powers in groups.values()]))
