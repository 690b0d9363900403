"""What a quickly trained classifier sees."""

from __future__ import annotations

from caloforge.data.showers import Showers
from caloforge.evaluation.classifiers import train_classifier
from caloforge.evaluation.classifiers.settings import PRESETS
from caloforge.evaluation.features import compute_features
from caloforge.evaluation.merits import MERITS

__all__ = ["quick_auc"]


@MERITS.add("auc")
def quick_auc(reference: Showers, generated: Showers, seed: int = 0) -> float:
    """AUC of one training of the ``quick`` classifier of high-level features, on a CPU; ½ is best."""
    first, second = ((showers, compute_features(showers)) for showers in (reference, generated))
    settings = PRESETS["quick"].replace(repeats=1, special={})
    auc = train_classifier("high", first, second, settings, seed=seed, device="cpu").auc
    return max(auc, 1 - auc)
