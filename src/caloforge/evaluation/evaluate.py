"""`evaluate`: all metrics of a generated sample against a reference, streamed from disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.data import Conditions, Showers, open_showers
from caloforge.data.disk import whole_file
from caloforge.errors import DataError
from caloforge.evaluation.binning import log_edges
from caloforge.evaluation.classifiers import (
    ClassifierSettings,
    check_names,
    classifier_settings,
    train_classifier,
)
from caloforge.evaluation.context import compare_conditions, find_warnings, measure_times
from caloforge.evaluation.features import Features, Visitor, compute_features
from caloforge.evaluation.histograms import CellCounts, cell_histogram, feature_histograms
from caloforge.evaluation.profiles import MeanShower, longitudinal_profile, radial_profile
from caloforge.evaluation.results import ClassifierResult, Comparison, Evaluation
from caloforge.provenance import provenance

__all__ = ["LEAST_SHOWERS", "METRICS_FILE", "Progress", "evaluate", "read_metrics", "write_metrics"]

LEAST_SHOWERS = 20
METRICS_FILE = "metrics.json"
CELL_EDGES = 50
Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction of it that is."""

Source = Showers | str | os.PathLike[str]


def evaluate(
    reference: Source,
    generated: Source,
    *,
    out: str | os.PathLike[str] | None = None,
    classifiers: str | ClassifierSettings = "quick",
    which: Sequence[str] = ("low", "high"),
    threshold_mev: float | None = None,
    seed: int = 0,
    device: str | None = None,
    progress: bool | Progress = True,
    overwrite: bool = False,
) -> Evaluation:
    """Compare generated showers with reference showers by the CaloChallenge's metrics (arXiv:2410.21611).

    Files are read in batches: the reference twice, since the ranges of its cells must be known before they
    are histogrammed, the generated sample once, and both once more for a low-level classifier.

    Args:
        reference, generated: showers on the same mesh, or the files they are in.
        out: a folder for ``metrics.json``, made where it is missing.
        classifiers: a preset (``"quick"``, ``"calochallenge"``), ``"none"``, or settings.
        which: classifiers to train: ``low``, ``low-normed``, ``high``.
        threshold_mev: lower edge of the energy histograms; by default the reference's smallest cell energy.
        seed: of the floors and of the classifiers; the same seed gives the same numbers.
        device: of the classifiers; by default a GPU where there is one.
        progress: show progress bars on the terminal, or a function that is called instead.
        overwrite: replace ``metrics.json`` in ``out``; otherwise that is a DataError.

    Raises:
        MeshError: the samples are on different meshes.
        DataError: a sample has fewer than 20 showers or no energy at all, or a file is unreadable.
        RecipeError: the classifiers are unknown.
        MissingDependencyError: an optional package is not installed.
    """
    target = None if out is None else Path(out) / METRICS_FILE
    if target is not None and target.exists() and not overwrite:
        raise DataError(f"{target} exists; choose another folder or allow overwriting (--overwrite)")
    settings = None if classifiers == "none" else classifier_settings(classifiers)
    names = tuple(dict.fromkeys(which)) if settings is not None else ()
    check_names(names)
    first, second = (s if isinstance(s, Showers) else open_showers(s) for s in (reference, generated))
    first.mesh.require_same(second.mesh, "generated showers to evaluate")
    for role, showers in (("reference", first), ("generated", second)):
        if len(showers) < LEAST_SHOWERS:
            raise DataError(f"{len(showers)} {role} showers; an evaluation needs at least {LEAST_SHOWERS}")
    with _reporting(progress) as report:
        return _evaluate(first, second, settings, names, threshold_mev, seed, device, target, report)


def _evaluate(
    reference: Showers,
    generated: Showers,
    settings: ClassifierSettings | None,
    names: tuple[str, ...],
    threshold_mev: float | None,
    seed: int,
    device: str | None,
    target: Path | None,
    report: Progress,
) -> Evaluation:
    """`evaluate` after its arguments are checked."""
    means = MeanShower(reference.mesh), MeanShower(reference.mesh)
    span = _Span()
    first = compute_features(
        reference, visitors=[means[0], span, _counter(report, "reading the reference", len(reference))]
    )
    if span.largest <= 0:
        raise DataError("no reference shower has any energy; there is nothing to compare with")
    threshold = span.smallest if threshold_mev is None else threshold_mev
    edges = log_edges(threshold, span.largest, CELL_EDGES)
    cells = CellCounts(edges), CellCounts(edges)
    second = compute_features(
        generated,
        visitors=[means[1], cells[1], _counter(report, "reading the generated showers", len(generated))],
    )
    cells[0].read(reference, _counter(report, "reading the reference again", len(reference)))
    report("histograms", 0.0)
    histograms = feature_histograms(first, second, threshold_mev=float(edges[0]), seed=seed)
    histograms.append(cell_histogram(*cells, seed=seed))
    report("histograms", 1.0)
    judged: dict[str, ClassifierResult] = {}
    for name in names:
        assert settings is not None
        judged[name] = train_classifier(
            name,
            (reference, first),
            (generated, second),
            settings,
            seed=seed,
            device=device,
            progress=partial(report, f"classifier {name}"),
        )
    conditions = compare_conditions(reference.conditions, generated.conditions)
    counts = {
        "reference": len(reference),
        "generated": len(generated),
        "reference_empty": int((first.e_total == 0).sum()),
        "generated_empty": int((second.e_total == 0).sum()),
    }
    evaluation = Evaluation(
        counts=counts,
        mesh=reference.mesh.to_dict(),
        threshold_mev=float(edges[0]),
        histograms=histograms,
        features=_comparisons(first, second),
        profiles={p.name: p for p in (longitudinal_profile(first, second), radial_profile(*means))},
        mean_shower={"reference": means[0].cells, "generated": means[1].cells},
        classifiers=judged,
        timing=measure_times(reference, generated),
        conditions=conditions,
        warnings=find_warnings(counts, conditions, histograms, judged),
        provenance={
            "reference": reference.provenance,
            "generated": generated.provenance,
            "evaluation": provenance("evaluate", seed=seed, classifiers=list(names), threshold_mev=threshold),
        },
    )
    if target is not None:
        write_metrics(evaluation, target)
    return evaluation


def write_metrics(evaluation: Evaluation, path: str | os.PathLike[str]) -> None:
    """Write an evaluation as JSON; the file appears under its name only when it is complete.

    Raises:
        DataError: the file cannot be written.
    """
    path = Path(path)
    try:
        with whole_file(path) as file:
            file.write((_pretty(evaluation.to_dict()) + "\n").encode())
    except OSError as error:
        raise DataError(f"cannot write {path}: {error}") from error


def read_metrics(path: str | os.PathLike[str]) -> Evaluation:
    """The evaluation in a ``metrics.json``; DataError where it is missing, damaged or of another schema."""
    path = Path(path)
    try:
        return Evaluation.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


class _Span:
    """Smallest and largest energy above zero of any cell; a visitor of `compute_features`."""

    def __init__(self) -> None:
        self.smallest, self.largest = np.inf, 0.0

    def __call__(self, start: int, energies: NDArray[np.float32], conditions: Conditions) -> None:
        self.largest = max(self.largest, float(energies.max(initial=0.0)))
        self.smallest = float(np.min(energies, where=energies > 0, initial=self.smallest))


def _counter(report: Progress, text: str, n: int) -> Visitor:
    """A visitor that reports how many of n showers are read."""

    def visit(start: int, energies: NDArray[np.float32], conditions: Conditions) -> None:
        report(text, (start + len(energies)) / n)

    return visit


def _comparisons(reference: Features, generated: Features) -> dict[str, Comparison]:
    numbers = []
    for features in (reference, generated):
        groups = {"e_total": features.e_total[:, None]} | features.groups()
        numbers.append(
            {
                name if layer is None else f"{name}_{layer}": (float(mean), float(std))
                for name, values in groups.items()
                for layer, mean, std in zip(
                    (None,) if name == "e_total" else features.layers_of(name),
                    values.mean(axis=0, dtype=np.float64),
                    values.std(axis=0, dtype=np.float64),
                    strict=True,
                )
            }
        )
    return {name: Comparison(*numbers[0][name], *numbers[1][name]) for name in numbers[0]}


@contextmanager
def _reporting(progress: bool | Progress) -> Iterator[Progress]:
    """What to call to report progress: bars on stderr, the given function, or nothing."""
    if not isinstance(progress, bool):
        yield progress
        return
    if not progress:
        yield lambda text, fraction: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    tasks: dict[str, Any] = {}
    with Bars(console=Console(stderr=True), transient=True) as bars:

        def show(text: str, fraction: float) -> None:
            if text not in tasks:
                tasks[text] = bars.add_task(text, total=1.0)
            bars.update(tasks[text], completed=fraction)

        yield show


def _pretty(value: Any, indent: str = "") -> str:
    """JSON with one key a line and every list of plain values on one line."""
    deeper = indent + " "
    if isinstance(value, dict) and value:
        items = [f"{deeper}{json.dumps(key)}: {_pretty(item, deeper)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return "[\n" + ",\n".join(deeper + _pretty(item, deeper) for item in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
