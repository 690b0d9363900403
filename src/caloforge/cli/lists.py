"""``caloforge detectors``, ``recipes`` and ``models``: what comes with caloforge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from caloforge.cli.options import Seed
from caloforge.cli.output import console, say, show

__all__ = ["detectors", "models", "recipes"]


def detectors(
    random: Annotated[
        int | None,
        typer.Option(help="Write so many detectors drawn at random instead, to train on many.", min=1),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of their files.")] = Path("detectors"),
    seed: Seed = 0,
) -> None:
    """List the detectors that come with caloforge, or write files of random ones."""
    from caloforge.detector.detector import Detector
    from caloforge.detector.pixel import PixelDetector
    from caloforge.detector.randomised import write_random_detectors

    if random is not None:
        made = write_random_detectors(out, random, seed)
        say(f"{len(made)} detectors in {out}: {made[0].name} … {made[-1].name}")
        return
    table = Table("name", "cells", "particles", "energies", "what it is")
    for name in Detector.names():
        detector = Detector.load(name)
        low, high = detector.energy_range_mev
        table.add_row(
            name,
            " × ".join(map(str, detector.mesh.shape)),
            ", ".join(detector.particles),
            f"{low / 1000:g}-{high / 1000:g} GeV",
            escape(detector.description),
        )
    for name in PixelDetector.names():
        pixels = PixelDetector.load(name)
        cells, sources = (
            " × ".join(map(str, pixels.shape)),
            ", ".join(source.name for source in pixels.sources),
        )
        table.add_row(name, cells, "background", sources, escape(pixels.description))
    show(table)


def recipes() -> None:
    """List the recipes that come with caloforge."""
    from caloforge.training import Recipe

    table = Table()
    table.add_column("name", min_width=max(map(len, Recipe.names())))
    for heading in ("model", "what it is"):
        table.add_column(heading)
    for name in Recipe.names():
        recipe = Recipe.load(name)
        table.add_row(name, recipe.model, escape(recipe.description))
    show(table)


def models(
    name: Annotated[str | None, typer.Argument(help="Show the model card of this one.")] = None,
    exports: Annotated[
        bool, typer.Option("--exports", help="List the contracts that each can be exported for instead.")
    ] = False,
) -> None:
    """List the trained models that come with caloforge, or show a model card."""
    from rich.markdown import Markdown

    from caloforge.checkpoint import Checkpoint
    from caloforge.checkpoint.pretrained import default_models, model_card, pretrained_names
    from caloforge.registry import enumerated

    if name is not None:
        console.print(Markdown(model_card(name)))
        return
    if exports:
        _exports()
        return
    taken = ", ".join(f"{name} for {detector}" for detector, name in default_models().items())
    others = "foundation, or else GFlash, for any other"
    table = Table(caption=f"caloforge generate --detector takes {taken}, and {others}")
    for heading in ("name", "detector", "particles", "energies", "cells", "parameters"):
        table.add_column(heading, no_wrap=heading == "name")
    for known in pretrained_names():
        checkpoint = Checkpoint.load(known)
        valid, model = checkpoint.valid_range, checkpoint.network(kernels="plain")
        if "rates" in valid:
            spans = [span for span in valid["rates"].values() if span]
            low, high = min(span[0] for span in spans), max(span[1] for span in spans)
            particles, energies = "background", f"{low:.3g}-{high:.3g} of the nominal rate"
        else:
            low, high = valid["energy"]
            particles, energies = ", ".join(valid["particle"]), f"{low / 1000:.3g}-{high / 1000:.3g} GeV"
        table.add_row(
            known,
            enumerated(checkpoint.detectors, 5),
            particles,
            energies,
            " × ".join(map(str, checkpoint.mesh.shape)),
            f"{model.n_parameters:,}",
        )
    show(table)


def _exports() -> None:
    """Contracts that the shipped models can be exported for, or why not."""
    from caloforge.checkpoint import Checkpoint
    from caloforge.checkpoint.pretrained import pretrained_names
    from caloforge.errors import CheckpointError, ExportError
    from caloforge.exports.contracts.contract import Contract

    table = Table("name", "contract", "caloforge export NAME --contract …")
    for known in pretrained_names():
        checkpoint = Checkpoint.load(known)
        try:
            checkpoint.require_makes()
        except CheckpointError:
            table.add_row(known, "none", "TorchScript of its own, see docs/explanation/pixel.md")
            continue
        for contract in Contract.names():
            promised = Contract.load(contract)
            try:
                promised.require(checkpoint, promised.formats[0])
                table.add_row(known, contract, f"caloforge export --to {' or '.join(promised.formats)}")
            except ExportError as error:
                table.add_row(known, contract, escape(f"no: {error}"))
    show(table)
