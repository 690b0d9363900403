"""Options that several commands share, and how ``--set`` is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from caloforge.errors import RecipeError
from caloforge.registry import allow_code
from caloforge.runtime.structured import parse_json

__all__ = [
    "ENERGY_HELP",
    "AllowCode",
    "AllowExternal",
    "AllowExtrapolation",
    "BatchSize",
    "Changes",
    "ChangesOfRecipe",
    "CheckpointFolder",
    "Classifiers",
    "Device",
    "Energy",
    "First",
    "Ignore",
    "Kernels",
    "Like",
    "MeshName",
    "Overwrite",
    "Phi",
    "Precision",
    "Reference",
    "Report",
    "Resume",
    "SecondReference",
    "Seed",
    "ShardOption",
    "Spectrum",
    "Theta",
    "Threads",
    "TrainingThreads",
    "Which",
    "Workers",
    "folder",
    "overrides",
]

ENERGY_HELP = "Kinetic energy with its unit: 10GeV, a range 1-50GeV, or a list 1GeV,10GeV taken in turn."

CheckpointFolder = Annotated[
    Path, typer.Argument(help="Folder of a checkpoint, or a name (see caloforge models).")
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
First = Annotated[int, typer.Option(help="Number of the first shower.", min=0)]
ShardOption = Annotated[
    str | None, typer.Option("--shard", metavar="K/N", help="Make only the K-th of N parts: 17/1000.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what an interrupted run left.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Threads = Annotated[
    int | None,
    typer.Option(help="CPU cores, each for a process of one thread; all by default, where it pays.", min=1),
]
TrainingThreads = Annotated[
    int | None, typer.Option(help="CPU threads; one by default, fastest beside other programs.", min=1)
]
Precision = Annotated[
    str, typer.Option(help="Of networks: float32, bfloat16, or auto, as the model's settings say.")
]
Kernels = Annotated[
    str,
    typer.Option(
        help="compiled, fused by torch's compiler, plain (torch), or auto: compiled where possible."
    ),
]
Workers = Annotated[int | None, typer.Option(help="Geant4 processes; all cores by default.", min=1)]
BatchSize = Annotated[
    int | None, typer.Option(help="Showers held in memory at once; does not change them.", min=1)
]
AllowExtrapolation = Annotated[
    bool, typer.Option("--allow-extrapolation", help="Allow conditions outside the trained range.")
]


def _allowed(packages: list[str] | None) -> list[str]:
    allow_code(*packages or [])
    return packages or []  # older versions of typer ask for its length


AllowCode = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-code",
        metavar="PACKAGE",
        callback=_allowed,
        is_eager=True,
        help="Run code of this package, which a recipe, checkpoint or file names. May be repeated.",
    ),
]
"""Acts by itself, so that commands need not pass it on, and before the other options."""


def _with_mesh(context: typer.Context, name: str | None) -> str | None:
    if name is not None:
        from caloforge.data import named_mesh, opening

        context.with_resource(opening(mesh=named_mesh(name)))
    return name


def _without(context: typer.Context, names: list[str] | None) -> list[str]:
    if names:
        from caloforge.data import opening

        context.with_resource(opening(ignore=names))
    return names or []


def _with_external(context: typer.Context, wanted: bool) -> bool:
    if wanted:
        from caloforge.data import opening

        context.with_resource(opening(allow_external=True))
    return wanted


MeshName = Annotated[
    str | None,
    typer.Option(
        "--mesh",
        callback=_with_mesh,
        help="The cells where files do not tell: 1-photons, 2, …, a detector, a binning XML.",
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option("--ignore", callback=_without, help="A data set of files to leave out; may be repeated."),
]
AllowExternal = Annotated[
    bool,
    typer.Option(
        "--allow-external",
        callback=_with_external,
        help="Also read data sets whose values are in other files, which a file names.",
    ),
]
"""These three hold for all files that a command opens, by `caloforge.data.opening`."""

Energy = Annotated[str | None, typer.Option(help=ENERGY_HELP)]
Spectrum = Annotated[str | None, typer.Option(help="log-uniform (the default) or uniform, for ranges.")]
Theta = Annotated[str | None, typer.Option(help="Polar angle: 90deg or 60-90deg.")]
Phi = Annotated[str | None, typer.Option(help="Azimuth: 0rad or 0-6.28rad.")]
Like = Annotated[Path | None, typer.Option(help="Take the incident conditions of the showers in this file.")]

ChangesOfRecipe = Annotated[
    list[str] | None, typer.Option("--set", help="Change the recipe: training.epochs=5. May be repeated.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting that leaves the weights: sampler.steps=4. May be repeated."),
]

Reference = Annotated[Path, typer.Argument(help="File of reference showers, from Geant4.")]
Classifiers = Annotated[
    str,
    typer.Option(
        help="Presets, with commas: quick, calochallenge (as published; slow), strong, boosted; or none."
    ),
]
Which = Annotated[
    str | None,
    typer.Option(help="Classifiers to train, low, low-normed, high, resnet, c2st, …; else the presets' own."),
]
SecondReference = Annotated[Path | None, typer.Option(help="More Geant4 showers: floors are what they give.")]
Report = Annotated[bool, typer.Option(help="Also draw the figures and the HTML page.")]


def folder(text: str) -> Path:
    """The folder of that name; an empty one, as of a variable that is not set, is refused."""
    if not os.fspath(text).strip():
        raise typer.BadParameter("the name of the folder is empty")
    return Path(text)


def overrides(settings: Sequence[str] | None) -> dict[str, Any]:
    """Values by dotted key, from texts ``key=value``; a value is read as JSON where it can be."""
    return dict(_override(text) for text in settings or [])


def _override(text: str) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise RecipeError(f"--set {text!r}: expected key=value, for example training.epochs=5")
    try:
        return key.strip(), parse_json(value)
    except ValueError:
        return key.strip(), value
