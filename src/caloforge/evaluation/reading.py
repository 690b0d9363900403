"""Everything that is learnt from the cells of the samples, in as few readings as there can be.

The reference is read twice, since the range of its cells and its brightest cells must be known before they
are counted, all other samples once. What stays in memory is features and sums, never showers.
"""

from __future__ import annotations

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
    NeighbourhoodObservables,
    choose_cells,
    depth_of_maximum,
    longitudinal_observables,
)
from caloforge.evaluation.profiles import MeanShower
from caloforge.evaluation.progress import Progress
from caloforge.evaluation.repeats import Fingerprints
from caloforge.evaluation.results import CellRange
from caloforge.evaluation.results.base import of_both

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


class Reading:
    """What is known of one sample after it was read; made of visitors of `compute_features`.

    Attributes:
        showers: the sample; its cells are still on disk.
        features: of every shower.
        observables: shapes, clusters and neighbourhoods by name, each (N,).
        neighbourhoods: those of them that are about the neighbours of lit cells.
        span: smallest and largest cell; counts those below the smallest of the other sample.
        prints: fingerprints of all showers, to find copies.
        mean: of every cell and ring.
        sums: for the comparison cell by cell.
        counts: of cell energies in the reference's bins.
        brightest: energies of the cells in which the reference is brightest.
    """

    features: Features
    observables: dict[str, NDArray[np.float64]]
    neighbourhoods: dict[str, NDArray[np.float64]]
    counts: CellCounts
    brightest: ChosenCells

    def __init__(self, showers: Showers, depth_mm: float) -> None:
        mesh = showers.mesh
        self.showers, self.span = showers, Span()
        self.prints, self.mean, self.sums = Fingerprints(mesh.n_voxels), MeanShower(mesh), CellSums(mesh)
        self._cluster, self._around = ClusterObservables(mesh, depth_mm), NeighbourhoodObservables(mesh)

    @property
    def sample(self) -> tuple[Showers, Features]:
        """The showers with their features."""
        return self.showers, self.features

    def count_in(self, edges: NDArray[np.float64], cells: NDArray[np.int64], limit: float) -> None:
        """Prepare to count cells in bins, to keep these cells and to count those below a limit, MeV."""
        self.counts, self.brightest, self.span = CellCounts(edges), ChosenCells(cells), Span(limit)

    def read(self, name: str, report: Progress) -> None:
        """Read all showers: features, observables and whatever was prepared."""
        visitors: list[Visitor] = [self.span, self.prints, self.mean, self.sums, self._cluster, self._around]
        if hasattr(self, "counts"):
            visitors += [self.counts, self.brightest]
        count = _counter(report, f"reading the {name}", len(self.showers))
        self.features = compute_features(self.showers, visitors=[*visitors, count])
        self.neighbourhoods = self._around.columns()
        shapes = longitudinal_observables(self.features) | self._cluster.columns()
        self.observables = shapes | self.neighbourhoods

    def read_again(self, name: str, report: Progress) -> None:
        """Read all showers for what was prepared after the first reading."""
        start, count = 0, _counter(report, f"reading the {name} again", len(self.showers))
        for flat, conditions in read_ahead(self.showers):
            for visit in (self.counts, self.brightest, self.span, count):
                visit(start, flat, conditions)
            start += len(flat)


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
    depth = depth_of_maximum(reference)
    first = Reading(reference, depth)
    first.read("reference", report)
    smallest, largest = first.span.smallest, first.span.largest
    if largest <= 0:
        raise DataError("no reference shower has any energy; there is nothing to compare with")
    if threshold_mev is None:
        threshold_mev = default_threshold(reference.mesh, smallest, largest)
    edges, brightest = log_edges(threshold_mev, largest, CELL_EDGES), choose_cells(first.mean.cells)
    read = {name: Reading(showers, depth) for name, showers in others.items()}
    for name, reading in read.items():
        reading.count_in(edges, brightest, smallest)
        reading.read(name, report)
        if reading.span.largest <= 0:
            raise DataError(f"none of the {name} has any energy; there is nothing to judge")
    first.count_in(edges, brightest, min(reading.span.smallest for reading in read.values()))
    first.read_again("reference", report)
    return first, read


def cell_range(reference: Reading, generated: Reading) -> CellRange:
    """Smallest and largest cells of two samples, and how many of each are below the smallest of the other."""
    return CellRange(**of_both(reference.span, generated.span, "smallest", "largest", "hits", "below"))


def _counter(report: Progress, text: str, n: int) -> Visitor:
    """A visitor that reports how many of n showers are read."""

    def visit(start: int, energies: NDArray[np.float32], conditions: Conditions) -> None:
        report(text, (start + len(energies)) / n)

    return visit
