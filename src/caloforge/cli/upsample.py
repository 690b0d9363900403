"""``caloforge upsample``: finer showers of coarse ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from caloforge.cli.options import (
    AllowExtrapolation,
    BatchSize,
    Changes,
    Device,
    Overwrite,
    Resume,
    Seed,
    Threads,
    overrides,
)

__all__ = ["upsample"]


def upsample(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a checkpoint that refines coarse showers.")],
    coarse: Annotated[Path, typer.Argument(help="File of coarse showers, from Geant4 or any generator.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="HDF5 file of fine showers to make.")],
    copies: Annotated[int, typer.Option(help="Fine showers to make of each coarse one.", min=1)] = 1,
    n: Annotated[
        int | None, typer.Option("-n", help="Make only the first n; all coarse showers come in turn.", min=1)
    ] = None,
    seed: Seed = 0,
    first: Annotated[int, typer.Option(help="Number of the first fine shower.", min=0)] = 0,
    settings: Changes = None,
    batch_size: BatchSize = None,
    threads: Threads = None,
    device: Device = "auto",
    allow_extrapolation: AllowExtrapolation = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Refine coarse showers, each one or several times."""
    from caloforge.generation import generate

    showers = generate(
        checkpoint,
        out=out,
        given=coarse,
        copies=copies,
        settings=overrides(settings),
        n=n,
        seed=seed,
        first=first,
        batch_size=batch_size or "auto",
        threads=threads,
        device=device,
        allow_extrapolation=allow_extrapolation,
        resume=resume,
        overwrite=overwrite,
    )
    speed = showers.provenance.get("performance", {})
    Console().print(
        f"{len(showers)} showers on a {showers.mesh} → {out} "
        f"({speed.get('ms_per_shower', 0):.2f} ms each, threads: {speed.get('threads')})",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
