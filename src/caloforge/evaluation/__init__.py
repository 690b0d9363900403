"""Judging showers: features, histograms, separation powers and classifiers, with their statistical floors.

Importing this loads neither torch nor scikit-learn nor matplotlib.
"""

from caloforge.evaluation.classifiers import PRESETS, ClassifierSettings, train_classifier
from caloforge.evaluation.distances import feature_matrix, fpd, kpd, memorisation, prdc
from caloforge.evaluation.evaluate import evaluate
from caloforge.evaluation.features import Features, compute_features
from caloforge.evaluation.metrics_file import METRICS_FILE, read_metrics, write_metrics
from caloforge.evaluation.results import (
    SCHEMA,
    ClassifierResult,
    Comparison,
    Conservation,
    Correlation,
    Diagnosis,
    Estimate,
    Evaluation,
    FeatureShare,
    Histogram,
    Localisation,
    Memorisation,
    Profile,
    ResolutionFit,
    ResponseCurve,
    Separation,
    Shift,
    Slice,
    TellTale,
    Timing,
    Verdict,
    metrics_schema,
)
from caloforge.evaluation.separation import separation_floor, separation_power

__all__ = [
    "METRICS_FILE",
    "PRESETS",
    "SCHEMA",
    "ClassifierResult",
    "ClassifierSettings",
    "Comparison",
    "Conservation",
    "Correlation",
    "Diagnosis",
    "Estimate",
    "Evaluation",
    "FeatureShare",
    "Features",
    "Histogram",
    "Localisation",
    "Memorisation",
    "Profile",
    "ResolutionFit",
    "ResponseCurve",
    "Separation",
    "Shift",
    "Slice",
    "TellTale",
    "Timing",
    "Verdict",
    "compute_features",
    "evaluate",
    "feature_matrix",
    "fpd",
    "kpd",
    "memorisation",
    "metrics_schema",
    "prdc",
    "read_metrics",
    "separation_floor",
    "separation_power",
    "train_classifier",
    "write_metrics",
]
