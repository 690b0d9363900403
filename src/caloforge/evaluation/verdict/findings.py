"""What the numbers of an evaluation say one by one: sentences on what differs, or how well it agrees."""

from caloforge.evaluation.results import Evaluation
from caloforge.evaluation.verdict.finding import Finding
from caloforge.evaluation.verdict.judges import (
    classifier_findings,
    classifier_floor,
    distance_findings,
    feature_findings,
    how_it_differs,
)
from caloforge.evaluation.verdict.physics import (
    conservation_findings,
    correlation_findings,
    place_findings,
    response_findings,
    response_shift,
    slice_findings,
    strongest_shift,
    uneven_slices,
)
from caloforge.evaluation.verdict.repeats import repeat_findings
from caloforge.evaluation.verdict.threshold import threshold_findings

__all__ = [
    "Finding",
    "classifier_floor",
    "find_all",
    "how_it_differs",
    "response_shift",
    "strongest_shift",
    "uneven_slices",
]

_KINDS = (
    classifier_findings,
    feature_findings,
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
