"""Tables of every metric in bins of the incident conditions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from caloforge.evaluation.results import Estimate, Evaluation, Slice
from caloforge.evaluation.significance import chance_sigmas
from caloforge.report.tables import Cell, Row, Table
from caloforge.report.words.text import (
    classifier_title,
    group_title,
    lowered,
    number,
    percent,
    scatter,
    with_error,
)

__all__ = ["slice_tables"]

CONDITIONS = {
    "energy": "Incident energy",
    "theta": "θ",
    "phi": "φ",
    "impact_x": "Impact point, x",
    "impact_y": "Impact point, y",
}


def slice_tables(evaluation: Evaluation) -> list[tuple[Table, list[str]]]:
    """A table a condition: metrics by bin, coloured by how far they lie above chance; with notes on bins."""
    conditions: dict[str, list[Slice]] = {}
    for part in evaluation.slices:
        conditions.setdefault(part.condition, []).append(part)
    return [
        (_heat_table(name, parts), [f"{_bin_label(part)}: {part.note}" for part in parts if part.note])
        for name, parts in conditions.items()
    ]


def _heat_table(condition: str, parts: Sequence[Slice]) -> Table:
    groups = list(dict.fromkeys(group for part in parts for group in part.separation))
    metrics = list(dict.fromkeys(name for part in parts for name in part.metrics))
    showers = [f"{number(p.counts['generated'])} / {number(p.counts['reference'])}" for p in parts]
    rows: list[Row] = [
        ("Showers, generated / Geant4", *(Cell(text, "heat-0") for text in showers)),
        ("Response, generated / Geant4 − 1", *map(_response_cell, parts)),
    ]
    for name in metrics:
        scale = 1e3 if name in ("fpd", "kpd") else 1.0
        rows.append((_metric_title(name), *(_estimate_cell(part.metrics.get(name), scale) for part in parts)))
    for group in groups:
        title = f"Separation, {lowered(group_title(group))}"
        rows.append((title, *(_separation_cell(part, group) for part in parts)))
    title = CONDITIONS.get(condition, condition.capitalize())
    head = ("Metric", *map(_bin_label, parts))
    return Table(title, head, rows, style="heat", scrolls=f"metrics in bins of {condition}")


def _bin_label(part: Slice) -> str:
    """The label without the condition, which the table's title gives."""
    return part.label.removeprefix(f"{part.condition} ")


def _metric_title(name: str) -> str:
    if name.startswith("auc_"):
        return f"AUC, {classifier_title(name.removeprefix('auc_'))}"
    return f"{name.upper()} × 10³" if name in ("fpd", "kpd") else name.capitalize()


def _heat(text: str, beneath: str, sigmas: float) -> Cell:
    return Cell(text, f"heat-{2 if sigmas >= 6 else 1 if sigmas >= 3 else 0}", beneath)


def _response_cell(part: Slice) -> str | Cell:
    r, n = part.response, part.counts
    if min(n.values()) < 2 or not r.reference_mean > 0:
        return ""
    error = math.hypot(
        r.reference_std / r.reference_mean / math.sqrt(n["reference"]),
        r.generated_std / r.reference_mean / math.sqrt(n["generated"]),
    )
    shift = r.generated_mean / r.reference_mean - 1
    sigmas = abs(shift) / error if error > 0 else 0.0
    return _heat(percent(shift, error), "", sigmas)


def _estimate_cell(estimate: Estimate | None, scale: float) -> str | Cell:
    if estimate is None:
        return ""
    value = with_error(scale * estimate.value, scale * estimate.error)
    if not math.isfinite(estimate.floor):
        return Cell(value, "heat-0")
    return _heat(value, scatter(scale * estimate.floor, scale * estimate.floor_error), estimate.sigmas())


def _separation_cell(part: Slice, group: str) -> str | Cell:
    separation = part.separation.get(group)
    if separation is None:
        return ""
    return _heat(number(separation.value, 2), number(separation.floor, 2), chance_sigmas(separation))
