"""Everything an evaluation returns: frozen models of numbers that turn into JSON and back."""

from caloforge.evaluation.results.base import Document, Result, jsonable
from caloforge.evaluation.results.classifiers import (
    ClassifierResult,
    Diagnosis,
    FeatureShare,
    LearningCurve,
    MulticlassResult,
    Scores,
    TellTale,
)
from caloforge.evaluation.results.comparison import (
    COMPARISON_FILE,
    Column,
    ComparedModel,
    ModelComparison,
    PublishedResult,
    read_comparison,
)
from caloforge.evaluation.results.evaluation import METRICS_FILE, Evaluation, Verdict
from caloforge.evaluation.results.histograms import Histogram, Profile
from caloforge.evaluation.results.numbers import Comparison, Estimate, Separation, Significance
from caloforge.evaluation.results.observables import EquivalentShowers, NeighbourhoodMetric
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
from caloforge.evaluation.results.pixels import (
    PixelEvaluation,
    Quantity,
    RateCurve,
    SensorCorrelation,
    SensorNetworkRecord,
)
from caloforge.evaluation.results.timing import Timing

__all__ = [
    "COMPARISON_FILE",
    "METRICS_FILE",
    "CellRange",
    "ClassifierResult",
    "Column",
    "ComparedModel",
    "Comparison",
    "Conservation",
    "Correlation",
    "Diagnosis",
    "Document",
    "EquivalentShowers",
    "Estimate",
    "Evaluation",
    "FeatureShare",
    "Histogram",
    "LearningCurve",
    "Localisation",
    "Memorisation",
    "ModelComparison",
    "MulticlassResult",
    "NeighbourhoodMetric",
    "PixelEvaluation",
    "Profile",
    "PublishedResult",
    "Quantity",
    "RateCurve",
    "ResolutionFit",
    "ResponseCurve",
    "Result",
    "Scores",
    "SensorCorrelation",
    "SensorNetworkRecord",
    "Separation",
    "Shift",
    "Significance",
    "Slice",
    "TellTale",
    "Timing",
    "Verdict",
    "jsonable",
    "read_comparison",
]
