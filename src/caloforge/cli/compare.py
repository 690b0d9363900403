"""The command ``caloforge compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
from caloforge.errors import DataError

__all__ = ["compare"]


def compare(
    reference: Reference,
    generated: Annotated[
        list[str], typer.Argument(help="Files of generated showers, FILE or NAME=FILE; named after the file.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", parser=folder, help="Folder for metrics, tables, figures and page.")
    ],
    classifiers: Classifiers = "quick",
    which: Which = None,
    multiclass: Annotated[
        str, typer.Option(help="What the network that tells all models apart sees: high, low or none.")
    ] = "high",
    second_reference: SecondReference = None,
    report: Report = True,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Keep the evaluations that are there.")] = False,
    overwrite: Overwrite = False,
    mesh: MeshName = None,
    ignore: Ignore = None,
    allow_external: AllowExternal = False,
    allow_code: AllowCode = None,
) -> None:
    """Judge several generators against one reference: one table, overlaid figures and one HTML page."""
    from caloforge.report import compare as run
    from caloforge.report import summary

    options: dict[str, Any] = {} if second_reference is None else {"second_reference": second_reference}
    comparison = run(
        reference,
        named_files(generated),
        out=out,
        classifiers=classifiers,
        which=None if which is None else tuple(filter(None, which.split(","))),
        seed=seed,
        device=device,
        multiclass=None if multiclass == "none" else multiclass,
        resume=resume,
        overwrite=overwrite,
        **options,
    )
    console.print(summary(comparison))
    if report:
        from caloforge.report.comparison import write_comparison

        page = write_comparison(comparison, out)
        say(f"comparison → {page}")


def named_files(texts: list[str]) -> dict[str, Path]:
    """Files by name, of ``NAME=FILE`` or of ``FILE`` alone, which is named after itself.

    A text with an equals sign that is a file's path as it stands is that file.

    Raises:
        DataError: two have the same name.
    """
    found: dict[str, Path] = {}
    for text in texts:
        name, sign, path = text.partition("=")
        if not sign or Path(text).exists():
            name, path = Path(text).stem, text
        if name in found:
            raise DataError(
                f"{path} and {found[name]} are both named {name!r}; name one of them: NAME={path}"
            )
        found[name] = Path(path)
    return found
