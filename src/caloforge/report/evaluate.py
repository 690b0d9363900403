"""`evaluate`, `evaluate_events`: numbers with what they say, kept in ``metrics.json``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, Unpack

from caloforge.errors import DataError
from caloforge.evaluation.evaluate import EvaluationOptions, Source
from caloforge.evaluation.evaluate import evaluate as measure
from caloforge.evaluation.pixels.evaluate import EventOptions, EventSource
from caloforge.evaluation.pixels.evaluate import evaluate_events as measure_events
from caloforge.evaluation.reading import Reading
from caloforge.evaluation.results import METRICS_FILE, Document, Evaluation, PixelEvaluation
from caloforge.report.words import in_words
from caloforge.runtime.locks import folder_lock

__all__ = ["evaluate", "evaluate_events"]

D = TypeVar("D", bound=Document)


def evaluate(
    reference: Source | Reading,
    generated: Source | Reading,
    *,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    **options: Unpack[EvaluationOptions],
) -> Evaluation:
    """Compare generated showers with reference showers, and say what the numbers mean.

    Args:
        reference, generated: showers on the same mesh, the files they are in, or what was learnt of them.
        out: a folder for ``metrics.json``, made where it is missing.
        overwrite: replace ``metrics.json`` in ``out``; otherwise that is a DataError.
        options: further arguments of `caloforge.evaluation.evaluate`: ``classifiers``, ``which``,
            ``second_reference``, ``training``, ``distances``, ``slices``, ``threshold_mev``, ``seed``,
            ``device``, ``progress``.

    Raises:
        DataError: ``metrics.json`` is there already, is being written, or cannot be; otherwise as
            `caloforge.evaluation.evaluate`.
    """
    return _kept(lambda: measure(reference, generated, **options), out, overwrite)


def evaluate_events(
    reference: EventSource,
    generated: EventSource,
    *,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    **options: Unpack[EventOptions],
) -> PixelEvaluation:
    """Compare generated pixel events with true ones, and say what the numbers mean.

    Args:
        reference, generated: events of one detector, or the files or folders they are in.
        out, overwrite: as in `evaluate`.
        options: further arguments of `caloforge.evaluation.pixels.evaluate_events`: ``second_reference``,
            ``training``, ``distances``, ``classifiers``, ``images``, ``seed``, ``device``, ``progress``.

    Raises:
        DataError: ``metrics.json`` is there already, is being written, or cannot be; otherwise as
            `caloforge.evaluation.pixels.evaluate_events`.
    """
    return _kept(lambda: measure_events(reference, generated, **options), out, overwrite)


def _kept(measured: Callable[[], D], out: str | os.PathLike[str] | None, overwrite: bool) -> D:
    """What is measured, in words, and in ``metrics.json`` where a folder is named."""
    if out is None:
        return in_words(measured())
    target = Path(out) / METRICS_FILE
    with folder_lock(target.parent):
        if target.exists() and not overwrite:
            raise DataError(f"{target} exists; choose another folder or allow overwriting (--overwrite)")
        evaluation = in_words(measured())
        evaluation.write(target)
    return evaluation
