"""All metrics of a generated sample against a reference.

Legend: ``V`` voxels. "reference" is the sample held to be true, "generated" the one that is judged.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field, computed_field

from caloforge.errors import DataError
from caloforge.evaluation.results.base import Details, Document, Floats, Number, Result
from caloforge.evaluation.results.classifiers import ClassifierResult
from caloforge.evaluation.results.histograms import Histogram, Profile
from caloforge.evaluation.results.numbers import Comparison, Estimate, Separation, Significance
from caloforge.evaluation.results.observables import EquivalentShowers, NeighbourhoodMetric
from caloforge.evaluation.results.physics import (
    CellRange,
    Conservation,
    Correlation,
    Localisation,
    Memorisation,
    ResponseCurve,
    Slice,
)
from caloforge.evaluation.results.timing import Timing

__all__ = ["METRICS_FILE", "Evaluation", "Verdict"]

METRICS_FILE = "metrics.json"
_BULK = ("responses", "correlations", "slices", "histograms", "profiles", "mean_shower", "provenance")


class Verdict(Result):
    """The outcome in words, of `caloforge.report`."""

    level: int
    """0 not told apart, 1 close, 2 visibly different, 3 easily told apart; −1 too few showers to say."""
    headline: str
    """One short sentence."""
    agrees: list[str]
    """Plain sentences on what agrees, most important first."""
    differs: list[str]
    """Plain sentences on what does not."""
    giveaway: str
    """The feature that gives the generator away most, in words; empty where none does."""
    hints: list[str] = Field(default_factory=list)
    """Plain sentences on what may differ: single numbers two to three standard deviations beyond chance."""
    significance: dict[str, Significance] = Field(default_factory=dict)
    """Of single numbers, by the keys of `ComparedModel.metrics`; those known."""
    limits: str = ""
    """What this sample cannot tell, where it is small."""


class Evaluation(Document):
    """All metrics of a generated sample against a reference sample, the layout of ``metrics.json``."""

    layout: ClassVar[int] = 2
    noun: ClassVar[str] = "metrics"
    remedy: ClassVar[str] = "Evaluate the showers again."

    verdict: Verdict | None = None
    """The outcome in words; None until `caloforge.report` says it."""
    counts: dict[str, int]
    """Showers, ``reference`` and ``generated``, and those without energy, ``reference_empty``, …"""
    warnings: list[str] = Field(default_factory=list)
    """Plain sentences of `caloforge.report` about what limits these numbers."""
    distances: dict[str, Estimate] = Field(default_factory=dict)
    """By name, ``fpd``, ``kpd``, ``precision``, ``recall``, ``density``, ``coverage``."""
    classifiers: dict[str, ClassifierResult]
    """By name, ``low``, ``low-normed``, ``high``, ``resnet``, ``c2st``; those asked for."""
    timing: Timing
    """Geant4 against the generator."""
    neighbourhoods: dict[str, NeighbourhoodMetric] = Field(default_factory=dict)
    """What the neighbours of lit cells are, by the names of the histograms."""
    equivalent: dict[str, EquivalentShowers] = Field(default_factory=dict)
    """What the generator is worth in showers of Geant4, by observable (its mean) and profile."""
    localisation: Localisation | None = None
    """The layers and cells whose means differ by more than chance."""
    conservation: Conservation | None = None
    """Showers with more energy than the reference ever shows."""
    mesh: Details
    """The cells, as `Mesh.to_dict` gives them."""
    threshold_mev: Number
    """The smallest cell energy histogrammed."""
    features: dict[str, Comparison]
    """Mean and standard deviation of every feature, by the names of the histograms."""
    conditions: Details
    """The ranges of both samples, and the Kolmogorov-Smirnov test of their energies."""
    cells: CellRange | None = None
    """Smallest and largest cells."""
    memorisation: Memorisation | None = None
    """Where the training showers were given."""
    responses: list[ResponseCurve] = Field(default_factory=list)
    """Response and resolution against energy, and θ, φ and detector where they vary."""
    correlations: dict[str, Correlation] = Field(default_factory=dict)
    """By name, ``layers`` and ``cells``."""
    slices: list[Slice] = Field(default_factory=list)
    """Metrics in bins of conditions."""
    histograms: list[Histogram]
    """Every feature, in the order of groups and layers."""
    profiles: dict[str, Profile]
    """Longitudinal and radial."""
    mean_shower: dict[str, Floats]
    """``reference`` and ``generated``: mean energy of each voxel, MeV, (V,)."""
    provenance: Details
    """``reference``, ``generated`` and ``evaluation``."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def separation(self) -> dict[str, Separation]:
        """Separation power and floor of every histogram, by name; also in ``histograms``."""
        return {histogram.name: histogram.separation for histogram in self.histograms}

    def group_separation(self) -> dict[str, Separation]:
        """Means over the histograms (layers) of each group; ``floor_std`` is the mean of theirs."""
        groups: dict[str, list[Separation]] = {}
        for histogram in self.histograms:
            groups.setdefault(histogram.group, []).append(histogram.separation)
        return {
            group: Separation(
                **{
                    name: float(np.mean([getattr(s, name) for s in members]))
                    for name in Separation.model_fields
                }
            )
            for group, members in groups.items()
        }

    def histogram(self, name: str) -> Histogram:
        """The histogram called ``name``; DataError names those there are."""
        for histogram in self.histograms:
            if histogram.name == name:
                return histogram
        raise DataError(f"no histogram {name!r}; there are {', '.join(h.name for h in self.histograms)}")

    def to_dict(self) -> dict[str, Any]:
        """The layout of ``metrics.json``; numbers first, bulk arrays last."""
        plain = super().to_dict()
        return plain | {name: plain.pop(name) for name in _BULK}
