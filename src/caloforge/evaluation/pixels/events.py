"""Can whole events be told apart? A two-sample test on what every sensor of an event sums up to.

Legend: ``n`` events, ``S`` sensors, ``D`` inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.classifiers.scores import auc, auc_error, auc_noise
from caloforge.evaluation.packages import needed
from caloforge.evaluation.pixels.chance import Deal, Rows, against_chance
from caloforge.evaluation.pixels.reading import CLASSES, Sample
from caloforge.evaluation.results import Estimate

__all__ = ["JUDGES", "tell_events_apart"]

Floats = NDArray[np.float64]

JUDGES = ("linear", "trees")
FOLDS = 5
LEAST_EVENTS = 10
"""Of each class, to train on and to judge."""


def tell_events_apart(
    truth: Sample, generated: Sample, deals: Sequence[Deal], *, sources: bool, seed: int
) -> dict[str, Estimate]:
    """AUC of a logistic regression and of boosted trees that are trained to tell true events from generated.

    Of every sensor they see lit pixels and clusters (logarithms), the share of each class of clusters, the
    mean charge of a pixel and the mean shape of a cluster; with ``sources`` also the rates. In five folds
    each event is judged once by judges that were not trained on it.

    Returns:
        By the names of `JUDGES`; nothing where there are fewer than 10 events a side.
    """
    m = len(deals[0].truth)
    if m < LEAST_EVENTS:
        return {}
    tables = {id(s): _inputs(s, sources) for s in (truth, generated, deals[0].other_of(truth))}
    found = {}
    for name in JUDGES:

        def distance(one: tuple[Sample, Rows], other: tuple[Sample, Rows], name: str = name) -> float:
            first, second = (tables[id(sample)][rows] for sample, rows in (one, other))
            return _auc(first, second, name, seed)

        known = against_chance(truth, generated, deals, distance, noise=auc_noise(m, m), ideal=0.5)
        found[name] = known.replace(error=max(known.error, auc_error(min(max(known.value, 0.5), 1.0), m)))
    return found


def _inputs(sample: Sample, sources: bool) -> Floats:
    """(n, D)."""
    clusters = sample.clusters.sum(axis=2)
    least = np.maximum(clusters, 1)[..., None]
    parts = [
        np.log1p(sample.pixels),
        np.log1p(clusters),
        sample.adu / np.maximum(sample.pixels, 1),
        *np.moveaxis(sample.clusters / least, 2, 0)[: len(CLASSES) - 1],
        *np.moveaxis(sample.shapes / least, 2, 0),
        *([np.log(np.maximum(sample.rates, 1e-6))] if sources else []),
    ]
    return np.concatenate(parts, axis=1)


def _auc(true: Floats, made: Floats, judge: str, seed: int) -> float:
    """Area under the ROC curve of events that are judged by judges trained on four fifths of the others."""
    inputs = np.concatenate([true, made])
    labels = np.repeat([1, 0], [len(true), len(made)])
    folds = np.concatenate([np.arange(len(part)) % FOLDS for part in (true, made)])
    scores, rankdata = np.empty(len(inputs)), needed("scipy.stats").rankdata
    for fold in range(FOLDS):
        train = folds != fold
        model = _JUDGES[judge](seed).fit(inputs[train], labels[train])
        logits = np.asarray(model.decision_function(inputs[~train]))
        # judges of different folds have different scales; the order within a fold is what counts
        scores[~train] = rankdata(logits) / len(logits)
    return float(auc(scores, labels))


def _linear(seed: int) -> Any:
    pipeline = needed("sklearn.pipeline", "scikit-learn").make_pipeline
    scaler = needed("sklearn.preprocessing", "scikit-learn").StandardScaler
    regression = needed("sklearn.linear_model", "scikit-learn").LogisticRegression
    return pipeline(scaler(), regression(C=0.01, max_iter=500, random_state=seed))


def _trees(seed: int) -> Any:
    trees = needed("sklearn.ensemble", "scikit-learn").HistGradientBoostingClassifier
    return trees(
        max_iter=100,
        max_leaf_nodes=8,
        learning_rate=0.1,
        max_features=0.2,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )


_JUDGES = {"linear": _linear, "trees": _trees}
