"""`evaluate`: the numbers of an evaluation with what they say, kept in ``metrics.json``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Unpack

from caloforge.errors import DataError
from caloforge.evaluation.evaluate import EvaluationOptions, Source
from caloforge.evaluation.evaluate import evaluate as measure
from caloforge.evaluation.results import METRICS_FILE, Evaluation
from caloforge.report.words import in_words
from caloforge.runtime.locks import folder_lock

__all__ = ["evaluate"]


def evaluate(
    reference: Source,
    generated: Source,
    *,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    **options: Unpack[EvaluationOptions],
) -> Evaluation:
    """Compare generated showers with reference showers, and say what the numbers mean.

    Args:
        reference, generated: showers on the same mesh, or the files they are in.
        out: a folder for ``metrics.json``, made where it is missing.
        overwrite: replace ``metrics.json`` in ``out``; otherwise that is a DataError.
        options: further arguments of `caloforge.evaluation.evaluate`: ``classifiers``, ``which``,
            ``second_reference``, ``training``, ``distances``, ``slices``, ``threshold_mev``, ``seed``,
            ``device``, ``progress``.

    Raises:
        DataError: ``metrics.json`` is there already, is being written, or cannot be; otherwise as
            `caloforge.evaluation.evaluate`.
    """
    if out is None:
        return in_words(measure(reference, generated, **options))
    target = Path(out) / METRICS_FILE
    with folder_lock(target.parent):
        if target.exists() and not overwrite:
            raise DataError(f"{target} exists; choose another folder or allow overwriting (--overwrite)")
        evaluation = in_words(measure(reference, generated, **options))
        evaluation.write(target)
    return evaluation
