"""Everything an evaluation returns, as plain dataclasses that turn into JSON and back."""

from caloforge.evaluation.results.classifiers import (
    ClassifierResult,
    Diagnosis,
    FeatureShare,
    MulticlassResult,
    Scores,
    TellTale,
)
from caloforge.evaluation.results.evaluation import SCHEMA, Evaluation, Verdict, metrics_schema
from caloforge.evaluation.results.histograms import Histogram, Profile
from caloforge.evaluation.results.numbers import Comparison, Estimate, Separation
from caloforge.evaluation.results.physics import (
    CellRange,
    Conservation,
    Correlation,
    Localisation,
    Memorisation,
    ResolutionFit,
    ResponseCurve,
    Shift,
    Slice,
)
from caloforge.evaluation.results.serial import from_plain, to_plain
from caloforge.evaluation.results.timing import Timing

__all__ = [
    "SCHEMA",
    "CellRange",
    "ClassifierResult",
    "Comparison",
    "Conservation",
    "Correlation",
    "Diagnosis",
    "Estimate",
    "Evaluation",
    "FeatureShare",
    "Histogram",
    "Localisation",
    "Memorisation",
    "MulticlassResult",
    "Profile",
    "ResolutionFit",
    "ResponseCurve",
    "Scores",
    "Separation",
    "Shift",
    "Slice",
    "TellTale",
    "Timing",
    "Verdict",
    "from_plain",
    "metrics_schema",
    "to_plain",
]
