"""`evaluate`: all metrics of a generated sample against a reference, streamed from disk."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Showers, open_showers
from caloforge.errors import DataError
from caloforge.evaluation.classifiers import ClassifierSettings, classifier_settings
from caloforge.evaluation.classifiers.inputs import check_names
from caloforge.evaluation.classifiers.run import train_classifier_with_scores
from caloforge.evaluation.context import compare_conditions, measure_times
from caloforge.evaluation.distances import feature_matrix, fpd, kpd, memorisation, prdc
from caloforge.evaluation.distances.memorisation import LEAST_SHOWERS as FEWEST_TO_COMPARE
from caloforge.evaluation.features import Features
from caloforge.evaluation.histograms import HistogramPlan, cell_histogram, fill_histogram, histogram_plans
from caloforge.evaluation.localise import localise
from caloforge.evaluation.physics import (
    cell_correlation,
    conservation,
    layer_correlation,
    observable_plans,
    response_curves,
    sparsity_profile,
)
from caloforge.evaluation.profiles import longitudinal_profile, radial_profile
from caloforge.evaluation.progress import Progress, reporting
from caloforge.evaluation.reading import Reading, cell_range, read_samples
from caloforge.evaluation.repeats import count_repeats
from caloforge.evaluation.results import (
    ClassifierResult,
    Comparison,
    Estimate,
    Evaluation,
    Memorisation,
    Scores,
)
from caloforge.evaluation.slices import slice_edges, slice_metrics
from caloforge.runtime.provenance import provenance

__all__ = ["LEAST_SHOWERS", "Progress", "Source", "evaluate"]

LEAST_SHOWERS = 20

Source = Showers | str | os.PathLike[str]


@dataclass(frozen=True)
class _Settings:
    """What `evaluate` was asked for, checked."""

    classifiers: ClassifierSettings | None
    which: tuple[str, ...]
    distances: bool
    slices: Mapping[str, int | Sequence[float]] | None
    threshold_mev: float | None
    seed: int
    device: str | None


def evaluate(
    reference: Source,
    generated: Source,
    *,
    classifiers: str | ClassifierSettings = "quick",
    which: Sequence[str] = ("low", "high"),
    second_reference: Source | None = None,
    training: Source | None = None,
    distances: bool = True,
    slices: Mapping[str, int | Sequence[float]] | None = None,
    threshold_mev: float | None = None,
    seed: int = 0,
    device: str | None = None,
    progress: bool | Progress = True,
) -> Evaluation:
    """Compare generated showers with reference showers as the field does (CaloChallenge, arXiv:2410.21611).

    Files are read in batches: the reference twice, since the ranges of its cells must be known before they
    are histogrammed, the generated sample once, and both once more for neighbours and for each low-level
    classifier.

    Args:
        reference, generated: showers on the same mesh, or the files they are in.
        classifiers: a preset (``"quick"``, ``"calochallenge"``), ``"none"``, or settings.
        which: classifiers to train: ``low``, ``low-normed``, ``high``, ``resnet``, ``c2st``.
        second_reference: more Geant4 showers, independent of the reference: floors are then what it gives
            against the reference, instead of shuffled showers or halves of the reference.
        training: the showers the generator was trained on, to see whether it memorised them; the reference
            must not be among them.
        distances: whether to compute FPD, KPD, precision, recall, density and coverage.
        slices: conditions in whose bins every metric is given as well: a number of bins with equal numbers
            of showers, or edges (MeV, rad), by name: ``{"energy": 4, "theta": [1.0, 1.2, 1.5]}``. By default
            energies, angles and detectors that vary.
        threshold_mev: lower edge of the energy histograms; by default the challenge's on its meshes, else the
            reference's smallest cell energy.
        seed: of floors, resampling and classifiers; the same seed gives the same numbers.
        device: of the classifiers; by default a GPU where there is one.
        progress: show progress bars on the terminal, or a function that is called instead.

    Raises:
        MeshError: the samples are on different meshes, or a classifier does not fit the mesh.
        DataError: a sample has fewer than 20 showers or no energy at all, or a file is unreadable.
        ConditionError: a slice is unknown or malformed.
        RecipeError: the classifiers are unknown.
        MissingDependencyError: an optional package is not installed.
    """
    chosen = None if classifiers == "none" else classifier_settings(classifiers)
    names = tuple(dict.fromkeys(which)) if chosen is not None else ()
    truth = _opened(reference, "reference showers", None)
    check_names(names, truth.mesh)
    samples = {"generated showers": _opened(generated, "generated showers", truth)}
    if second_reference is not None:
        samples["second reference"] = _opened(second_reference, "showers of the second reference", truth)
    trained_on = None if training is None else _opened(training, "training showers", truth)
    settings = _Settings(chosen, names, distances, slices, threshold_mev, seed, device)
    with reporting(progress) as report:
        return _evaluate(truth, samples, trained_on, settings, report)


def _opened(source: Source, role: str, reference: Showers | None) -> Showers:
    showers = source if isinstance(source, Showers) else open_showers(source)
    if reference is not None:
        reference.mesh.require_same(showers.mesh, f"{role} to evaluate")
    if len(showers) < LEAST_SHOWERS:
        raise DataError(f"{len(showers)} {role}; an evaluation needs at least {LEAST_SHOWERS}")
    return showers


def _evaluate(
    reference: Showers,
    samples: dict[str, Showers],
    training: Showers | None,
    settings: _Settings,
    report: Progress,
) -> Evaluation:
    """`evaluate` after its arguments are checked."""
    seed, pair = settings.seed, (reference.conditions, samples["generated showers"].conditions)
    bins = slice_edges(*pair, settings.slices)
    first, others = read_samples(reference, samples, threshold_mev=settings.threshold_mev, report=report)
    second, third = others["generated showers"], others.get("second reference")
    report("histograms", 0.0)
    plans = _plans(first, second, third)
    histograms = [fill_histogram(plan, seed) for plan in plans]
    third_counts = None if third is None else third.counts
    histograms.append(cell_histogram(first.counts, second.counts, seed=seed, second=third_counts))
    report("histograms", 1.0)
    judged, scores = _classifiers(first, second, third, settings, report)
    distances = _distances(first, second, third, settings, report) if settings.distances else {}
    conditions = compare_conditions(*pair)
    counts = {
        "reference": len(reference),
        "generated": len(second.showers),
        "reference_empty": int((first.features.e_total == 0).sum()),
        "generated_empty": int((second.features.e_total == 0).sum()),
        **count_repeats(first.prints, second.prints),
        **({} if training is None else {"training": len(training)}),
    }
    report("slices", 0.0)
    slices = slice_metrics(
        first.features,
        second.features,
        *pair,
        bins,
        plans=plans,
        cells=(first.counts, second.counts),
        scores=scores,
        distances=partial(_distances_in_slice, seed=seed) if settings.distances else None,
        seed=seed,
    )
    report("slices", 1.0)
    ratios = first.features.e_ratio, second.features.e_ratio
    pairs = (first.features, second.features)
    profiles = (
        longitudinal_profile(*pairs),
        radial_profile(first.mean, second.mean),
        sparsity_profile(first.counts, second.counts, reference.mesh.n_voxels),
    )
    correlations = (
        layer_correlation(*pairs, seed=seed),
        cell_correlation(first.brightest, second.brightest, reference.mesh, seed=seed),
    )
    return Evaluation(
        counts=counts,
        mesh=reference.mesh.to_dict(),
        threshold_mev=float(first.counts.edges[0]),
        histograms=histograms,
        features=_comparisons(first, second),
        profiles={profile.name: profile for profile in profiles},
        mean_shower={"reference": first.mean.cells, "generated": second.mean.cells},
        classifiers=judged,
        timing=measure_times(reference, second.showers),
        conditions=conditions,
        provenance={
            **{name: s.provenance for name, s in (("reference", reference), ("generated", second.showers))},
            **({} if third is None else {"second reference": third.showers.provenance}),
            **({} if training is None else {"training": training.provenance}),
            "evaluation": provenance(
                "evaluate",
                seed=seed,
                classifiers=list(settings.which),
                threshold_mev=float(first.counts.edges[0]),
                distances=settings.distances,
            ),
        },
        distances=distances,
        responses=response_curves(ratios[0], pair[0], ratios[1], pair[1], seed=seed),
        correlations={correlation.name: correlation for correlation in correlations},
        slices=slices,
        localisation=localise(*pairs, (first.sums, second.sums)),
        conservation=conservation(*ratios),
        cells=cell_range(first, second),
        memorisation=_remembered(second.showers, training, reference, seed, report),
    )


def _remembered(
    generated: Showers, training: Showers | None, reference: Showers, seed: int, report: Progress
) -> Memorisation | None:
    """Whether training showers are repeated; None where there are none, or too few showers to tell."""
    if training is None or min(map(len, (generated, training, reference))) < FEWEST_TO_COMPARE:
        return None
    return memorisation(generated, training, reference, seed=seed, progress=report)


def _plans(first: Reading, second: Reading, third: Reading | None) -> list[HistogramPlan]:
    """All features of the challenge, shapes and clusters, to be filled."""
    more = None if third is None else third.features
    plans = list(histogram_plans(first.features, second.features, float(first.counts.edges[0]), more))
    for plan in observable_plans(first.observables, second.observables, first.showers.mesh):
        extra = None if third is None else third.observables[plan.name]
        plans.append(dataclasses.replace(plan, second=extra))
    return plans


def _classifiers(
    first: Reading, second: Reading, third: Reading | None, settings: _Settings, report: Progress
) -> tuple[dict[str, ClassifierResult], dict[str, Scores]]:
    judged: dict[str, ClassifierResult] = {}
    scores: dict[str, Scores] = {}
    for name in settings.which:
        assert settings.classifiers is not None
        judged[name], scores[name] = train_classifier_with_scores(
            name,
            (first.showers, first.features),
            (second.showers, second.features),
            settings.classifiers,
            seed=settings.seed,
            device=settings.device,
            progress=partial(report, f"classifier {name}"),
            second=None if third is None else (third.showers, third.features),
        )
    return judged, scores


def _distances(
    first: Reading, second: Reading, third: Reading | None, settings: _Settings, report: Progress
) -> dict[str, Estimate]:
    matrices = [None if r is None else feature_matrix(r.features) for r in (first, second, third)]
    assert matrices[0] is not None and matrices[1] is not None  # noqa: PT018
    pair, extra, seed = (matrices[0], matrices[1]), matrices[2], settings.seed
    report("FPD and KPD", 0.0)
    found = {"fpd": fpd(*pair, seed=seed, second=extra)}
    report("FPD and KPD", 0.5)
    found["kpd"] = kpd(*pair, seed=seed, second=extra)
    report("FPD and KPD", 1.0)
    another = None if third is None else third.showers
    return found | prdc(first.showers, second.showers, seed=seed, second=another, progress=report)


def _distances_in_slice(
    reference: NDArray[np.float64], generated: NDArray[np.float64], *, seed: int
) -> dict[str, Estimate]:
    """FPD of the showers in one slice, from a tenth of the usual draws."""
    return {"fpd": fpd(reference, generated, seed=seed, batches=2)}


def _comparisons(reference: Reading, generated: Reading) -> dict[str, Comparison]:
    """Mean and spread of every feature, by the names of the histograms."""
    numbers = [_moments(reading.features) for reading in (reference, generated)]
    for reading, known in zip((reference, generated), numbers, strict=True):
        for name, values in reading.observables.items():
            known[name] = float(np.nanmean(values)), float(np.nanstd(values))
    shared = [name for name in numbers[0] if name in numbers[1]]
    return {name: Comparison.of(numbers[0][name], numbers[1][name]) for name in shared}


def _moments(features: Features) -> dict[str, tuple[float, float]]:
    groups = {"e_total": features.e_total[:, None]} | features.groups()
    return {
        name if layer is None else f"{name}_{layer}": (float(mean), float(std))
        for name, values in groups.items()
        for layer, mean, std in zip(
            (None,) if name == "e_total" else features.layers_of(name),
            values.mean(axis=0, dtype=np.float64),
            values.std(axis=0, dtype=np.float64),
            strict=True,
        )
    }
