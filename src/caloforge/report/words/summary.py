"""Results as tables for the terminal."""

from __future__ import annotations

import math
from functools import singledispatch

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from caloforge.evaluation.amplification import AmplificationCurve, AmplificationResult
from caloforge.evaluation.differences import classifier_auc
from caloforge.evaluation.results import Estimate, Evaluation, ModelComparison, PixelEvaluation
from caloforge.evaluation.upsampling import UpsamplingResult
from caloforge.report.words.in_words import in_words
from caloforge.report.words.pixels import event_rows
from caloforge.report.words.rows import THOUSANDTHS, display_scale
from caloforge.report.words.significance import standing
from caloforge.report.words.table import comparison_tables
from caloforge.report.words.text import classifier_title, group_title, lowered, percent, scatter, with_error

__all__ = ["summary"]


@singledispatch
def summary(result: object) -> RenderableType:
    """What a result says, for `rich.print`: an evaluation, a comparison, an amplification, an upsampling.

    Raises:
        TypeError: it is none of these.
    """
    raise TypeError(f"there is no summary of a {type(result).__name__}")


summary.register(ModelComparison, comparison_tables)


@summary.register
def _evaluation(evaluation: Evaluation) -> Table:
    """One row a number with its floor: response, classifiers, distances, separation powers and time.

    The title is the verdict's headline, the caption the warnings.
    """
    evaluation = in_words(evaluation)
    table = _judged(evaluation)
    response = evaluation.features.get("e_ratio")
    if response is not None:
        for name, made, true in (
            ("mean of E_tot / E_inc", response.generated_mean, response.reference_mean),
            ("spread of E_tot / E_inc", response.generated_std, response.reference_std),
        ):
            table.add_row(name, f"{made:.4f}", f"reference {true:.4f}")
    for name, result in evaluation.classifiers.items():
        title = f"{classifier_title(name)} ({result.settings.get('preset') or 'custom'})"
        several = len(result.aucs) > 1
        spread = f" ± {result.auc_std:.3f}" if several else ""
        auc = classifier_auc(result)
        floor = f"{auc.floor:.3f} ± {auc.floor_error:.3f}"
        table.add_row(f"AUC {title}", f"{result.auc:.3f}{spread}", floor, standing(auc.sigmas()))
        if result.curve is not None:
            known = result.curve.expected
            name = f"expected with {result.curve.at:,} showers"
            table.add_row(name, f"{known.value:.3f} ± {known.error:.3f}", "0.500")
        jsd = with_error(result.jsd, result.jsd_std) if several else f"{result.jsd:.3f}"
        table.add_row(f"JSD {title}", jsd, "0")
    for name, estimate in evaluation.distances.items():
        title = f"{name.upper()} × 10³" if name in THOUSANDTHS else name
        table.add_row(title, *_estimate(estimate, display_scale(name)))
    for correlation in evaluation.correlations.values():
        table.add_row(f"correlation of {correlation.name}, rms difference", *_estimate(correlation.distance))
    for group, separation in evaluation.group_separation().items():
        label = f"separation, {lowered(group_title(group))}"
        table.add_row(
            label, f"{separation.value:.5f}", f"{separation.floor:.5f} ± {separation.floor_std:.5f}"
        )
    if evaluation.memorisation is not None:
        nearer = evaluation.memorisation.nearer
        value = percent(nearer.value, nearer.error, signed=False)
        said = standing(nearer.sigmas())
        table.add_row("nearer to training than to held-out showers", value, "50 %", said)
    timing = evaluation.timing
    if timing.generator_ms is not None:
        table.add_row("ms per shower", f"{timing.generator_ms:.3g}", "")
    if timing.geant4_ms is not None:
        table.add_row("Geant4 ms per shower, same energies", f"{timing.geant4_ms:.3g}", "")
    if timing.speed_up is not None:
        table.add_row("speed-up", f"{timing.speed_up:.0f}×", "")
    return table


def _judged(evaluation: Evaluation | PixelEvaluation) -> Table:
    """An empty table of numbers with their floors below the verdict's headline, warnings beneath."""
    title = escape(evaluation.verdict.headline) if evaluation.verdict else None
    table = Table(title=title, caption=escape("\n".join(evaluation.warnings)) or None)
    table.add_column("quantity")
    table.add_column("value", justify="right")
    table.add_column("by chance", justify="right")
    table.add_column("beyond chance")
    return table


@summary.register
def _pixels(evaluation: PixelEvaluation) -> Table:
    """The numbers that matter, and the time an event takes."""
    evaluation = in_words(evaluation)
    table = _judged(evaluation)
    for row in event_rows(evaluation):
        table.add_row(lowered(row.name), row.value, row.floor, standing(row.sigmas))
    for name, key in (("ms an event", "generator_ms"), ("Geant4 ms an event", "geant4_ms")):
        if (ms := evaluation.timing.get(key)) is not None:
            table.add_row(name, f"{ms:.3g}", "")
    return table


def _estimate(estimate: Estimate, scale: float = 1.0) -> tuple[str, ...]:
    """Value and floor with their errors and what they say; the ideal where there is no floor."""
    value = with_error(scale * estimate.value, scale * estimate.error)
    if math.isnan(estimate.floor):
        return value, f"ideal {estimate.ideal:g}"
    floor = scatter(scale * estimate.floor, scale * estimate.floor_error)
    return value, floor, standing(estimate.sigmas())


@summary.register
def _amplification(result: AmplificationResult) -> Table:
    """One row a curve."""
    counts = result.counts
    table = Table(
        title=f"amplification: {counts['generated']} showers generated from {counts['training']}, "
        f"truth {counts['truth']}",
        caption="\n".join(in_words(result).warnings) or None,
    )
    for column in ("observables", "bins", "error", "true showers", "amplification"):
        table.add_column(column, justify="left" if column == "observables" else "right")
    for curve in result.curves:
        worth = f"{curve.equivalent:.0f}" if math.isfinite(curve.equivalent) else "–"
        table.add_row(curve.name, str(curve.bins), f"{curve.errors[-1]:.2g}", worth, _factor(curve))
    return table


def _factor(curve: AmplificationCurve) -> str:
    low, value, high = (
        f"{x:.0f}" if x >= 10 else f"{x:.2g}"
        for x in (curve.amplification_low, curve.amplification, curve.amplification_high)
    )
    if math.isnan(curve.amplification):
        return f"> {low}"
    return f"{value} (> {low})" if math.isnan(curve.amplification_high) else f"{value} ({low}-{high})"


@summary.register
def _upsampling(result: UpsamplingResult) -> Table:
    """One row for each N_c and classifier."""
    table = Table(box=SIMPLE_HEAD, title=f"upsampling against {result.reference} reference showers")
    for column in ("coarse", "fine", "judge", "AUC", "JSD", "copies: AUC", "JSD"):
        table.add_column(column, justify="left" if column == "judge" else "right", no_wrap=True)
    for point in result.points:
        for name, score in point.scores.items():
            copies = point.copies.get(name)
            both = (score.auc, score.jsd, *((copies.auc, copies.jsd) if copies else (None, None)))
            table.add_row(f"{point.coarse}", f"{point.fine}", name, *map(_three_digits, both))
    table.caption = "\n".join(point.note for point in in_words(result).points if point.note) or None
    return table


def _three_digits(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    return f"{estimate.value:.3f}" + ("" if math.isnan(estimate.error) else f"±{estimate.error:.3f}")
