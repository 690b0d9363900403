"""Networks that try to tell generated showers from real ones, as in the CaloChallenge (arXiv:2410.21611).

Real showers are class 1, generated ones class 0. Of each class 60 % train, 20 % choose the epoch and
calibrate, 20 % judge. Legend: ``n`` showers.
"""

from __future__ import annotations

import threading
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.classifiers.curve import learning_curve, shares
from caloforge.evaluation.classifiers.inputs import INPUTS, Sample, fill_table
from caloforge.evaluation.classifiers.scores import auc, auc_and_jsd, auc_noise, log_posterior
from caloforge.evaluation.classifiers.settings import ClassifierSettings
from caloforge.evaluation.classifiers.split import are_twins, draw_rows, part_sizes
from caloforge.evaluation.progress import Fraction
from caloforge.evaluation.results import ClassifierResult, Scores
from caloforge.runtime.cores import wanted_threads
from caloforge.runtime.streams import checked_seed

if TYPE_CHECKING:
    from caloforge.evaluation.classifiers.engine import Trained

__all__ = ["Counter", "train_classifier"]

Rows = NDArray[np.int64]


def train_classifier(
    name: str,
    reference: Sample,
    generated: Sample,
    settings: ClassifierSettings,
    *,
    seed: int = 0,
    device: str = "auto",
    progress: Fraction | None = None,
    second: Sample | None = None,
) -> ClassifierResult:
    """Train ``settings.repeats`` classifiers and say how well they tell the samples apart.

    Where one sample is larger, as many of its showers as the other has are drawn, since the divergence
    assumes equal classes, and of both no more than ``settings.most``. ``scores`` of the result are what the
    networks say of single showers.

    Args:
        name: ``low``, ``low-normed``, ``high``, ``resnet`` or ``c2st``.
        reference, generated: showers and their features.
        settings: see there.
        seed: of splits, weights and order; the same seed gives the same numbers on the same device.
        device: of torch; by default a GPU where there is one.
        progress: called with the fraction done.
        second: a second reference sample: the floor is the AUC between the two references.

    Raises:
        RecipeError: the classifier is unknown.
        MeshError: the classifier does not fit the mesh.
        DataError: a class has fewer than 10 showers.
        MissingDependencyError: scikit-learn is not installed.
    """
    from caloforge.evaluation.classifiers.diagnosis import diagnose
    from caloforge.evaluation.classifiers.engine import fit
    from caloforge.evaluation.classifiers.repeats import side_by_side
    from caloforge.runtime.devices import cpu_threads, device_name, pick_device

    seed, settings = checked_seed(seed), settings.of(name)
    layout = INPUTS[name].layout(reference[1], sums=settings.standardise)
    started = time.perf_counter()
    where = pick_device(device)
    with_floor = settings.floor or second is not None
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    pair = (generated, reference)  # classes 0 and 1
    twins = are_twins(pair)
    rows = draw_rows(pair, rng, twins=twins, most=settings.most)
    sizes = part_sizes(len(rows[0]))
    used = shares(len(rows[0]), settings.curve)
    tick = Counter(progress, settings.repeats * settings.epochs * (len(used) + with_floor))
    with cpu_threads(settings.threads or wanted_threads()):
        table = fill_table(name, list(zip(pair, rows, strict=True)), layout, settings.memory_limit_gib)
        parameters, diagnosis = 0, None
        of_class = [len(r) for r in rows]

        def trained(i: int, share: float = 1.0) -> Trained:
            key = [seed, i]
            return fit(table, layout, of_class, settings, key, where, twins=twins, share=share, tick=tick)

        def judge(i: int) -> _Judged:
            nonlocal parameters, diagnosis
            made = trained(i)
            if i == 0:
                diagnosis = diagnose(made, layout, pair, rows, seed=seed)
                parameters = made.parameters
            return _judge(made, settings.calibration_floor)

        judged = side_by_side(judge, settings.repeats, table, where)
        curve = None
        if settings.curve:

            def smaller(i: int) -> list[float]:
                scores = [trained(i, share) for share in used[:-1]]
                return [float(auc(_real(t.logits), t.labels)) for t in scores]

            fewer = side_by_side(smaller, settings.repeats, table, where)
            curve = learning_curve(
                [round(share * of_class[0]) for share in used],
                [[*few, j.auc] for few, j in zip(fewer, judged, strict=True)],
                sizes[2],
                seed=seed,
            )
        if with_floor:
            chosen = _floor_rows(reference, second, rng, settings.most)
            table = fill_table(name, chosen, layout, settings.memory_limit_gib)

            def floor(i: int) -> float:
                counts = [len(r) for _, r in chosen]
                trained = fit(table, layout, counts, settings, [seed, i, 1], where, tick=tick)
                return _judge(trained, settings.calibration_floor).auc

            floors = side_by_side(floor, settings.repeats, table, where)
    areas, jsds, error_rates = ([getattr(j, key) for j in judged] for key in ("auc", "jsd", "error_rate"))
    return ClassifierResult(
        name=name,
        auc=float(np.mean(areas)),
        auc_std=float(np.std(areas)),
        jsd=float(np.mean(jsds)),
        jsd_std=float(np.std(jsds)),
        auc_noise=auc_noise(sizes[2], sizes[2]),
        auc_floor=float(np.mean(floors)) if with_floor else None,
        auc_floor_std=float(np.std(floors)) if with_floor else None,
        aucs=tuple(areas),
        jsds=tuple(jsds),
        best_epochs=tuple(j.epoch for j in judged),
        showers=sizes,
        seconds=time.perf_counter() - started,
        device=device_name(where),
        settings=settings.model_dump(),
        parameters=parameters,
        error_rate=float(np.mean(error_rates)),
        error_rate_std=float(np.std(error_rates)),
        diagnosis=diagnosis,
        curve=curve,
        scores=Scores(
            rows=np.concatenate(rows)[np.concatenate([j.rows for j in judged])],
            labels=np.concatenate([j.labels for j in judged]),
            probabilities=np.concatenate([j.probabilities for j in judged]),
        ),
    )


@dataclass(frozen=True, eq=False)
class _Judged:
    """What one training says of its held-out showers, (n,)."""

    auc: float
    jsd: float
    error_rate: float
    epoch: int
    rows: Rows
    labels: Rows
    probabilities: NDArray[np.float64]


def _judge(trained: Trained, floor: float | None) -> _Judged:
    """The numbers of one training; ``floor`` is the least calibrated probability."""
    logits, (test_logits, test_labels) = trained.logits, trained.calibration
    floor = floor or 1 / (len(test_labels) + 2)
    area, jsd = auc_and_jsd(_real(logits), trained.labels, (_real(test_logits), test_labels), floor)
    return _Judged(
        auc=area,
        jsd=jsd,
        error_rate=float(np.mean(logits.argmax(axis=1) != trained.labels)),
        epoch=trained.epoch,
        rows=trained.rows,
        labels=trained.labels,
        probabilities=_real(trained.temperature * logits),
    )


def _real(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of being real, (n,)."""
    return np.asarray(np.exp(log_posterior(logits)[:, 1]))


def _floor_rows(
    reference: Sample, second: Sample | None, rng: np.random.Generator, most: int | None
) -> list[tuple[Sample, Rows]]:
    """Two samples of one origin: both references, or two halves of the only one."""
    if second is not None:
        pair = (second, reference)
        return list(zip(pair, draw_rows(pair, rng, twins=False, most=most), strict=True))
    half = min(len(reference[0]) // 2, most or len(reference[0]))
    order = rng.permutation(len(reference[0]))
    return [(reference, np.sort(order[:half])), (reference, np.sort(order[half : 2 * half]))]


class Counter:
    """Reports the fraction of steps done, each time it is called."""

    def __init__(self, progress: Fraction | None, steps: int) -> None:
        self._progress, self._steps, self._done = progress, steps, 0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self._done += 1
            if self._progress is not None:
                self._progress(self._done / self._steps)
