"""``caloforge train`` and ``caloforge adapt``: a generator from showers, or from one for other detectors."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from caloforge.cli.options import (
    AllowCode,
    AllowExternal,
    ChangesOfRecipe,
    CheckpointFolder,
    Device,
    Ignore,
    MeshName,
    Overwrite,
    Precision,
    Resume,
    Seed,
    TrainingThreads,
    folder,
    overrides,
)
from caloforge.cli.output import say, say_trained

__all__ = ["adapt", "train"]


def train(
    recipe: Annotated[str, typer.Argument(help="Name (see caloforge recipes) or a TOML file.")],
    showers: Annotated[list[Path], typer.Argument(help="Files of showers, or of pixel events, to train on.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", parser=folder, help="Folder of the checkpoint to make.")
    ],
    seed: Seed = 0,
    resume: Resume = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    threads: TrainingThreads = None,
    precision: Precision = "auto",
    teacher: Annotated[
        Path | None, typer.Option(help="Folder of a checkpoint to learn from, for recipes of students.")
    ] = None,
    given: Annotated[
        Path | None, typer.Option(help="The same showers on a coarser mesh, for recipes that refine those.")
    ] = None,
    settings: ChangesOfRecipe = None,
    mesh: MeshName = None,
    ignore: Ignore = None,
    allow_external: AllowExternal = False,
    allow_code: AllowCode = None,
) -> None:
    """Train a generator from a recipe."""
    from caloforge.cli.pixels import are_events
    from caloforge.data import PixelEvents, Showers, open_events, open_showers
    from caloforge.training import train as run

    sample: Showers | PixelEvents
    if are_events(showers, {"given": given, "mesh": mesh, "ignore": ignore}):
        sample = PixelEvents.concatenate([open_events(path) for path in showers])
    else:
        sample = Showers.join([open_showers(path) for path in showers])
    checkpoint = run(
        recipe,
        sample,
        out=out,
        seed=seed,
        resume=resume,
        overwrite=overwrite,
        device=device,
        threads=threads,
        precision=precision,
        overrides=overrides(settings),
        teacher=teacher,
        given=given,
    )
    say_trained(checkpoint, "checkpoint", out)
    _draw_choice(out)


def _draw_choice(out: Path) -> None:
    """The curve by which weights were chosen, where they were and something that draws is installed."""
    from caloforge.errors import MissingDependencyError
    from caloforge.report.figures.selection import draw_selection

    with suppress(MissingDependencyError):
        drawn = draw_selection(out)
        if drawn is not None:
            say(f"how weights were chosen → {out / drawn.name}.svg")


def adapt(
    checkpoint: CheckpointFolder,
    data: Annotated[
        list[Path], typer.Option("--data", help="Files of showers to adapt to. May be repeated.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", parser=folder, help="Folder of the checkpoint to make.")
    ],
    n: Annotated[int | None, typer.Option("-n", help="Take only the first n showers.", min=2)] = None,
    steps: Annotated[
        int | None, typer.Option(help="Batches to train on; by default a tenth of the training's.", min=1)
    ] = None,
    update: Annotated[
        str | None,
        typer.Option(help="What is learnt: tables, low-rank, all, or best, by showers that are held out."),
    ] = None,
    seed: Seed = 0,
    resume: Resume = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    threads: TrainingThreads = None,
    precision: Precision = "auto",
    settings: ChangesOfRecipe = None,
    mesh: MeshName = None,
    ignore: Ignore = None,
    allow_external: AllowExternal = False,
    allow_code: AllowCode = None,
) -> None:
    """Adapt a trained generator to a new detector with few showers."""
    from caloforge.checkpoint.before import ADAPTED_TO
    from caloforge.data import Showers, open_showers
    from caloforge.registry import enumerated
    from caloforge.training import adapt as run

    adapted = run(
        checkpoint,
        Showers.join([open_showers(path) for path in data]),
        out=out,
        n=n,
        steps=steps,
        update=update,
        seed=seed,
        resume=resume,
        overwrite=overwrite,
        device=device,
        threads=threads,
        precision=precision,
        overrides=overrides(settings),
    )
    new = adapted.provenance[ADAPTED_TO]
    say_trained(adapted, f"checkpoint for {enumerated(dict.fromkeys([*new, *adapted.detectors]))}", out)
