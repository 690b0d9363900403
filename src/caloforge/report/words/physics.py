"""What response, correlations, slices, energy conservation and local means say."""

from __future__ import annotations

import math
from collections.abc import Iterator

from caloforge.evaluation.differences import response_shift, sure_shifts, uneven_slices
from caloforge.evaluation.results import Evaluation
from caloforge.evaluation.significance import equivalent_auc
from caloforge.report.words.finding import Finding
from caloforge.report.words.notes import slice_note
from caloforge.report.words.significance import sigma_text, significance
from caloforge.report.words.text import number, percent, scatter_percent

__all__ = [
    "conservation_findings",
    "correlation_findings",
    "place_findings",
    "response_findings",
    "slice_findings",
]


def response_findings(evaluation: Evaluation) -> Iterator[Finding]:
    """Mean and spread of ΣE/E_inc, and the response in bins of the conditions."""
    shifts = response_shift(evaluation)
    if shifts is not None:
        compared = evaluation.features["e_ratio"]
        for name, wrong, shift in zip(
            ("Mean response ⟨ΣE/E_inc⟩", "Spread of ΣE/E_inc"),
            (("high", "low"), ("wide", "narrow")),
            shifts,
            strict=True,
        ):
            if not math.isfinite(shift.value) or not shift.error > 0:
                continue
            found = significance(abs(shift.value) / shift.error)
            size = f"{scatter_percent(shift.value, shift.error, signed=True)}, {sigma_text(found.sigmas)}"
            way = wrong[0] if shift.value > 0 else wrong[1]
            auc = 0.5
            if wrong[0] == "high" and compared.reference_std > 0:
                d = abs(compared.generated_mean - compared.reference_mean) / compared.reference_std
                auc = equivalent_auc(d**2 / 4)
            yield Finding.of(
                found,
                f"{name} too {way}: {size}.",
                f"{name} perhaps too {way}: {size}.",
                f"{name} agrees: {percent(shift.value, shift.error)}.",
                auc=auc,
            )
    for curve in evaluation.responses:
        estimate = curve.linearity
        sigmas = estimate.sigmas()
        if not math.isfinite(sigmas) or math.isnan(estimate.floor):
            continue
        size = f"up to {percent(estimate.value, signed=False)} in a bin of {_condition(curve.condition)}"
        size += f", {sigma_text(sigmas)}"
        yield Finding.of(
            significance(sigmas),
            f"Response off by {size}.",
            f"Response perhaps off by {size}.",
            f"Response within chance: {size}.",
        )


def _condition(name: str) -> str:
    return {"energy": "incident energy", "theta": "θ", "phi": "φ"}.get(name, name)


def place_findings(evaluation: Evaluation) -> Iterator[Finding]:
    """Layers, cells and pairs of cells whose means differ."""
    known = evaluation.localisation
    if known is None:
        return
    places = {"layer": "layers", "cell": "cells", "neighbours": "pairs of neighbouring cells"}
    same = []
    for kind, tested in known.tested.items():
        name, sure = places.get(kind, kind), sure_shifts(evaluation, kind)
        if not sure:
            same.append(f"{number(tested)} {name}")
            continue
        found, worst = max(known.found.get(kind, 0), 1), max(sure, key=lambda shift: abs(shift.z))
        most = f", most in {worst.name} ({percent(worst.relative, worst.error)})"
        given = ", given all other layers," if kind == "layer" else ""
        yield Finding(f"The mean{given} differs in {number(found)} of {number(tested)} {name}{most}.", True)
    if same:
        yield Finding(f"No mean differs among {' and '.join(same)}.", False)


def correlation_findings(evaluation: Evaluation) -> Iterator[Finding]:
    """Correlation matrices as a whole."""
    for correlation in evaluation.correlations.values():
        distance = correlation.distance
        sigmas = distance.sigmas()
        if math.isnan(distance.floor) or not math.isfinite(sigmas):
            continue
        what = f"Correlations between {correlation.name}"
        size = f"root mean square {number(distance.value, 2)}, {sigma_text(sigmas)}"
        yield Finding.of(
            significance(sigmas),
            f"{what} differ: {size}.",
            f"{what} may differ: {size}.",
            f"{what} agree: {size}.",
        )


def slice_findings(evaluation: Evaluation) -> Iterator[Finding]:
    """Is the generator worse for some conditions than for others?"""
    conditions = dict.fromkeys(part.condition for part in evaluation.slices)
    for condition in conditions:
        parts = [
            s for s in evaluation.slices if s.condition == condition and s.separation and not slice_note(s)
        ]
        if len(parts) < 2:
            continue
        uneven = uneven_slices(parts)
        if uneven is None:
            text = f"No range of {_condition(condition)} is significantly worse than others."
            yield Finding(text, False)
        else:
            worst, excess, others = uneven
            text = (
                f"Quality depends on {_condition(condition)}: mean separation power above chance "
                f"{number(excess, 2)} at {worst.label}, {number(others, 2)} elsewhere."
            )
            yield Finding(text, True)


def conservation_findings(evaluation: Evaluation) -> Iterator[Finding]:
    """Too much energy, and none at all."""
    kept = evaluation.conservation
    if kept is None:
        return
    above = kept.generated_above - kept.reference_above
    size = (
        f"ΣE/E_inc above {number(kept.limit)} in {percent(kept.generated_above, signed=False)} of showers, "
        f"Geant4 {percent(kept.reference_above, signed=False)}"
    )
    found = significance(above / max(kept.expected_error, 1e-12))
    more = f"{size}, {sigma_text(found.sigmas)}; largest {number(kept.largest)}"
    yield Finding.of(
        found,
        f"Too much energy: {more}.",
        f"Perhaps too much energy: {more}.",
        f"Not too much energy: {size}.",
    )
    if kept.negative_or_empty:
        n, total = kept.negative_or_empty, evaluation.counts["generated"]
        missing = evaluation.counts.get("reference_empty", 0)
        if n / total > 2 * missing / evaluation.counts["reference"]:
            yield Finding(f"{number(n)} of {number(total)} generated showers have no energy at all.", True)
