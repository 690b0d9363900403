"""``caloforge demo``: a page that makes a model's showers in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from caloforge.cli.options import (
    AllowCode,
    AllowExternal,
    Changes,
    CheckpointFolder,
    Ignore,
    MeshName,
    Overwrite,
    folder,
    overrides,
)
from caloforge.cli.output import say

__all__ = ["demo"]


def demo(
    checkpoint: CheckpointFolder,
    out: Annotated[
        Path, typer.Option("--out", "-o", parser=folder, help="Folder for the page and all that it needs.")
    ],
    detector: Annotated[str | None, typer.Option(help="One of those that the model knows.")] = None,
    particle: Annotated[str | None, typer.Option(help="One of those that the model knows.")] = None,
    truth: Annotated[
        Path | None, typer.Option(help="File of Geant4 showers, whose mean is drawn beside.")
    ] = None,
    showers: Annotated[
        int, typer.Option(help="Without --truth: of so many of the model's the mean is drawn.", min=1)
    ] = 600,
    runtime: Annotated[
        Path | None, typer.Option(help="Folder of npm's onnxruntime-web, where there is no network.")
    ] = None,
    settings: Changes = None,
    overwrite: Overwrite = False,
    mesh: MeshName = None,
    ignore: Ignore = None,
    allow_external: AllowExternal = False,
    allow_code: AllowCode = None,
) -> None:
    """Make a page that runs the model in a browser, without a network: showers in 3-D, profiles, times."""
    from caloforge.demo import write_demo

    page = write_demo(
        checkpoint,
        out,
        detector=detector,
        particle=particle,
        truth=truth,
        showers=showers,
        runtime=runtime,
        settings=overrides(settings),
        overwrite=overwrite,
    )
    say(f"{checkpoint} → {page}")
    say(f"look at it: python -m http.server --bind 127.0.0.1 --directory {out}, then http://127.0.0.1:8000")
