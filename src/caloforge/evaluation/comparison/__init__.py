"""Several generated samples against one reference: one table, ranking, published results."""

from caloforge.evaluation.comparison.compare import (
    COMPARISON_FILE,
    compare,
    read_comparison,
    write_comparison_files,
)
from caloforge.evaluation.comparison.published import published_results
from caloforge.evaluation.comparison.ranking import pareto_front
from caloforge.evaluation.results.comparison import ModelComparison

__all__ = [
    "COMPARISON_FILE",
    "ModelComparison",
    "compare",
    "pareto_front",
    "published_results",
    "read_comparison",
    "write_comparison_files",
]
