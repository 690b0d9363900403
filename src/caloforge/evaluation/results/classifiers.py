"""What a trained classifier found. Legend: ``B`` bins."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ClassifierResult", "Diagnosis", "FeatureShare", "MulticlassResult", "Scores", "TellTale"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FeatureShare:
    """How much a classifier relies on a group of inputs: its AUC drops by ``drop`` when they are shuffled.

    Attributes:
        name: a feature or layer of the inputs: ``e_layer_3``, ``width_r_10``, ``cells of layer 3``.
        drop, error: of the AUC on the validation showers, mean and standard deviation over shufflings.
            Correlated features stand in for each other, so the drop of each alone may be small.
        alone: AUC of the feature alone, 0.5 or more: of energies divided by E_inc, of cells their sum.
            Nothing is trained, so it needs no validation; NaN where it is not given.
    """

    name: str
    drop: float
    error: float
    alone: float = math.nan


@dataclass(frozen=True)
class TellTale:
    """A shower that gives its origin away: its row in its file, log-weight and incident energy (MeV)."""

    row: int
    log_weight: float
    incident_energy: float


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The classifier as a diagnostic (arXiv:2305.16774): weights w = p / (1 − p) of validation showers.

    Attributes:
        edges: bins of log w, natural logarithm, (B + 1,).
        reference, generated: validation showers in each bin, (B,); clipped into the first and last.
        features: the ten inputs the network relies on most and the ten that tell most alone, largest drop
            first, so 10 to 20.
        generated_tails: generated showers with the smallest weights (Geant4 rarely makes such), up to 10.
        reference_tails: reference showers with the largest weights (the generator rarely makes
            such), up to 10.
        groups: related features shuffled together (``all e_layer``), largest drop first; only for ``high``.
    """

    edges: Floats
    reference: Floats
    generated: Floats
    features: list[FeatureShare]
    generated_tails: list[TellTale]
    reference_tails: list[TellTale]
    groups: list[FeatureShare] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of held-out showers: rows in the files, labels (1 reference) and probabilities, (n,).

    Every training's own held-out showers, one training after the other: a shower may occur several times.
    The probabilities of being a reference shower are calibrated and keep the order of the network's output.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    probabilities: Floats


@dataclass(frozen=True)
class ClassifierResult:
    """How well a trained network tells generated showers from reference showers; AUC 0.5 means it cannot.

    Attributes:
        name: ``low``, ``low-normed``, ``high``, ``resnet`` (3D) or ``c2st`` (2D, of shower images).
        auc, auc_std: mean over the trainings, and their standard deviation (0 for one training).
        jsd, jsd_std: Jensen-Shannon divergence from the calibrated network, bits; 0 same, 1 disjoint.
        auc_noise: standard deviation of the AUC of a network that knows nothing, on as many showers.
        auc_floor, auc_floor_std: the AUC of two halves of the reference (or against a second reference),
            where it was asked for.
        aucs, jsds, best_epochs: one entry a training.
        showers: showers of each class used for training, choosing the epoch and calibrating, and validation.
        seconds: time for all trainings.
        device: where it ran.
        settings: the settings, with the name of the preset if it is one.
        parameters: weights of the network.
        error_rate, error_rate_std: share of validation showers put into the wrong class at p = 0.5; 0.5
            cannot tell, 0 always can (the score of the LHCb study, arXiv:1812.01319, for ``c2st``).
        diagnosis: what the network saw; of the first training.
    """

    name: str
    auc: float
    auc_std: float
    jsd: float
    jsd_std: float
    auc_noise: float
    auc_floor: float | None
    auc_floor_std: float | None
    aucs: tuple[float, ...]
    jsds: tuple[float, ...]
    best_epochs: tuple[int, ...]
    showers: tuple[int, int, int]
    seconds: float
    device: str
    settings: dict[str, Any]
    parameters: int = 0
    error_rate: float | None = None
    error_rate_std: float | None = None
    diagnosis: Diagnosis | None = None


@dataclass(frozen=True, eq=False)
class MulticlassResult:
    """One network that tells the reference and several models apart (arXiv:2211.11765), ``K`` classes.

    Attributes:
        names: the classes, the reference first, (K,).
        log_posterior, log_posterior_error: mean over held-out reference showers x of ln p(k | x) + ln K, and
            its standard deviation (bootstrap over showers and spread of the trainings), (K,). 0 is chance;
            the model with the highest value is nearest to the reference, and one that reaches the
            reference's own value cannot be told from it.
        confusion: share of the held-out showers of each class (row) put into each class (column), (K, K).
        nearest: the model with the highest log-posterior.
        inputs: whose inputs the network saw: ``high``, ``low``, …
        best_epochs: one entry a training.
        showers: showers of each class used for training, choosing the epoch and calibrating, and judging.
        parameters: weights of the network.
        seconds, device, settings: as in `ClassifierResult`.
    """

    names: tuple[str, ...]
    log_posterior: Floats
    log_posterior_error: Floats
    confusion: Floats
    nearest: str
    inputs: str
    best_epochs: tuple[int, ...]
    showers: tuple[int, int, int]
    parameters: int
    seconds: float
    device: str
    settings: dict[str, Any]
