"""Boosted trees in the place of a network.

Legend: ``n`` showers, ``D`` inputs, ``K`` outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.evaluation.classifiers.settings import TreeSettings
from caloforge.evaluation.packages import needed

__all__ = ["BoostedTrees"]

PATIENCE = 20
"""Trees without an improvement after which there are enough."""
ASIDE = 0.1
"""Share of the training showers that decides about that."""


class BoostedTrees(nn.Module):
    """Gradient-boosted trees on histograms (G. Ke et al., NeurIPS 2017, as in scikit-learn), (n, D) → (n, K).

    Args:
        settings: of the trees.
        seed: of the inputs that nodes choose from and of the showers set aside.
    """

    def __init__(self, settings: TreeSettings, seed: int) -> None:
        super().__init__()
        self.settings = settings
        ensemble = needed("sklearn.ensemble", "scikit-learn")
        self._trees: Any = ensemble.HistGradientBoostingClassifier(
            max_iter=settings.most,
            max_leaf_nodes=settings.leaves,
            learning_rate=settings.learning_rate,
            max_features=settings.features,
            l2_regularization=settings.shrinkage,
            early_stopping=True,
            n_iter_no_change=PATIENCE,
            validation_fraction=ASIDE,
            random_state=seed,
        )

    def fit(self, inputs: Tensor, labels: NDArray[np.int64]) -> int:
        """Grow the trees of inputs (n, D) and classes (n,); how many there are for each output."""
        with self._threads():
            self._trees.fit(inputs.cpu().numpy(), labels)
        return int(self._trees.n_iter_)

    @property
    def leaves(self) -> int:
        """Leaves of all trees."""
        return int(sum(nodes["is_leaf"].sum() for nodes in self._nodes()))

    def gains(self, inputs: int) -> NDArray[np.float64]:
        """What the splits at each of so many inputs gained, (D,); 0 for inputs that no tree asks for."""
        found = np.zeros(inputs)
        for nodes in self._nodes():
            inner = nodes[nodes["is_leaf"] == 0]
            np.add.at(found, inner["feature_idx"], inner["gain"])
        return found

    def _nodes(self) -> Iterator[Any]:
        """The nodes of each tree, a structured array."""
        return (tree.nodes for trees in self._trees._predictors for tree in trees)

    def forward(self, x: Tensor) -> Tensor:
        with self._threads():
            scores = np.asarray(self._trees.decision_function(x.cpu().numpy()), dtype=np.float32)
        return torch.from_numpy(scores.reshape(len(scores), -1)).to(x.device)

    def _threads(self) -> Any:
        """As many threads as torch has here: several trainings go on side by side."""
        limits = needed("threadpoolctl", "threadpoolctl").threadpool_limits
        return limits(limits=torch.get_num_threads(), user_api="openmp")
