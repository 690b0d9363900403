"""All metrics of generated pixel events against true ones.

Legend: ``S`` sensors, ``L`` layers, ``B`` bins. "reference" is the sample held to be true.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import Field

from caloforge.evaluation.results.base import Details, Document, Floats, Number, Result
from caloforge.evaluation.results.evaluation import Verdict
from caloforge.evaluation.results.histograms import Histogram
from caloforge.evaluation.results.numbers import Estimate
from caloforge.evaluation.results.physics import Memorisation

__all__ = ["PixelEvaluation", "Quantity", "RateCurve", "SensorCorrelation", "SensorNetworkRecord"]


class Quantity(Result):
    """One number of both samples."""

    group: str
    """What it belongs to: ``occupancy``, ``occupancy of ladders``, ``charge of pixels``, ``overlay``, …"""
    label: str
    """In words."""
    unit: str
    reference: Number
    reference_error: Number
    """Standard deviation over events drawn anew with replacement, as of all errors here."""
    generated: Number
    generated_error: Number
    relative: Number
    """Generated / reference − 1."""
    error: Number
    """Of that; where both samples have the same rates event by event, both are drawn together."""
    floor: Number
    """What two halves of the truth (or truth and second reference) differ by on average, relative."""

    def sigmas(self) -> float:
        """The difference in standard deviations, of either sign; NaN where it is not known."""
        return self.relative / self.error if self.error > 0 else math.nan


class SensorCorrelation(Result):
    """Spearman's rank correlations of a number of every sensor over the events."""

    label: str
    """In words."""
    names: tuple[str, ...]
    """Of the sensors, (S,)."""
    reference: Floats
    """(S, S), NaN where a sensor's number never varies."""
    generated: Floats
    distance: Estimate
    """Mean absolute difference off the diagonal between as many events of each, and its floor."""


class SensorNetworkRecord(Result):
    """The network whose features FID and KID are measured in: it tells sensors apart by their images."""

    parameters: int
    features: int
    events: int
    """Events of the truth that it was trained on; distances are measured with others."""
    images: int
    """It has seen in training, repetitions included."""
    accuracy: Number
    """Share of held-out true images whose sensor it names; one of S by chance."""
    accuracy_end: Number
    """The same for layer and end of the ladder alone."""
    accuracy_generated: Number
    """Share of generated images whose sensor it names."""
    held_out: int
    """True images that the accuracies are from."""
    seconds: Number


class RateCurve(Result):
    """Mean occupancy of each layer against the mean of the rate factors."""

    edges: Floats
    """Bins of equally many true events, (B + 1,)."""
    reference_rate: Floats
    """Mean in each bin, (B,)."""
    generated_rate: Floats
    reference: Floats
    """Mean occupancy, %, (L, B)."""
    generated: Floats
    reference_error: Floats
    """Standard error of the mean, (L, B)."""
    generated_error: Floats


class PixelEvaluation(Document):
    """All metrics of generated pixel events against true ones, the layout of their ``metrics.json``."""

    layout: ClassVar[int] = 1
    noun: ClassVar[str] = "metrics of pixel events"
    remedy: ClassVar[str] = "Evaluate the events again."

    kind: Literal["pixel"] = "pixel"
    """What tells it from metrics of showers."""
    verdict: Verdict | None = None
    """The outcome in words; None until `caloforge.report` says it."""
    counts: dict[str, int]
    """Events, ``reference`` and ``generated``, and ``training`` and ``second reference`` where given."""
    warnings: list[str] = Field(default_factory=list)
    """Plain sentences of `caloforge.report` about what limits these numbers."""
    detector: str
    twins: bool
    """Event i of both samples has the same rates."""
    distances: dict[str, Estimate] = Field(default_factory=dict)
    """``fid`` and ``kid`` of sensor images in the network's features."""
    network: SensorNetworkRecord | None = None
    classifiers: dict[str, Estimate] = Field(default_factory=dict)
    """AUC of telling events apart by their sensors' summaries: ``linear`` and ``trees``; 0.5 cannot tell."""
    correlations: dict[str, SensorCorrelation]
    """By name, ``occupancy``, ``clusters``, and ``…_given_rates`` where rates vary."""
    quantities: dict[str, Quantity]
    """Every single number, by name."""
    memorisation: Memorisation | None = None
    """Where the training events were given: cells lit in common."""
    rates: Details
    """Ranges of each source's factor in both samples."""
    rate_curve: RateCurve | None = None
    timing: dict[str, float | None]
    """``geant4_ms`` and ``generator_ms`` an event; None where it is not known."""
    histograms: list[Histogram]
    maps: dict[str, Floats]
    """``reference`` and ``generated``: occupancy, %, of cells joined to blocks, (S, U / 10, V / 16)."""
    provenance: Details
    """``reference``, ``generated`` and ``evaluation``."""

    def to_dict(self) -> dict[str, Any]:
        """The layout of ``metrics.json``; bulk arrays last."""
        plain = super().to_dict()
        return plain | {
            name: plain.pop(name) for name in ("correlations", "histograms", "maps", "provenance")
        }
