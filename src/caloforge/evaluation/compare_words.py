"""A comparison of models in plain sentences, computed from its table."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from caloforge.evaluation.ranking import (
    badness,
    clearly_better,
    is_quality,
    sigmas_above_floor,
)
from caloforge.evaluation.results import Estimate
from caloforge.evaluation.results.comparison import Column, ComparedModel
from caloforge.evaluation.significance import SIGMAS
from caloforge.evaluation.words import classifier_title, number

__all__ = ["headline", "joined", "sentences", "strictest"]

_MOST_NAMED = 4
_FEW_SHOWERS = 10_000


def strictest(columns: Sequence[Column], models: Sequence[ComparedModel]) -> str:
    """The metric that ranks: the AUC that is largest on average; without any FPD, else layer energies."""
    aucs = [c.key for c in columns if c.key.startswith("auc_") and all(c.key in m.metrics for m in models)]
    if aucs:
        return max(aucs, key=lambda key: sum(m.metrics[key].value for m in models))
    return "fpd" if any(c.key == "fpd" for c in columns) else "separation_e_layer"


def headline(columns: Sequence[Column], models: Sequence[ComparedModel]) -> tuple[int, str]:
    """Level of the nearest model (0 not told apart … 3 easily told apart, −1 not known) and one sentence."""
    key = strictest(columns, models)
    ranked = sorted((m for m in models if key in m.metrics), key=lambda m: badness(m.metrics[key]))
    if not ranked:
        return -1, "There is no metric to rank the models by."
    best = ranked[0].metrics[key]
    level_names = [m.name for m in ranked if not clearly_better(key, best, m.metrics[key])]
    level = _level(key, best)
    if all(sigmas_above_floor(key, m.metrics[key]) < SIGMAS for m in models if key in m.metrics):
        return level, f"{_by(key)} no model is told apart from Geant4."
    if len(models) == 1:
        return level, f"{models[0].name}: {_value(key, best)} by {_judge(key)}."
    if len(level_names) == 1:
        text = f"{level_names[0]} is nearest to Geant4"
        if key.startswith("auc_"):
            text += ", but easily told apart" if level == 3 else ", and not told apart" if level == 0 else ""
        return level, text + f" ({_value(key, best)} by {_judge(key)})."
    near = joined(level_names) if len(level_names) < len(models) else "all models"
    if len(models) == 2 and len(level_names) == 2:
        near = f"both {joined(level_names)}"
    text = f"{near} are equally near to Geant4 within the errors ({_judge(key)})."
    return level, text[0].upper() + text[1:] if near == "all models" else text


def sentences(
    columns: Sequence[Column], models: Sequence[ComparedModel], pareto: Mapping[str, Sequence[str]]
) -> list[str]:
    """What the table says, most important first."""
    return [
        *_apart(columns, models),
        *_leaders(columns, models),
        *_level_pairs(columns, models),
        *_fastest(models),
        *_fronts(columns, models, pareto),
    ]


def joined(names: Sequence[str]) -> str:
    """``A``, ``A and B``, ``A, B and C``."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def _apart(columns: Sequence[Column], models: Sequence[ComparedModel]) -> list[str]:
    aucs = [c for c in columns if c.key.startswith("auc_")]
    if not aucs or len(models) < 2:
        return []
    hidden = [
        m.name
        for m in models
        if all(sigmas_above_floor(c.key, m.metrics[c.key]) < SIGMAS for c in aucs if c.key in m.metrics)
    ]
    if not hidden:
        return []
    verb = "is" if len(hidden) == 1 else "are"
    few = " trained on so few showers" if min(m.showers for m in models) < _FEW_SHOWERS else ""
    return [f"{joined(hidden)} {verb} not told apart from Geant4 by any classifier{few}."]


def _leaders(columns: Sequence[Column], models: Sequence[ComparedModel]) -> list[str]:
    """Who is best in what."""
    if len(models) < 2:
        return []
    quality = [c for c in columns if is_quality(c.key)]
    text = []
    for model in models:
        led = [c for c in quality if c.best == model.name]
        if led:
            main = [c.label for c in led if c.part != "separation"]
            parts = [c.label.lower() for c in led if c.part == "separation"]
            named = main[:_MOST_NAMED] + [
                f"separation of {p}" for p in parts[: max(_MOST_NAMED - len(main), 0)]
            ]
            rest = len(led) - len(named)
            more = f" and {rest} more" if rest else ""
            listed = f"{', '.join(named)}{more}" if more else joined(named)
            text.append(
                f"{model.name} is best, by more than the errors, in {len(led)} of {len(quality)} metrics: "
                f"{listed}."
            )
    if not text:
        return ["In no metric is one model better than all others by more than the errors."]
    return text


def _level_pairs(columns: Sequence[Column], models: Sequence[ComparedModel]) -> list[str]:
    """Pairs of models that no metric ranks."""
    quality = [c.key for c in columns if is_quality(c.key)]
    text = []
    for first, second in itertools.combinations(models, 2):
        keys = [
            k for k in quality
            if k in first.metrics and k in second.metrics
            and math.isfinite(math.hypot(first.metrics[k].error, second.metrics[k].error))
        ]  # fmt: skip
        ranked = any(
            clearly_better(k, first.metrics[k], second.metrics[k])
            or clearly_better(k, second.metrics[k], first.metrics[k])
            for k in keys
        )
        if keys and not ranked:
            text.append(
                f"{first.name} and {second.name} are equally near to Geant4: none of {len(keys)} metrics "
                "differs by more than the errors."
            )
    return text


def _fastest(models: Sequence[ComparedModel]) -> list[str]:
    timed = [m for m in models if "ms" in m.metrics]
    if not timed:
        return ["No file tells how long its showers took, so the models are not compared in speed."]
    best = min(timed, key=lambda m: m.metrics["ms"].value)
    as_fast = [
        m.name for m in timed
        if m is not best and not clearly_better("ms", best.metrics["ms"], m.metrics["ms"])
    ]  # fmt: skip
    speed = best.metrics.get("speed_up")
    gain = f", {number(speed.value)} times as fast as Geant4" if speed else ""
    text = f"{best.name} is the fastest with {number(best.metrics['ms'].value)} ms per shower{gain}"
    if len(timed) == 1:
        text = f"{best.name} takes {number(best.metrics['ms'].value)} ms per shower{gain}"
    text += f"; {joined(as_fast)} about equal" if as_fast else ""
    missing = [m.name for m in models if m not in timed]
    text += f". No time is known of {joined(missing)}" if missing else ""
    return [text + "."]


def _fronts(
    columns: Sequence[Column], models: Sequence[ComparedModel], pareto: Mapping[str, Sequence[str]]
) -> list[str]:
    """Who is on the Pareto front; metrics with the same front share a sentence."""
    if sum("ms" in m.metrics for m in models) < 2:
        return []
    labels = {c.key: c.label for c in columns}
    by_name = {m.name: m for m in models}
    fronts: dict[tuple[str, ...], list[str]] = {}
    for key, names in pareto.items():
        told = []
        for i, name in enumerate(names):  # fastest first: a slower one must be better than those before it
            here = by_name[name].metrics[key]
            sure = all(clearly_better(key, here, by_name[other].metrics[key]) for other in names[:i])
            told.append(name if sure else f"{name} (not by more than the errors)")
        fronts.setdefault(tuple(told), []).append(labels[key])
    return [
        f"On the Pareto front of time and {joined(keys)}: {joined(names)}." for names, keys in fronts.items()
    ]


def _level(key: str, best: Estimate) -> int:
    if sigmas_above_floor(key, best) < SIGMAS:
        return 0
    if not key.startswith("auc_"):
        return -1
    return 1 if best.value < 0.65 else 2 if best.value < 0.85 else 3


def _judge(key: str) -> str:
    if key.startswith("auc_"):
        name = key.removeprefix("auc_")
        title = classifier_title(name)
        return f"the classifier of {title}" if name in ("low", "low-normed", "high") else f"the {title}"
    return "FPD" if key == "fpd" else "the separation of layer energies"


def _by(key: str) -> str:
    return f"By {_judge(key)},"


def _value(key: str, estimate: Estimate) -> str:
    if key.startswith("auc_"):
        return f"AUC {estimate.value:.3f} ± {estimate.error:.3f}"
    return number(estimate.value)
