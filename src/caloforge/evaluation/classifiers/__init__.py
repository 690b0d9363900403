"""Networks that try to tell generated showers from real ones. Importing this loads no torch."""

from caloforge.evaluation.classifiers.inputs import INPUTS, ClassifierInputs, Layout, Sample
from caloforge.evaluation.classifiers.multiclass import train_multiclass
from caloforge.evaluation.classifiers.run import train_classifier
from caloforge.evaluation.classifiers.scores import auc, auc_and_jsd, auc_noise
from caloforge.evaluation.classifiers.settings import (
    PRESETS,
    ClassifierSettings,
    chosen_classifiers,
    classifier_settings,
)

__all__ = [
    "INPUTS",
    "PRESETS",
    "ClassifierInputs",
    "ClassifierSettings",
    "Layout",
    "Sample",
    "auc",
    "auc_and_jsd",
    "auc_noise",
    "chosen_classifiers",
    "classifier_settings",
    "train_classifier",
    "train_multiclass",
]
