"""The outcome of an evaluation in words: verdict, findings one by one, and warnings."""

from caloforge.evaluation.verdict.verdict import find_verdict, worst_features
from caloforge.evaluation.verdict.warnings import find_warnings

__all__ = ["find_verdict", "find_warnings", "worst_features"]
