"""``caloforge quickstart``: the main job end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from caloforge.cli.options import AllowCode, ChangesOfRecipe, Seed, Workers, overrides
from caloforge.cli.options import folder as folder_named

__all__ = ["quickstart"]


def quickstart(
    folder: Annotated[Path, typer.Argument(parser=folder_named, help="Where everything is kept.")] = Path(
        "quickstart"
    ),
    n: Annotated[int, typer.Option("-n", help="Showers to simulate.", min=100)] = 1500,
    seed: Seed = 1,
    workers: Workers = None,
    settings: ChangesOfRecipe = None,
    allow_code: AllowCode = None,
) -> None:
    """Simulate, train, generate, judge and draw, in a quarter of an hour. Run it again to go on."""
    from caloforge.quickstart import quickstart as run

    run(folder, n=n, seed=seed, workers=workers, overrides=overrides(settings))
