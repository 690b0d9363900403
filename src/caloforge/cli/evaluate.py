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
from caloforge.cli.output import console, say
from caloforge.errors import ConditionError

__all__ = ["evaluate", "slices_of"]


def evaluate(
    reference: Reference,
    out: Annotated[
        Path, typer.Option("--out", "-o", parser=folder, help="Folder for metrics, figures and report.")
    ],
    generated: Annotated[
        Path | None, typer.Argument(help="File of generated showers; the only one where --truth is given.")
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
    reference, generated = _pair(reference, generated, truth)
    others = [path for path in (second_reference, training) if path is not None]
    of_showers = {
        "which": which,
        "slice": slices,
        "threshold": threshold,
        "mesh": mesh,
        "ignore": ignore,
        "allow_external": allow_external,
    }
    if pixels.are_events([reference, generated, *others], of_showers):
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
    from caloforge.data import open_showers
    from caloforge.report import evaluate as run
    from caloforge.report import summary

    known, candidate = open_showers(reference), open_showers(generated)
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
    if report:
        from caloforge.report import write_report

        page = write_report(result, known, candidate, out, overwrite=overwrite)
        say(f"report → {page}")


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
