"""What a comparison of several generated samples with one reference returns.

Legend: ``M`` models, in the order in which they were given.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from caloforge.errors import DataError
from caloforge.evaluation.results.base import Details, Document, Number, Result
from caloforge.evaluation.results.classifiers import MulticlassResult
from caloforge.evaluation.results.evaluation import METRICS_FILE, Evaluation, Verdict
from caloforge.evaluation.results.numbers import Estimate
from caloforge.evaluation.results.timing import Timing

__all__ = [
    "COMPARISON_FILE",
    "Column",
    "ComparedModel",
    "ModelComparison",
    "PublishedResult",
    "read_comparison",
]

COMPARISON_FILE = "comparison.json"


class PublishedResult(Result):
    """One row of the challenge's tables."""

    data_set: str
    """``1-photons``, ``1-pions``, ``2`` or ``3``."""
    model: str
    """As the challenge names it; ``Geant4`` is the floor, Geant4 against itself."""
    source: str
    """Where it was published."""
    metrics: dict[str, Number]
    """``auc_low``, ``auc_high``, ``auc_resnet``, ``fpd``, ``kpd``; those published."""
    ms: dict[str, Number] = Field(default_factory=dict)
    """ms per shower by device and batch size: ``cpu_1``, ``cpu_100``, ``gpu_1``, ``gpu_100``,
    ``gpu_10000``."""
    parameters: int | None = None
    """Weights of the network."""

    def time(self, device: str = "gpu") -> tuple[float, str] | None:
        """ms per shower on ``cpu`` or ``gpu`` at the published batch size nearest to 100, and its key."""
        for batch in (100, 10000, 1):
            key = f"{device}_{batch}"
            if key in self.ms:
                return self.ms[key], key
        return None


class Column(Result):
    """One metric of the table."""

    key: str
    """Of `ComparedModel.metrics`."""
    label: str
    """Its heading."""
    part: str
    """``main``, ``more`` or ``separation``: the part of the table that it stands in."""
    floor: Estimate
    """What two samples of Geant4 give, mean over the models' sample sizes; for times, Geant4's own."""
    best: str = ""
    """The model that is better than every other by more than the errors, or empty."""


class ComparedModel(Result):
    """One row of the table."""

    name: str
    """Unique; its evaluation is in ``<name>/metrics.json``."""
    file: str
    """Where the showers are; empty for showers in memory."""
    showers: int
    """How many."""
    metrics: dict[str, Estimate]
    """By the columns' keys; those that could be had."""
    timing: Timing
    """Of its generator."""
    warnings: list[str]
    """What limits its numbers."""
    verdict: Verdict | None = None
    """Its outcome in words."""


class ModelComparison(Document):
    """Several generated samples against one reference, the layout of ``comparison.json``."""

    layout: ClassVar[int] = 1
    noun: ClassVar[str] = "comparison"
    remedy: ClassVar[str] = "Compare the showers again."

    reference: str
    """File of the reference showers, or ``showers in memory``."""
    reference_showers: int
    """How many."""
    level: int
    """Of the worst row, as in `Verdict`: 0 not told apart … 3 easily told apart, −1 not known."""
    headline: str
    """Which model is nearest, and what the others are; no less than the rows say."""
    sentences: list[str]
    """What else the numbers say, most important first."""
    columns: list[Column]
    """The metrics, in the order of the table."""
    models: list[ComparedModel]
    """The rows, (M,)."""
    pareto: dict[str, list[str]]
    """By the key of a quality metric: models to which no other is both better and faster."""
    multiclass: MulticlassResult | None
    """The network that tells all samples apart at once, where it was asked for."""
    published: list[PublishedResult]
    """Rows of the CaloChallenge for this mesh; not measured here."""
    warnings: list[str]
    """Plain sentences about what limits the comparison."""
    mesh: Details
    """The cells, as `Mesh.to_dict` gives them."""
    provenance: Details
    """Of the comparison."""
    evaluations: dict[str, Evaluation] = Field(default_factory=dict, repr=False, exclude=True)
    """By name; each lies in a file of its own, not in ``comparison.json``."""

    def column(self, key: str) -> Column:
        """The column of a metric; DataError names those there are."""
        for column in self.columns:
            if column.key == key:
                return column
        raise DataError(f"no metric {key!r}; there are {', '.join(c.key for c in self.columns)}")


def read_comparison(path: str | os.PathLike[str]) -> ModelComparison:
    """The comparison in a folder or ``comparison.json``, with the evaluations that lie beside it.

    Raises:
        DataError: a file is missing, damaged or of another schema.
    """
    path = Path(path)
    if path.is_dir():
        path /= COMPARISON_FILE
    made = ModelComparison.read(path)
    found = {m.name: Evaluation.read(path.parent / m.name / METRICS_FILE) for m in made.models}
    return made.replace(evaluations=found)
