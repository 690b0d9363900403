"""`evaluate`: all metrics of a generated sample against a reference, streamed from disk."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Showers, open_showers
from caloforge.data.operations import doubt_units
from caloforge.errors import ConditionError, DataError
from caloforge.evaluation.classifiers import ClassifierSettings, chosen_classifiers, train_classifier
from caloforge.evaluation.classifiers.inputs import INPUTS, check_names
from caloforge.evaluation.context import compare_conditions, measure_times
from caloforge.evaluation.distances import (
    feature_matrix,
    fpd,
    kpd,
    memorisation,
    prdc,
    sliced_distances,
    trimmed_fpd,
)
from caloforge.evaluation.distances.memorisation import LEAST_SHOWERS as FEWEST_TO_COMPARE
from caloforge.evaluation.equivalent import equivalent_of_means, equivalent_of_profiles
from caloforge.evaluation.feature_shards import matched_showers
from caloforge.evaluation.histograms import HistogramPlan, cell_histogram, fill_histogram, histogram_plans
from caloforge.evaluation.localise import localise
from caloforge.evaluation.neighbourhoods import compare_neighbourhoods
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
from caloforge.evaluation.reading import Reading, cell_range, read_reference, read_sample
from caloforge.evaluation.reading_file import has_cells
from caloforge.evaluation.repeats import count_repeats
from caloforge.evaluation.results import Comparison, Estimate, Evaluation, Memorisation
from caloforge.evaluation.slices import slice_edges, slice_metrics
from caloforge.runtime.provenance import provenance
from caloforge.runtime.streams import checked_seed

__all__ = [
    "LEAST_SHOWERS",
    "EvaluationOptions",
    "Progress",
    "Source",
    "evaluate",
    "opened",
    "require_comparable",
]

LEAST_SHOWERS = 20

Matrix = NDArray[np.float32]
Source = Showers | str | os.PathLike[str]


class EvaluationOptions(TypedDict, total=False):
    """Arguments of `evaluate` beside the two samples."""

    classifiers: str | ClassifierSettings
    which: Sequence[str] | None
    second_reference: Source | None
    training: Source | None
    distances: bool
    slices: Mapping[str, int | Sequence[float]] | None
    threshold_mev: float | None
    seed: int
    device: str
    progress: bool | Progress


def evaluate(
    reference: Source | Reading,
    generated: Source | Reading,
    *,
    classifiers: str | ClassifierSettings = "quick",
    which: Sequence[str] | None = None,
    second_reference: Source | None = None,
    training: Source | None = None,
    distances: bool = True,
    slices: Mapping[str, int | Sequence[float]] | None = None,
    threshold_mev: float | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool | Progress = True,
) -> Evaluation:
    """Compare generated showers with reference showers as the field does (CaloChallenge, arXiv:2410.21611).

    Files are read in batches: the reference twice, since the ranges of its cells must be known before they
    are histogrammed, the generated sample once, and both once more for neighbours and for each low-level
    classifier.

    Args:
        reference, generated: showers on the same mesh, or the files they are in; or what was learnt of them
            before (`merge_features`). Where that is without cells, so is the evaluation: precision and the
            like are left out, and classifiers that see cells, if they are not named in ``which``.
        classifiers: a preset (``"quick"``, ``"calochallenge"``, ``"strong"``, ``"boosted"``), several with
            commas between them, ``"none"``, or settings.
        which: classifiers to train, ``low``, ``low-normed``, ``high``, ``resnet``, ``c2st``, ``strong``,
            ``boosted``; by default those of the presets.
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
        DataError: a sample has fewer than 20 showers or no energy at all, a file is unreadable, features were
            made with another reference, or cells are needed that are not there.
        ConditionError: a slice is unknown or malformed, the threshold no energy, or only some of the samples
            have impact points.
        RecipeError: the classifiers are unknown.
        MissingDependencyError: an optional package is not installed.
    """
    seed = checked_seed(seed)
    if threshold_mev is not None and not 0 <= threshold_mev < np.inf:
        raise ConditionError(f"threshold_mev must be an energy in MeV, got {threshold_mev}")
    chosen = chosen_classifiers(classifiers, which)
    truth = _checked(reference, "reference showers", None)
    check_names(list(chosen), truth.mesh)
    if isinstance(generated, Reading):
        _require_scales(reference, generated)
    samples = {"generated showers": _checked(generated, "generated showers", truth)}
    if second_reference is not None:
        samples["second reference"] = _checked(second_reference, "showers of the second reference", truth)
    trained_on = None if training is None else _checked(training, "training showers", truth)
    cells_there = all(map(has_cells, (truth, *samples.values())))
    if not cells_there:
        chosen = _without_cells(chosen, named=which is not None, training=trained_on)
    truth, *matched = matched_showers([truth, *samples.values()])
    samples = dict(zip(samples, matched, strict=True))
    pair = truth.conditions, samples["generated showers"].conditions
    bins = slice_edges(*pair, slices)
    with reporting(progress) as report:
        if isinstance(reference, Reading):
            first = reference.of(truth)
            if threshold_mev not in (None, float(first.scales.edges[0])):
                raise ConditionError("the threshold of features is that with which they were made")
        else:
            first = read_reference(truth, threshold_mev=threshold_mev, report=report)
        others = {
            name: generated.of(showers)
            if isinstance(generated, Reading) and name == "generated showers"
            else read_sample(showers, name, first.scales, report)
            for name, showers in samples.items()
        }
        second, third = others["generated showers"], others.get("second reference")
        report("histograms", 0.0)
        plans = _plans(first, second, third)
        histograms = [fill_histogram(plan, seed) for plan in plans]
        cells = first.counts, second.counts
        histograms.append(cell_histogram(*cells, seed=seed, second=None if third is None else third.counts))
        report("histograms", 1.0)
        judged = {
            name: train_classifier(
                name,
                first.sample,
                second.sample,
                settings,
                seed=seed,
                device=device,
                progress=partial(report, f"classifier {name}"),
                second=None if third is None else third.sample,
            )
            for name, settings in chosen.items()
        }
        matrices = (feature_matrix(first.features), feature_matrix(second.features)) if distances else None
        measured = {} if matrices is None else _distances(matrices, first, second, third, seed, report)
        report("slices", 0.0)
        parts = slice_metrics(
            first.features,
            second.features,
            *pair,
            bins,
            plans=plans,
            cells=cells,
            scores={name: result.scores for name, result in judged.items() if result.scores is not None},
            matrices=matrices,
            distances=partial(_distances_in_slice, seed=seed) if distances else None,
            seed=seed,
        )
        report("slices", 1.0)
        remembered = _remembered(second.showers, trained_on, truth, seed, report)
    features, ratios = (first.features, second.features), (first.features.e_ratio, second.features.e_ratio)
    profiles = (
        longitudinal_profile(*features),
        radial_profile(first.mean, second.mean),
        sparsity_profile(*cells, truth.mesh.n_voxels),
    )
    correlations = (
        layer_correlation(*features, seed=seed),
        cell_correlation(first.brightest, second.brightest, truth.mesh, seed=seed),
    )
    compared, sizes = _comparisons(first, second), (len(truth), len(second.showers))
    origins = {"reference": truth, "generated": second.showers}
    origins |= {} if third is None else {"second reference": third.showers}
    origins |= {} if trained_on is None else {"training": trained_on}
    threshold = float(first.counts.edges[0])
    made_by = provenance(
        "evaluate",
        seed=seed,
        classifiers=list(chosen),
        threshold_mev=threshold,
        distances=distances,
        cells=cells_there,
    )
    return Evaluation(
        counts={
            "reference": len(truth),
            "generated": len(second.showers),
            "reference_empty": int((first.features.e_total == 0).sum()),
            "generated_empty": int((second.features.e_total == 0).sum()),
            **count_repeats(first.prints, second.prints),
            **({} if trained_on is None else {"training": len(trained_on)}),
        },
        mesh=truth.mesh.to_dict(),
        threshold_mev=threshold,
        histograms=histograms,
        features=compared,
        profiles={profile.name: profile for profile in profiles},
        mean_shower={"reference": first.mean.cells, "generated": second.mean.cells},
        classifiers=judged,
        timing=measure_times(truth, second.showers),
        conditions=compare_conditions(*pair),
        provenance={**{role: s.provenance for role, s in origins.items()}, "evaluation": made_by},
        distances=measured,
        responses=response_curves(ratios[0], pair[0], ratios[1], pair[1], seed=seed),
        correlations={correlation.name: correlation for correlation in correlations},
        slices=parts,
        equivalent=equivalent_of_profiles(profiles, *sizes)
        | equivalent_of_means(compared, histograms, *sizes),
        neighbourhoods=compare_neighbourhoods(
            first.neighbourhoods,
            second.neighbourhoods,
            truth.mesh,
            None if third is None else third.neighbourhoods,
        ),
        localisation=localise(*features, (first.sums, second.sums)),
        conservation=conservation(*ratios),
        cells=cell_range(first, second),
        memorisation=remembered,
    )


def opened(source: Source | Reading) -> Showers:
    """The showers, or those in the file."""
    if isinstance(source, Reading):
        return source.showers
    return source if isinstance(source, Showers) else open_showers(source)


def require_comparable(reference: Showers, showers: Showers, what: str) -> None:
    """Raise MeshError unless both are on the same cells, ConditionError where one alone has impact points."""
    reference.require_same_cells(showers, what)
    known, found = (each.conditions.impact is not None for each in (reference, showers))
    if known != found:
        has, have = ("has", "have none") if known else ("has no", "have some")
        raise ConditionError(
            f"{what}: the reference {has} impact points, they {have}; take files with them, or files without"
        )


def _require_scales(reference: Source | Reading, generated: Reading) -> None:
    """DataError unless features of the reference are given, too, with which the generated ones were made."""
    if not isinstance(reference, Reading) or reference.scales != generated.scales:
        raise DataError(
            "the generated features were made with the features of a reference; give those as the reference"
        )


def _without_cells(
    chosen: Mapping[str, ClassifierSettings], *, named: bool, training: Showers | None
) -> dict[str, ClassifierSettings]:
    """The classifiers that see no cells; DataError where what is asked for needs them."""
    of_cells = [name for name in chosen if INPUTS[name].of_cells]
    needing = of_cells * named + ["a check for memorisation"] * (training is not None)
    if needing:
        raise DataError(
            f"{', '.join(needing)}: this needs the cells of the showers, which files of features do not "
            "hold; name the files of the showers, too"
        )
    return {name: settings for name, settings in chosen.items() if name not in of_cells}


def _checked(source: Source | Reading, role: str, reference: Showers | None) -> Showers:
    showers = opened(source)
    if reference is not None:
        require_comparable(reference, showers, f"{role} to evaluate")
    if len(showers) < LEAST_SHOWERS:
        raise DataError(f"{len(showers)} {role}; an evaluation needs at least {LEAST_SHOWERS}")
    if all(s is None or has_cells(s) for s in (showers, reference)):
        doubt_units(showers, role, reference)
    return showers


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


def _distances(
    pair: tuple[Matrix, Matrix],
    first: Reading,
    second: Reading,
    third: Reading | None,
    seed: int,
    report: Progress,
) -> dict[str, Estimate]:
    extra = None if third is None else feature_matrix(third.features)
    report("FPD and KPD", 0.0)
    found = {"fpd": fpd(*pair, seed=seed, second=extra)}
    report("FPD and KPD", 0.5)
    found["kpd"] = kpd(*pair, seed=seed, second=extra)
    found["fpd_trimmed"] = trimmed_fpd(*pair, seed=seed, second=extra)
    found |= sliced_distances(*pair, seed=seed, second=extra)
    report("FPD and KPD", 1.0)
    another = None if third is None else third.showers
    if not all(has_cells(reading.showers) for reading in (first, second)):
        return found
    return found | prdc(first.showers, second.showers, seed=seed, second=another, progress=report)


def _distances_in_slice(reference: Matrix, generated: Matrix, *, seed: int) -> dict[str, Estimate]:
    """FPD of the showers in one slice, from a tenth of the usual draws."""
    return {"fpd": fpd(reference, generated, seed=seed, batches=2)}


def _comparisons(reference: Reading, generated: Reading) -> dict[str, Comparison]:
    """Mean and spread of every feature, by the names of the histograms."""
    numbers = []
    for reading in (reference, generated):
        columns = {"e_total": reading.features.e_total} | reading.features.columns()
        known = {name: (float(v.mean()), float(v.std())) for name, v in columns.items()}
        for name, values in reading.observables.items():
            if np.isfinite(values).any():
                known[name] = float(np.nanmean(values)), float(np.nanstd(values))
        numbers.append(known)
    shared = [name for name in numbers[0] if name in numbers[1]]
    return {name: Comparison.of(numbers[0][name], numbers[1][name]) for name in shared}
