"""Histograms of the observables of a shower: labels, bins from the reference, and sparsity by threshold.

Legend: ``N`` showers, ``B`` bins or thresholds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.detector import Mesh
from caloforge.evaluation.binning import linear_edges
from caloforge.evaluation.histograms import CellCounts, HistogramPlan
from caloforge.evaluation.physics.cluster import SQUARES
from caloforge.evaluation.physics.shapes import layer_depths
from caloforge.evaluation.results import Profile

__all__ = ["Observable", "describe", "observable_plans", "sparsity_profile"]

Floats = NDArray[np.float64]

BINS = 50
TAIL = 0.001
"""Share of the reference on each side that does not decide about the bins."""
MARGIN = 0.15
"""Of the range between the tails, added on both sides."""

# name: (group, label, unit; "depth" stands for that of the mesh's depths)
_OBSERVABLES = {
    "shower_start": ("shower_start", "depth with 5 % of the energy in front", "depth"),
    "shower_max": ("shower_max", "depth of the shower maximum", "depth"),
    "shower_length": ("shower_length", "depth that holds the middle 90 % of the energy", "depth"),
    "containment_radius": ("containment_radius", "radius that holds 90 % of the energy", "mm"),
    "asymmetry_longitudinal": ("asymmetry_longitudinal", "longitudinal asymmetry of the cluster", ""),
    "asymmetry_transverse": ("asymmetry_transverse", "transverse asymmetry of the cluster", ""),
    "cluster_width_longitudinal": ("cluster_width_longitudinal", "longitudinal width of the cluster", "mm"),
    "cluster_width_transverse": ("cluster_width_transverse", "transverse width of the cluster", "mm"),
    "centroid_shift_longitudinal": ("centroid_shift", "longitudinal shift of the cluster's centre", "mm"),
    "centroid_shift_transverse": ("centroid_shift", "transverse shift of the cluster's centre", "mm"),
    **{
        f"square_{n}": (
            "square",
            f"share of the incident energy in {n} × {n} cells around the trajectory",
            "",
        )
        for n in SQUARES
    },
}


_AXES = {"phi": "φ"}
_NEIGHBOURHOODS = {
    "isolated": "lit cells without a lit neighbour",
    "isolated_share": "share of lit cells without a lit neighbour",
    "clusters": "connected clusters of lit cells",
    "cluster_size": "cells of a cluster, mean of the shower",
    "cluster_largest": "share of lit cells in the largest cluster",
    "holes": "dark cells among lit ones",
}
_PLACED = re.compile(r"(isolated|pairs|correlation)_(?:([a-z]+)_)??(ring_|layer_|)(\d+)")
"""A kind, an axis perhaps, and a ring, layer or (without a word) distance."""


@dataclass(frozen=True)
class Observable:
    """What an observable's name stands for.

    Attributes:
        group: of its histogram; rings, layers and distances of one kind are a group.
        label: axis label, with its unit in square brackets.
        layer: the detector's number of the layer, if it is one layer's.
        place: ring, layer or distance, if it has one.
        counts: whether it is a whole number.
    """

    group: str
    label: str
    layer: int | None = None
    place: int | None = None
    counts: bool = False


def describe(name: str, mesh: Mesh) -> Observable:
    """What an observable is: a shape, one of the cluster or one of the neighbourhoods."""
    if name in _OBSERVABLES:
        group, text, unit = _OBSERVABLES[name]
        unit = layer_depths(mesh)[1] if unit == "depth" else unit
        return Observable(group, f"{text} [{unit}]" if unit else text)
    counts = name.startswith("isolated_") or name in ("isolated", "clusters", "holes")
    if name in _NEIGHBOURHOODS:
        return Observable(name, _NEIGHBOURHOODS[name], counts=counts and name != "isolated_share")
    found = _PLACED.fullmatch(name)
    if found is None:
        return Observable(name, f"lit pairs in {_axis(name.removeprefix('pairs_'))} beyond independent cells")
    kind, axis, where, number = found.groups()
    place = int(number)
    texts = {
        "isolated": f"{_NEIGHBOURHOODS['isolated']}, {where.rstrip('_')} {place}",
        "pairs": f"lit pairs in {_axis(axis)} beyond independent cells, ring {place}",
        "correlation": f"correlation of cells {place} apart in {_axis(axis)}",
    }
    group = "_".join(part for part in (kind, axis, where.rstrip("_")) if part)
    return Observable(group, texts[kind], place if where == "layer_" else None, place, counts)


def _axis(name: str | None) -> str:
    return _AXES.get(name or "", name or "")


def observable_plans(
    reference: Mapping[str, Floats], generated: Mapping[str, Floats], mesh: Mesh
) -> list[HistogramPlan]:
    """Histograms of the observables that both samples have.

    50 equal bins between the 0.1 % and 99.9 % quantiles of the reference, widened by 15 % on both sides, as
    far as the observable can have such values; at most 50 bins of whole numbers for what is counted. Showers
    without energy (NaN) are left out.

    Args:
        reference, generated: observables by name, each (N,), of `longitudinal_observables`,
            `ClusterObservables.columns` and `NeighbourhoodObservables.columns`.
        mesh: of the showers.
    """
    plans = []
    shapes = [name for name in _OBSERVABLES if name in reference]
    for name in (*shapes, *(name for name in reference if name not in _OBSERVABLES)):
        if name not in generated:
            continue
        first, second = (finite(values) for values in (reference[name], generated[name]))
        if len(first):
            what = describe(name, mesh)
            edges = _whole_edges(first) if what.counts else _edges(name, first, mesh)
            plans.append(HistogramPlan(name, what.group, what.layer, what.label, edges, (first, second)))
    return plans


def finite(values: Floats) -> Floats:
    """Those values that are numbers; the same array where all are."""
    known = np.isfinite(values)
    return values if known.all() else values[known]


def _whole_edges(values: Floats) -> Floats:
    """Edges between whole numbers, of at most 50 bins, as far as those of `_edges` reach."""
    low, high = (float(v) for v in np.quantile(values, (TAIL, 1 - TAIL)))
    margin = MARGIN * (high - low)
    first, last = np.floor(max(low - margin, 0.0)), np.ceil(high + margin)
    step = np.ceil((last - first + 1) / BINS)
    return np.arange(first, last + step + 1, step, dtype=np.float64) - 0.5


def _edges(name: str, values: Floats, mesh: Mesh) -> Floats:
    low, high = (float(v) for v in np.quantile(values, (TAIL, 1 - TAIL)))
    margin = MARGIN * (high - low) if high > low else max(abs(high), 1.0) * 0.5
    low, high = low - margin, high + margin
    if name.startswith("asymmetry"):
        low, high = max(low, -1.0), min(high, 1.0)
    elif name in ("shower_start", "shower_max"):
        depths, _ = layer_depths(mesh)
        low, high = max(low, float(depths[0, 0])), min(high, float(depths[-1, 1]))
    elif not name.startswith(("centroid_shift", "pairs", "correlation")):
        low = max(low, 0.0)
    return linear_edges(low, high, BINS)


def sparsity_profile(reference: CellCounts, generated: CellCounts, n_voxels: int) -> Profile:
    """Mean fraction of a shower's cells above a threshold, for 25 logarithmic thresholds (arXiv:1812.01319).

    Errors come from the spread between showers. The thresholds are every second edge of the counts.

    Args:
        reference, generated: cells counted in the same logarithmic bins.
        n_voxels: cells of the mesh.
    """
    thresholds = reference.edges[:-1:2]
    steps = np.sqrt(thresholds[1:] * thresholds[:-1])
    edges = np.concatenate([thresholds[:1] ** 2 / steps[:1], steps, thresholds[-1:] ** 2 / steps[-1:]])
    means, errors = zip(*(_fraction_above(c, n_voxels) for c in (reference, generated)), strict=True)
    return Profile(
        name="sparsity_by_threshold",
        label="mean fraction of cells above the threshold",
        position_label="threshold [MeV]",
        positions=thresholds,
        edges=edges,
        reference=means[0],
        generated=means[1],
        reference_error=errors[0],
        generated_error=errors[1],
    )


def _fraction_above(counts: CellCounts, n_voxels: int) -> tuple[Floats, Floats]:
    """Mean and its error at every second edge."""
    per_shower = counts.per_shower
    n = max(len(per_shower), 1)
    above = np.cumsum(per_shower[:, ::-1], axis=1, dtype=np.int32)[:, ::-1][:, ::2]
    below, beyond = counts.outside  # of the hit cells; those beyond the last edge are above every threshold
    inside = 1.0 - below - beyond
    extra = float(per_shower.sum(dtype=np.int64)) * beyond / inside / (n * n_voxels) if inside > 0 else 0.0
    return above.mean(axis=0) / n_voxels + extra, above.std(axis=0) / n_voxels / np.sqrt(n)
