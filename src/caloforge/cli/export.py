"""``caloforge export``: a trained model as a file that other programs run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from caloforge.cli.options import AllowCode, Changes, Overwrite, overrides
from caloforge.cli.output import say
from caloforge.errors import ConditionError

__all__ = ["export"]


def export(
    checkpoint: Annotated[
        str | None, typer.Argument(help="Folder of a checkpoint, or a name (see caloforge models).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to make; by default named after the model.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(help="onnx, torchscript, or torch's program; by the file's ending, else onnx."),
    ] = None,
    contract: Annotated[
        str | None,
        typer.Option(help="Of the program that reads it: par04-vae, … (see docs/how-to/exports.md)."),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(help="One of those that the model knows; without a checkpoint, whose model is taken."),
    ] = None,
    particle: Annotated[str | None, typer.Option(help="One of those that the model knows.")] = None,
    settings: Changes = None,
    overwrite: Overwrite = False,
    allow_code: AllowCode = None,
) -> None:
    """Write a trained model as a file that other programs run: ONNX, TorchScript."""
    from caloforge.checkpoint import Checkpoint
    from caloforge.checkpoint.pretrained import default_model
    from caloforge.exports import Exported
    from caloforge.exports import export as run

    if checkpoint is None and detector is None:
        raise ConditionError("say which model: a checkpoint, or --detector alone, such as par04-siw")
    model = Checkpoint.load(checkpoint or default_model(str(detector)))
    made = run(
        model,
        out,
        to=to,  # type: ignore[arg-type]
        contract=contract,
        detector=detector if checkpoint else None,
        particle=particle,
        settings=overrides(settings),
        overwrite=overwrite,
    )
    say(f"{model.name} → {made} ({made.stat().st_size / 2**20:.1f} MiB)")
    if model.mesh.kind == "pixel":
        return
    about = Exported.load(made).about
    inputs = ", ".join(f"{i['name']} ({', '.join(map(str, ['n', *i['shape']]))})" for i in about["inputs"])
    say(f"inputs: {inputs}; output: {about['output']['name']}, {about['output']['unit']}")
    if contract is not None:
        say(f"for {about['program']}:\n{about['lines']}")
