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
from caloforge.evaluation.repeats import Fingerprints
from caloforge.evaluation.results import CellRange

__all__ = ["CELL_EDGES", "Reading", "Span", "cell_range", "read_samples"]

CELL_EDGES = 50


class Span:
    """Smallest and largest energy above zero of any cell, MeV; a visitor of `compute_features`.

    Also counts the cells above zero and those of them below ``limit``.
    """

    def __init__(self, limit: float = 0.0) -> None:
        self.smallest, self.largest = np.inf, 0.0
        self.limit, self.hits, self.below = limit, 0, 0

    def __call__(self, start: int, energies: NDArray[np.float32], conditions: Conditions) -> None:
        lit = energies[energies > 0]
        self.hits += len(lit)
        self.largest = max(self.largest, float(lit.max(initial=0.0)))
        self.smallest = min(self.smallest, float(lit.min(initial=np.inf)))
        self.below += int(np.count_nonzero(lit < self.limit))


@dataclass(frozen=True, eq=False)
class Reading:
    """What is known of one sample after it was read.

    Attributes:
        showers: the sample; its cells are still on disk.
        features: of every shower.
        observables: shapes and clusters by name, each (N,).
        span: smallest and largest cell; counts those below the smallest of the other sample.
        prints: fingerprints of all showers, to find copies.
        mean: of every cell and ring.
        sums: for the comparison cell by cell.
        counts: of cell energies in the reference's bins.
        brightest: energies of the cells in which the reference is brightest.
    """

    showers: Showers
    features: Features
    observables: dict[str, NDArray[np.float64]]
    span: Span
    prints: Fingerprints
    mean: MeanShower
    sums: CellSums
    counts: CellCounts
    brightest: ChosenCells


class _Parts(NamedTuple):
    """The visitors of one sample that end up in its `Reading`."""

    span: Span
    prints: Fingerprints
    mean: MeanShower
    sums: CellSums
    counts: CellCounts
    brightest: ChosenCells


def read_samples(
    reference: Showers, others: dict[str, Showers], *, threshold_mev: float | None, report: Progress
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
    span, prints, mean, sums = Span(), Fingerprints(mesh.n_voxels), MeanShower(mesh), CellSums(mesh)
    first_cluster = ClusterObservables(mesh, depth)
    count = _counter(report, "reading the reference", len(reference))
    first = compute_features(reference, visitors=[span, prints, mean, sums, first_cluster, count])
    if span.largest <= 0:
        raise DataError("no reference shower has any energy; there is nothing to compare with")
    threshold = (
        default_threshold(mesh, span.smallest, span.largest) if threshold_mev is None else threshold_mev
    )
    edges, chosen = log_edges(threshold, span.largest, CELL_EDGES), choose_cells(mean.cells)

    read = {}
    for name, showers in others.items():
        parts = _Parts(
            Span(span.smallest),
            Fingerprints(mesh.n_voxels),
            MeanShower(mesh),
            CellSums(mesh),
            CellCounts(edges),
            ChosenCells(chosen),
        )
        cluster = ClusterObservables(mesh, depth)
        count = _counter(report, f"reading the {name}", len(showers))
        features = compute_features(showers, visitors=[*parts, cluster, count])
        if parts.span.largest <= 0:
            raise DataError(f"none of the {name} has any energy; there is nothing to judge")
        read[name] = Reading(showers, features, _observables(features, cluster), *parts)

    counts, brightest = CellCounts(edges), ChosenCells(chosen)
    span = Span(min(reading.span.smallest for reading in read.values()))
    again = _counter(report, "reading the reference again", len(reference))
    _visit(reference, [counts, brightest, span, again])
    observables = _observables(first, first_cluster)
    return Reading(reference, first, observables, span, prints, mean, sums, counts, brightest), read


def cell_range(reference: Reading, generated: Reading) -> CellRange:
    """Smallest and largest cells of two samples, and how many of each are below the smallest of the other."""
    first, second = reference.span, generated.span
    return CellRange(
        reference_smallest=first.smallest,
        reference_largest=first.largest,
        generated_smallest=second.smallest,
        generated_largest=second.largest,
        reference_hits=first.hits,
        generated_hits=second.hits,
        reference_below=first.below,
        generated_below=second.below,
    )


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
