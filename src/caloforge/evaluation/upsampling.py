"""The upsampling test: how few coarse showers can be turned into how many fine ones before it shows?

A super-resolution model makes N fine showers out of N_c coarse ones, several of each. A classifier that has
seen some fine showers of a coarse one knows the others, so its AUC and JSD against the reference rise as N_c
falls (SuperCalo, arXiv:2308.11700). The anchor is what plain copying would give: N_c reference showers
repeated to N.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from caloforge.errors import DataError
from caloforge.evaluation.classifiers import ClassifierSettings
from caloforge.evaluation.classifiers.scores import auc_error
from caloforge.evaluation.evaluate import Source, evaluate, opened
from caloforge.evaluation.results import ClassifierResult, Estimate
from caloforge.evaluation.results.base import Details, Result
from caloforge.runtime.provenance import provenance
from caloforge.runtime.streams import checked_seed

__all__ = ["Score", "UpsamplingPoint", "UpsamplingResult", "upsampling_curve"]


class Score(Result):
    """AUC and JSD (bits) of one classifier."""

    auc: Estimate
    """Its error is the larger of the scatter of the trainings and of the standard error from the number of
    validation showers."""
    jsd: Estimate
    """Its error is the scatter of the trainings."""


class UpsamplingPoint(Result):
    """Fine showers made of one number of coarse showers."""

    coarse: int
    """N_c."""
    fine: int
    """N."""
    scores: dict[str, Score]
    """Of each classifier against the reference."""
    copies: dict[str, Score] = Field(default_factory=dict)
    """The same for N_c Geant4 showers repeated to N; empty where that was not measured."""
    note: str = ""
    """Why not, a sentence of `caloforge.report`."""


class UpsamplingResult(Result):
    """The curve, in order of N_c."""

    reference: int
    """Reference showers that all samples were compared with."""
    points: list[UpsamplingPoint]
    """One for each N_c."""
    repeatable: int | None = None
    """Geant4 showers at hand to be repeated; None where that was not asked for."""
    settings: Details = Field(default_factory=dict)
    """Of the classifiers, by name."""
    provenance: Details = Field(default_factory=dict)
    """Of the calculation."""


def upsampling_curve(
    reference: Source,
    samples: Mapping[int, Source],
    *,
    copies: Source | bool = True,
    classifiers: str | ClassifierSettings = "quick",
    which: Sequence[str] = ("low", "high"),
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> UpsamplingResult:
    """AUC and JSD of upsampled showers against the number of coarse showers they were made of.

    Args:
        reference: Geant4 showers, other than those the coarse ones came from.
        samples: by N_c, the fine showers made of N_c coarse ones, as many for every N_c.
        copies: Geant4 showers to repeat for the anchor; True sets the largest N_c aside from the reference,
            drawn at random, up to half of it; False leaves the anchor out.
        classifiers, which, device: as for `evaluate`; ``calochallenge`` for numbers to be held against
            published ones.
        seed: of the classifiers and of what is set aside.
        progress: show progress bars on the terminal.

    Raises:
        DataError: there are no samples, or an N_c is not positive.
        MeshError, RecipeError, MissingDependencyError: as `evaluate`.
    """
    seed = checked_seed(seed)
    if classifiers == "none" or not which:
        raise DataError("the upsampling test is a test by classifiers; choose some, for example low and high")
    if not samples or min(samples) < 1:
        raise DataError(f"give fine showers by their number of coarse showers ≥ 1, got {sorted(samples)}")
    truth, repeatable = opened(reference), None
    if copies is True:
        order = np.random.default_rng(seed).permutation(len(truth))
        aside = max((n for n in samples if 2 * n <= len(truth)), default=0)
        truth, repeatable = truth[np.sort(order[aside:])], truth[order[:aside]]
    elif copies is not False:
        repeatable = opened(copies)
    options: dict[str, Any] = {
        "classifiers": classifiers,
        "which": which,
        "seed": seed,
        "device": device,
        "progress": progress,
        "distances": False,
    }
    points, settings = [], {}
    for coarse in sorted(samples):
        fine = opened(samples[coarse])
        judged = evaluate(truth, fine, **options).classifiers
        settings = {name: result.settings for name, result in judged.items()}
        anchor: dict[str, ClassifierResult] = {}
        if repeatable is not None and coarse <= len(repeatable):
            repeated = repeatable[np.arange(len(fine)) % coarse]
            anchor = evaluate(truth, repeated, **options).classifiers
        points.append(
            UpsamplingPoint(coarse=coarse, fine=len(fine), scores=_scores(judged), copies=_scores(anchor))
        )
    made_by = provenance("upsampling", seed=seed, which=list(which), coarse=sorted(samples))
    return UpsamplingResult(
        reference=len(truth),
        points=points,
        repeatable=None if repeatable is None else len(repeatable),
        settings=settings,
        provenance=made_by,
    )


def _scores(judged: Mapping[str, ClassifierResult]) -> dict[str, Score]:
    return {
        name: Score(
            auc=Estimate(
                value=result.auc,
                error=max(result.auc_std, auc_error(result.auc, result.showers[2])),
                ideal=0.5,
            ),
            jsd=Estimate(value=result.jsd, error=result.jsd_std if len(result.jsds) > 1 else math.nan),
        )
        for name, result in judged.items()
    }
