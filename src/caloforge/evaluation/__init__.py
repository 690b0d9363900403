"""Judging showers and pixel events: features, histograms, distances and classifiers, with their floors.

Importing this loads neither torch nor scikit-learn nor matplotlib.
"""

from caloforge.evaluation.classifiers import PRESETS, ClassifierSettings, train_classifier
from caloforge.evaluation.distances import feature_matrix, fpd, kpd, memorisation, prdc
from caloforge.evaluation.evaluate import evaluate
from caloforge.evaluation.features import Features, compute_features
from caloforge.evaluation.pixels import evaluate_events
from caloforge.evaluation.results import (
    METRICS_FILE,
    Comparison,
    Estimate,
    Evaluation,
    ModelComparison,
    PixelEvaluation,
    Separation,
    read_comparison,
)
from caloforge.evaluation.separation import separation_floor, separation_power

__all__ = [
    "METRICS_FILE",
    "PRESETS",
    "ClassifierSettings",
    "Comparison",
    "Estimate",
    "Evaluation",
    "Features",
    "ModelComparison",
    "PixelEvaluation",
    "Separation",
    "compute_features",
    "evaluate",
    "evaluate_events",
    "feature_matrix",
    "fpd",
    "kpd",
    "memorisation",
    "prdc",
    "read_comparison",
    "separation_floor",
    "separation_power",
    "train_classifier",
]
