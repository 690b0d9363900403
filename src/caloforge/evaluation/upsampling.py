"""The upsampling test: how few coarse showers can be turned into how many fine ones before it shows?

A super-resolution model makes N fine showers out of N_c coarse ones, several of each. A classifier that has
seen some fine showers of a coarse one knows the others, so its AUC and JSD against the reference rise as N_c
falls (SuperCalo, arXiv:2308.11700). The anchor is what plain copying would give: N_c reference showers
repeated to N.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from caloforge.data import Showers, open_showers
from caloforge.errors import DataError
from caloforge.evaluation.classifiers import ClassifierSettings
from caloforge.evaluation.evaluate import evaluate
from caloforge.evaluation.results.classifiers import ClassifierResult
from caloforge.evaluation.results.numbers import Estimate
from caloforge.evaluation.results.serial import from_plain, to_plain
from caloforge.runtime.provenance import provenance

if TYPE_CHECKING:
    from rich.table import Table

Source = Showers | str | os.PathLike[str]

__all__ = ["Score", "UpsamplingPoint", "UpsamplingResult", "upsampling_curve"]


@dataclass(frozen=True)
class Score:
    """AUC and JSD (bits) of one classifier.

    The JSD's error is the scatter of the trainings, the AUC's the larger of that and of the standard error
    from the number of validation showers.
    """

    auc: Estimate
    jsd: Estimate


@dataclass(frozen=True)
class UpsamplingPoint:
    """Fine showers made of one number of coarse showers.

    Attributes:
        coarse: N_c.
        fine: N.
        scores: of each classifier against the reference.
        copies: the same for N_c Geant4 showers repeated to N; empty where that was not measured.
        note: why not.
    """

    coarse: int
    fine: int
    scores: dict[str, Score]
    copies: dict[str, Score] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class UpsamplingResult:
    """The curve, in order of N_c.

    Attributes:
        reference: reference showers that all samples were compared with.
        points: one for each N_c.
        settings: of the classifiers, by name.
        provenance: of the calculation.
    """

    reference: int
    points: list[UpsamplingPoint]
    settings: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return dict(to_plain(self))

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The result that `to_dict` made these values of."""
        return from_plain(cls, dict(plain))

    def summary(self) -> Table:
        """One row for each N_c and classifier."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        table = Table(box=SIMPLE_HEAD, title=f"upsampling against {self.reference} reference showers")
        for column in ("coarse", "fine", "judge", "AUC", "JSD", "copies: AUC", "JSD"):
            table.add_column(column, justify="left" if column == "judge" else "right", no_wrap=True)
        for point in self.points:
            for name, score in point.scores.items():
                copies = point.copies.get(name)
                table.add_row(
                    f"{point.coarse}",
                    f"{point.fine}",
                    name,
                    *(_text(e) for e in (score.auc, score.jsd)),
                    *((_text(copies.auc), _text(copies.jsd)) if copies else ("–", "–")),
                )
        notes = [point.note for point in self.points if point.note]
        if notes:
            table.caption = "\n".join(notes)
        return table


def _text(estimate: Estimate) -> str:
    return f"{estimate.value:.3f}" + ("" if math.isnan(estimate.error) else f"±{estimate.error:.3f}")


def upsampling_curve(
    reference: Source,
    samples: Mapping[int, Source],
    *,
    copies: Source | bool = True,
    classifiers: str | ClassifierSettings = "quick",
    which: Sequence[str] = ("low", "high"),
    seed: int = 0,
    device: str | None = None,
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
    if classifiers == "none" or not which:
        raise DataError("the upsampling test is a test by classifiers; choose some, for example low and high")
    if not samples or min(samples) < 1:
        raise DataError(f"give fine showers by their number of coarse showers ≥ 1, got {sorted(samples)}")
    truth, repeatable = _open(reference), None
    if copies is True:
        order = np.random.default_rng(seed).permutation(len(truth))
        aside = max((n for n in samples if 2 * n <= len(truth)), default=0)
        truth, repeatable = truth[np.sort(order[aside:])], truth[order[:aside]]
    elif copies is not False:
        repeatable = _open(copies)
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
        fine = _open(samples[coarse])
        judged = evaluate(truth, fine, **options).classifiers
        settings = {name: result.settings for name, result in judged.items()}
        anchor, note = {}, ""
        if repeatable is not None and coarse <= len(repeatable):
            repeated = repeatable[np.arange(len(fine)) % coarse]
            anchor = evaluate(truth, repeated, **options).classifiers
        elif repeatable is not None:
            note = f"{coarse} coarse showers: there are too few Geant4 showers to repeat so many of them."
        points.append(UpsamplingPoint(coarse, len(fine), _scores(judged), _scores(anchor), note))
    made_by = provenance("upsampling", seed=seed, which=list(which), coarse=sorted(samples))
    return UpsamplingResult(len(truth), points, settings, made_by)


def _open(source: Source) -> Showers:
    return source if isinstance(source, Showers) else open_showers(source)


def _scores(judged: Mapping[str, ClassifierResult]) -> dict[str, Score]:
    return {
        name: Score(
            Estimate(result.auc, max(result.auc_std, _auc_error(result)), ideal=0.5),
            Estimate(result.jsd, result.jsd_std if len(result.jsds) > 1 else math.nan),
        )
        for name, result in judged.items()
    }


def _auc_error(result: ClassifierResult) -> float:
    """Standard error of an AUC from n validation showers a class (Hanley and McNeil, Radiology 143, 1982)."""
    a, n = result.auc, result.showers[2]
    q1, q2 = a / (2 - a), 2 * a**2 / (1 + a)
    return math.sqrt(max(0.0, a * (1 - a) + (n - 1) * (q1 + q2 - 2 * a**2))) / n
