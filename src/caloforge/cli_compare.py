"""The command ``caloforge compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from caloforge.errors import DataError

__all__ = ["compare"]


def compare(
    reference: Annotated[Path, typer.Argument(help="File of reference showers, from Geant4.")],
    generated: Annotated[
        list[str], typer.Argument(help="Files of generated showers, FILE or NAME=FILE; named after the file.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for metrics, tables, figures and page.")],
    classifiers: Annotated[
        str, typer.Option(help="quick, calochallenge (the published settings; slow) or none.")
    ] = "quick",
    which: Annotated[
        str, typer.Option(help="Classifiers to train: low, low-normed, high, resnet, c2st.")
    ] = "low,high",
    multiclass: Annotated[
        str, typer.Option(help="What the network that tells all models apart sees: high, low or none.")
    ] = "high",
    second_reference: Annotated[
        Path | None, typer.Option(help="More Geant4 showers: floors are what they give.")
    ] = None,
    report: Annotated[bool, typer.Option(help="Also draw the figures and the HTML page.")] = True,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Keep the evaluations that are there.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Judge several generators against one reference: one table, overlaid figures and one HTML page."""
    from caloforge.evaluation.comparison import compare as run

    options: dict[str, Any] = {} if second_reference is None else {"second_reference": second_reference}
    comparison = run(
        reference, named_files(generated), out=out, classifiers=classifiers,
        which=tuple(filter(None, which.split(","))), seed=seed, device=None if device == "auto" else device,
        multiclass=None if multiclass == "none" else multiclass, resume=resume, overwrite=overwrite,
        **options,
    )  # fmt: skip
    console = Console()
    console.print(comparison.summary())
    if report:
        from caloforge.report.comparison import write_comparison

        page = write_comparison(comparison, out)
        console.print(f"comparison → {page}", highlight=False, markup=False, soft_wrap=True)


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
