"""What a comparison of several generated samples with one reference returns.

Legend: ``M`` models, in the order in which they were given.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from caloforge.errors import DataError
from caloforge.evaluation.results.classifiers import MulticlassResult
from caloforge.evaluation.results.evaluation import Evaluation, Verdict
from caloforge.evaluation.results.numbers import Estimate
from caloforge.evaluation.results.schema import json_schema
from caloforge.evaluation.results.serial import from_plain, to_plain
from caloforge.evaluation.results.timing import Timing

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = [
    "COMPARISON_SCHEMA",
    "Column",
    "ComparedModel",
    "ModelComparison",
    "PublishedResult",
    "comparison_schema",
]

COMPARISON_SCHEMA = 1
"""Version of the layout of ``comparison.json``; raised where a key is removed or changes its meaning."""


@dataclass(frozen=True)
class PublishedResult:
    """One row of the challenge's tables.

    Attributes:
        data_set: ``1-photons``, ``1-pions``, ``2`` or ``3``.
        model: as the challenge names it; ``Geant4`` is the floor, Geant4 against itself.
        source: where it was published.
        metrics: ``auc_low``, ``auc_high``, ``auc_resnet``, ``fpd``, ``kpd``; those published.
        ms: ms per shower by device and batch size: ``cpu_1``, ``cpu_100``, ``gpu_1``, ``gpu_100``,
            ``gpu_10000``.
        parameters: weights of the network.
    """

    data_set: str
    model: str
    source: str
    metrics: dict[str, float]
    ms: dict[str, float] = field(default_factory=dict)
    parameters: int | None = None

    def time(self, device: str = "gpu") -> tuple[float, str] | None:
        """ms per shower on ``cpu`` or ``gpu`` at the published batch size nearest to 100, and its key."""
        for batch in (100, 10000, 1):
            key = f"{device}_{batch}"
            if key in self.ms:
                return self.ms[key], key
        return None


@dataclass(frozen=True)
class Column:
    """One metric of the table.

    Attributes:
        key: of `ComparedModel.metrics`.
        label: its heading.
        part: ``main``, ``more`` or ``separation``: the part of the table that it stands in.
        floor: what two samples of Geant4 give, mean over the models' sample sizes; for times, Geant4's own.
        best: the model that is better than every other by more than the errors, or empty.
    """

    key: str
    label: str
    part: str
    floor: Estimate
    best: str = ""


@dataclass(frozen=True)
class ComparedModel:
    """One row of the table.

    Attributes:
        name: unique; its evaluation is in ``<name>/metrics.json``.
        file: where the showers are; empty for showers in memory.
        showers: how many.
        metrics: by the columns' keys; those that could be had.
        timing: of its generator.
        warnings: what limits its numbers.
        verdict: its outcome in words.
    """

    name: str
    file: str
    showers: int
    metrics: dict[str, Estimate]
    timing: Timing
    warnings: list[str]
    verdict: Verdict | None = None


@dataclass(frozen=True, eq=False)
class ModelComparison:
    """Several generated samples against one reference.

    Attributes:
        reference: file of the reference showers, or ``showers in memory``.
        reference_showers: how many.
        level: of the nearest model, as in `Verdict`: 0 not told apart … 3 easily told apart, −1 not known.
        headline: which model is nearest, one sentence.
        sentences: what else the numbers say, most important first.
        columns: the metrics, in the order of the table.
        models: the rows, (M,).
        pareto: by the key of a quality metric: models to which no other is both better and faster.
        multiclass: the network that tells all samples apart at once, where it was asked for.
        published: rows of the CaloChallenge for this mesh; not measured here.
        warnings: plain sentences about what limits the comparison.
        mesh: the cells, as `Mesh.to_dict` gives them.
        provenance: of the comparison.
        evaluations: by name; each lies in a file of its own, not in ``comparison.json``.
    """

    reference: str
    reference_showers: int
    level: int
    headline: str
    sentences: list[str]
    columns: list[Column]
    models: list[ComparedModel]
    pareto: dict[str, list[str]]
    multiclass: MulticlassResult | None
    published: list[PublishedResult]
    warnings: list[str]
    mesh: dict[str, Any]
    provenance: dict[str, Any]
    evaluations: dict[str, Evaluation] = field(default_factory=dict, repr=False)

    def column(self, key: str) -> Column:
        """The column of a metric; DataError names those there are."""
        for column in self.columns:
            if column.key == key:
                return column
        raise DataError(f"no metric {key!r}; there are {', '.join(c.key for c in self.columns)}")

    def summary(self) -> RenderableType:
        """The tables and the verdict for `rich.print`."""
        from caloforge.evaluation.comparison.table import rich_tables

        return rich_tables(self)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dict, the layout of ``comparison.json``; without the evaluations."""
        names = [f.name for f in dataclasses.fields(self) if f.name != "evaluations"]
        return {"schema": COMPARISON_SCHEMA} | {name: to_plain(getattr(self, name)) for name in names}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], evaluations: Mapping[str, Evaluation] | None = None) -> Self:
        """The comparison that `to_dict` wrote; DataError where the layout is another."""
        schema = plain.get("schema") if isinstance(plain, Mapping) else None
        if schema != COMPARISON_SCHEMA:
            raise DataError(
                f"comparison of schema {schema!r}; this version reads {COMPARISON_SCHEMA}. "
                "Compare the showers again."
            )
        try:
            made = from_plain(cls, {key: value for key, value in plain.items() if key != "evaluations"})
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(f"malformed comparison: {type(error).__name__} {error}") from error
        return dataclasses.replace(made, evaluations=dict(evaluations or {}))


def comparison_schema() -> dict[str, Any]:
    """The layout of ``comparison.json`` as a JSON Schema; docs/comparison.schema.json holds it."""
    version = {"description": "Version of this layout.", "const": COMPARISON_SCHEMA}
    layout = json_schema(
        ModelComparison,
        title=f"caloforge comparison.json, schema {COMPARISON_SCHEMA}",
        extra={"schema": version},
    )
    del layout["properties"]["evaluations"]  # in files of their own
    layout["required"] = ["schema", *(name for name in layout["required"] if name != "evaluations")]
    used = _references(layout["properties"], layout["$defs"])
    layout["$defs"] = {name: kind for name, kind in layout["$defs"].items() if name in used}
    return layout


def _references(schema: Any, definitions: Mapping[str, Any]) -> set[str]:
    """Names of the definitions that a schema uses, also by way of others."""
    names = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema)))
    return names.union(*(_references(definitions[name], definitions) for name in names))
