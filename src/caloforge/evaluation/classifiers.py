"""Networks that try to tell generated showers from real ones, as in the CaloChallenge (arXiv:2410.21611).

Real showers have label 1, generated ones 0. Of each class 60 % train, 20 % choose the epoch and calibrate,
20 % judge. Legend: ``n`` showers, ``D`` inputs.
"""

from __future__ import annotations

import copy
import dataclasses
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Showers
from caloforge.errors import DataError, MissingDependencyError, RecipeError
from caloforge.evaluation.batches import Batches
from caloforge.evaluation.features import Features
from caloforge.evaluation.inputs import allocate, cell_columns, check_names, input_batches
from caloforge.evaluation.results import ClassifierResult

if TYPE_CHECKING:
    import torch

__all__ = [
    "PRESETS",
    "ClassifierSettings",
    "auc_and_jsd",
    "auc_noise",
    "classifier_settings",
    "train_classifier",
]

Floats = NDArray[np.float64]
Progress = Callable[[float], None]
Sample = tuple[Showers, Features]

SPLIT = (0.6, 0.2)


@dataclass(frozen=True)
class ClassifierSettings:
    """Settings of a dense classifier; the defaults are the challenge's.

    Attributes:
        hidden, layers: hidden layers and neurons in each; LeakyReLU with slope 0.01 follows each.
        epochs, batch_size, learning_rate, weight_decay: of Adam (AdamW where ``weight_decay`` > 0).
        repeats: independent trainings, each with its own split, weights and order.
        standardise: shift and scale the inputs and give cells a second time as logarithms, see `Batches`; not
            part of the challenge's definition, but far stronger on few showers.
        floor: also train on two halves of the reference, which nothing should tell apart.
        threads: CPU threads of torch; None leaves them as they are. With one the same seed gives the same
            numbers however many cores there are, and a small network is not slower.
        memory_limit_gib: inputs beyond it lie in a temporary file.
        calibration_floor: least calibrated probability; None takes 1/(n + 2) of n calibrating showers, since
            fewer cannot tell less, and a JSD of small samples then stays a sensible number.
        preset: name of the preset, filled in by `classifier_settings`.
    """

    hidden: int = 2048
    layers: int = 3
    epochs: int = 50
    batch_size: int = 1000
    learning_rate: float = 2e-4
    weight_decay: float = 0.0
    repeats: int = 10
    standardise: bool = False
    floor: bool = False
    threads: int | None = None
    memory_limit_gib: float = 4.0
    calibration_floor: float | None = 1e-6
    preset: str = ""

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "epochs", "batch_size", "repeats", "learning_rate"):
            if getattr(self, name) <= 0:
                raise RecipeError(f"{name} of a classifier must be positive, got {getattr(self, name)}")
        if self.threads is not None and self.threads < 1:
            raise RecipeError(f"threads of a classifier must be at least 1, got {self.threads}")
        if self.weight_decay < 0 or self.memory_limit_gib < 0:
            raise RecipeError("weight_decay and memory_limit_gib of a classifier must not be negative")


PRESETS: dict[str, ClassifierSettings] = {
    "calochallenge": ClassifierSettings(preset="calochallenge"),
    "quick": ClassifierSettings(
        hidden=256,
        epochs=20,
        batch_size=100,
        learning_rate=3e-4,
        repeats=1,
        standardise=True,
        threads=1,
        calibration_floor=None,
        preset="quick",
    ),
}


def classifier_settings(choice: str | ClassifierSettings) -> ClassifierSettings:
    """The settings of a preset by name, or those given; RecipeError for an unknown name."""
    if isinstance(choice, ClassifierSettings):
        return choice
    if choice not in PRESETS:
        raise RecipeError(f"unknown classifier preset {choice!r}; expected {', '.join(PRESETS)} or none")
    return PRESETS[choice]


def train_classifier(
    name: str,
    reference: Sample,
    generated: Sample,
    settings: ClassifierSettings,
    *,
    seed: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
) -> ClassifierResult:
    """Train ``settings.repeats`` classifiers and say how well they tell the samples apart.

    Where one sample is larger, as many of its showers as the other has are drawn, since the divergence
    assumes equal classes.

    Args:
        name: ``low``, ``low-normed`` or ``high``.
        reference, generated: showers and their features.
        settings: see there.
        seed: of splits, weights and order; the same seed gives the same numbers on the same device.
        device: of torch; by default a GPU where there is one.
        progress: called with the fraction done.

    Raises:
        RecipeError: the classifier is unknown.
        DataError: a class has fewer than 10 showers.
        MissingDependencyError: scikit-learn is not installed.
    """
    import torch

    check_names((name,))
    started = time.perf_counter()
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    report = progress or (lambda fraction: None)
    share = 0.5 if settings.floor else 1.0
    cells = cell_columns(name, reference[0].mesh.n_voxels)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    n = min(len(reference[0]), len(generated[0]))
    rows = [_draw(rng, len(sample[0]), n) for sample in (reference, generated)]
    table = _fill(name, reference, rows[0], generated, rows[1], settings)
    trained, floors = [], []
    with _threads(settings.threads):
        for i in range(settings.repeats):
            report(share * i / settings.repeats)
            trained.append(_train(table, cells, n, settings, [seed, i], where))
        if settings.floor:
            half = len(reference[0]) // 2
            order = rng.permutation(len(reference[0]))
            first, second = np.sort(order[:half]), np.sort(order[half : 2 * half])
            table = _fill(name, reference, first, reference, second, settings)
            for i in range(settings.repeats):
                report(0.5 + 0.5 * i / settings.repeats)
                floors.append(_train(table, cells, half, settings, [seed, i, 1], where).auc)
    report(1.0)
    aucs, jsds = [t.auc for t in trained], [t.jsd for t in trained]
    sizes = tuple(len(part) for part in _split(n, np.random.default_rng(0)))
    return ClassifierResult(
        name=name,
        auc=float(np.mean(aucs)),
        auc_std=float(np.std(aucs)),
        jsd=float(np.mean(jsds)),
        jsd_std=float(np.std(jsds)),
        auc_noise=auc_noise(sizes[2], sizes[2]),
        auc_floor=float(np.mean(floors)) if floors else None,
        auc_floor_std=float(np.std(floors)) if floors else None,
        aucs=tuple(aucs),
        jsds=tuple(jsds),
        best_epochs=tuple(t.epoch for t in trained),
        showers=(sizes[0], sizes[1], sizes[2]),
        seconds=time.perf_counter() - started,
        device=torch.cuda.get_device_name(where) if where.type == "cuda" else str(where),
        settings=dataclasses.asdict(settings),
    )


def auc_noise(n_real: int, n_generated: int) -> float:
    """Standard deviation of the AUC of scores that say nothing, √((n₁ + n₂ + 1) / (12 n₁ n₂))."""
    return float(np.sqrt((n_real + n_generated + 1) / (12 * n_real * n_generated)))


def auc_and_jsd(
    scores: Floats,
    labels: NDArray[np.int64],
    calibration: tuple[Floats, NDArray[np.int64]],
    floor: float = 1e-6,
) -> tuple[float, float]:
    """Area under the ROC curve, and JSD = 1 − BCE / ln 2 of the calibrated scores, in bits.

    The JSD is at most 1; for equal samples it scatters around 0 and may be slightly negative, since the
    calibration, isotonic and within floor … 1 − floor, comes from other showers.

    Args:
        scores: probabilities of being real, (n,), with ``labels`` 1 for real and 0 for generated.
        calibration: scores and labels of the showers that calibrate.
        floor: least calibrated probability; the CaloChallenge takes 10⁻⁶.
    """
    try:
        from sklearn.isotonic import IsotonicRegression
        from sklearn.metrics import roc_auc_score
    except ImportError as error:
        raise MissingDependencyError("scikit-learn", "evaluate") from error
    isotonic = IsotonicRegression(y_min=floor, y_max=1 - floor, out_of_bounds="clip").fit(*calibration)
    p = np.asarray(isotonic.predict(scores), dtype=np.float64)
    bce = -np.mean(np.where(labels == 1, np.log(p), np.log1p(-p)))
    return float(roc_auc_score(labels, scores)), float(1 - bce / np.log(2))


@dataclass(frozen=True)
class _Trained:
    auc: float
    jsd: float
    epoch: int


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Give torch this many CPU threads for a while."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _draw(rng: np.random.Generator, available: int, wanted: int) -> NDArray[np.int64]:
    return np.sort(rng.permutation(available)[:wanted]).astype(np.int64)


def _fill(
    name: str,
    first: Sample,
    first_rows: NDArray[np.int64],
    second: Sample,
    second_rows: NDArray[np.int64],
    settings: ClassifierSettings,
) -> NDArray[np.float32]:
    """Inputs of all showers, (2n, D): first those with label 1."""
    table: NDArray[np.float32] | None = None
    start = 0
    for (showers, features), rows in ((first, first_rows), (second, second_rows)):
        for batch in input_batches(name, showers, features, rows):
            if table is None:
                size = len(first_rows) + len(second_rows)
                table = allocate(size, batch.shape[1], int(settings.memory_limit_gib * 2**30))
            table[start : start + len(batch)] = batch
            start += len(batch)
    assert table is not None
    return table


def _split(n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], ...]:
    """Showers of one class for training, choosing and validation: 60, 20 and 20 %."""
    first, second = round(n * SPLIT[0]), round(n * (SPLIT[0] + SPLIT[1]))
    if n < 10:
        raise DataError(f"a classifier needs at least 10 showers of each class, got {n}")
    train, test, validation = np.split(rng.permutation(n), [first, second])
    return train, test, validation


def _train(
    inputs: NDArray[np.float32],
    cells: slice,
    n: int,
    settings: ClassifierSettings,
    seed: list[int],
    device: torch.device,
) -> _Trained:
    """One training on inputs (2n, D), of which the first n are real and the columns ``cells`` are cells."""
    import torch

    rng = np.random.default_rng(seed)
    parts = [np.concatenate([a, n + b]) for a, b in zip(_split(n, rng), _split(n, rng), strict=True)]
    train, test, validation = parts
    labels = np.arange(2 * n) < n
    batches = Batches(inputs, cells, train if settings.standardise else None, n, device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(rng.integers(2**63)))
        network = _network(batches.width, settings).to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    if settings.weight_decay:
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
    loss_of = torch.nn.BCEWithLogitsLoss()
    best, best_epoch, best_state = -1.0, 0, copy.deepcopy(network.state_dict())
    for epoch in range(settings.epochs):
        order = rng.permutation(train)
        for start in range(0, len(order), settings.batch_size):
            rows = order[start : start + settings.batch_size]
            target = torch.as_tensor(labels[rows], dtype=torch.float32, device=device)
            loss = loss_of(network(batches(rows))[:, 0], target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        accuracy = float(((_scores(network, batches, test) > 0.5) == labels[test]).mean())
        if accuracy > best:
            best, best_epoch, best_state = accuracy, epoch + 1, copy.deepcopy(network.state_dict())
    network.load_state_dict(best_state)
    calibration = (_scores(network, batches, test), labels[test].astype(np.int64))
    floor = settings.calibration_floor or 1 / (len(test) + 2)
    auc, jsd = auc_and_jsd(
        _scores(network, batches, validation), labels[validation].astype(np.int64), calibration, floor
    )
    return _Trained(auc, jsd, best_epoch)


def _network(inputs: int, settings: ClassifierSettings) -> torch.nn.Module:
    from torch import nn

    widths = [inputs, *[settings.hidden] * settings.layers]
    hidden: list[nn.Module] = []
    for i in range(settings.layers):
        hidden += [nn.Linear(widths[i], widths[i + 1]), nn.LeakyReLU(0.01)]
    return nn.Sequential(*hidden, nn.Linear(widths[-1], 1))


def _scores(network: torch.nn.Module, batches: Batches, rows: NDArray[np.int64]) -> Floats:
    """Probabilities of being real, (n,)."""
    import torch

    with torch.no_grad():
        parts = [
            torch.sigmoid(network(batches(rows[start : start + 2000]))[:, 0]).cpu().numpy()
            for start in range(0, len(rows), 2000)
        ]
    return np.concatenate(parts).astype(np.float64)
