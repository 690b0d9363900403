"""Networks that try to tell generated showers from real ones. Importing this loads no torch."""

from caloforge.evaluation.classifiers.inputs import CLASSIFIERS, Sample, check_names
from caloforge.evaluation.classifiers.multiclass import train_multiclass
from caloforge.evaluation.classifiers.run import train_classifier, train_classifier_with_scores
from caloforge.evaluation.classifiers.scores import auc, auc_and_jsd, auc_noise
from caloforge.evaluation.classifiers.settings import PRESETS, ClassifierSettings, classifier_settings

__all__ = [
    "CLASSIFIERS",
    "PRESETS",
    "ClassifierSettings",
    "Sample",
    "auc",
    "auc_and_jsd",
    "auc_noise",
    "check_names",
    "classifier_settings",
    "train_classifier",
    "train_classifier_with_scores",
    "train_multiclass",
]
