"""A comparison of models in plain sentences, computed from its table."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence

from caloforge.evaluation.comparison.ranking import badness, clearly_better, is_quality, sigmas_above_floor
from caloforge.evaluation.results import Column, ComparedModel, Estimate, Evaluation
from caloforge.report.words.columns import cell_text, floor_text
from caloforge.report.words.finding import Finding
from caloforge.report.words.significance import sigma_text, significance, standing
from caloforge.report.words.text import classifier_title, drowned, lowered, number, with_error

__all__ = ["find_warnings", "headline", "joined", "posterior_finding", "sentences", "strictest"]

_MOST_NAMED = 4
_SHOWERS = re.compile(r" with [\d\s]+ generated and [\d\s]+ reference showers")


def strictest(columns: Sequence[Column], models: Sequence[ComparedModel]) -> str:
    """The metric that ranks: the AUC that is largest on average; without classifiers the worst feature's."""
    aucs = [c.key for c in columns if c.key.startswith("auc_") and all(c.key in m.metrics for m in models)]
    means = {key: sum(m.metrics[key].value for m in models) for key in aucs}
    return max(means, key=means.__getitem__, default="worst_feature")


def headline(columns: Sequence[Column], models: Sequence[ComparedModel]) -> tuple[int, str]:
    """The level of the worst row, as in `Verdict`, and the verdicts of all models in one sentence.

    The nearest come first: those of the lowest level, and among these the strictest metric ranks; those are
    equal that it does not clearly rank. Models of which none is told apart are not ranked. All others follow
    with what their rows say, so that the headline says no less than the worst of them.
    """
    key = strictest(columns, models)
    ranked = _ranked(key, models)
    if not ranked:
        return -1, "There is no metric to rank the models by."
    lowest, highest = min(map(_told, ranked)), max(map(_told, ranked))
    near = [m for m in ranked if _told(m) == lowest]
    if highest:
        near = [m for m in near if not clearly_better(key, near[0].metrics[key], m.metrics[key])]
    levels = [-1 if m.verdict is None else m.verdict.level for m in ranked]
    judge = f" by {_judge(key)}" if near[0] is ranked[0] else ""
    names = "All models" if len(near) == len(models) > 2 else joined([m.name for m in near])
    verdicts = _verdicts(near)
    if highest and len(near) > 1:
        text = f"{names} are equally near to Geant4{judge}: {'; '.join(verdicts)}"
    elif len(near) < len(ranked):
        text = f"{names} {'are' if len(near) > 1 else 'is'} nearest to Geant4{judge}: {'; '.join(verdicts)}"
    else:
        text = f"{names}: {verdicts[0]}" if len(verdicts) == 1 else "; ".join(verdicts)
    far = [m for m in ranked if m not in near]
    if far:
        text += "; " + "; ".join(_verdicts(far, named=True))
    return (max(levels) if highest else min(levels)), f"{_once(text)}."


def _once(text: str) -> str:
    """The text, in which numbers of showers that are the same everywhere stand at the end only."""
    told: list[str] = _SHOWERS.findall(text)
    if len(told) > 1 and len(set(told)) == 1 and text.endswith(told[0]):
        return text.replace(told[0], "") + told[0]
    return text


def _told(model: ComparedModel) -> int:
    """How surely a model is told apart: its verdict's level, 0 also where there are too few showers."""
    return 0 if model.verdict is None else max(model.verdict.level, 0)


def _verdicts(models: Sequence[ComparedModel], *, named: bool = False) -> list[str]:
    """The headlines of the models' own verdicts, each once, ``named`` or where there are several."""
    found: dict[str, list[str]] = {}
    for model in models:
        said = "not judged" if model.verdict is None else lowered(model.verdict.headline.rstrip("."))
        found.setdefault(said, []).append(model.name)
    if len(found) == 1 and not named:
        return list(found)
    return [f"{joined(names)}: {said}" for said, names in found.items()]


def posterior_finding(found: Estimate) -> Finding:
    """What the network that tells all samples apart says of one model, which no evaluation alone knows."""
    value, own = with_error(found.value, found.error), with_error(found.floor, found.floor_error)
    size = f"log-posterior {value}, Geant4 itself {own}, {sigma_text(found.sigmas())}"
    return Finding.of(
        significance(found.sigmas()),
        f"One network for all samples tells it from Geant4: {size}.",
        f"One network for all samples may tell it from Geant4: {size}.",
        f"One network for all samples does not tell it from Geant4: {size}.",
    )


def sentences(
    columns: Sequence[Column], models: Sequence[ComparedModel], pareto: Mapping[str, Sequence[str]]
) -> list[str]:
    """What the table says, most important first."""
    return [
        *_ranking(columns, models),
        *_posteriors(columns, models),
        *_leaders(columns, models),
        *_level_pairs(columns, models),
        *_fastest(models),
        *_fronts(columns, models, pareto),
    ]


def find_warnings(
    columns: Sequence[Column],
    models: Sequence[ComparedModel],
    evaluations: Mapping[str, Evaluation] | None = None,
) -> list[str]:
    """What limits the comparison as a whole, then what limits single models; shared sentences only once."""
    found = []
    counts = {model.showers for model in models}
    if len(counts) > 1:
        found.append(
            f"The samples have different sizes ({min(counts)} to {max(counts)} showers): floors depend on "
            "that, and more showers train a stronger judge."
        )
    for key, what in (
        ("device", "devices"),
        ("batch_size", "batch sizes"),
        ("threads", "numbers of threads"),
    ):
        seen = {
            m.name: m.timing.performance[key] for m in models if m.timing.performance.get(key) is not None
        }
        if len(set(map(str, seen.values()))) > 1:
            listed = ", ".join(f"{name}: {value}" for name, value in seen.items())
            found.append(f"Times were taken with different {what} ({listed}).")
    shared = set.intersection(*(set(m.warnings) for m in models))
    found += [w for w in models[0].warnings if w in shared]
    found += [f"{m.name}: {w}" for m in models for w in m.warnings if w not in shared]
    notes: dict[str, list[str]] = {}
    for column in columns:
        for note in dict.fromkeys(m.metrics[column.key].note for m in models if column.key in m.metrics):
            notes.setdefault(note, []).append(column.label)
    found += [f"{joined(labels)}: {note}" for note, labels in notes.items() if note]
    made_by = {name: e.provenance.get("evaluation", {}) for name, e in (evaluations or {}).items()}
    versions = {name: made.get("caloforge") for name, made in made_by.items()}
    if len(set(versions.values())) > 1:
        listed = ", ".join(f"{name}: {version}" for name, version in versions.items())
        found.append(f"Evaluations of different versions of caloforge ({listed}); use --overwrite.")
    return found


def _is_result(key: str, models: Sequence[ComparedModel]) -> bool:
    """False where a metric is drowned in its error for all models that have it: no order follows from it."""
    known = [m.metrics[key] for m in models if key in m.metrics]
    return not all(drowned(estimate.value, estimate.error) for estimate in known)


def _ranked(key: str, models: Sequence[ComparedModel]) -> list[ComparedModel]:
    return sorted((m for m in models if key in m.metrics), key=lambda m: badness(m.metrics[key]))


def _ranking(columns: Sequence[Column], models: Sequence[ComparedModel]) -> list[str]:
    """All models in order, by the metric of the headline."""
    key = strictest(columns, models)
    ranked = _ranked(key, models)
    if not ranked:
        return []
    column = next(c for c in columns if c.key == key)
    listed = ", ".join(f"{m.name} {_judged(key, m)}" for m in ranked)
    return [f"{column.label}: {listed}; Geant4 against itself {floor_text(key, column.floor)}."]


def _judged(key: str, model: ComparedModel) -> str:
    """``0.628 ± 0.041 (hint, 2.9 σ)``."""
    said = standing(sigmas_above_floor(key, model.metrics[key]))
    return cell_text(key, model.metrics[key]) + (f" ({said})" if said else "")


def joined(names: Sequence[str]) -> str:
    """``A``, ``A and B``, ``A, B and C``."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def _posteriors(columns: Sequence[Column], models: Sequence[ComparedModel]) -> list[str]:
    """To which models the multi-class classifier gives Geant4's showers, if there is one that ranks them."""
    key = "log_posterior"
    if not _is_result(key, models):
        return []
    own = next(c.floor for c in columns if c.key == key)
    ranked = _ranked(key, models)
    best = ranked[0]
    near = [m.name for m in ranked if not clearly_better(key, best.metrics[key], m.metrics[key])]
    listed = ", ".join(f"{m.name} {_judged(key, m)}" for m in ranked)
    least = joined(near) + (", level within the errors" if len(near) > 1 else "")
    return [
        f"One network for all samples takes Geant4's showers most readily for those of {least} "
        f"(log-posterior {listed}; Geant4 itself {floor_text(key, own)})."
    ]


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
                f"{model.name} is best, beyond the errors, in {len(led)} of {len(quality)} metrics: {listed}."
            )
    return text or ["In no metric is one model best beyond the errors."]


def _level_pairs(columns: Sequence[Column], models: Sequence[ComparedModel]) -> list[str]:
    """Pairs of models that no metric ranks."""
    quality = [c.key for c in columns if is_quality(c.key)]
    text = []
    for first, second in itertools.combinations(models, 2):
        keys = [
            k
            for k in quality
            if k in first.metrics
            and k in second.metrics
            and math.isfinite(math.hypot(first.metrics[k].error, second.metrics[k].error))
        ]
        ranked = any(
            clearly_better(k, first.metrics[k], second.metrics[k])
            or clearly_better(k, second.metrics[k], first.metrics[k])
            for k in keys
        )
        if keys and not ranked:
            text.append(
                f"{first.name} and {second.name} are equally near to Geant4: none of {len(keys)} metrics "
                "ranks them."
            )
    return text


def _fastest(models: Sequence[ComparedModel]) -> list[str]:
    timed = [m for m in models if "ms" in m.metrics]
    if not timed:
        return ["No file tells how long its showers took."]
    best = min(timed, key=lambda m: m.metrics["ms"].value)
    as_fast = [
        m.name
        for m in timed
        if m is not best and not clearly_better("ms", best.metrics["ms"], m.metrics["ms"])
    ]
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
        if not _is_result(key, models):
            continue
        told = []
        for i, name in enumerate(names):  # fastest first: a slower one must be better than those before it
            here = by_name[name].metrics[key]
            sure = all(clearly_better(key, here, by_name[other].metrics[key]) for other in names[:i])
            told.append(name if sure else f"{name} (within the errors)")
        fronts.setdefault(tuple(told), []).append(labels[key])
    return [
        f"On the Pareto front of time and {joined(keys)}: {joined(names)}." for names, keys in fronts.items()
    ]


def _judge(key: str) -> str:
    if key.startswith("auc_"):
        name = key.removeprefix("auc_")
        title = classifier_title(name)
        return f"the {title}" if name in ("resnet", "c2st") else f"the classifier of {title}"
    return "the single feature that differs most"
