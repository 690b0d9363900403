"""Sentences beside single numbers that say nothing, or must not be held against published ones."""

from __future__ import annotations

import math
from collections.abc import Mapping

from caloforge.evaluation.physics.response import LEAST_SHOWERS
from caloforge.evaluation.results import Estimate, Evaluation, Slice
from caloforge.evaluation.slices import FEW_IN_SLICE

__all__ = ["note_of", "slice_note", "with_notes"]

PUBLISHED_SHOWERS = 50_000
"""Showers from which on FPD and KPD may be held against published values (arXiv:2211.10295)."""
FEW_SCORES = 20
"""Validation showers of one class below which an AUC says nothing."""


def with_notes(evaluation: Evaluation) -> Evaluation:
    """The evaluation with the notes of all its numbers."""

    def noted(estimates: Mapping[str, Estimate], counts: Mapping[str, int]) -> dict[str, Estimate]:
        return {
            name: _noted(estimate, note_of(name, estimate, counts)) for name, estimate in estimates.items()
        }

    few = "Too few showers at the same energies, or too few that vary."
    empty = f"No bin has {LEAST_SHOWERS} showers of each sample."
    return evaluation.replace(
        distances=noted(evaluation.distances, evaluation.counts),
        slices=[
            part.replace(metrics=noted(part.metrics, part.counts), note=part.note or slice_note(part))
            for part in evaluation.slices
        ],
        correlations={
            name: c.replace(distance=_noted(c.distance, few if math.isnan(c.distance.floor) else ""))
            for name, c in evaluation.correlations.items()
        },
        responses=[
            r.replace(linearity=_noted(r.linearity, empty if math.isnan(r.linearity.value) else ""))
            for r in evaluation.responses
        ],
    )


def _noted(estimate: Estimate, note: str) -> Estimate:
    return estimate.replace(note=note) if note and not estimate.note else estimate


def note_of(name: str, estimate: Estimate, counts: Mapping[str, int]) -> str:
    """What must be said of a distance or of an AUC in a slice; mostly nothing.

    Args:
        name: ``fpd``, ``kpd``, ``precision``, … or ``auc_<classifier>``.
        estimate: its number.
        counts: ``reference`` and ``generated`` showers there are.
    """
    if estimate.showers is None:
        return ""
    first, second = estimate.showers
    if name in ("fpd", "kpd", "fpd_trimmed"):
        return _of_small_sample(min(first, second))
    if name.startswith("auc_"):
        few = f"only {first} reference and {second} generated validation showers: says nothing"
        return few if min(first, second) < FEW_SCORES else ""
    said = []
    if first < counts["reference"] or second < counts["generated"]:
        said.append(
            f"Of {first:,} and {second:,} showers of {counts['reference']:,} and {counts['generated']:,}, "
            "drawn at random."
        )
    if estimate.outside:
        said.append(f"{estimate.outside:,} cells below 10⁻⁹ or above 10⁷ MeV were taken as such.")
    return " ".join(said)


def _of_small_sample(fewest: int) -> str:
    if fewest >= PUBLISHED_SHOWERS:
        return ""
    return (
        f"{fewest:,} showers, not the protocol’s {PUBLISHED_SHOWERS:,}: do not compare with published values."
    )


def slice_note(part: Slice) -> str:
    """A sentence where there are too few showers to say anything."""
    few = [f"{n} {role}" for role, n in part.counts.items() if n < FEW_IN_SLICE]
    return f"Only {' and '.join(few)} showers: too few." if few else ""
