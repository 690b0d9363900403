"""Everything that is learnt from the cells of the samples, in as few readings as there can be.

The reference is read twice, since the range of its cells and its brightest cells must be known before they
are counted, all other samples once. What stays in memory is features and sums, never showers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Conditions, Showers
from caloforge.errors import DataError
from caloforge.evaluation.binning import default_threshold, log_edges
from caloforge.evaluation.features import Features, Visitor, compute_features, read_ahead
from caloforge.evaluation.histograms import CellCounts
from caloforge.evaluation.localise import CellSums
from caloforge.evaluation.physics import (
    ChosenCells,
    ClusterObservables,
    choose_cells,
    depth_of_maximum,
    longitudinal_observables,
)
from caloforge.evaluation.profiles import MeanShower
from caloforge.evaluation.progress import Progress

__all__ = ["CELL_EDGES", "Reading", "Span", "read_samples"]

CELL_EDGES = 50


class Span:
    """Smallest and largest energy above zero of any cell; a visitor of `compute_features`."""

    def __init__(self) -> None:
        self.smallest, self.largest = np.inf, 0.0

    def __call__(self, start: int, energies: NDArray[np.float32], conditions: Conditions) -> None:
        self.largest = max(self.largest, float(energies.max(initial=0.0)))
        self.smallest = float(np.min(energies, where=energies > 0, initial=self.smallest))


@dataclass(frozen=True, eq=False)
class Reading:
    """What is known of one sample after it was read.

    Attributes:
        showers: the sample; its cells are still on disk.
        features: of every shower.
        observables: shapes and clusters by name, each (N,).
        span: smallest and largest cell.
        mean: of every cell and ring.
        sums: for the comparison cell by cell.
        counts: of cell energies in the reference's bins.
        brightest: energies of the cells in which the reference is brightest.
    """

    showers: Showers
    features: Features
    observables: dict[str, NDArray[np.float64]]
    span: Span
    mean: MeanShower
    sums: CellSums
    counts: CellCounts
    brightest: ChosenCells


class _Parts(NamedTuple):
    """The visitors of one sample that end up in its `Reading`."""

    span: Span
    mean: MeanShower
    sums: CellSums
    counts: CellCounts
    brightest: ChosenCells


def read_samples(
    reference: Showers,
    others: dict[str, Showers],
    *,
    threshold_mev: float | None,
    report: Progress,
) -> tuple[Reading, dict[str, Reading]]:
    """Read the reference and the other samples.

    Args:
        reference: decides about thresholds, bins and the brightest cells.
        others: by the name that progress is reported with.
        threshold_mev: lower edge of the energy histograms, or None for `default_threshold`.
        report: told about progress.

    Raises:
        DataError: no shower of a sample has any energy, or a cell holds no energy at all but NaN or worse.
    """
    depth, mesh = depth_of_maximum(reference), reference.mesh
    span, mean, sums = Span(), MeanShower(mesh), CellSums(mesh)
    first_cluster = ClusterObservables(mesh, depth)
    count = _counter(report, "reading the reference", len(reference))
    first = compute_features(reference, visitors=[span, mean, sums, first_cluster, count])
    if span.largest <= 0:
        raise DataError("no reference shower has any energy; there is nothing to compare with")
    threshold = (
        default_threshold(mesh, span.smallest, span.largest) if threshold_mev is None else threshold_mev
    )
    edges, chosen = log_edges(threshold, span.largest, CELL_EDGES), choose_cells(mean.cells)

    read = {}
    for name, showers in others.items():
        parts = _Parts(Span(), MeanShower(mesh), CellSums(mesh), CellCounts(edges), ChosenCells(chosen))
        cluster = ClusterObservables(mesh, depth)
        count = _counter(report, f"reading the {name}", len(showers))
        features = compute_features(showers, visitors=[*parts, cluster, count])
        if parts.span.largest <= 0:
            raise DataError(f"none of the {name} has any energy; there is nothing to judge")
        read[name] = Reading(showers, features, _observables(features, cluster), *parts)

    counts, brightest = CellCounts(edges), ChosenCells(chosen)
    _visit(reference, [counts, brightest, _counter(report, "reading the reference again", len(reference))])
    observables = _observables(first, first_cluster)
    return Reading(reference, first, observables, span, mean, sums, counts, brightest), read


def _observables(features: Features, cluster: ClusterObservables) -> dict[str, NDArray[np.float64]]:
    return longitudinal_observables(features) | cluster.columns()


def _visit(showers: Showers, visitors: Sequence[Visitor]) -> None:
    start = 0
    for flat, conditions in read_ahead(showers):
        for visit in visitors:
            visit(start, flat, conditions)
        start += len(flat)


def _counter(report: Progress, text: str, n: int) -> Visitor:
    """A visitor that reports how many of n showers are read."""

    def visit(start: int, energies: NDArray[np.float32], conditions: Conditions) -> None:
        report(text, (start + len(energies)) / n)

    return visit
