"""Results with what their numbers say: verdicts, warnings and notes, which are also in their files."""

from __future__ import annotations

from functools import singledispatch
from typing import Any, TypeVar

from caloforge.evaluation.amplification import AmplificationResult
from caloforge.evaluation.results import Evaluation, PixelEvaluation, Result
from caloforge.evaluation.upsampling import UpsamplingPoint, UpsamplingResult
from caloforge.report.words.memorisation import memorisation_verdict
from caloforge.report.words.notes import with_notes
from caloforge.report.words.pixels import find_event_verdict, find_event_warnings
from caloforge.report.words.verdict import find_verdict
from caloforge.report.words.warnings import find_warnings

__all__ = ["in_words"]

R = TypeVar("R", bound=Result)


def in_words(result: R) -> R:
    """The result with its sentences; those that it has already stay.

    Args:
        result: an `Evaluation` gets its verdict, warnings and notes, and the verdict on memorised training
            showers, a `PixelEvaluation` the same without notes; an `AmplificationResult` its warnings; an
            `UpsamplingResult` the notes of its points.
    """
    told: R = _told(result)
    return told


@singledispatch
def _told(result: Any) -> Any:
    return result


@_told.register
def _evaluation(result: Evaluation) -> Evaluation:
    result = with_notes(result)
    parts = result.counts, result.conditions, result.histograms, result.classifiers
    found = result.memorisation
    return result.replace(
        verdict=result.verdict or find_verdict(result),
        warnings=result.warnings or find_warnings(*parts),
        memorisation=found and found.replace(verdict=found.verdict or memorisation_verdict(found)),
    )


@_told.register
def _pixels(result: PixelEvaluation) -> PixelEvaluation:
    found = result.memorisation
    return result.replace(
        verdict=result.verdict or find_event_verdict(result),
        warnings=result.warnings or find_event_warnings(result),
        memorisation=found and found.replace(verdict=found.verdict or memorisation_verdict(found, "event")),
    )


@_told.register
def _amplification(result: AmplificationResult) -> AmplificationResult:
    return result.replace(
        warnings=[
            f"The {role} showers have incident energies of the truth sample, so they are not independent of "
            "it and their errors come out too small; use other showers."
            for role in result.shared_energies
        ]
    )


@_told.register
def _upsampling(result: UpsamplingResult) -> UpsamplingResult:
    def told(point: UpsamplingPoint) -> UpsamplingPoint:
        if result.repeatable is None or point.coarse <= result.repeatable:
            return point
        few = "there are too few Geant4 showers to repeat so many of them"
        return point.replace(note=f"{point.coarse} coarse showers: {few}.")

    return result.replace(points=[told(point) for point in result.points])
