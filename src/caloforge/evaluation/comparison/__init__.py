"""Several generated samples against one reference: which is better, by more than chance?"""

from caloforge.evaluation.comparison.posterior import multiclass_posterior
from caloforge.evaluation.comparison.published import published_results
from caloforge.evaluation.comparison.ranking import metrics_of, pareto_front

__all__ = ["metrics_of", "multiclass_posterior", "pareto_front", "published_results"]
