"""``caloforge export``: a trained model as a file that other programs run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from caloforge.cli.options import AllowCode, Changes, CheckpointFolder, Overwrite, overrides
from caloforge.cli.output import say

__all__ = ["export"]


def export(
    checkpoint: CheckpointFolder,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to make; by default named after the model.")
    ] = None,
    to: Annotated[str, typer.Option(help="onnx, torchscript, or torch's exported program.")] = "onnx",
    contract: Annotated[
        str | None,
        typer.Option(help="Of the program that reads it: par04-vae, fastcalosim, … (docs/export.md)."),
    ] = None,
    detector: Annotated[
        str | None, typer.Option(help="Of one detector only, where the model knows several.")
    ] = None,
    particle: Annotated[
        str | None, typer.Option(help="Of one particle only, where the model knows several.")
    ] = None,
    settings: Changes = None,
    overwrite: Overwrite = False,
    allow_code: AllowCode = None,
) -> None:
    """Write a trained model as a file that other programs run (docs/export.md)."""
    from caloforge.export import Exported
    from caloforge.export import export as run

    made = run(
        checkpoint,
        out,
        to=to,  # type: ignore[arg-type]
        contract=contract,
        detector=detector,
        particle=particle,
        settings=overrides(settings),
        overwrite=overwrite,
    )
    about = Exported.load(made).about
    inputs = ", ".join(f"{i['name']} {('n', *i['shape'])}".replace("'", "") for i in about["inputs"])
    say(f"{about['checkpoint']} → {made} ({made.stat().st_size / 2**20:.1f} MiB)")
    say(f"inputs: {inputs}; output: {about['output']['name']}, {about['output']['unit']}")
    if contract is not None:
        say(f"for {about['program']}:\n{about['lines']}")
