"""The command ``caloforge evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

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
    generated: Annotated[Path, typer.Argument(help="File of generated showers.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", parser=folder, help="Folder for metrics, figures and report.")
    ],
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
    """Judge generated showers against a reference: metrics.json, figures and one HTML page."""
    from caloforge.data import open_showers
    from caloforge.report import evaluate as run
    from caloforge.report import summary

    truth, candidate = open_showers(reference), open_showers(generated)
    result = run(
        truth,
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

        page = write_report(result, truth, candidate, out, overwrite=overwrite)
        say(f"report → {page}")


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
