"""The multi-class classifier of a comparison: trained once, kept on disk, and read again when going on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from caloforge.data import Showers
from caloforge.evaluation.classifiers import ClassifierSettings, train_multiclass
from caloforge.evaluation.features import compute_features
from caloforge.evaluation.progress import Progress
from caloforge.evaluation.results import Estimate, MulticlassResult
from caloforge.runtime.files import read_json, write_json

__all__ = ["MULTICLASS_FILE", "REFERENCE_CLASS", "multiclass_posterior", "with_posterior"]

MULTICLASS_FILE = "multiclass.json"
REFERENCE_CLASS = "Geant4"
"""Name of the reference among the classes; no model may bear it."""


def multiclass_posterior(
    reference: Showers,
    models: Mapping[str, Showers],
    settings: ClassifierSettings,
    *,
    inputs: str,
    seed: int,
    device: str,
    report: Progress,
    folder: Path | None,
    request: Mapping[str, Any],
    resume: bool,
) -> MulticlassResult:
    """Train the network on the reference and all models, or take what an equal request left in ``folder``.

    Raises:
        DataError: the result cannot be written.
    """
    path = None if folder is None else folder / MULTICLASS_FILE
    if path is not None and resume:
        found = _finished(path, request)
        if found is not None:
            return found
    samples = {}
    for i, (name, showers) in enumerate({REFERENCE_CLASS: reference, **models}.items()):
        report("features for the multi-class classifier", i / (len(models) + 1))
        samples[name] = (showers, compute_features(showers))
    report("features for the multi-class classifier", 1.0)
    result = train_multiclass(
        samples,
        settings,
        inputs=inputs,
        seed=seed,
        device=device,
        progress=partial(report, "multi-class classifier"),
    )
    if path is not None:
        write_json(path, {"request": request, "result": result.to_dict()})
    return result


def _finished(path: Path, request: Mapping[str, Any]) -> MulticlassResult | None:
    """The result in a file, if it was asked for in the same words; anything else is trained again."""
    try:
        before = read_json(path)
        return MulticlassResult.from_dict(before["result"]) if before["request"] == request else None
    except (KeyError, ValueError):
        return None


def with_posterior(
    metrics: Mapping[str, dict[str, Estimate]], result: MulticlassResult
) -> dict[str, dict[str, Estimate]]:
    """The metrics with each model's ``log_posterior`` after its AUCs; its floor is the reference's own."""
    values = dict(
        zip(result.names, zip(result.log_posterior, result.log_posterior_error, strict=True), strict=True)
    )
    own, own_error = (float(v) for v in values[REFERENCE_CLASS])
    extended = {}
    for name, found in metrics.items():
        value, error = (float(v) for v in values[name])
        mine = Estimate(
            value=value,
            error=error,
            floor=own,
            floor_error=own_error,
            floor_from="class of the reference",
            ideal=float("nan"),
            higher_is_better=True,
        )
        aucs = {key: e for key, e in found.items() if key.startswith("auc_")}
        extended[name] = aucs | {"log_posterior": mine} | found
    return extended
