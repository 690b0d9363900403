"""Judging showers: features, histograms, separation powers and classifiers, with their statistical floors."""

from caloforge.evaluation.results import (
    SCHEMA,
    ClassifierResult,
    Comparison,
    Evaluation,
    Histogram,
    Profile,
    Separation,
    Timing,
)

__all__ = [
    "SCHEMA",
    "ClassifierResult",
    "Comparison",
    "Evaluation",
    "Histogram",
    "Profile",
    "Separation",
    "Timing",
]
