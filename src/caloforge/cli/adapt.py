"""``caloforge adapt``: a trained generator for another detector, with few showers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from caloforge.cli.options import ChangesOfRecipe, Device, Overwrite, Resume, Seed, overrides

__all__ = ["adapt"]


def adapt(
    checkpoint: Annotated[
        Path, typer.Argument(help="Folder of a checkpoint, or a name (see caloforge models).")
    ],
    data: Annotated[
        list[Path], typer.Option("--data", help="Files of showers to adapt to. May be repeated.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the checkpoint to make.")],
    n: Annotated[int | None, typer.Option("-n", help="Take only the first n showers.", min=2)] = None,
    steps: Annotated[
        int | None, typer.Option(help="Batches to train on; by default a tenth of the training's.", min=1)
    ] = None,
    seed: Seed = 0,
    resume: Resume = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    settings: ChangesOfRecipe = None,
) -> None:
    """Adapt a trained generator to a new detector with few showers."""
    from caloforge.data import Showers, open_showers
    from caloforge.training import adapt as run

    made = run(
        checkpoint,
        Showers.join([open_showers(path) for path in data]),
        out=out,
        n=n,
        steps=steps,
        seed=seed,
        resume=resume,
        overwrite=overwrite,
        device=device,
        overrides=overrides(settings),
    )
    parts = made.metrics.get("parts", {}).items()
    losses = {name: part["validation_loss"] for name, part in parts}
    told = ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items() if loss is not None)
    told = f" (validation losses: {told})" if told else ""
    Console().print(
        f"checkpoint for {', '.join(made.detectors)} → {out}{told}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
