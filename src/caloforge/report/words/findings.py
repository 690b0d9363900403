"""What the numbers of an evaluation say one by one: sentences on what differs, or how well it agrees."""

from caloforge.evaluation.results import Evaluation
from caloforge.report.words.finding import Finding
from caloforge.report.words.judges import classifier_findings, distance_findings, feature_findings
from caloforge.report.words.neighbourhoods import neighbourhood_findings
from caloforge.report.words.physics import (
    conservation_findings,
    correlation_findings,
    place_findings,
    response_findings,
    slice_findings,
)
from caloforge.report.words.repeats import repeat_findings
from caloforge.report.words.threshold import threshold_findings

__all__ = ["find_all"]

_KINDS = (
    classifier_findings,
    feature_findings,
    neighbourhood_findings,
    response_findings,
    place_findings,
    threshold_findings,
    distance_findings,
    correlation_findings,
    slice_findings,
    conservation_findings,
    repeat_findings,
)


def find_all(evaluation: Evaluation) -> list[Finding]:
    """All findings, most important kinds first."""
    return [finding for kind in _KINDS for finding in kind(evaluation)]
