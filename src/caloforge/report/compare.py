"""`compare`: several generated samples against one reference, in one table.

In ``out`` every sample has a folder of its name with its ``metrics.json``, written as soon as it is made;
beside them stand ``comparison.json``, the table as ``comparison.md`` and ``comparison.csv``, and the result
of the multi-class classifier.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from caloforge.data import Showers
from caloforge.data.fingerprint import sample_fingerprint
from caloforge.errors import DataError
from caloforge.evaluation.classifiers import ClassifierSettings, chosen_classifiers, classifier_settings
from caloforge.evaluation.classifiers.inputs import check_names
from caloforge.evaluation.comparison.posterior import REFERENCE_CLASS, multiclass_posterior, with_posterior
from caloforge.evaluation.comparison.published import published_results
from caloforge.evaluation.comparison.ranking import metrics_of, pareto_names, quality_keys
from caloforge.evaluation.evaluate import LEAST_SHOWERS, Source, opened, require_comparable
from caloforge.evaluation.progress import Progress, reporting
from caloforge.evaluation.results import (
    COMPARISON_FILE,
    METRICS_FILE,
    ComparedModel,
    Estimate,
    Evaluation,
    ModelComparison,
    MulticlassResult,
    Verdict,
    jsonable,
)
from caloforge.report.evaluate import evaluate
from caloforge.report.words.columns import table_columns
from caloforge.report.words.comparison import find_warnings, headline, posterior_finding, sentences
from caloforge.report.words.table import csv_text, markdown
from caloforge.report.words.verdict import find_verdict
from caloforge.runtime.files import read_json, write_json, write_text
from caloforge.runtime.locks import folder_lock
from caloforge.runtime.provenance import provenance
from caloforge.runtime.signals import stoppable
from caloforge.runtime.streams import checked_seed

__all__ = ["compare", "write_comparison_files"]

SETTINGS_FILE = "settings.json"
_NAME = re.compile(r"[^\W_][\w.+ ()-]*")
SAMPLES = ("second_reference", "training")
"""Arguments of `evaluate` that are samples."""
_RESERVED = ("figures", REFERENCE_CLASS)


@dataclasses.dataclass(frozen=True)
class _Task:
    """One sample to evaluate, and what tells whether an evaluation on disk is the same."""

    name: str
    file: str
    showers: Showers
    settings: dict[str, Any]


def compare(
    reference: Source,
    generated: Mapping[str, Source] | Sequence[Source],
    *,
    out: str | os.PathLike[str] | None = None,
    classifiers: str | ClassifierSettings = "quick",
    which: Sequence[str] | None = None,
    multiclass: str | None = "high",
    seed: int = 0,
    device: str = "auto",
    progress: bool | Progress = True,
    resume: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> ModelComparison:
    """Evaluate several generated samples against the same reference with the same settings, and rank them.

    All files are opened and checked before the first is evaluated. An evaluation is on disk as soon as it is
    done; ``resume`` takes those that are there, if they were made of the same files with the same settings.

    Args:
        reference: showers of Geant4, or their file.
        generated: samples by name, or samples that are named after their files.
        out: a folder for all results, made where it is missing.
        classifiers, which, seed, device: as for `evaluate`; the same for all samples.
        multiclass: inputs of the network that tells all samples apart at once, ``high`` or ``low``, trained
            with the settings of the classifiers; None for none. It needs two samples.
        progress: show progress bars on the terminal, or a function that is called instead.
        resume: go on in ``out``; samples may have been added.
        overwrite: replace what is in ``out``, with ``resume`` only what does not fit; otherwise that is a
            DataError.
        options: further arguments of `evaluate`.

    Raises:
        MeshError: a sample is on another mesh than the reference.
        ConditionError: some samples have impact points and some have none.
        DataError: a file is unreadable, a sample has too few showers, names are not unique, or ``out`` holds
            other results.
        RecipeError, MissingDependencyError: as `evaluate`.
    """
    folder = None if out is None else Path(out)
    seed = checked_seed(seed)
    settings = None if classifiers == "none" else classifier_settings(classifiers)
    chosen = chosen_classifiers(classifiers, which)
    asked = {"classifiers": chosen, "seed": seed, **options}
    on_disk = folder is not None
    request = jsonable({key: _plain_option(key, value, on_disk) for key, value in asked.items()})
    truth, tasks = _checked(reference, generated, request, on_disk)
    if settings is not None:
        from caloforge.runtime.devices import pick_device

        check_names([*chosen, *([] if multiclass is None else [multiclass])], truth.mesh)
        pick_device(device)
    evaluations: dict[str, Evaluation] = {}

    def kept() -> str:
        if folder is None:
            return "nothing was kept"
        done = f"{len(evaluations)} of {len(tasks)} evaluations are kept in {folder}"
        return f"{done}; go on with resume=True (--resume)"

    lock = nullcontext() if folder is None else folder_lock(folder)
    with lock, stoppable(kept), reporting(progress) as report:
        if folder is not None:
            _check_folder(folder, tasks, resume, overwrite)
            (folder / COMPARISON_FILE).unlink(missing_ok=True)  # no table may stand beside newer evaluations
        for task in tasks:
            place = None if folder is None else folder / task.name
            found = _finished(place, task, overwrite) if resume and place is not None else None
            if found is None:
                if place is not None:  # old metrics must never stand beside new settings
                    (place / METRICS_FILE).unlink(missing_ok=True)
                    write_json(place / SETTINGS_FILE, task.settings)
                found = evaluate(
                    truth,
                    task.showers,
                    out=place,
                    classifiers=classifiers,
                    which=which,
                    seed=seed,
                    device=device,
                    progress=partial(_named, report, task.name),
                    overwrite=True,
                    **options,
                )
            evaluations[task.name] = found
        judged = None
        if settings is not None and multiclass is not None and len(tasks) > 1:
            judged = multiclass_posterior(
                truth,
                {t.name: t.showers for t in tasks},
                settings,
                inputs=multiclass,
                seed=seed,
                device=device,
                report=report,
                folder=folder,
                resume=resume,
                request={"inputs": multiclass, **{t.name: t.settings for t in tasks}},
            )
        comparison = _assemble(truth, _file_of(reference), tasks, evaluations, judged, request)
        if folder is not None:
            write_comparison_files(comparison, folder)
    return comparison


def write_comparison_files(comparison: ModelComparison, out: str | os.PathLike[str]) -> None:
    """Write ``comparison.json``, ``comparison.md`` and ``comparison.csv``; DataError where that fails."""
    folder = Path(out)
    comparison.write(folder / COMPARISON_FILE)
    write_text(folder / "comparison.md", markdown(comparison))
    write_text(folder / "comparison.csv", csv_text(comparison))


def _checked(
    reference: Source, generated: Mapping[str, Source] | Sequence[Source], request: dict[str, Any], kept: bool
) -> tuple[Showers, list[_Task]]:
    """All samples open, on one mesh, large enough and under unique names; known again where they are kept."""
    if isinstance(generated, str | os.PathLike | Showers) or not len(generated):
        raise DataError(
            "give at least one generated sample, in a list or by name: compare(reference, [a, b])"
        )
    truth = opened(reference)
    if len(truth) < LEAST_SHOWERS:
        raise DataError(f"{len(truth)} reference showers; a comparison needs at least {LEAST_SHOWERS}")
    tasks: list[_Task] = []
    for name, source in _named_sources(generated):
        _check_name(name, [task.name for task in tasks])
        showers = opened(source)
        require_comparable(truth, showers, f"generated showers {name!r} to compare")
        if len(showers) < LEAST_SHOWERS:
            raise DataError(
                f"{len(showers)} showers in {name!r}; a comparison needs at least {LEAST_SHOWERS}"
            )
        tasks.append(_Task(name, _file_of(source), showers, {"evaluate": request}))
    if kept:
        known = _identity(truth)
        for task in tasks:
            task.settings.update(reference=known, generated=_identity(task.showers))
    return truth, tasks


def _named_sources(generated: Mapping[str, Source] | Sequence[Source]) -> Iterator[tuple[str, Source]]:
    if isinstance(generated, Mapping):
        yield from generated.items()
        return
    for number, source in enumerate(generated, start=1):
        yield f"sample {number}" if isinstance(source, Showers) else Path(source).stem, source


def _check_name(name: str, taken: Sequence[str]) -> None:
    if not _NAME.fullmatch(name) or name in _RESERVED or name.endswith((" ", ".")):
        raise DataError(
            f"{name!r} cannot name a model, since its results go into a folder of that name: use letters, "
            "digits, spaces and any of . _ + - ( ), for example NAME=FILE on the command line"
        )
    if name.casefold() in (other.casefold() for other in taken):
        raise DataError(f"two models are named {name!r}; name one of them, on the command line NAME=FILE")


def _file_of(source: Source) -> str:
    return "" if isinstance(source, Showers) else os.fspath(source)


def _identity(showers: Showers) -> dict[str, Any]:
    """What tells whether a sample is the one that was evaluated before: all that is in it, which is read."""
    return {"showers": len(showers), "contents": sample_fingerprint(showers)}


def _plain_option(key: str, value: Any, kept: bool) -> Any:
    """An argument of `evaluate` as it is remembered; samples by their contents where that is kept."""
    if key not in SAMPLES or value is None:
        return value
    return {"file": _file_of(value)} | (_identity(opened(value)) if kept else {})


def _check_folder(folder: Path, tasks: Sequence[_Task], resume: bool, overwrite: bool) -> None:
    """Nothing is replaced that was not allowed to be."""
    there = [
        p for p in (folder / COMPARISON_FILE, *(folder / t.name / METRICS_FILE for t in tasks)) if p.exists()
    ]
    if there and not (resume or overwrite):
        raise DataError(
            f"{there[0]} exists; go on with what is there (--resume), replace it (--overwrite) or choose "
            "another folder"
        )
    if resume:
        for task in tasks:
            _finished(folder / task.name, task, overwrite)  # raises where another evaluation is in the way


def _finished(place: Path, task: _Task, replace: bool) -> Evaluation | None:
    """The evaluation in a folder, if there is one of the same showers with the same settings.

    One of others is a DataError, or None where it may be replaced.
    """
    if not (place / METRICS_FILE).exists():
        return None
    try:
        before = read_json(place / SETTINGS_FILE)
    except DataError as error:
        if replace:
            return None
        raise DataError(f"{error}; use --overwrite") from error
    if before != task.settings:
        if replace:
            return None
        parts = [key for key in task.settings if before.get(key) != task.settings[key]]
        words = {
            "evaluate": "the settings",
            "reference": "the reference",
            "generated": "the generated showers",
        }
        raise DataError(
            f"{place / METRICS_FILE} cannot be gone on with: {', '.join(words[p] for p in parts)} changed "
            "since. Use the same as before, another folder, or --overwrite"
        )
    return Evaluation.read(place / METRICS_FILE)


def _assemble(
    truth: Showers,
    file: str,
    tasks: Sequence[_Task],
    evaluations: Mapping[str, Evaluation],
    judged: MulticlassResult | None,
    request: dict[str, Any],
) -> ModelComparison:
    metrics = {name: metrics_of(evaluation) for name, evaluation in evaluations.items()}
    if judged is not None:
        metrics = with_posterior(metrics, judged)
    models = [
        ComparedModel(
            name=t.name,
            file=t.file,
            showers=len(t.showers),
            metrics=metrics[t.name],
            timing=evaluations[t.name].timing,
            warnings=evaluations[t.name].warnings,
            verdict=_verdict(evaluations[t.name], metrics[t.name]),
        )
        for t in tasks
    ]
    columns = table_columns(metrics)
    pareto = {key: pareto_names(key, models) for key in quality_keys(columns)}
    pareto = {key: names for key, names in pareto.items() if names}
    level, first = headline(columns, models)
    return ModelComparison(
        reference=file,
        reference_showers=len(truth),
        level=level,
        headline=first,
        sentences=sentences(columns, models, pareto),
        columns=columns,
        models=models,
        pareto=pareto,
        multiclass=judged,
        published=published_results(truth.mesh),
        warnings=find_warnings(columns, models, evaluations),
        mesh=truth.mesh.to_dict(),
        provenance=provenance("compare", reference=file, **request),
        evaluations=dict(evaluations),
    )


def _verdict(evaluation: Evaluation, metrics: Mapping[str, Estimate]) -> Verdict | None:
    """The sample's verdict, in which the network for all samples counts as well."""
    posterior = metrics.get("log_posterior")
    if posterior is None:
        return evaluation.verdict
    return find_verdict(evaluation, [posterior_finding(posterior)])


def _named(report: Progress, name: str, text: str, fraction: float) -> None:
    report(f"{name}: {text}", fraction)
