"""What an evaluation returns: plain dataclasses that turn into JSON and back.

Legend: ``V`` voxels. "reference" is the sample held to be true, "generated" the one that is judged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.evaluation.results.classifiers import ClassifierResult
from caloforge.evaluation.results.histograms import Histogram, Profile
from caloforge.evaluation.results.numbers import Comparison, Estimate, Separation
from caloforge.evaluation.results.physics import (
    CellRange,
    Conservation,
    Correlation,
    Localisation,
    Memorisation,
    ResponseCurve,
    Slice,
)
from caloforge.evaluation.results.schema import json_schema
from caloforge.evaluation.results.serial import from_plain, to_plain
from caloforge.evaluation.results.timing import Timing

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["SCHEMA", "Evaluation", "Verdict", "metrics_schema"]

SCHEMA = 2
"""Version of the layout of ``metrics.json``; raised where a key is removed or changes its meaning."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """The outcome in words.

    Attributes:
        level: 0 not told apart, 1 close, 2 visibly different, 3 easily told apart; −1 too few showers to say.
        headline: one short sentence.
        agrees, differs: plain sentences on what agrees and what does not, most important first.
        giveaway: the feature that gives the generator away most, in words; empty where none does.
        limits: what this sample cannot tell, where it is small.
    """

    level: int
    headline: str
    agrees: list[str]
    differs: list[str]
    giveaway: str
    limits: str = ""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All metrics of a generated sample against a reference sample.

    Attributes:
        counts: showers, ``reference`` and ``generated``, and those without energy, ``reference_empty``, …
        mesh: the cells, as `Mesh.to_dict` gives them.
        threshold_mev: the smallest cell energy histogrammed.
        histograms: every feature, in the order of groups and layers.
        features: mean and standard deviation of every feature, by the names of the histograms.
        profiles: longitudinal and radial.
        mean_shower: ``reference`` and ``generated``: mean energy of each voxel, MeV, (V,).
        classifiers: by name, ``low``, ``low-normed``, ``high``, ``resnet``, ``c2st``; those asked for.
        distances: by name, ``fpd``, ``kpd``, ``precision``, ``recall``, ``density``, ``coverage``.
        responses: response and resolution against energy, and θ, φ and detector where they vary.
        correlations: by name, ``layers`` and ``cells``.
        slices: metrics in bins of conditions.
        localisation: the layers and cells whose means differ by more than chance.
        conservation: showers with more energy than the reference ever shows.
        cells: smallest and largest cells.
        memorisation: where the training showers were given.
        verdict: the outcome in words.
        timing: Geant4 against the generator.
        conditions: the ranges of both samples, and the Kolmogorov-Smirnov test of their energies.
        warnings: plain sentences about what limits these numbers.
        provenance: ``reference``, ``generated`` and ``evaluation``.
    """

    counts: dict[str, int]
    mesh: dict[str, Any]
    threshold_mev: float
    histograms: list[Histogram]
    features: dict[str, Comparison]
    profiles: dict[str, Profile]
    mean_shower: dict[str, Floats]
    classifiers: dict[str, ClassifierResult]
    timing: Timing
    conditions: dict[str, Any]
    warnings: list[str]
    provenance: dict[str, Any]
    distances: dict[str, Estimate] = field(default_factory=dict)
    responses: list[ResponseCurve] = field(default_factory=list)
    correlations: dict[str, Correlation] = field(default_factory=dict)
    slices: list[Slice] = field(default_factory=list)
    localisation: Localisation | None = None
    conservation: Conservation | None = None
    cells: CellRange | None = None
    memorisation: Memorisation | None = None
    verdict: Verdict | None = None

    @property
    def separation(self) -> dict[str, Separation]:
        """Separation power and its floor by the histograms' names."""
        return {histogram.name: histogram.separation for histogram in self.histograms}

    def group_separation(self) -> dict[str, Separation]:
        """Means over the histograms (layers) of each group; ``floor_std`` is the mean of theirs."""
        groups: dict[str, list[Separation]] = {}
        for histogram in self.histograms:
            groups.setdefault(histogram.group, []).append(histogram.separation)
        return {
            group: Separation(*np.mean([dataclasses.astuple(s) for s in members], axis=0).tolist())
            for group, members in groups.items()
        }

    def histogram(self, name: str) -> Histogram:
        """The histogram called ``name``; DataError names those there are."""
        for histogram in self.histograms:
            if histogram.name == name:
                return histogram
        raise DataError(f"no histogram {name!r}; there are {', '.join(h.name for h in self.histograms)}")

    def summary(self) -> Table:
        """The numbers that matter as a table for `rich.print`."""
        from caloforge.evaluation.summary import summary_table

        return summary_table(self)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dict, the layout of ``metrics.json``; numbers first, bulk arrays last."""
        plain = {f.name: to_plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        first = (
            "verdict",
            "counts",
            "warnings",
            "distances",
            "classifiers",
            "timing",
            "localisation",
            "conservation",
        )
        bulk = ("responses", "correlations", "slices", "histograms", "profiles", "mean_shower", "provenance")
        middle = [name for name in plain if name not in (*first, *bulk)]
        separation = {"separation": to_plain(self.separation)}
        return (
            {"schema": SCHEMA}
            | {name: plain[name] for name in (*first, *middle)}
            | separation
            | {name: plain[name] for name in bulk}
        )

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The evaluation that `to_dict` wrote; DataError where the layout is another."""
        schema = plain.get("schema") if isinstance(plain, Mapping) else None
        if schema != SCHEMA:
            raise DataError(
                f"metrics of schema {schema!r}; this version reads {SCHEMA}. Evaluate the showers again."
            )
        try:
            return from_plain(cls, plain)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(f"malformed metrics: {type(error).__name__} {error}") from error


def metrics_schema() -> dict[str, Any]:
    """The layout of ``metrics.json`` as a JSON Schema; docs/metrics.schema.json holds it."""
    separation = {
        "description": "Separation power and floor of every histogram, by name; also in histograms.",
        "type": "object",
        "additionalProperties": {"$ref": "#/$defs/Separation"},
    }
    version = {"description": "Version of this layout.", "const": SCHEMA}
    layout = json_schema(
        Evaluation,
        title=f"caloforge metrics.json, schema {SCHEMA}",
        extra={"schema": version, "separation": separation},
    )
    layout["required"] = ["schema", "separation", *layout["required"]]
    return layout
