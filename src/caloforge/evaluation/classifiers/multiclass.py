"""One classifier for several generators: which of them is nearest to the reference (arXiv:2211.11765).

Legend: ``K`` samples, the reference and the models; ``n`` held-out showers of the reference.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping

import numpy as np

from caloforge.errors import RecipeError
from caloforge.evaluation.classifiers.inputs import INPUTS, Sample, fill_table
from caloforge.evaluation.classifiers.run import Counter
from caloforge.evaluation.classifiers.scores import Floats, log_posterior
from caloforge.evaluation.classifiers.settings import ClassifierSettings
from caloforge.evaluation.classifiers.split import are_twins, draw_rows, part_sizes
from caloforge.evaluation.progress import Fraction
from caloforge.evaluation.results import MulticlassResult
from caloforge.runtime.cores import wanted_threads
from caloforge.runtime.streams import checked_seed

__all__ = ["train_multiclass"]

BOOTSTRAPS = 200


def train_multiclass(
    samples: Mapping[str, Sample],
    settings: ClassifierSettings,
    *,
    inputs: str = "high",
    seed: int = 0,
    device: str = "auto",
    progress: Fraction | None = None,
) -> MulticlassResult:
    """Train one network to tell the reference and several models apart; where does it put the reference?

    The log-posterior of model k is the mean over held-out showers x of the reference of ln p(k | x) + ln K,
    so 0 is chance. For an ideal network two models differ in it by ⟨ln p_k(x) − ln p_j(x)⟩, the difference of
    their Kullback-Leibler divergences from the reference: the highest is nearest to the reference. The
    reference is a class itself, which shows how much a perfect model would get. (In arXiv:2211.11765 the
    classes are the models alone; the differences between models are the same.)

    As many showers of each sample are drawn as the smallest has. Each training holds out its own showers;
    networks are calibrated by a temperature, since one that is too sure of itself ruins a mean logarithm.

    Args:
        samples: showers and their features by name, the reference first.
        settings: of the network and its trainings.
        inputs: ``high``, ``low`` or another classifier whose inputs are to be used.
        seed: of splits, weights, order and bootstrap samples.
        device: of torch; by default a GPU where there is one.
        progress: called with the fraction done.

    Raises:
        RecipeError: fewer than two samples, or the inputs are unknown.
        MeshError: a sample is on another mesh, or the inputs do not fit it.
        DataError: a sample has fewer than 10 showers.
        MissingDependencyError: scipy is not installed.
    """
    from caloforge.evaluation.classifiers.engine import Trained, fit
    from caloforge.evaluation.classifiers.repeats import side_by_side
    from caloforge.runtime.devices import cpu_threads, device_name, pick_device

    if len(samples) < 2:
        raise RecipeError(f"a multi-class classifier needs the reference and a model, got {list(samples)}")
    names, pool = tuple(samples), list(samples.values())
    for name, (showers, _) in samples.items():
        pool[0][0].require_same_cells(showers, f"showers of {name} to classify")
    seed, settings = checked_seed(seed), settings.of(inputs)
    layout = INPUTS[inputs].layout(pool[0][1], sums=settings.standardise)
    started, where, k = time.perf_counter(), pick_device(device), len(names)
    rng = np.random.default_rng([seed, zlib.crc32(inputs.encode()), k])
    twins = are_twins(pool)
    rows = draw_rows(pool, rng, twins=twins, most=settings.most)
    sizes = part_sizes(len(rows[0]))
    tick = Counter(progress, settings.repeats * settings.epochs)
    confusion = np.zeros((k, k))
    of_reference: list[Floats] = []
    epochs = []
    with cpu_threads(settings.threads or wanted_threads()):
        chosen = list(zip(pool, rows, strict=True))
        table = fill_table(inputs, chosen, layout, settings.memory_limit_gib)
        counts = [len(r) for r in rows]

        def one(i: int) -> Trained:
            return fit(table, layout, counts, settings, [seed, i, k], where, twins=twins, tick=tick)

        for trained in side_by_side(one, settings.repeats, table, where):
            posterior = log_posterior(trained.temperature * trained.logits)
            np.add.at(confusion, (trained.labels, posterior.argmax(axis=1)), 1 / settings.repeats)
            of_reference.append(posterior[trained.labels == 0] + np.log(k))
            epochs.append(trained.epoch)
    means = np.stack([p.mean(axis=0) for p in of_reference])
    return MulticlassResult(
        names=names,
        log_posterior=means.mean(axis=0),
        log_posterior_error=np.hypot(_bootstrap_error(of_reference, rng), means.std(axis=0)),
        confusion=confusion / confusion.sum(axis=1, keepdims=True),
        nearest=names[1 + int(means.mean(axis=0)[1:].argmax())],
        inputs=inputs,
        best_epochs=tuple(epochs),
        showers=sizes,
        parameters=trained.parameters,
        seconds=time.perf_counter() - started,
        device=device_name(where),
        settings=settings.model_dump(),
    )


def _bootstrap_error(posteriors: list[Floats], rng: np.random.Generator) -> Floats:
    """Standard deviation over bootstrap samples of the showers of each training, averaged, (K,)."""
    errors = []
    for posterior in posteriors:
        n = len(posterior)
        weights = rng.multinomial(n, np.full(n, 1 / n), size=BOOTSTRAPS) / n
        errors.append((weights @ posterior).std(axis=0))
    return np.asarray(np.mean(errors, axis=0))
