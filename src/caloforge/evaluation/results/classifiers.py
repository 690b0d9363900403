"""What a trained classifier found. Legend: ``B`` bins."""

from __future__ import annotations

import math

from pydantic import Field

from caloforge.evaluation.results.base import Details, Floats, Integers, Number, Result
from caloforge.evaluation.results.numbers import Estimate

__all__ = [
    "ClassifierResult",
    "Diagnosis",
    "FeatureShare",
    "LearningCurve",
    "MulticlassResult",
    "Scores",
    "TellTale",
]


class FeatureShare(Result):
    """How much a classifier relies on a group of inputs: its AUC drops by ``drop`` when they are shuffled."""

    name: str
    """A feature or layer of the inputs: ``e_layer_3``, ``width_r_10``, ``cells of layer 3``."""
    drop: Number
    """Of the AUC on the validation showers, mean over shufflings. Correlated features stand in for each
    other, so the drop of each alone may be small."""
    error: Number
    """Standard deviation over shufflings."""
    alone: Number = math.nan
    """AUC of the feature alone, 0.5 or more: of energies divided by E_inc, of cells their sum. Nothing is
    trained, so it needs no validation; NaN where it is not given."""


class TellTale(Result):
    """A shower that gives its origin away."""

    row: int
    """Its row in its file."""
    log_weight: Number
    incident_energy: Number
    """MeV."""


class Diagnosis(Result):
    """The classifier as a diagnostic (arXiv:2305.16774): weights w = p / (1 − p) of validation showers."""

    edges: Floats
    """Bins of log w, natural logarithm, (B + 1,)."""
    reference: Floats
    """Validation showers in each bin, (B,); clipped into the first and last."""
    generated: Floats
    features: list[FeatureShare]
    """The ten inputs the network relies on most and the ten that tell most alone, largest drop first, so
    10 to 20."""
    generated_tails: list[TellTale]
    """Generated showers with the smallest weights (Geant4 rarely makes such), up to 10."""
    reference_tails: list[TellTale]
    """Reference showers with the largest weights (the generator rarely makes such), up to 10."""
    groups: list[FeatureShare] = Field(default_factory=list)
    """Related features shuffled together (``all e_layer``), largest drop first; only for ``high``."""


class Scores(Result):
    """Scores of held-out showers.

    Every training's own held-out showers, one training after the other: a shower may occur several times.
    Probabilities are calibrated by a temperature, which keeps the order and makes trainings comparable.
    """

    rows: Integers
    """In the files, (n,)."""
    labels: Integers
    """1 reference, 0 generated, (n,)."""
    probabilities: Floats
    """Of being a reference shower, (n,)."""


class _Trained(Result):
    """What is told of every trained network."""

    best_epochs: tuple[int, ...]
    """One entry a training."""
    showers: tuple[int, int, int]
    """Of each class, for training, for choosing the epoch and calibrating, and for validation."""
    seconds: Number
    """Time for all trainings."""
    device: str
    """Where it ran."""
    settings: Details
    """The settings, with the name of the preset if it is one."""
    parameters: int = 0
    """Weights of the network."""


class LearningCurve(Result):
    """The AUC against the number of showers of each sample, of which 60 % train."""

    showers: tuple[int, ...]
    """Rising; the last is the number that there was, (K,)."""
    aucs: Floats
    """Means over the trainings, judged on the same held-out showers whatever the number, (K,)."""
    errors: Floats
    at: int
    """So many showers are extrapolated to."""
    expected: Estimate
    """The AUC there: no measurement, but what the curve leads to."""


class ClassifierResult(_Trained):
    """How well a trained network tells generated showers from reference showers; AUC 0.5 means it cannot."""

    name: str
    """``low``, ``low-normed``, ``high``, ``resnet`` (3D) or ``c2st`` (2D, of shower images)."""
    auc: Number
    """Mean over the trainings."""
    auc_std: Number
    """Their standard deviation; 0 for one training."""
    jsd: Number
    """Jensen-Shannon divergence from the calibrated network, bits; 0 same, 1 disjoint."""
    jsd_std: Number
    auc_noise: Number
    """Standard deviation of the AUC of a network that knows nothing, on as many showers."""
    auc_floor: float | None
    """The AUC of two halves of the reference (or against a second reference), where it was asked for."""
    auc_floor_std: float | None
    aucs: tuple[Number, ...]
    """One entry a training."""
    jsds: tuple[Number, ...]
    error_rate: float | None = None
    """Share of validation showers put into the wrong class at p = 0.5; 0.5 cannot tell, 0 always can (the
    score of the LHCb study, arXiv:1812.01319, for ``c2st``)."""
    error_rate_std: float | None = None
    diagnosis: Diagnosis | None = None
    """What the network saw; of the first training."""
    curve: LearningCurve | None = None
    """Where the AUC goes with more showers, where it was asked for."""
    scores: Scores | None = Field(default=None, exclude=True, repr=False)
    """What the networks say of single showers; not kept in files."""


class MulticlassResult(_Trained):
    """One network that tells the reference and several models apart (arXiv:2211.11765), ``K`` classes."""

    names: tuple[str, ...]
    """The classes, the reference first, (K,)."""
    log_posterior: Floats
    """Mean over held-out reference showers x of ln p(k | x) + ln K, (K,). 0 is chance; the model with the
    highest value is nearest to the reference, and one that reaches the reference's own value cannot be told
    from it."""
    log_posterior_error: Floats
    """Standard deviation, bootstrap over showers and spread of the trainings, (K,)."""
    confusion: Floats
    """Share of the held-out showers of each class (row) put into each class (column), (K, K)."""
    nearest: str
    """The model with the highest log-posterior."""
    inputs: str
    """Whose inputs the network saw: ``high``, ``low``, …"""
