"""The command ``caloforge evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from caloforge.cli import pixels
from caloforge.cli.options import (
    AllowCode,
    AllowExternal,
    Classifiers,
    Device,
    Ignore,
    MeshName,
    Overwrite,
    Reference,
    Report,
    SecondReference,
    Seed,
    Which,
    folder,
)
from caloforge.cli.output import console, note, say
from caloforge.errors import ConditionError

__all__ = ["evaluate", "slices_of"]


def evaluate(
    reference: Reference,
    generated: Annotated[
        Path | None, typer.Argument(help="File of generated showers; the only one where --truth is given.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", parser=folder, help="Folder for metrics, figures and report."),
    ] = None,
    features_out: Annotated[
        Path | None,
        typer.Option(
            help="In place of that, a file of what is learnt of the showers: of the reference, or, where the "
            "first argument is such a file of it, of a part of the generated showers."
        ),
    ] = None,
    features_from: Annotated[
        list[Path] | None,
        typer.Option(
            help="Such files, or a folder of them, of all parts of the generated showers. May be repeated."
        ),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="The reference, in the place of the first argument.")
    ] = None,
    classifiers: Classifiers = "quick",
    which: Which = None,
    second_reference: SecondReference = None,
    training: Annotated[
        Path | None, typer.Option(help="Showers the generator was trained on: does it repeat them?")
    ] = None,
    slices: Annotated[
        list[str] | None,
        typer.Option("--slice", help="Bins of a condition: energy=4 or theta=1.0,1.3,1.6. May be repeated."),
    ] = None,
    distances: Annotated[bool, typer.Option(help="FPD, KPD, precision, recall, density, coverage.")] = True,
    threshold: Annotated[
        float | None, typer.Option(help="Lower edge of the energy histograms, MeV.", min=0.0)
    ] = None,
    report: Report = True,
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    mesh: MeshName = None,
    ignore: Ignore = None,
    allow_external: AllowExternal = False,
    allow_code: AllowCode = None,
) -> None:
    """Judge generated showers or pixel events against a reference: metrics.json, figures, one HTML page."""
    if features_out is not None:
        if out is not None or features_from is not None or truth is not None:
            raise typer.BadParameter("--features-out goes with no --out, --features-from and --truth")
        _save_features(reference, generated, features_out, threshold, overwrite)
        return
    if out is None:
        raise typer.BadParameter("say where: --out FOLDER")
    if features_from is None:
        reference, generated = _pair(reference, generated, truth)
    elif truth is not None:
        raise typer.BadParameter("with --features-from the reference is the first file, without --truth")
    given = [path for path in (reference, generated, second_reference, training) if path is not None]
    of_showers = {
        "which": which,
        "slice": slices,
        "threshold": threshold,
        "mesh": mesh,
        "ignore": ignore,
        "allow_external": allow_external,
        "features_from": features_from,
    }
    if generated is not None and pixels.are_events(given, of_showers):
        pixels.evaluate(
            reference,
            generated,
            out,
            report=report,
            overwrite=overwrite,
            second_reference=second_reference,
            training=training,
            distances=distances,
            classifiers=classifiers != "none",
            seed=seed,
            device=device,
        )
        return
    from caloforge.evaluation.evaluate import opened
    from caloforge.evaluation.feature_shards import open_samples
    from caloforge.evaluation.reading_file import has_cells
    from caloforge.report import evaluate as run
    from caloforge.report import summary

    known, candidate = open_samples(reference, generated, features_from or ())
    result = run(
        known,
        candidate,
        out=out,
        classifiers=classifiers,
        which=None if which is None else tuple(filter(None, which.split(","))),
        second_reference=second_reference,
        training=training,
        distances=distances,
        slices=slices_of(slices) if slices else None,
        threshold_mev=threshold,
        seed=seed,
        device=device,
        overwrite=overwrite,
    )
    console.print(summary(result))
    shown = opened(known), opened(candidate)
    if report and all(map(has_cells, shown)):
        from caloforge.report import write_report

        page = write_report(result, *shown, out, overwrite=overwrite)
        say(f"report → {page}")
    elif report:
        note("no page: it would show showers; name their files, too")


def _save_features(
    reference: Path, generated: Path | None, out: Path, threshold: float | None, overwrite: bool
) -> None:
    """Write what is learnt of the reference, or of a part of the generated showers."""
    from caloforge.data import open_showers
    from caloforge.evaluation.feature_shards import save_features, save_reference_features

    if generated is None:
        showers = open_showers(reference)
        save_reference_features(showers, out, threshold_mev=threshold, overwrite=overwrite)
    else:
        if threshold is not None:
            raise ConditionError("--threshold is of the reference, whose features decide it")
        showers = open_showers(generated)
        save_features(showers, reference, out, overwrite=overwrite)
    say(f"features of {len(showers)} showers → {out}")


def _pair(first: Path, second: Path | None, truth: Path | None) -> tuple[Path, Path]:
    """Reference and generated sample, of two arguments or of one and ``--truth``."""
    if (second is None) == (truth is None):
        raise typer.BadParameter("name two files, the reference and the generated, or one and --truth")
    return (first, second) if second is not None else (truth or first, first)


def slices_of(texts: list[str]) -> dict[str, int | Sequence[float]]:
    """Slices by condition, of ``energy=4`` (bins) or ``theta=1.0,1.3,1.6`` (edges, MeV or rad).

    Raises:
        ConditionError: a text is neither.
    """
    found: dict[str, int | Sequence[float]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        try:
            found[name.strip()] = [float(v) for v in values.split(",")] if "," in values else int(values)
        except ValueError as error:
            raise ConditionError(
                f"--slice {text!r}: expected a number of bins or edges, energy=4 or energy=1000,5000,20000"
            ) from error
    return found
